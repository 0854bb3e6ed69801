// linear: y[…, o] = Σ_i x[…, i] · W[o, i] + b[o], on the last size of x.
// Shapes:     x (N, …, in), W (out, in), b (out,) optional, y (N, …, out).
// Accumulate: grad W and grad b use +=; grad x as asked.
// Squares:    contraction form with one position per row of x: a vector is a 1×1 image, a sequence
// a 1×T one. Deterministic: yes for a given thread count (oneDNN's GEMM).
#include <algorithm>

#include "core/linear_sizes.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "graph/op.h"
#include "ops/onednn.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const Shape& weight = node.parameters.at("weight");
  node.check(weight.size() == 2, "expected a weight of shape (out, in) but received ",
             shape_text(weight));
  node.check(!input.empty() && input.back() == weight[1], "expected an input ending in ", weight[1],
             " for a weight of ", shape_text(weight), " but received ", shape_text(input));
  if (node.has_parameter("bias")) {
    const Shape& bias = node.parameters.at("bias");
    node.check(bias == Shape{weight[0]}, "expected a bias of shape (", weight[0], ") but received ",
               shape_text(bias));
  }
  Shape output = input;
  output.back() = weight[0];
  return {{output, node.inputs[0].dtype}};
}

template <typename T>
class LinearReference : public Kernel {
 public:
  explicit LinearReference(const NodeSpec& node) : sizes_(linear_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    const T* weight = io.parameter("weight").as<T>();
    const TensorView bias = io.parameter("bias");
    T* y = io.outputs[0].as<T>();
    for (std::int64_t r = 0; r < io.batch * sizes_.rows; ++r) {
      for (std::int64_t o = 0; o < sizes_.out; ++o) {
        T sum = bias ? bias.as<T>()[o] : T{0};
        for (std::int64_t i = 0; i < sizes_.in; ++i) {
          sum += x[r * sizes_.in + i] * weight[o * sizes_.in + i];
        }
        y[r * sizes_.out + o] = sum;
      }
    }
  }

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) backward_input(io);
    const T* x = io.inputs[0].as<T>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    const TensorView grad_weight = io.grad_parameter("weight");
    const TensorView grad_bias = io.grad_parameter("bias");
    for (std::int64_t r = 0; r < io.batch * sizes_.rows; ++r) {
      for (std::int64_t o = 0; o < sizes_.out; ++o) {
        const T delta = grad_output[r * sizes_.out + o];
        if (grad_bias) grad_bias.as<T>()[o] += delta;
        if (!grad_weight) continue;
        for (std::int64_t i = 0; i < sizes_.in; ++i) {
          grad_weight.as<T>()[o * sizes_.in + i] += delta * x[r * sizes_.in + i];
        }
      }
    }
  }

 private:
  void backward_input(const NodeIo& io) const {
    const T* weight = io.parameter("weight").as<T>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    for (std::int64_t r = 0; r < io.batch * sizes_.rows; ++r) {
      for (std::int64_t i = 0; i < sizes_.in; ++i) {
        T sum = io.accumulate[0] ? grad_input[r * sizes_.in + i] : T{0};
        for (std::int64_t o = 0; o < sizes_.out; ++o) {
          sum += grad_output[r * sizes_.out + o] * weight[o * sizes_.in + i];
        }
        grad_input[r * sizes_.in + i] = sum;
      }
    }
  }

  LinearSizes sizes_;
};

constexpr std::int64_t kBiasGrain = 64;

// sums[o] += Σ_r from[r · step + o]
FM_VECTOR_CLONES void add_rows(const float* __restrict from, std::int64_t rows, std::int64_t step,
                               std::int64_t count, float* __restrict sums) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t o = 0; o < count; ++o) sums[o] += from[r * step + o];
  }
}

class LinearFast : public Kernel {
 public:
  explicit LinearFast(const NodeSpec& node) : sizes_(linear_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const std::int64_t rows = io.batch * sizes_.rows;
    float* y = io.outputs[0].as<float>();
    const TensorView bias = io.parameter("bias");
    if (bias) {
      const float* b = bias.as<float>();
      parallel_for(rows, grain(), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) std::copy_n(b, sizes_.out, y + r * sizes_.out);
      });
    }
    gemm(false, true, rows, sizes_.out, sizes_.in, io.inputs[0].as<float>(), sizes_.in,
         io.parameter("weight").as<float>(), sizes_.in, bias ? 1.0F : 0.0F, y, sizes_.out);
  }

  void backward(const NodeIo& io) override {
    const std::int64_t rows = io.batch * sizes_.rows;
    const float* grad_output = io.grad_outputs[0].as<float>();
    if (io.grad_inputs[0]) {
      gemm(false, false, rows, sizes_.in, sizes_.out, grad_output, sizes_.out,
           io.parameter("weight").as<float>(), sizes_.in, io.accumulate[0] ? 1.0F : 0.0F,
           io.grad_inputs[0].as<float>(), sizes_.in);
    }
    if (const TensorView grad_weight = io.grad_parameter("weight")) {
      gemm(true, false, sizes_.out, sizes_.in, rows, grad_output, sizes_.out,
           io.inputs[0].as<float>(), sizes_.in, 1.0F, grad_weight.as<float>(), sizes_.in);
    }
    if (const TensorView grad_bias = io.grad_parameter("bias")) {
      // Threads take channels, so that the order of a sum does not depend on their number.
      parallel_for(sizes_.out, kBiasGrain, [&](std::int64_t begin, std::int64_t end) {
        add_rows(grad_output + begin, rows, sizes_.out, end - begin, grad_bias.as<float>() + begin);
      });
    }
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    const float* grad_output = io.grad_outputs[0].as<float>();
    ContractionForm weight;
    weight.grad_output = grad_output;
    weight.input = io.inputs[0].as<float>();
    weight.batch = io.batch;
    weight.in_width = weight.out_width = sizes_.rows;
    weight.in_channels = sizes_.in;
    weight.out_channels = sizes_.out;
    ReductionForm bias;
    bias.grad_output = grad_output;
    bias.batch = io.batch;
    bias.positions = sizes_.rows;
    bias.channels = sizes_.out;
    std::vector<SquareProblem> problems = {{"weight", weight}};
    if (io.parameter("bias")) problems.push_back({"bias", bias});
    return problems;
  }

 private:
  // Rows of a parallel loop: about 2^14 values.
  [[nodiscard]] std::int64_t grain() const {
    return (std::int64_t{1} << 14) / std::max<std::int64_t>(sizes_.out, 1) + 1;
  }

  LinearSizes sizes_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<LinearReference<double>>(node);
  return std::make_unique<LinearReference<float>>(node);
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return std::make_unique<LinearFast>(node);
}

OpDefinition linear() {
  OpDefinition op;
  op.name = "linear";
  op.slots = {{.name = "weight"}, {.name = "bias", .required = false}};
  op.backward_needs_inputs = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = {
      {.name = "vector", .inputs = {{7}}, .parameters = {{"weight", {5, 7}}, {"bias", {5}}}},
      {.name = "no bias, wide",
       .inputs = {{33}},
       .parameters = {{"weight", {17, 33}}},
       .batch = 40},
      {.name = "sequence",
       .inputs = {{6, 9}},
       .parameters = {{"weight", {4, 9}}, {"bias", {4}}},
       .batch = 2},
      {.name = "batch of one", .inputs = {{3}}, .parameters = {{"weight", {1, 3}}}, .batch = 1},
  };
  return op;
}

FM_REGISTER_OP(linear())

}  // namespace
}  // namespace fishermask
