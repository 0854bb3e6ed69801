// group_norm: y = x̂ · weight + bias with x̂ = (x − mean) · inv_std over all positions of a sample
// and the C/groups channels of a group together (as binding/ops/group_norm.cc).
// Shapes:     x, y (N, …, C), channels last; weight, bias (C,), each optional.
// Backward:   grad x = inv_std · (g − Σ g/count − x̂ · Σ g·x̂/count) with g = grad y · weight, sums
//             over the group.
// Saved:      mean and inv_std of each group, side by side, in f64.
// Workspace:  sums (2, N, C) in f64, factors (4, N, C) in f32; for the squares x̂, as large as x;
//             scratch of the sums over positions.
// Squares:    reduction form: weight on x̂, bias on 1.
// Deterministic: yes, on one kind of device (channel_sums.cuh). Sums in f64.
// Bound by memory: x is read twice forward, x and grad y twice backward.
#include "core/group_norm_sizes.h"
#include "ops/channel_norm.cuh"

namespace fishermask::cuda {
namespace {

// As RowStatistics of the CPU's op.
struct GroupStatistics {
  double mean, inv_std;
};

struct GroupShape {
  std::int64_t positions = 1, channels = 1, groups = 1, per_group = 1;
  double count = 1, epsilon = 0;
};

// (N, C) each.
struct SampleSums {
  double* first;
  double* second;
};
struct Factors {
  float* mean;
  float* scale;
  float* shift;  // backward: offset
  float* slope;
};

// Around the first value of the group, so that a mean far from 0 costs no digits.
struct MomentTerm {
  const float* x;
  GroupShape shape;
  double centre;
  __device__ __forceinline__ void start(std::int64_t sample, std::int64_t channel) {
    centre =
        x[sample * shape.positions * shape.channels + channel / shape.per_group * shape.per_group];
  }
  __device__ __forceinline__ void add(std::int64_t offset, TwoSums& sums) const {
    add_moments(static_cast<double>(x[offset]) - centre, sums);
  }
};

struct GradientTerm {
  const float* grad;
  const float* x;
  const GroupStatistics* statistics;
  GroupShape shape;
  double centre;
  __device__ __forceinline__ void start(std::int64_t sample, std::int64_t channel) {
    centre = statistics[sample * shape.groups + channel / shape.per_group].mean;
  }
  __device__ __forceinline__ void add(std::int64_t offset, TwoSums& sums) const {
    add_projected(grad[offset], static_cast<double>(x[offset]) - centre, sums);
  }
};

struct KeepSums {
  SampleSums to;
  std::int64_t channels;
  __device__ __forceinline__ void operator()(std::int64_t sample, std::int64_t channel,
                                             const TwoSums& sums) const {
    to.first[sample * channels + channel] = sums.first;
    to.second[sample * channels + channel] = sums.second;
  }
};

constexpr int kWarp = 32;

__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
  for (int bits = kWarp / 2; bits > 0; bits /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, bits);
  }
  return value;
}

// A warp per group of a sample: body(group counted through all samples, first factor).
template <typename Body>
__device__ __forceinline__ void for_each_group(const GroupShape& shape, std::int64_t batch,
                                               const Body& body) {
  for (std::int64_t group = first_item() / kWarp; group < batch * shape.groups;
       group += item_step() / kWarp) {
    body(group, group / shape.groups * shape.channels + group % shape.groups * shape.per_group);
  }
}

__device__ __forceinline__ float factor(const float* parameter, std::int64_t channel,
                                        float absent) {
  return parameter != nullptr ? parameter[channel] : absent;
}

// The factors of normalise_channels for the channels of one group.
__device__ __forceinline__ void write_forward_factors(const GroupShape& shape,
                                                      const GroupStatistics& of, std::int64_t at,
                                                      const float* weight, const float* bias,
                                                      const Factors& to) {
  for (std::int64_t c = threadIdx.x % kWarp; c < shape.per_group; c += kWarp) {
    const std::int64_t channel = (at + c) % shape.channels;
    const auto mean = static_cast<float>(of.mean);
    const auto scale = static_cast<float>(of.inv_std * factor(weight, channel, 1.0F));
    to.mean[at + c] = mean;
    to.scale[at + c] = scale;
    // The digits that the mean lost to f32 matter where it is far from 0.
    const auto lost = static_cast<float>(of.mean - static_cast<double>(mean));
    to.shift[at + c] = factor(bias, channel, 0.0F) - lost * scale;
  }
}

__global__ void group_statistics(const GroupShape shape, std::int64_t batch, const float* x,
                                 const SampleSums sums, const float* weight, const float* bias,
                                 GroupStatistics* saved, const Factors to) {
  for_each_group(shape, batch, [&](std::int64_t group, std::int64_t at) {
    double first = 0.0;
    double second = 0.0;
    for (std::int64_t c = threadIdx.x % kWarp; c < shape.per_group; c += kWarp) {
      first += sums.first[at + c];
      second += sums.second[at + c];
    }
    first = warp_sum(first);
    second = warp_sum(second);
    const double away = first / shape.count;
    const double left = second - first * away;
    const std::int64_t sample = group / shape.groups;
    const double centre =
        x[sample * shape.positions * shape.channels + group % shape.groups * shape.per_group];
    GroupStatistics own;
    own.mean = centre + away;
    own.inv_std = 1.0 / sqrt((left < 0.0 ? 0.0 : left) / shape.count + shape.epsilon);
    if (threadIdx.x % kWarp == 0) saved[group] = own;
    write_forward_factors(shape, own, at, weight, bias, to);
  });
}

__global__ void factors_of_saved(const GroupShape shape, std::int64_t batch,
                                 const GroupStatistics* saved, const Factors to) {
  for_each_group(shape, batch, [&](std::int64_t group, std::int64_t at) {
    write_forward_factors(shape, saved[group], at, nullptr, nullptr, to);
  });
}

__global__ void gradient_factors(const GroupShape shape, std::int64_t batch, const SampleSums sums,
                                 const float* weight, const GroupStatistics* saved,
                                 const Factors to) {
  for_each_group(shape, batch, [&](std::int64_t group, std::int64_t at) {
    const GroupStatistics own = saved[group];
    double plain = 0.0;
    double projected = 0.0;
    for (std::int64_t c = threadIdx.x % kWarp; c < shape.per_group; c += kWarp) {
      const double by = factor(weight, (at + c) % shape.channels, 1.0F);
      plain += sums.first[at + c] * by;
      projected += sums.second[at + c] * by;
    }
    plain = warp_sum(plain) / shape.count;
    projected = warp_sum(projected) * own.inv_std / shape.count;
    for (std::int64_t c = threadIdx.x % kWarp; c < shape.per_group; c += kWarp) {
      const double by = factor(weight, (at + c) % shape.channels, 1.0F);
      to.mean[at + c] = static_cast<float>(own.mean);
      to.scale[at + c] = static_cast<float>(own.inv_std * by);
      to.shift[at + c] = static_cast<float>(own.inv_std * plain);
      to.slope[at + c] = static_cast<float>(own.inv_std * own.inv_std * projected);
    }
  });
}

// Samples in order. Either gradient may be null.
__global__ void parameter_gradients(const GroupShape shape, std::int64_t batch,
                                    const SampleSums sums, const GroupStatistics* saved,
                                    float* grad_weight, float* grad_bias) {
  for (std::int64_t c = first_item(); c < shape.channels; c += item_step()) {
    double first = 0.0;
    double second = 0.0;
    for (std::int64_t n = 0; n < batch; ++n) {
      first += sums.first[n * shape.channels + c];
      second += sums.second[n * shape.channels + c] *
                saved[n * shape.groups + c / shape.per_group].inv_std;
    }
    if (grad_bias != nullptr) grad_bias[c] += static_cast<float>(first);
    if (grad_weight != nullptr) grad_weight[c] += static_cast<float>(second);
  }
}

__global__ void zeros_and_ones(float* zeros, float* ones, std::int64_t count) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    zeros[i] = 0.0F;
    ones[i] = 1.0F;
  }
}

class GroupNorm : public Kernel {
 public:
  GroupNorm(const GroupNormSizes& sizes, const KernelContext& context)
      : shape_{sizes.positions, sizes.channels, sizes.groups, sizes.channels / sizes.groups,
               sizes.count(),   sizes.epsilon},
        context_(context) {}

  void forward(const NodeIo& io) override {
    const float* const x = io.inputs[0].as<float>();
    reserve(io.batch);
    sum_channels(*context_.backend, "group_norm_moments", io.batch, shape_.positions,
                 shape_.channels, MomentTerm{x, shape_, 0.0}, KeepSums{sums(), shape_.channels});
    launch("group_norm_statistics", context_.stream, over_groups(io.batch), group_statistics,
           shape_, io.batch, x, sums(), pointer(io.parameter("weight")),
           pointer(io.parameter("bias")), statistics(io), factors());
    normalise_channels(context_.stream, walk(io), norm_factors(), x, nullptr, false,
                       io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    const float* const x = io.inputs[0].as<float>();
    const float* const grad_output = io.grad_outputs[0].as<float>();
    const TensorView grad_weight = io.grad_parameter("weight");
    const TensorView grad_bias = io.grad_parameter("bias");
    if (!io.grad_inputs[0] && !grad_weight && !grad_bias) return;
    reserve(io.batch);
    sum_channels(*context_.backend, "group_norm_gradients", io.batch, shape_.positions,
                 shape_.channels, GradientTerm{grad_output, x, statistics(io), shape_, 0.0},
                 KeepSums{sums(), shape_.channels});
    if (grad_weight || grad_bias) {
      launch("group_norm_parameters", context_.stream, over(shape_.channels), parameter_gradients,
             shape_, io.batch, sums(), statistics(io), pointer(grad_weight), pointer(grad_bias));
    }
    if (!io.grad_inputs[0]) return;
    launch("group_norm_factors", context_.stream, over_groups(io.batch), gradient_factors, shape_,
           io.batch, sums(), pointer(io.parameter("weight")), statistics(io), factors());
    norm_input_gradient(context_.stream, walk(io), norm_factors(), x, grad_output, io.accumulate[0],
                        io.grad_inputs[0].as<float>());
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.positions = shape_.positions;
    form.channels = shape_.channels;
    std::vector<SquareProblem> problems;
    if (io.parameter("bias")) problems.push_back({"bias", form});
    if (!io.parameter("weight")) return problems;
    normalise_for_squares(io);
    form.input = normalised_.data();
    form.mean = zeros_.data();
    form.inv_std = ones_.data();
    problems.push_back({"weight", form});
    return problems;
  }

 private:
  [[nodiscard]] static float* pointer(const TensorView& view) {
    return view ? view.as<float>() : nullptr;
  }
  [[nodiscard]] static GroupStatistics* statistics(const NodeIo& io) {
    return reinterpret_cast<GroupStatistics*>(io.saved_per_sample);
  }
  [[nodiscard]] NormWalk walk(const NodeIo& io) const {
    return {io.batch, shape_.positions, shape_.channels};
  }
  [[nodiscard]] LaunchShape over_groups(std::int64_t batch) const {
    return over(batch * shape_.groups * kWarp);
  }

  void reserve(std::int64_t batch) {
    const std::int64_t count = (batch * shape_.channels + 3) / 4 * 4;
    if (count <= step_) return;
    step_ = count;
    sums_ = Buffer<double>(*context_.backend, 2 * count, "sums of a group norm");
    factors_ = Buffer<float>(*context_.backend, 4 * count, "factors of a group norm");
  }
  [[nodiscard]] SampleSums sums() const { return {sums_.data(), sums_.data() + step_}; }
  [[nodiscard]] Factors factors() const {
    float* const first = factors_.data();
    return {first, first + step_, first + 2 * step_, first + 3 * step_};
  }
  [[nodiscard]] NormFactors norm_factors() const {
    const Factors own = factors();
    return {own.mean, own.scale, own.shift, own.slope};
  }

  void normalise_for_squares(const NodeIo& io) {
    reserve(io.batch);
    const std::int64_t count = io.inputs[0].count();
    if (normalised_.count() < count) {
      normalised_ = Buffer<float>(*context_.backend, count, "normalised values of a group norm");
    }
    if (!zeros_) {
      zeros_ = Buffer<float>(*context_.backend, shape_.channels, "zeros of a group norm");
      ones_ = Buffer<float>(*context_.backend, shape_.channels, "ones of a group norm");
      launch("group_norm_constants", context_.stream, over(shape_.channels), zeros_and_ones,
             zeros_.data(), ones_.data(), shape_.channels);
    }
    launch("group_norm_factors", context_.stream, over_groups(io.batch), factors_of_saved, shape_,
           io.batch, statistics(io), factors());
    normalise_channels(context_.stream, walk(io), norm_factors(), io.inputs[0].as<float>(), nullptr,
                       false, normalised_.data());
  }

  GroupShape shape_;
  KernelContext context_;
  std::int64_t step_ = 0;  // from one array of sums or factors to the next
  Buffer<double> sums_;
  Buffer<float> factors_;
  Buffer<float> normalised_, zeros_, ones_;  // live as long as square_rule's pointers
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<GroupNorm>(group_norm_sizes(node), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("group_norm", make)

}  // namespace fishermask::cuda
