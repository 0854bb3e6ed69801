// avg_pool2d: y[n, oy, ox, c] = (1/d) Σ over the window of x[n, ·, ·, c], x = 0 in the padding; d
// is the window's size, or with count_include_pad false the number of its taps inside the image.
// Shapes:     x (N, H, W, C), y (N, H', W', C).
// Attributes: kernel [2], stride [2] (default: kernel), padding [top, left, bottom, right],
//             count_include_pad (default true, as in PyTorch).
// Accumulate: grad x as asked.   Deterministic: yes.
#include <algorithm>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const Window window = pool_window_of(node);
  static_cast<void>(node.attributes.boolean("count_include_pad", true));
  return {{{window.rows.out, window.columns.out, node.inputs[0].shape[2]}, node.inputs[0].dtype}};
}

template <typename T>
class AvgPool : public Kernel {
 public:
  explicit AvgPool(const NodeSpec& node)
      : window_(pool_window_of(node)),
        channels_(node.inputs[0].shape[2]),
        count_include_pad_(node.attributes.boolean("count_include_pad", true)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    const std::int64_t channels = channels_;
    parallel_for(io.batch * window_.rows.out, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        std::fill_n(y + row * row_count(), row_count(), T{0});
        for_each_tap(row, [=](std::int64_t xi, std::int64_t yi, T share) {
          const T* from = x + xi;
          T* to = y + yi;
          for (std::int64_t c = 0; c < channels; ++c) to[c] += from[c] * share;
        });
      }
    });
  }

  // Windows may overlap, so a sample is the smallest part that one thread owns.
  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const std::int64_t channels = channels_;
    const std::int64_t in_count = window_.rows.in * window_.columns.in * channels;
    const bool add = io.accumulate[0];
    parallel_for(io.batch, 1, [&](std::int64_t begin, std::int64_t end) {
      if (!add) std::fill(grad_input + begin * in_count, grad_input + end * in_count, T{0});
      for (std::int64_t row = begin * window_.rows.out; row < end * window_.rows.out; ++row) {
        for_each_tap(row, [=](std::int64_t xi, std::int64_t yi, T share) {
          const T* from = grad_output + yi;
          T* to = grad_input + xi;
          for (std::int64_t c = 0; c < channels; ++c) to[c] += from[c] * share;
        });
      }
    });
  }

 private:
  [[nodiscard]] std::int64_t row_count() const { return window_.columns.out * channels_; }

  [[nodiscard]] T share_of(std::int64_t oy, std::int64_t ox) const {
    const WindowAxis& rows = window_.rows;
    const WindowAxis& columns = window_.columns;
    if (count_include_pad_) return T{1} / static_cast<T>(rows.kernel * columns.kernel);
    std::int64_t high = 0;
    std::int64_t wide = 0;
    for (std::int64_t k = 0; k < rows.kernel; ++k) high += rows.inside(rows.at(oy, k)) ? 1 : 0;
    for (std::int64_t k = 0; k < columns.kernel; ++k) {
      wide += columns.inside(columns.at(ox, k)) ? 1 : 0;
    }
    return T{1} / static_cast<T>(high * wide);
  }

  // body(first channel in x, in y, share) for the taps of one output row of the batch.
  template <typename Body>
  void for_each_tap(std::int64_t row, const Body& body) const {
    const WindowAxis& rows = window_.rows;
    const WindowAxis& columns = window_.columns;
    const std::int64_t n = row / rows.out;
    const std::int64_t oy = row % rows.out;
    for (std::int64_t ox = 0; ox < columns.out; ++ox) {
      const T share = share_of(oy, ox);
      for (std::int64_t ky = 0; ky < rows.kernel; ++ky) {
        for (std::int64_t kx = 0; kx < columns.kernel; ++kx) {
          const std::int64_t iy = rows.at(oy, ky);
          const std::int64_t ix = columns.at(ox, kx);
          if (!rows.inside(iy) || !columns.inside(ix)) continue;
          body(((n * rows.in + iy) * columns.in + ix) * channels_,
               (row * columns.out + ox) * channels_, share);
        }
      }
    }
  }

  Window window_;
  std::int64_t channels_;
  bool count_include_pad_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<AvgPool<double>>(node);
  return std::make_unique<AvgPool<float>>(node);
}

OpDefinition avg_pool2d() {
  using Integers = std::vector<std::int64_t>;
  OpDefinition op;
  op.name = "avg_pool2d";
  op.attributes = {"kernel", "stride", "padding", "count_include_pad"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "2x2", .inputs = {{4, 6, 3}}, .attributes = {{"kernel", Integers{2, 2}}}},
      {.name = "3x3 stride 2, padding counted",
       .inputs = {{7, 5, 17}},
       .attributes = {{"kernel", Integers{3, 3}},
                      {"stride", Integers{2, 2}},
                      {"padding", Integers{1, 1, 1, 1}}}},
      {.name = "overlapping, padding not counted",
       .inputs = {{5, 6, 2}},
       .attributes = {{"kernel", Integers{2, 3}},
                      {"stride", Integers{1, 1}},
                      {"padding", Integers{1, 0, 0, 2}},
                      {"count_include_pad", false}},
       .batch = 2},
      {.name = "whole image, batch of one",
       .inputs = {{3, 4, 33}},
       .attributes = {{"kernel", Integers{3, 4}}},
       .batch = 1},
  };
  return op;
}

FM_REGISTER_OP(avg_pool2d())

}  // namespace
}  // namespace fishermask
