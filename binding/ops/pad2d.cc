// pad2d: takes every step-th row and column, then frames the image, and its channels, with `value`.
// Step 2 with channels is the shortcut without parameters ("option A") of He et al.'s CIFAR
// ResNets. Shapes:     x (N, H, W, C), y (N, top + ⌈H/step⌉ + bottom, left + ⌈W/step⌉ + right,
//             before + C + after).
// Attributes: padding [top, left, bottom, right], channels [before, after], step [2], value.
// Accumulate: grad x as asked; rows and columns that were stepped over get 0.
// Deterministic: yes.
// Source:     He, Zhang, Ren, Sun, "Deep residual learning", 2015, §4.2.
#include <algorithm>

#include "core/pad2d_sizes.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const Shape output = pad2d_sizes(node).out;
  static_cast<void>(element_count(output));
  return {{output, node.inputs[0].dtype}};
}

template <typename T>
class Pad : public Kernel {
 public:
  explicit Pad(const NodeSpec& node) : sizes_(pad2d_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    const std::int64_t out_count = element_count(sizes_.out);
    parallel_for(io.batch, 1, [&](std::int64_t begin, std::int64_t end) {
      std::fill(y + begin * out_count, y + end * out_count, static_cast<T>(sizes_.value));
      for (std::int64_t n = begin; n < end; ++n) {
        for_each_position(n, [&](std::int64_t xi, std::int64_t yi) {
          std::copy_n(x + xi, sizes_.in[2], y + yi);
        });
      }
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    const std::int64_t in_count = element_count(sizes_.in);
    parallel_for(io.batch, 1, [&](std::int64_t begin, std::int64_t end) {
      if (!add) std::fill(grad_input + begin * in_count, grad_input + end * in_count, T{0});
      for (std::int64_t n = begin; n < end; ++n) {
        for_each_position(n, [&](std::int64_t xi, std::int64_t yi) {
          for (std::int64_t c = 0; c < sizes_.in[2]; ++c) grad_input[xi + c] += grad_output[yi + c];
        });
      }
    });
  }

 private:
  // body(first channel in x, the same in y) for every position of sample n that is taken.
  template <typename Body>
  void for_each_position(std::int64_t n, const Body& body) const {
    const Shape& in = sizes_.in;
    const Shape& out = sizes_.out;
    std::int64_t oy = sizes_.top;
    for (std::int64_t iy = 0; iy < in[0]; iy += sizes_.step_height, ++oy) {
      std::int64_t ox = sizes_.left;
      for (std::int64_t ix = 0; ix < in[1]; ix += sizes_.step_width, ++ox) {
        body(((n * in[0] + iy) * in[1] + ix) * in[2],
             ((n * out[0] + oy) * out[1] + ox) * out[2] + sizes_.before);
      }
    }
  }

  Pad2dSizes sizes_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Pad<double>>(node);
  return std::make_unique<Pad<float>>(node);
}

OpDefinition pad2d() {
  using Integers = std::vector<std::int64_t>;
  OpDefinition op;
  op.name = "pad2d";
  op.attributes = {"padding", "channels", "value", "step"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "asymmetric, value 1.5",
       .inputs = {{3, 4, 3}},
       .attributes = {{"padding", Integers{1, 0, 2, 3}}, {"value", 1.5}}},
      {.name = "option A shortcut",
       .inputs = {{6, 6, 16}},
       .attributes = {{"step", Integers{2, 2}}, {"channels", Integers{8, 8}}}},
      {.name = "odd size, steps 2x3, everything",
       .inputs = {{5, 7, 1}},
       .attributes = {{"step", Integers{2, 3}},
                      {"channels", Integers{0, 2}},
                      {"padding", Integers{1, 2, 0, 1}}},
       .batch = 1},
  };
  return op;
}

FM_REGISTER_OP(pad2d())

}  // namespace
}  // namespace fishermask
