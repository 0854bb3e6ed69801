// flatten: one vector per sample. An image (H, W, C) is read in PyTorch's order, (C, H, W), so that
// the linear layer behind it keeps PyTorch's weights; any other shape is read as it lies.
// Shapes:     x (N, …), y (N, F).
// Accumulate: grad x as asked.   Deterministic: yes.
#include <algorithm>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

// Channels transposed together: a cache line of f32, so that every line read is used whole.
constexpr std::int64_t kTile = 16;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  return {{{element_count(node.inputs[0].shape)}, node.inputs[0].dtype}};
}

template <typename T>
class Flatten : public Kernel {
 public:
  explicit Flatten(const NodeSpec& node) : count_(element_count(node.inputs[0].shape)) {
    const Shape& input = node.inputs[0].shape;
    const bool image = input.size() == 3;
    channels_ = image ? input[2] : 1;
    positions_ = image ? input[0] * input[1] : count_;
  }

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    for_each(io.batch, [=](std::int64_t xi, std::int64_t yi) { y[yi] = x[xi]; });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    for_each(io.batch, [=](std::int64_t xi, std::int64_t yi) {
      grad_input[xi] = grad_output[yi] + (add ? grad_input[xi] : T{0});
    });
  }

 private:
  template <typename Body>
  void for_each(std::int64_t batch, const Body& body) const {
    parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) {
        for (std::int64_t first = 0; first < channels_; first += kTile) {
          for_each_in_tile(n, first, std::min(first + kTile, channels_), body);
        }
      }
    });
  }

  template <typename Body>
  void for_each_in_tile(std::int64_t n, std::int64_t first, std::int64_t last,
                        const Body& body) const {
    for (std::int64_t p = 0; p < positions_; ++p) {
      for (std::int64_t c = first; c < last; ++c) {
        body(n * count_ + p * channels_ + c, n * count_ + c * positions_ + p);
      }
    }
  }

  std::int64_t count_;
  std::int64_t channels_ = 1;
  std::int64_t positions_ = 1;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Flatten<double>>(node);
  return std::make_unique<Flatten<float>>(node);
}

OpDefinition flatten() {
  OpDefinition op;
  op.name = "flatten";
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {{.name = "image", .inputs = {{3, 4, 5}}},
              {.name = "image, 33 channels", .inputs = {{3, 2, 33}}},
              {.name = "sequence", .inputs = {{6, 3}}, .batch = 2},
              {.name = "vector, batch of one", .inputs = {{7}}, .batch = 1}};
  return op;
}

FM_REGISTER_OP(flatten())

}  // namespace
}  // namespace fishermask
