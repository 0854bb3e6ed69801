// global_avg_pool: y[n, c] = (1/(H·W)) Σ_p x[n, p, c].
// Shapes:     x (N, H, W, C), y (N, C).
// Accumulate: grad x as asked.   Deterministic: yes.
#include <algorithm>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const Shape& input = node.inputs[0].shape;
  node.check(input.size() == 3 && input[0] > 0 && input[1] > 0,
             "expected an image (H, W, C) with at least one position but received ",
             shape_text(input));
  return {{{input[2]}, node.inputs[0].dtype}};
}

template <typename T>
class GlobalAvgPool : public Kernel {
 public:
  explicit GlobalAvgPool(const NodeSpec& node)
      : height_(node.inputs[0].shape[0]),
        width_(node.inputs[0].shape[1]),
        channels_(node.inputs[0].shape[2]) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    parallel_for(io.batch, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<T> line(static_cast<std::size_t>(channels_));
      for (std::int64_t n = begin; n < end; ++n) {
        forward_sample(x + n * height_ * width_ * channels_, line.data(), y + n * channels_);
      }
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    const T share = T{1} / static_cast<T>(height_ * width_);
    const std::int64_t positions = height_ * width_;
    parallel_for(io.batch * positions, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        const T* from = grad_output + p / positions * channels_;
        T* to = grad_input + p * channels_;
        for (std::int64_t c = 0; c < channels_; ++c) {
          to[c] = from[c] * share + (add ? to[c] : T{0});
        }
      }
    });
  }

 private:
  // Line by line: fewer roundings than one sum over all positions.
  void forward_sample(const T* x, T* line, T* y) const {
    std::fill_n(y, channels_, T{0});
    for (std::int64_t row = 0; row < height_; ++row) {
      std::fill_n(line, channels_, T{0});
      for (std::int64_t column = 0; column < width_; ++column, x += channels_) {
        for (std::int64_t c = 0; c < channels_; ++c) line[c] += x[c];
      }
      for (std::int64_t c = 0; c < channels_; ++c) y[c] += line[c];
    }
    for (std::int64_t c = 0; c < channels_; ++c) y[c] /= static_cast<T>(height_ * width_);
  }

  std::int64_t height_, width_, channels_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<GlobalAvgPool<double>>(node);
  return std::make_unique<GlobalAvgPool<float>>(node);
}

OpDefinition global_avg_pool() {
  OpDefinition op;
  op.name = "global_avg_pool";
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {{.name = "image", .inputs = {{5, 4, 17}}},
              {.name = "one position, batch of one", .inputs = {{1, 1, 3}}, .batch = 1}};
  return op;
}

FM_REGISTER_OP(global_avg_pool())

}  // namespace
}  // namespace fishermask
