// softmax: y_i = e^(x_i − m) / Σ_j e^(x_j − m), m = max x;  log_softmax: its logarithm.
// Shapes:     y as x, any with at least one size; runs along the attribute axis (−1).
// Gradients:  softmax: y·(δ − Σ δ·y); log_softmax: δ − e^y·Σ δ; from the output alone.
// Along the last axis a warp (up to 1024 values) or a block takes a run; along another a thread
// does, so that neighbours read neighbours.
// Precision:  exponentials in f32; a thread's part of a sum in f32, the parts in f64. Along another
// axis than the last in f64.
// In-place:   y may lie over x: a value is read by the thread that writes it, and before it.
// Workspace:  none. Deterministic: yes. Bound by memory: later readings of a run are its caches'.
#include "common/backend.h"
#include "common/reduce.cuh"
#include "core/axis.h"

namespace fishermask::cuda {
namespace {

template <Team kTeam, bool kLog>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    softmax_rows(const float* x, float* y, std::int64_t rows, std::int64_t length) {
  const int rank = team_rank<kTeam>();
  const int size = team_size<kTeam>();
  for (std::int64_t row = first_row<kTeam>(); row < rows; row += row_step<kTeam>()) {
    const float* const from = x + row * length;
    float* const to = y + row * length;
    float most = Most::none();
    for (std::int64_t i = rank; i < length; i += size) most = Most::join(most, from[i]);
    most = team_reduce<kTeam, Most>(most);
    float part = 0;
    for (std::int64_t i = rank; i < length; i += size) {
      const float e = expf(from[i] - most);
      if constexpr (!kLog) to[i] = e;
      part += e;
    }
    const double sum = team_sum<kTeam>(static_cast<double>(part));
    if constexpr (kLog) {
      const auto log_sum = static_cast<float>(log(sum));
      for (std::int64_t i = rank; i < length; i += size) to[i] = from[i] - most - log_sum;
    } else {
      const auto inverse = static_cast<float>(1 / sum);
      for (std::int64_t i = rank; i < length; i += size) to[i] *= inverse;
    }
  }
}

template <Team kTeam, bool kLog>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    softmax_rows_backward(const float* y, const float* grad_output, float* grad_input,
                          std::int64_t rows, std::int64_t length, bool add) {
  const int rank = team_rank<kTeam>();
  const int size = team_size<kTeam>();
  for (std::int64_t row = first_row<kTeam>(); row < rows; row += row_step<kTeam>()) {
    const std::int64_t at = row * length;
    float part = 0;
    for (std::int64_t i = at + rank; i < at + length; i += size) {
      part += kLog ? grad_output[i] : grad_output[i] * y[i];
    }
    const auto sum = static_cast<float>(team_sum<kTeam>(static_cast<double>(part)));
    for (std::int64_t i = at + rank; i < at + length; i += size) {
      const float passed = kLog ? grad_output[i] - expf(y[i]) * sum : y[i] * (grad_output[i] - sum);
      grad_input[i] = add ? grad_input[i] + passed : passed;
    }
  }
}

// A run is one thread's.
template <bool kLog>
__global__ void softmax_runs(const float* x, float* y, AxisRuns axis, std::int64_t runs) {
  const std::int64_t step = axis.inner;
  const std::int64_t extent = axis.length * step;
  for (std::int64_t run = first_item(); run < runs; run += item_step()) {
    const std::int64_t start = run / step * extent + run % step;
    float most = Most::none();
    for (std::int64_t i = start; i < start + extent; i += step) most = Most::join(most, x[i]);
    double sum = 0;
    for (std::int64_t i = start; i < start + extent; i += step) {
      sum += static_cast<double>(expf(x[i] - most));
    }
    const double log_sum = kLog ? log(sum) : 0.0;
    for (std::int64_t i = start; i < start + extent; i += step) {
      const float away = x[i] - most;
      y[i] = static_cast<float>(kLog ? static_cast<double>(away) - log_sum
                                     : static_cast<double>(expf(away)) / sum);
    }
  }
}

template <bool kLog>
__global__ void softmax_runs_backward(const float* y, const float* grad_output, float* grad_input,
                                      AxisRuns axis, std::int64_t runs, bool add) {
  const std::int64_t step = axis.inner;
  const std::int64_t extent = axis.length * step;
  for (std::int64_t run = first_item(); run < runs; run += item_step()) {
    const std::int64_t start = run / step * extent + run % step;
    double total = 0;
    for (std::int64_t i = start; i < start + extent; i += step) {
      total += static_cast<double>(kLog ? grad_output[i] : grad_output[i] * y[i]);
    }
    const auto sum = static_cast<float>(total);
    for (std::int64_t i = start; i < start + extent; i += step) {
      const float passed = kLog ? grad_output[i] - expf(y[i]) * sum : y[i] * (grad_output[i] - sum);
      grad_input[i] = add ? grad_input[i] + passed : passed;
    }
  }
}

template <bool kLog>
class Softmax : public Kernel {
 public:
  Softmax(const NodeSpec& node, const KernelContext& context)
      : context_(context), axis_(axis_runs(node, -1)) {}

  void forward(const NodeIo& io) override {
    const float* const x = io.inputs[0].as<float>();
    float* const y = io.outputs[0].as<float>();
    const std::int64_t runs = axis_.runs(io.batch);
    if (axis_.inner == 1) {
      launch_rows("softmax_rows", context_.stream, runs, axis_.length,
                  softmax_rows<Team::kWarp, kLog>, softmax_rows<Team::kBlock, kLog>, x, y, runs,
                  axis_.length);
    } else {
      launch("softmax_runs", context_.stream, over(runs), softmax_runs<kLog>, x, y, axis_, runs);
    }
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const float* const y = io.outputs[0].as<float>();
    const float* const grad_output = io.grad_outputs[0].as<float>();
    float* const grad_input = io.grad_inputs[0].as<float>();
    const bool add = io.accumulate[0];
    const std::int64_t runs = axis_.runs(io.batch);
    if (axis_.inner == 1) {
      launch_rows("softmax_rows_backward", context_.stream, runs, axis_.length,
                  softmax_rows_backward<Team::kWarp, kLog>,
                  softmax_rows_backward<Team::kBlock, kLog>, y, grad_output, grad_input, runs,
                  axis_.length, add);
    } else {
      launch("softmax_runs_backward", context_.stream, over(runs), softmax_runs_backward<kLog>, y,
             grad_output, grad_input, axis_, runs, add);
    }
  }

 private:
  KernelContext context_;
  AxisRuns axis_;
};

template <bool kLog>
std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Softmax<kLog>>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("softmax", make<false>)
FM_REGISTER_CUDA_OP("log_softmax", make<true>)

}  // namespace fishermask::cuda
