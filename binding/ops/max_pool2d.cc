// max_pool2d: y[n, oy, ox, c] = max over the window of x[n, ·, ·, c]; the padding takes no part.
// Shapes:     x (N, H, W, C), y (N, H', W', C).
// Attributes: kernel [2], stride [2] (default: kernel), padding [top, left, bottom, right],
//             dilation [2].
// Kink:       among equal values the first of the window takes the gradient; NaN wins over any
//             number. Both as in PyTorch.
// Accumulate: grad x as asked.
// Workspace:  the winner's offset in its sample, int32, per output.
// Deterministic: yes.
#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const Window window = pool_window_of(node);
  const Shape& input = node.inputs[0].shape;
  node.check(element_count(input) <= std::numeric_limits<std::int32_t>::max(),
             "expected at most 2^31 - 1 values per sample but received ", shape_text(input));
  return {{{window.rows.out, window.columns.out, input[2]}, node.inputs[0].dtype}};
}

SavedSpec saved(const NodeSpec& node, std::int64_t /*batch*/, bool /*training*/) {
  const std::int64_t outputs = element_count(infer(node)[0].shape);
  return {.bytes_per_sample = outputs * static_cast<std::int64_t>(sizeof(std::int32_t))};
}

// Takes x where it wins over the best so far.
template <typename T>
void take_larger(const T* __restrict x, std::int64_t channels, std::int32_t offset,
                 T* __restrict best, std::int32_t* __restrict winner) {
  for (std::int64_t c = 0; c < channels; ++c) {
    const T value = x[c];
    const bool wins = value > best[c] || value != value;
    best[c] = wins ? value : best[c];
    winner[c] = wins ? offset + static_cast<std::int32_t>(c) : winner[c];
  }
}

template <typename T>
class MaxPool : public Kernel {
 public:
  explicit MaxPool(const NodeSpec& node)
      : window_(pool_window_of(node)), channels_(node.inputs[0].shape[2]) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    auto* winners = reinterpret_cast<std::int32_t*>(io.saved_per_sample);
    const WindowAxis& rows = window_.rows;
    parallel_for(io.batch * rows.out, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t first = row * window_.columns.out * channels_;
        forward_row(x + row / rows.out * in_count(), row % rows.out, y + first, winners + first);
      }
    });
  }

  // Windows may overlap, so a sample is the smallest part that one thread owns.
  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const auto* winners = reinterpret_cast<const std::int32_t*>(io.saved_per_sample);
    const bool add = io.accumulate[0];
    const std::int64_t outputs = window_.rows.out * window_.columns.out * channels_;
    parallel_for(io.batch, 1, [&](std::int64_t begin, std::int64_t end) {
      if (!add) std::fill(grad_input + begin * in_count(), grad_input + end * in_count(), T{0});
      for (std::int64_t n = begin; n < end; ++n) {
        T* sample = grad_input + n * in_count();
        for (std::int64_t i = n * outputs; i < (n + 1) * outputs; ++i) {
          sample[winners[i]] += grad_output[i];
        }
      }
    });
  }

 private:
  [[nodiscard]] std::int64_t in_count() const {
    return window_.rows.in * window_.columns.in * channels_;
  }

  void forward_row(const T* sample, std::int64_t oy, T* y, std::int32_t* winners) const {
    const WindowAxis& rows = window_.rows;
    const WindowAxis& columns = window_.columns;
    for (std::int64_t ox = 0; ox < columns.out; ++ox, y += channels_, winners += channels_) {
      bool first = true;
      for (std::int64_t ky = 0; ky < rows.kernel; ++ky) {
        for (std::int64_t kx = 0; kx < columns.kernel; ++kx) {
          const std::int64_t iy = rows.at(oy, ky);
          const std::int64_t ix = columns.at(ox, kx);
          if (!rows.inside(iy) || !columns.inside(ix)) continue;
          const std::int64_t offset = (iy * columns.in + ix) * channels_;
          if (first) {
            std::copy_n(sample + offset, channels_, y);
            for (std::int64_t c = 0; c < channels_; ++c) {
              winners[c] = static_cast<std::int32_t>(offset + c);
            }
            first = false;
          } else {
            take_larger(sample + offset, channels_, static_cast<std::int32_t>(offset), y, winners);
          }
        }
      }
    }
  }

  Window window_;
  std::int64_t channels_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<MaxPool<double>>(node);
  return std::make_unique<MaxPool<float>>(node);
}

OpDefinition max_pool2d() {
  using Integers = std::vector<std::int64_t>;
  OpDefinition op;
  op.name = "max_pool2d";
  op.attributes = {"kernel", "stride", "padding", "dilation"};
  op.nonlinear = true;
  op.infer = infer;
  op.saved = saved;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "2x2", .inputs = {{6, 4, 3}}, .attributes = {{"kernel", Integers{2, 2}}}},
      {.name = "3x3 stride 2, padding 1",
       .inputs = {{7, 6, 17}},
       .attributes = {{"kernel", Integers{3, 3}},
                      {"stride", Integers{2, 2}},
                      {"padding", Integers{1, 1, 1, 1}}}},
      {.name = "overlapping, asymmetric padding",
       .inputs = {{5, 6, 2}},
       .attributes = {{"kernel", Integers{3, 2}},
                      {"stride", Integers{1, 1}},
                      {"padding", Integers{0, 1, 2, 0}}},
       .batch = 2},
      {.name = "dilation 2x3",
       .inputs = {{8, 9, 1}},
       .attributes = {{"kernel", Integers{3, 2}},
                      {"stride", Integers{2, 1}},
                      {"dilation", Integers{2, 3}}},
       .batch = 1},
      {.name = "odd size, rest unseen",
       .inputs = {{5, 5, 16}},
       .attributes = {{"kernel", Integers{2, 2}}}},
  };
  return op;
}

FM_REGISTER_OP(max_pool2d())

}  // namespace
}  // namespace fishermask
