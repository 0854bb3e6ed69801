// The plain kernels of conv2d and conv_transpose2d: both are sums of products x · W over taps, and
// differ in which tap goes where.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "graph/op.h"

namespace fishermask {

// Errors: GRAPH for a bias that is not (out,).
inline void check_conv_bias(const NodeSpec& node, std::int64_t out) {
  if (!node.has_parameter("bias")) return;
  const Shape& bias = node.parameters.at("bias");
  node.check(bias == Shape{out}, "expected a bias of shape (", out, ") but received ",
             shape_text(bias));
}

// Taps has out(), the output channels, and for_each(batch, body), which calls body(index in x,
// in W, in y) for every product.
template <typename T, typename Taps>
class TapReference : public Kernel {
 public:
  explicit TapReference(Taps taps) : taps_(std::move(taps)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    const T* weight = io.parameter("weight").as<T>();
    const TensorView bias = io.parameter("bias");
    T* y = io.outputs[0].as<T>();
    for (std::int64_t i = 0; i < io.outputs[0].count(); ++i) {
      y[i] = bias ? bias.as<T>()[i % taps_.out()] : T{0};
    }
    taps_.for_each(io.batch, [=](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
      y[yi] += x[xi] * weight[wi];
    });
  }

  void backward(const NodeIo& io) override {
    const T* grad_output = io.grad_outputs[0].as<T>();
    if (io.grad_inputs[0]) {
      const T* weight = io.parameter("weight").as<T>();
      T* grad_input = io.grad_inputs[0].as<T>();
      if (!io.accumulate[0]) std::fill_n(grad_input, io.grad_inputs[0].count(), T{0});
      taps_.for_each(io.batch, [=](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
        grad_input[xi] += grad_output[yi] * weight[wi];
      });
    }
    if (const TensorView grad_weight = io.grad_parameter("weight")) {
      const T* x = io.inputs[0].as<T>();
      T* sums = grad_weight.as<T>();
      taps_.for_each(io.batch, [=](std::int64_t xi, std::int64_t wi, std::int64_t yi) {
        sums[wi] += grad_output[yi] * x[xi];
      });
    }
    if (const TensorView grad_bias = io.grad_parameter("bias")) {
      T* sums = grad_bias.as<T>();
      for (std::int64_t i = 0; i < io.grad_outputs[0].count(); ++i) {
        sums[i % taps_.out()] += grad_output[i];
      }
    }
  }

 private:
  Taps taps_;
};

}  // namespace fishermask
