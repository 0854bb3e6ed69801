// batch_norm: y = (x − mean) · inv_std · weight + bias per channel, as binding/ops/batch_norm.cc:
// the batch's statistics in training (the running ones move once per forward), else the running
// ones.
// Shapes:     x, y (N, …, C); weight, bias (C,), both or neither; running_mean, running_var (C,).
// Backward:   grad x = (g − Σ g/rows − x̂ · Σ g·x̂/rows) · inv_std · weight in training, else
//             g · inv_std · weight.
// Saved:      in training the batch's mean (C,), then inv_std (C,), in f64.
// Fused:      the residual sum and ReLU that follow.
// Workspace:  factors (4, C) in f32, sums (2, C) in f64; scratch for the sums over rows.
// Squares:    reduction form, in evaluation mode; inv_std is computed into a buffer of the kernel.
// Deterministic: yes, on one kind of device (channel_sums.cuh). Sums in f64, in training around the
//             first row's value, so that a mean far from 0 costs no digits.
// Bound by memory: training reads x twice forward, x and grad y twice backward.
// Errors:     STATE for training on one value per channel.
#include "core/batch_norm_sizes.h"
#include "ops/channel_norm.cuh"

namespace fishermask::cuda {
namespace {

// The statistics that a pass normalises with.
struct UsedStatistics {
  const double* saved = nullptr;  // (2, C): mean, inv_std; null: the running ones
  const float* running_mean = nullptr;
  const float* running_var = nullptr;
  double epsilon = 0;
  std::int64_t channels = 0;

  __device__ __forceinline__ double mean(std::int64_t c) const {
    return saved != nullptr ? saved[c] : static_cast<double>(running_mean[c]);
  }
  __device__ __forceinline__ double inv_std(std::int64_t c) const {
    return saved != nullptr ? saved[channels + c]
                            : 1.0 / sqrt(static_cast<double>(running_var[c]) + epsilon);
  }
};

struct Affine {
  const float* weight = nullptr;  // both or neither
  const float* bias = nullptr;
};

// (C,) each; where normalise_channels and norm_input_gradient read them.
struct Factors {
  float* mean;
  float* scale;
  float* shift;  // backward: offset
  float* slope;
};

__device__ __forceinline__ void write_forward_factors(std::int64_t c, double mean, double inv_std,
                                                      const Affine& affine, const Factors& to) {
  const float weight = affine.weight != nullptr ? affine.weight[c] : 1.0F;
  const float bias = affine.bias != nullptr ? affine.bias[c] : 0.0F;
  to.mean[c] = static_cast<float>(mean);
  to.scale[c] = static_cast<float>(inv_std * weight);
  // The digits that the mean lost to f32 matter where it is far from 0.
  const double lost = mean - static_cast<double>(to.mean[c]);
  to.shift[c] = bias - static_cast<float>(lost) * to.scale[c];
}

__global__ void factors_of_running(UsedStatistics used, Affine affine, Factors to) {
  for (std::int64_t c = first_item(); c < used.channels; c += item_step()) {
    write_forward_factors(c, used.mean(c), used.inv_std(c), affine, to);
  }
}

__global__ void inv_std_of_running(UsedStatistics used, float* inv_std) {
  for (std::int64_t c = first_item(); c < used.channels; c += item_step()) {
    inv_std[c] = static_cast<float>(used.inv_std(c));
  }
}

struct MomentTerm {
  const float* x;
  double centre;
  __device__ __forceinline__ void start(std::int64_t, std::int64_t channel) { centre = x[channel]; }
  __device__ __forceinline__ void add(std::int64_t offset, TwoSums& sums) const {
    add_moments(static_cast<double>(x[offset]) - centre, sums);
  }
};

// Keeps the batch's statistics, moves the running ones, and writes the factors.
struct FinishMoments {
  const float* x;
  double rows, epsilon, momentum;
  std::int64_t channels;
  double* saved;
  float* running_mean;
  float* running_var;
  Affine affine;
  Factors factors;

  __device__ __forceinline__ float moved(float from, double to) const {
    return static_cast<float>((1.0 - momentum) * static_cast<double>(from) + momentum * to);
  }
  __device__ __forceinline__ void operator()(std::int64_t, std::int64_t c,
                                             const TwoSums& sums) const {
    const double away = sums.first / rows;
    const double mean = static_cast<double>(x[c]) + away;
    const double left = sums.second - sums.first * away;
    const double squares = left < 0.0 ? 0.0 : left;  // NaN passes through
    const double inv_std = 1.0 / sqrt(squares / rows + epsilon);
    saved[c] = mean;
    saved[channels + c] = inv_std;
    running_mean[c] = moved(running_mean[c], mean);
    running_var[c] = moved(running_var[c], squares / (rows - 1.0));
    write_forward_factors(c, mean, inv_std, affine, factors);
  }
};

struct GradientTerm {
  const float* grad;
  const float* x;
  UsedStatistics used;
  double centre;
  __device__ __forceinline__ void start(std::int64_t, std::int64_t channel) {
    centre = used.mean(channel);
  }
  __device__ __forceinline__ void add(std::int64_t offset, TwoSums& sums) const {
    add_projected(grad[offset], static_cast<double>(x[offset]) - centre, sums);
  }
};

// The parameters' gradients, and the factors of the input's.
struct FinishGradients {
  UsedStatistics used;
  double per_row;  // 1/rows in training, 0 in evaluation
  const float* weight;
  float* grad_weight;  // or null
  float* grad_bias;    // or null
  Factors factors;

  __device__ __forceinline__ void operator()(std::int64_t, std::int64_t c,
                                             const TwoSums& sums) const {
    const double inv_std = used.inv_std(c);
    const double projected = sums.second * inv_std;
    if (grad_bias != nullptr) grad_bias[c] += static_cast<float>(sums.first);
    if (grad_weight != nullptr) grad_weight[c] += static_cast<float>(projected);
    const double scale = inv_std * (weight != nullptr ? weight[c] : 1.0F);
    factors.mean[c] = static_cast<float>(used.mean(c));
    factors.scale[c] = static_cast<float>(scale);
    factors.shift[c] = static_cast<float>(sums.first * per_row * scale);
    factors.slope[c] = static_cast<float>(projected * inv_std * per_row * scale);
  }
};

class BatchNorm : public Kernel {
 public:
  BatchNorm(const NodeSpec& node, const KernelContext& context)
      : sizes_(batch_norm_sizes(node)), name_(node.name), context_(context) {}

  void forward(const NodeIo& io) override {
    const float* const x = io.inputs[0].as<float>();
    if (io.training) {
      of_batch(io);
    } else {
      launch("batch_norm_factors", context_.stream, over(sizes_.channels), factors_of_running,
             used(io), affine(io), factors());
    }
    normalise_channels(context_.stream, walk(io), norm_factors(), x,
                       epilogue_.add ? io.residual.as<float>() : nullptr, epilogue_.relu,
                       io.outputs[0].as<float>());
  }

  [[nodiscard]] bool fuse(const Epilogue& epilogue) override {
    epilogue_ = epilogue;
    return true;
  }

  void backward(const NodeIo& io) override {
    const TensorView grad_weight = io.grad_parameter("weight");
    const TensorView grad_bias = io.grad_parameter("bias");
    const bool wants_input = static_cast<bool>(io.grad_inputs[0]);
    const float* const x = io.inputs[0].as<float>();
    const float* const grad_output = io.grad_outputs[0].as<float>();
    if (grad_weight || grad_bias || (wants_input && io.training)) {
      const double per_row = io.training ? 1.0 / static_cast<double>(rows(io)) : 0.0;
      const FinishGradients finish{used(io),
                                   per_row,
                                   affine(io).weight,
                                   grad_weight ? grad_weight.as<float>() : nullptr,
                                   grad_bias ? grad_bias.as<float>() : nullptr,
                                   factors()};
      sum_channels(*context_.backend, "batch_norm_gradients", 1, rows(io), sizes_.channels,
                   GradientTerm{grad_output, x, used(io), 0.0}, finish);
    } else if (wants_input) {
      launch("batch_norm_factors", context_.stream, over(sizes_.channels), factors_of_running,
             used(io), affine(io), factors());
    }
    if (!wants_input) return;
    NormFactors by = norm_factors();
    if (!io.training) by.slope = nullptr;
    norm_input_gradient(context_.stream, walk(io), by, x, grad_output, io.accumulate[0],
                        io.grad_inputs[0].as<float>());
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if (!sizes_.affine || io.training) return {};
    if (!inv_std_) {
      inv_std_ = Buffer<float>(*context_.backend, sizes_.channels, "inv_std of a batch norm");
    }
    launch("batch_norm_inv_std", context_.stream, over(sizes_.channels), inv_std_of_running,
           used(io), inv_std_.data());
    ReductionForm bias;
    bias.grad_output = io.grad_outputs[0].as<float>();
    bias.batch = io.batch;
    bias.positions = sizes_.positions;
    bias.channels = sizes_.channels;
    ReductionForm weight = bias;
    weight.input = io.inputs[0].as<float>();
    weight.mean = io.parameter("running_mean").as<float>();
    weight.inv_std = inv_std_.data();
    return {{"weight", weight}, {"bias", bias}};
  }

 private:
  [[nodiscard]] std::int64_t rows(const NodeIo& io) const { return io.batch * sizes_.positions; }
  [[nodiscard]] NormWalk walk(const NodeIo& io) const { return {1, rows(io), sizes_.channels}; }

  [[nodiscard]] Affine affine(const NodeIo& io) const {
    if (!sizes_.affine) return {};
    return {io.parameter("weight").as<float>(), io.parameter("bias").as<float>()};
  }
  [[nodiscard]] UsedStatistics used(const NodeIo& io) const {
    UsedStatistics statistics;
    if (io.training) statistics.saved = reinterpret_cast<const double*>(io.saved_fixed);
    statistics.running_mean = io.parameter("running_mean").as<float>();
    statistics.running_var = io.parameter("running_var").as<float>();
    statistics.epsilon = sizes_.epsilon;
    statistics.channels = sizes_.channels;
    return statistics;
  }
  // Four arrays, each aligned for 16 bytes.
  [[nodiscard]] Factors factors() {
    const std::int64_t step = (sizes_.channels + 3) / 4 * 4;
    if (!factors_) {
      factors_ = Buffer<float>(*context_.backend, 4 * step, "factors of a batch norm");
    }
    float* const first = factors_.data();
    return {first, first + step, first + 2 * step, first + 3 * step};
  }
  [[nodiscard]] NormFactors norm_factors() {
    const Factors own = factors();
    return {own.mean, own.scale, own.shift, own.slope};
  }

  void of_batch(const NodeIo& io) {
    FM_CHECK(rows(io) > 1, STATE, "node '", name_,
             "' (batch_norm): expected more than 1 value per channel in training but received ",
             rows(io));
    const float* const x = io.inputs[0].as<float>();
    const FinishMoments finish{x,
                               static_cast<double>(rows(io)),
                               sizes_.epsilon,
                               sizes_.momentum,
                               sizes_.channels,
                               reinterpret_cast<double*>(io.saved_fixed),
                               io.parameter("running_mean").as<float>(),
                               io.parameter("running_var").as<float>(),
                               affine(io),
                               factors()};
    sum_channels(*context_.backend, "batch_norm_moments", 1, rows(io), sizes_.channels,
                 MomentTerm{x, 0.0}, finish);
  }

  BatchNormSizes sizes_;
  std::string name_;
  KernelContext context_;
  Epilogue epilogue_;
  Buffer<float> factors_;  // (4, C)
  Buffer<float> inv_std_;  // lives as long as square_rule's pointers
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<BatchNorm>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("batch_norm", make)

}  // namespace fishermask::cuda
