// The kernel that all elementwise ops of one operand share: y = value(x), with the slope taken from
// x, from y, or from neither. A function is a small class template:
//   template <typename T> struct F {
//     explicit F(const NodeSpec&);          // only where it has attributes
//     static constexpr SlopeFrom kSlopeFrom;
//     T value(T x) const;
//     T slope(T z) const;                   // z: what kSlopeFrom names
//   };
// In-place:   y may lie over x unless the slope is taken from x.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "core/unary_formulas.h"
#include "core/vector_clones.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {

// How a table names a function: its class template, wrapped so that it can be passed as a type.
template <template <typename> class F>
struct UnaryOf {
  template <typename T>
  using For = F<T>;
};

template <typename T, typename Function>
FM_VECTOR_CLONES void unary_values(Function f, const T* x, T* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = f.value(x[i]);
}

template <typename T, typename Function>
FM_VECTOR_CLONES void unary_slopes(Function f, const T* __restrict z,
                                   const T* __restrict grad_output, T* __restrict grad_input,
                                   std::int64_t count, bool add) {
  if (add) {
    for (std::int64_t i = 0; i < count; ++i) grad_input[i] += grad_output[i] * f.slope(z[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) grad_input[i] = grad_output[i] * f.slope(z[i]);
  }
}

template <typename T, typename Function>
FM_VECTOR_CLONES void unary_constant_slope(Function f, const T* __restrict grad_output,
                                           T* __restrict grad_input, std::int64_t count, bool add) {
  const T slope = f.slope(T{0});
  if (add) {
    for (std::int64_t i = 0; i < count; ++i) grad_input[i] += grad_output[i] * slope;
  } else {
    for (std::int64_t i = 0; i < count; ++i) grad_input[i] = grad_output[i] * slope;
  }
}

template <typename T, typename Function>
class UnaryKernel : public Kernel {
 public:
  explicit UnaryKernel(Function f) : f_(f) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    parallel_for(io.outputs[0].count(), kGrain, [=, this](std::int64_t begin, std::int64_t end) {
      unary_values(f_, x + begin, y + begin, end - begin);
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    const T* z = slope_source(io);
    parallel_for(io.grad_inputs[0].count(), kGrain,
                 [=, &f = std::as_const(f_)](std::int64_t begin, std::int64_t end) {
                   (void)f;
                   const std::int64_t count = end - begin;
                   if constexpr (Function::kSlopeFrom == SlopeFrom::kZero) {
                     if (!add) std::fill_n(grad_input + begin, count, T{0});
                   } else if constexpr (Function::kSlopeFrom == SlopeFrom::kConstant) {
                     unary_constant_slope(f, grad_output + begin, grad_input + begin, count, add);
                   } else {
                     unary_slopes(f, z + begin, grad_output + begin, grad_input + begin, count,
                                  add);
                   }
                 });
  }

 private:
  static constexpr std::int64_t kGrain = 1 << 13;

  static const T* slope_source(const NodeIo& io) {
    if constexpr (Function::kSlopeFrom == SlopeFrom::kInput) return io.inputs[0].as<T>();
    if constexpr (Function::kSlopeFrom == SlopeFrom::kOutput) return io.outputs[0].as<T>();
    return nullptr;
  }

  Function f_;
};

template <typename T, typename Of>
std::unique_ptr<Kernel> unary_kernel([[maybe_unused]] const NodeSpec& node) {
  using Function = typename Of::template For<T>;
  if constexpr (std::is_constructible_v<Function, const NodeSpec&>) {
    return std::make_unique<UnaryKernel<T, Function>>(Function(node));
  } else {
    return std::make_unique<UnaryKernel<T, Function>>(Function{});
  }
}

template <typename Of>
std::unique_ptr<Kernel> unary_reference(const NodeSpec& node, DType dtype) {
  return dtype == DType::kF64 ? unary_kernel<double, Of>(node) : unary_kernel<float, Of>(node);
}

// For `make_fast`: Of's f32 function is the vectorised one.
template <typename Of>
std::unique_ptr<Kernel> unary_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return unary_kernel<float, Of>(node);
}

inline std::vector<ValueSpec> infer_unary(const NodeSpec& node) {
  check_real_inputs(node);
  return {node.inputs[0]};
}

// Also constructs the function once, so that bad attributes are refused with the graph.
template <typename Of>
std::vector<ValueSpec> infer_unary_of(const NodeSpec& node) {
  if constexpr (std::is_constructible_v<typename Of::template For<double>, const NodeSpec&>) {
    (void)typename Of::template For<double>(node);
  }
  return infer_unary(node);
}

// The definition of one function; inputs of the cases are drawn from [low, high).
template <typename Of>
OpDefinition unary_op(const char* name, double low, double high) {
  constexpr SlopeFrom kFrom = Of::template For<double>::kSlopeFrom;
  OpDefinition op;
  op.name = name;
  op.backward_needs_inputs = kFrom == SlopeFrom::kInput;
  op.backward_needs_outputs = kFrom == SlopeFrom::kOutput;
  op.in_place = kFrom != SlopeFrom::kInput;
  op.nonlinear = kFrom != SlopeFrom::kConstant;
  op.infer = infer_unary_of<Of>;
  op.make_reference = unary_reference<Of>;
  op.cases = {
      {.name = "vector", .inputs = {{37}}, .draws = {{low, high}}},
      {.name = "image", .inputs = {{5, 4, 3}}, .batch = 2, .draws = {{low, high}}},
      {.name = "scalar, batch of one", .inputs = {{}}, .batch = 1, .draws = {{low, high}}},
  };
  return op;
}

}  // namespace fishermask
