// softmax: y_i = e^(x_i − m) / Σ_j e^(x_j − m), m = max x;  log_softmax: its logarithm.
// Shapes:     y as x, any with at least one size.
// Attributes: axis (−1), negative from the end.
// In-place:   y may lie over x: a run is read before it is written.
// Gradients:  softmax: y·(δ − Σ δ·y); log_softmax: δ − e^y·Σ δ; from the output alone.
// Deterministic: a run is one thread's, its f32 sums in a fixed number of lanes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/axis.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/vector_math.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 12;
constexpr std::int64_t kLanes = 16;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  (void)axis_runs(node, -1);
  return {node.inputs[0]};
}

std::int64_t runs_per_task(const AxisRuns& axis) {
  return std::max<std::int64_t>(1, kGrain / axis.length);
}

template <typename T, bool kLog>
class Softmax : public Kernel {
 public:
  explicit Softmax(const NodeSpec& node) : axis_(axis_runs(node, -1)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    parallel_for(axis_.runs(io.batch), runs_per_task(axis_),
                 [=, this](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t run = begin; run < end; ++run) {
                     forward_run(x + axis_.start(run), y + axis_.start(run));
                   }
                 });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* y = io.outputs[0].as<T>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    parallel_for(axis_.runs(io.batch), runs_per_task(axis_),
                 [=, this](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t run = begin; run < end; ++run) {
                     const std::int64_t at = axis_.start(run);
                     backward_run(y + at, grad_output + at, grad_input + at, add);
                   }
                 });
  }

 private:
  void forward_run(const T* x, T* y) const {
    const std::int64_t extent = axis_.length * axis_.inner;
    T most = -std::numeric_limits<T>::infinity();
    for (std::int64_t i = 0; i < extent; i += axis_.inner) most = std::max(most, x[i]);
    double sum = 0;
    for (std::int64_t i = 0; i < extent; i += axis_.inner) {
      sum += std::exp(static_cast<double>(x[i] - most));
    }
    const double log_sum = std::log(sum);
    for (std::int64_t i = 0; i < extent; i += axis_.inner) {
      const auto away = static_cast<double>(x[i] - most);
      y[i] = static_cast<T>(kLog ? away - log_sum : std::exp(away) / sum);
    }
  }

  void backward_run(const T* y, const T* grad_output, T* grad_input, bool add) const {
    const std::int64_t extent = axis_.length * axis_.inner;
    double sum = 0;
    for (std::int64_t i = 0; i < extent; i += axis_.inner) {
      sum += static_cast<double>(kLog ? grad_output[i] : grad_output[i] * y[i]);
    }
    for (std::int64_t i = 0; i < extent; i += axis_.inner) {
      const auto delta = static_cast<double>(grad_output[i]);
      const auto value = static_cast<double>(y[i]);
      const auto passed =
          static_cast<T>(kLog ? delta - std::exp(value) * sum : value * (delta - sum));
      grad_input[i] = add ? grad_input[i] + passed : passed;
    }
  }

  AxisRuns axis_;
};

// Of a contiguous f32 run.
FM_INLINE_IN_CLONES float largest(const float* x, std::int64_t count) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lanes[k] = lanes[k] < x[i + k] ? x[i + k] : lanes[k];
  }
  for (std::int64_t k = 0; i + k < count; ++k) {
    lanes[k] = lanes[k] < x[i + k] ? x[i + k] : lanes[k];
  }
  float most = lanes[0];
  for (const float lane : lanes) most = most < lane ? lane : most;
  return most;
}

// Σ term(i); term may write as it goes.
template <typename Term>
FM_INLINE_IN_CLONES float lane_sum(std::int64_t count, const Term& term) {
  float lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lanes[k] += term(i + k);
  }
  for (std::int64_t k = 0; i + k < count; ++k) lanes[k] += term(i + k);
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  return static_cast<float>(sum);
}

FM_VECTOR_CLONES void softmax_row(const float* x, float* y, std::int64_t count) {
  const float most = largest(x, count);
  for (std::int64_t i = 0; i < count; ++i) y[i] = vector_math::exp(x[i] - most);
  const float inverse = 1.0F / lane_sum(count, [=](std::int64_t i) { return y[i]; });
  for (std::int64_t i = 0; i < count; ++i) y[i] *= inverse;
}

FM_VECTOR_CLONES void log_softmax_row(const float* x, float* y, std::int64_t count) {
  const float most = largest(x, count);
  const float sum = lane_sum(count, [=](std::int64_t i) { return vector_math::exp(x[i] - most); });
  const float log_sum = std::log(sum);
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] - most - log_sum;
}

FM_VECTOR_CLONES void softmax_row_gradient(const float* __restrict y,
                                           const float* __restrict grad_output,
                                           float* __restrict grad_input, std::int64_t count,
                                           bool add) {
  const float sum = lane_sum(count, [=](std::int64_t i) { return grad_output[i] * y[i]; });
  if (add) {
    for (std::int64_t i = 0; i < count; ++i) grad_input[i] += y[i] * (grad_output[i] - sum);
  } else {
    for (std::int64_t i = 0; i < count; ++i) grad_input[i] = y[i] * (grad_output[i] - sum);
  }
}

FM_VECTOR_CLONES void log_softmax_row_gradient(const float* __restrict y,
                                               const float* __restrict grad_output,
                                               float* __restrict grad_input, std::int64_t count,
                                               bool add) {
  const float sum = lane_sum(count, [=](std::int64_t i) { return grad_output[i]; });
  for (std::int64_t i = 0; i < count; ++i) {
    const float passed = grad_output[i] - vector_math::exp(y[i]) * sum;
    grad_input[i] = add ? grad_input[i] + passed : passed;
  }
}

// Along the last axis: runs are contiguous rows.
template <bool kLog>
class SoftmaxRows : public Kernel {
 public:
  explicit SoftmaxRows(const NodeSpec& node) : axis_(axis_runs(node, -1)) {}

  void forward(const NodeIo& io) override {
    const float* x = io.inputs[0].as<float>();
    float* y = io.outputs[0].as<float>();
    const std::int64_t length = axis_.length;
    parallel_for(
        axis_.runs(io.batch), runs_per_task(axis_), [=](std::int64_t begin, std::int64_t end) {
          for (std::int64_t at = begin * length; at < end * length; at += length) {
            kLog ? log_softmax_row(x + at, y + at, length) : softmax_row(x + at, y + at, length);
          }
        });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const float* y = io.outputs[0].as<float>();
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* grad_input = io.grad_inputs[0].as<float>();
    const bool add = io.accumulate[0];
    const std::int64_t length = axis_.length;
    const auto row = kLog ? log_softmax_row_gradient : softmax_row_gradient;
    parallel_for(axis_.runs(io.batch), runs_per_task(axis_),
                 [=](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t at = begin * length; at < end * length; at += length) {
                     row(y + at, grad_output + at, grad_input + at, length, add);
                   }
                 });
  }

 private:
  AxisRuns axis_;
};

template <bool kLog>
std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Softmax<double, kLog>>(node);
  return std::make_unique<Softmax<float, kLog>>(node);
}

template <bool kLog>
std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  if (axis_runs(node, -1).inner != 1) return nullptr;
  return std::make_unique<SoftmaxRows<kLog>>(node);
}

template <bool kLog>
OpDefinition softmax() {
  OpDefinition op;
  op.name = kLog ? "log_softmax" : "softmax";
  op.attributes = {"axis"};
  op.backward_needs_outputs = true;
  op.in_place = true;
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference<kLog>;
  op.make_fast = make_fast<kLog>;
  const std::vector<InputDraw> wide = {{-6, 6}};
  op.cases = {
      {.name = "vector", .inputs = {{10}}, .draws = wide},
      {.name = "rows of 67", .inputs = {{4, 5, 67}}, .batch = 2, .draws = wide},
      {.name = "axis 0, batch of one",
       .inputs = {{5, 3}},
       .attributes = {{"axis", std::int64_t{0}}},
       .batch = 1,
       .draws = wide},
      {.name = "axis -2",
       .inputs = {{3, 6, 4}},
       .attributes = {{"axis", std::int64_t{-2}}},
       .draws = wide},
  };
  return op;
}

FM_REGISTER_OP(softmax<false>())
[[maybe_unused]] const int kRegisteredLog = register_op(softmax<true>());

}  // namespace
}  // namespace fishermask
