// Runs one row of an op's table of cases on the Kernel interface alone: no graph, no executor.
// Values are drawn as f32 from a seeded normal distribution, so that f32 and f64 runs see the same
// numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <vector>

#include "core/rng.h"
#include "graph/op.h"

namespace fishermask::test {

inline InputDraw draw_of(const SampleCase& sample_case, std::size_t input) {
  return input < sample_case.draws.size() ? sample_case.draws[input] : InputDraw{};
}

inline NodeSpec node_of(const OpDefinition& op, const SampleCase& sample_case) {
  NodeSpec node;
  node.name = "node";
  node.op = op.name;
  for (std::size_t k = 0; k < sample_case.inputs.size(); ++k) {
    const bool integer = draw_of(sample_case, k).integer;
    node.inputs.push_back({sample_case.inputs[k], integer ? DType::kI32 : DType::kF32});
  }
  node.parameters = sample_case.parameters;
  node.attributes = Attributes(sample_case.attributes);
  node.outputs = op.infer(node);
  return node;
}

inline float normal(PhiloxKey key, std::uint64_t index) {
  const double u = 1.0 - static_cast<double>(philox_uniform(key, 2 * index));
  const double v = philox_uniform(key, 2 * index + 1);
  return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v));
}

inline std::vector<float> normals(std::int64_t count, std::uint64_t stream) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = normal({20, stream}, i);
  return values;
}

// The same draw, spread so that no two values and no value and 0 are closer than 0.01: kinks are
// out of a difference quotient's reach.
inline std::vector<float> spread(std::int64_t count, std::uint64_t stream) {
  const std::vector<float> draw = normals(count, stream);
  std::vector<std::size_t> order(draw.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return draw[a] < draw[b]; });
  std::vector<float> values(draw.size());
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const double middle = static_cast<double>(order.size()) / 2;
    values[order[rank]] = static_cast<float>(0.02 * (static_cast<double>(rank) - middle) + 0.013);
  }
  return values;
}

inline std::vector<float> uniforms(std::int64_t count, std::uint64_t stream,
                                   const InputDraw& draw) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double u = philox_uniform({21, stream}, i);
    const double value = draw.low + u * (draw.high - draw.low);
    values[i] = static_cast<float>(draw.integer ? std::floor(value) : value);
  }
  return values;
}

template <typename T>
Tensor tensor_of(const Shape& shape, const std::vector<float>& values) {
  Tensor tensor(dtype_of<T>(), shape);
  std::transform(values.begin(), values.end(), tensor.as<T>(),
                 [](float value) { return static_cast<T>(value); });
  return tensor;
}

inline bool is_buffer(const OpDefinition& op, const std::string& slot) {
  return std::any_of(op.slots.begin(), op.slots.end(),
                     [&](const ParameterSlot& s) { return s.name == slot && s.buffer; });
}

// Everything one node needs for a batch, in T.
template <typename T>
class OpRun {
 public:
  OpRun(const OpDefinition& op, const SampleCase& sample_case, bool fast)
      : op_(op), case_(sample_case), node_(node_of(op, sample_case)) {
    kernel_ = make_kernel(sample_case.batch, fast);
    io.batch = sample_case.batch;
    io.training = sample_case.training;
    io.rng = {.seed = 7, .stream = 3};
    std::uint64_t stream = 1;
    for (std::size_t k = 0; k < node_.inputs.size(); ++k) add_input(k, stream++);
    for (const ValueSpec& output : node_.outputs) {
      const Shape shape = with_batch(io.batch, output.shape);
      outputs.push_back(Tensor(dtype_of<T>(), shape));
      grad_outputs.push_back(tensor_of<T>(shape, normals(element_count(shape), 100 + stream++)));
    }
    for (const auto& [slot, shape] : node_.parameters) {
      std::vector<float> values = normals(element_count(shape), 200 + stream++);
      // A buffer may be a variance: positive, and away from 0.
      if (is_buffer(op, slot)) {
        for (float& value : values) value = std::abs(value) + 0.5F;
      } else {
        grad_parameters[slot] = Tensor(dtype_of<T>(), shape);
      }
      parameters[slot] = tensor_of<T>(shape, values);
    }
    const SavedSpec saved = saved_spec();
    saved_bytes_per_sample_ = saved.bytes_per_sample;
    saved_per_sample_ = Tensor(DType::kU8, {saved.bytes_per_sample * io.batch});
    saved_fixed_ = Tensor(DType::kU8, {saved.bytes_fixed});
    bind();
  }

  // Reads and writes the tensors below; call again after replacing one.
  void bind() {
    io.inputs = views(inputs);
    io.outputs = views(outputs);
    io.grad_outputs = views(grad_outputs);
    io.grad_inputs = views(grad_inputs);
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      if (inputs[k].dtype() == DType::kI32) io.grad_inputs[k] = {};
    }
    io.accumulate.assign(inputs.size(), false);
    io.saved_per_sample = saved_per_sample_.view().data;
    io.saved_fixed = saved_fixed_.view().data;
    for (const auto& [slot, tensor] : parameters) io.parameters[slot] = tensor.view();
    for (const auto& [slot, tensor] : grad_parameters) io.grad_parameters[slot] = tensor.view();
  }

  void forward() { kernel_->forward(io); }
  // Parameter gradients are added by the kernel; start them at 0.
  void backward() {
    for (const auto& [slot, tensor] : grad_parameters) tensor.zero();
    kernel_->backward(io);
  }

  // The io of sample n alone, with its saved memory cut out; parameter gradients go to `sums`.
  [[nodiscard]] NodeIo sample_io(std::int64_t n, const std::map<std::string, Tensor>& sums) const {
    NodeIo one = io;
    one.batch = 1;
    const auto cut = [&](std::vector<TensorView>& all) {
      for (TensorView& view : all) view = view.sample(n);
    };
    cut(one.inputs);
    cut(one.outputs);
    cut(one.grad_outputs);
    cut(one.grad_inputs);
    if (one.saved_per_sample != nullptr) one.saved_per_sample += n * saved_bytes_per_sample_;
    for (const auto& [slot, tensor] : sums) one.grad_parameters[slot] = tensor.view();
    return one;
  }

  [[nodiscard]] std::unique_ptr<Kernel> make_kernel(std::int64_t batch, bool fast) const {
    std::unique_ptr<Kernel> kernel;
    if (fast && op_.make_fast != nullptr) kernel = op_.make_fast(node_, batch);
    return kernel != nullptr ? std::move(kernel) : op_.make_reference(node_, dtype_of<T>());
  }

  [[nodiscard]] SavedSpec saved_spec() const {
    return op_.saved != nullptr ? op_.saved(node_, io.batch, io.training) : SavedSpec{};
  }
  [[nodiscard]] Kernel& kernel() const { return *kernel_; }
  [[nodiscard]] const NodeSpec& node() const { return node_; }

  NodeIo io;
  std::vector<Tensor> inputs, outputs, grad_outputs, grad_inputs;
  std::map<std::string, Tensor> parameters, grad_parameters;

 private:
  // Integers have no gradient: theirs is empty.
  void add_input(std::size_t k, std::uint64_t stream) {
    const ValueSpec& input = node_.inputs[k];
    const InputDraw draw = draw_of(case_, k);
    const Shape shape = with_batch(io.batch, input.shape);
    const std::int64_t count = element_count(shape);
    if (input.dtype == DType::kI32) {
      inputs.push_back(tensor_of<std::int32_t>(shape, uniforms(count, stream, draw)));
      grad_inputs.push_back(Tensor(dtype_of<T>(), {0}));
      return;
    }
    const bool ranged = draw.low < draw.high;
    inputs.push_back(tensor_of<T>(shape, ranged          ? uniforms(count, stream, draw)
                                         : op_.nonlinear ? spread(count, stream)
                                                         : normals(count, stream)));
    grad_inputs.push_back(Tensor(dtype_of<T>(), shape));
  }

  static std::vector<TensorView> views(const std::vector<Tensor>& tensors) {
    std::vector<TensorView> all;
    for (const Tensor& tensor : tensors) all.push_back(tensor.view());
    return all;
  }

  const OpDefinition& op_;
  const SampleCase& case_;
  NodeSpec node_;
  std::unique_ptr<Kernel> kernel_;
  std::int64_t saved_bytes_per_sample_ = 0;
  Tensor saved_per_sample_, saved_fixed_;
};

// ‖a − b‖ / ‖b‖, or ‖a − b‖ where b is 0.
template <typename A, typename B>
double relative_distance(std::span<const A> a, std::span<const B> b) {
  double away = 0;
  double size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    away += difference * difference;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(away) / (size > 0 ? std::sqrt(size) : 1.0);
}

template <typename A, typename B>
double relative_distance(const Tensor& a, const Tensor& b) {
  return relative_distance<A, B>(std::span<const A>(a.span<A>()), std::span<const B>(b.span<B>()));
}

}  // namespace fishermask::test
