// layer_norm: y = x̂ · weight + bias with x̂ = (x − mean) · inv_std over the last `dims` sizes
// together; rms_norm: the same with mean = 0 and no bias. binding/ops/layer_norm.cc has the maths.
// Shapes:     x, y (N, …, D…); weight, bias (D…), each optional.
// Saved:      mean and inv_std of each row in f64 (RowStatistics).
// A warp (up to 1024 values) or a block takes a row. Parameter gradients: columns are summed over
// stretches of rows, then over the stretches.
// Precision:  values in f32; a thread's part of a sum in f32, the parts in f64. The mean is taken
// twice, the second time of what is left, so that a large mean costs no digits.
// Workspace:  two floats per column and stretch (scratch); for the squares x̂, as large as x.
// Squares:    reduction form over the rows of a sample: weight on x̂, bias on 1.
// Deterministic: yes. Bound by memory: later readings of a row are its caches'.
#include "common/backend.h"
#include "common/reduce.cuh"
#include "core/norm_sizes.h"

namespace fishermask::cuda {
namespace {

struct RowWidth {
  std::int64_t rows;
  std::int64_t width;
  bool centred;
  double epsilon;
};

// x − mean with the mean in two parts: rounded to one f32 it would shift values that lie closely
// around a large mean.
struct Centre {
  __device__ __forceinline__ explicit Centre(double mean)
      : high(static_cast<float>(mean)), low(static_cast<float>(mean - static_cast<double>(high))) {}
  [[nodiscard]] __device__ __forceinline__ float away(float x) const { return (x - high) - low; }
  float high, low;
};

template <Team kTeam>
__device__ __forceinline__ RowStatistics statistics_of_row(const float* x, const RowWidth& z) {
  const auto count = static_cast<double>(z.width);
  const int rank = team_rank<kTeam>();
  const int size = team_size<kTeam>();
  double mean = 0;
  if (z.centred) {
    float part = 0;
    for (std::int64_t c = rank; c < z.width; c += size) part += x[c];
    mean = team_sum<kTeam>(static_cast<double>(part)) / count;
  }
  const auto middle = static_cast<float>(mean);
  float rest = 0;
  float squares = 0;
  for (std::int64_t c = rank; c < z.width; c += size) {
    const float away = x[c] - middle;
    rest += away;
    squares += away * away;
  }
  const Pair part = {static_cast<double>(rest), static_cast<double>(squares)};
  const Pair sums = team_sum<kTeam>(part);
  const double correction = z.centred ? sums.first / count : 0.0;
  const double left = sums.second - correction * sums.first;
  // Written so that a NaN stays.
  const double variance = (left < 0 ? 0.0 : left) / count;
  RowStatistics row;
  row.mean = static_cast<double>(middle) + correction;
  row.inv_std = 1 / sqrt(variance + z.epsilon);
  return row;
}

template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    norm_forward(const float* x, const float* weight, const float* bias, RowWidth z,
                 RowStatistics* statistics, float* y) {
  for (std::int64_t r = first_row<kTeam>(); r < z.rows; r += row_step<kTeam>()) {
    const float* const from = x + r * z.width;
    const RowStatistics row = statistics_of_row<kTeam>(from, z);
    if (team_rank<kTeam>() == 0) statistics[r] = row;
    const Centre centre(row.mean);
    const auto inv_std = static_cast<float>(row.inv_std);
    for (std::int64_t c = team_rank<kTeam>(); c < z.width; c += team_size<kTeam>()) {
      float value = centre.away(from[c]) * inv_std;
      if (weight != nullptr) value *= weight[c];
      if (bias != nullptr) value += bias[c];
      y[r * z.width + c] = value;
    }
  }
}

// x̂ alone, with the statistics that forward kept.
template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    normalise_rows(const float* x, const RowStatistics* statistics, RowWidth z, float* y) {
  for (std::int64_t r = first_row<kTeam>(); r < z.rows; r += row_step<kTeam>()) {
    const Centre centre(statistics[r].mean);
    const auto inv_std = static_cast<float>(statistics[r].inv_std);
    for (std::int64_t c = team_rank<kTeam>(); c < z.width; c += team_size<kTeam>()) {
      y[r * z.width + c] = centre.away(x[r * z.width + c]) * inv_std;
    }
  }
}

// inv_std · (g − Σ g/width − x̂ · Σ g·x̂/width) with g = grad_output · weight.
template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    norm_backward(const float* x, const float* grad_output, const float* weight,
                  const RowStatistics* statistics, RowWidth z, float* grad_input, bool add) {
  const int rank = team_rank<kTeam>();
  const int size = team_size<kTeam>();
  const auto count = static_cast<double>(z.width);
  for (std::int64_t r = first_row<kTeam>(); r < z.rows; r += row_step<kTeam>()) {
    const std::int64_t at = r * z.width;
    const double inverse = statistics[r].inv_std;
    const Centre centre(statistics[r].mean);
    float sum = 0;
    float product = 0;
    for (std::int64_t c = rank; c < z.width; c += size) {
      const float g = weight != nullptr ? grad_output[at + c] * weight[c] : grad_output[at + c];
      sum += g;
      product += g * centre.away(x[at + c]);
    }
    const Pair part = {static_cast<double>(sum), static_cast<double>(product)};
    const Pair sums = team_sum<kTeam>(part);
    const auto scale = static_cast<float>(inverse);
    const auto offset = static_cast<float>(z.centred ? sums.first / count : 0.0);
    const auto slope = static_cast<float>(inverse * inverse * sums.second / count);
    for (std::int64_t c = rank; c < z.width; c += size) {
      const float g = weight != nullptr ? grad_output[at + c] * weight[c] : grad_output[at + c];
      const float value = scale * (g - offset - centre.away(x[at + c]) * slope);
      grad_input[at + c] = add ? grad_input[at + c] + value : value;
    }
  }
}

// Columns are summed by blocks of 32 columns and kRowLanes row lanes, each over a stretch of rows.
// Not measured on a GPU: about kStretches stretches fill a device, and no stretch is so long that
// a lane's f32 sum takes more than kMostRows / kRowLanes terms.
struct ColumnTuning {
  static constexpr std::int64_t kStretches = 128;
  static constexpr std::int64_t kLeastRows = 16;
  static constexpr std::int64_t kMostRows = 256;
};

// partial (stretches, 2, width): Σ δ · x̂, then Σ δ, of a stretch of rows.
__global__ void column_parts(const float* x, const float* grad_output,
                             const RowStatistics* statistics, std::int64_t rows, std::int64_t width,
                             std::int64_t rows_per_stretch, float* partial) {
  const int lane = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x) * kWarpThreads + threadIdx.x % kWarpThreads;
  const std::int64_t stretches = (rows + rows_per_stretch - 1) / rows_per_stretch;
  for (std::int64_t s = blockIdx.y; s < stretches; s += gridDim.y) {
    const std::int64_t end = (s + 1) * rows_per_stretch < rows ? (s + 1) * rows_per_stretch : rows;
    float weight = 0;
    float bias = 0;
    if (column < width) {
      for (std::int64_t r = s * rows_per_stretch + lane; r < end; r += kRowLanes) {
        const float g = grad_output[r * width + column];
        const float normalised = Centre(statistics[r].mean).away(x[r * width + column]) *
                                 static_cast<float>(statistics[r].inv_std);
        weight += g * normalised;
        bias += g;
      }
    }
    weight = sum_of_lanes(weight);
    bias = sum_of_lanes(bias);
    if (lane == 0 && column < width) {
      partial[2 * s * width + column] = weight;
      partial[(2 * s + 1) * width + column] = bias;
    }
  }
}

// Adds the stretches' sums; a null gradient is not wanted.
__global__ void column_sums(const float* partial, std::int64_t stretches, std::int64_t width,
                            float* grad_weight, float* grad_bias) {
  const int lane = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x) * kWarpThreads + threadIdx.x % kWarpThreads;
  double weight = 0;
  double bias = 0;
  if (column < width) {
    for (std::int64_t s = lane; s < stretches; s += kRowLanes) {
      weight += static_cast<double>(partial[2 * s * width + column]);
      bias += static_cast<double>(partial[(2 * s + 1) * width + column]);
    }
  }
  weight = sum_of_lanes(weight);
  bias = sum_of_lanes(bias);
  if (lane != 0 || column >= width) return;
  if (grad_weight != nullptr) grad_weight[column] += static_cast<float>(weight);
  if (grad_bias != nullptr) grad_bias[column] += static_cast<float>(bias);
}

__global__ void fill(float* values, std::int64_t count, float value) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) values[i] = value;
}

float* optional(const TensorView& view) { return view ? view.as<float>() : nullptr; }

class LayerNorm : public Kernel {
 public:
  LayerNorm(const NodeSpec& node, const KernelContext& context)
      : context_(context), sizes_(norm_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const RowWidth z = row_width(io);
    launch_rows("norm_forward", context_.stream, z.rows, z.width, norm_forward<Team::kWarp>,
                norm_forward<Team::kBlock>, io.inputs[0].as<float>(),
                optional(io.parameter("weight")), optional(io.parameter("bias")), z, statistics(io),
                io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    const RowWidth z = row_width(io);
    if (io.grad_inputs[0]) {
      launch_rows("norm_backward", context_.stream, z.rows, z.width, norm_backward<Team::kWarp>,
                  norm_backward<Team::kBlock>, io.inputs[0].as<float>(),
                  io.grad_outputs[0].as<float>(), optional(io.parameter("weight")), statistics(io),
                  z, io.grad_inputs[0].as<float>(), io.accumulate[0]);
    }
    if (io.grad_parameter("weight") || io.grad_parameter("bias")) backward_parameters(io, z);
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.positions = sizes_.rows;
    form.channels = sizes_.width;
    std::vector<SquareProblem> problems;
    if (io.parameter("bias")) problems.push_back({"bias", form});
    if (!io.parameter("weight")) return problems;
    normalise(io);
    form.input = normalised_.data();
    form.mean = constants_.data();
    form.inv_std = constants_.data() + sizes_.width;
    problems.push_back({"weight", form});
    return problems;
  }

 private:
  static RowStatistics* statistics(const NodeIo& io) {
    return reinterpret_cast<RowStatistics*>(io.saved_per_sample);
  }
  [[nodiscard]] RowWidth row_width(const NodeIo& io) const {
    return {io.batch * sizes_.rows, sizes_.width, sizes_.centred, sizes_.epsilon};
  }

  void backward_parameters(const NodeIo& io, const RowWidth& z) const {
    const std::int64_t even = (z.rows + ColumnTuning::kStretches - 1) / ColumnTuning::kStretches;
    const std::int64_t rows_per_stretch =
        std::clamp(even, ColumnTuning::kLeastRows, ColumnTuning::kMostRows);
    const std::int64_t stretches = (z.rows + rows_per_stretch - 1) / rows_per_stretch;
    auto* const partial = reinterpret_cast<float*>(context_.backend->scratch(
        2 * stretches * z.width * static_cast<std::int64_t>(sizeof(float))));
    const auto columns = static_cast<unsigned>((z.width + kWarpThreads - 1) / kWarpThreads);
    const dim3 block(kColumnThreads);
    const auto lines = static_cast<unsigned>(std::min<std::int64_t>(stretches, 65535));
    launch("column_parts", context_.stream, {dim3(columns, lines), block, 0}, column_parts,
           io.inputs[0].as<float>(), io.grad_outputs[0].as<float>(), statistics(io), z.rows,
           z.width, rows_per_stretch, partial);
    launch("column_sums", context_.stream, {dim3(columns), block, 0}, column_sums, partial,
           stretches, z.width, optional(io.grad_parameter("weight")),
           optional(io.grad_parameter("bias")));
  }

  // x̂ of the batch into normalised_.
  void normalise(const NodeIo& io) {
    const RowWidth z = row_width(io);
    if (!constants_) {
      constants_ = Buffer<float>(*context_.backend, 2 * z.width, "constants of a norm's squares");
      launch("fill", context_.stream, over(z.width), fill, constants_.data(), z.width, 0.0F);
      launch("fill", context_.stream, over(z.width), fill, constants_.data() + z.width, z.width,
             1.0F);
    }
    if (normalised_.count() < z.rows * z.width) {
      normalised_ = {};  // first, so that its memory can serve the new one
      normalised_ =
          Buffer<float>(*context_.backend, z.rows * z.width, "normalised values of a norm");
    }
    launch_rows("normalise_rows", context_.stream, z.rows, z.width, normalise_rows<Team::kWarp>,
                normalise_rows<Team::kBlock>, io.inputs[0].as<float>(), statistics(io), z,
                normalised_.data());
  }

  KernelContext context_;
  NormSizes sizes_;
  Buffer<float> normalised_, constants_;  // live as long as square_rule's pointers
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<LayerNorm>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("layer_norm", make)
FM_REGISTER_CUDA_OP("rms_norm", make)

}  // namespace fishermask::cuda
