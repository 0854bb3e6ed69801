// rope: rotates pairs of each head's values by an angle that grows with the position: at row t pair
// i = (a, b) becomes scale · (a·cos − b·sin, a·sin + b·cos) of t · frequencies[i].
// Shapes:     x, y (N, T, H·d).
// Attributes: heads H, frequencies [r/2] in radians a position (r ≤ d; the rest of a head passes
// through), interleaved (false: pairs i and i + r/2; true: 2i and 2i + 1), scale (1): of cos and
// sin alone.
// Backward:   the rotation back, with the same scale; reads no value.
// Source:     Su et al., arXiv:2104.09864.
// Deterministic: yes.
#include "core/parallel.h"
#include "core/rope_sizes.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 16;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  (void)rope_sizes(node);
  return {node.inputs[0]};
}

// One head at one row. kAdd: to what y holds. Pairs are `apart` values apart, and begin `step`
// values after one another.
template <bool kAdd, typename T>
void rotate_pairs(const T* x, const T* cosines, const T* sines, T turn, std::int64_t pairs,
                  std::int64_t apart, std::int64_t step, T* y) {
  for (std::int64_t i = 0; i < pairs; ++i) {
    const T a = x[i * step];
    const T b = x[i * step + apart];
    const T sine = turn * sines[i];
    const T first = a * cosines[i] - b * sine;
    const T second = a * sine + b * cosines[i];
    y[i * step] = kAdd ? y[i * step] + first : first;
    y[i * step + apart] = kAdd ? y[i * step + apart] + second : second;
  }
}

template <typename T>
class Rope : public Kernel {
 public:
  explicit Rope(const NodeSpec& node) : sizes_(rope_sizes(node)), turns_(rope_turns<T>(node)) {}

  void forward(const NodeIo& io) override {
    rotate<false>(io.inputs[0].as<T>(), T{1}, io.batch, io.outputs[0].as<T>());
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    if (io.accumulate[0]) {
      rotate<true>(grad_output, T{-1}, io.batch, grad_input);
    } else {
      rotate<false>(grad_output, T{-1}, io.batch, grad_input);
    }
  }

 private:
  // turn: 1 forward, −1 back. y may lie over x.
  template <bool kAdd>
  void rotate(const T* x, T turn, std::int64_t batch, T* y) const {
    parallel_for(batch * sizes_.rows, kGrain, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        for (std::int64_t h = 0; h < sizes_.heads; ++h) {
          const std::int64_t at = (row * sizes_.heads + h) * sizes_.size;
          rotate_head<kAdd>(x + at, row % sizes_.rows * sizes_.pairs, turn, y + at);
        }
      }
    });
  }

  template <bool kAdd>
  void rotate_head(const T* x, std::int64_t angles, T turn, T* y) const {
    const T* cosines = turns_.cosines.data() + angles;
    const T* sines = turns_.sines.data() + angles;
    if (sizes_.interleaved) {
      rotate_pairs<kAdd>(x, cosines, sines, turn, sizes_.pairs, 1, 2, y);
    } else {
      rotate_pairs<kAdd>(x, cosines, sines, turn, sizes_.pairs, sizes_.pairs, 1, y);
    }
    for (std::int64_t i = 2 * sizes_.pairs; i < sizes_.size; ++i) y[i] = kAdd ? y[i] + x[i] : x[i];
  }

  RopeSizes sizes_;
  RopeTurns<T> turns_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Rope<double>>(node);
  return std::make_unique<Rope<float>>(node);
}

using Numbers = std::vector<double>;

std::vector<SampleCase> cases() {
  const auto heads = [](std::int64_t count) { return Attribute{count}; };
  return {
      {.name = "halves",
       .inputs = {{5, 8}},
       .attributes = {{"heads", heads(2)}, {"frequencies", Numbers{1.0, 0.1}}}},
      {.name = "interleaved",
       .inputs = {{5, 8}},
       .attributes = {{"heads", heads(2)},
                      {"frequencies", Numbers{1.0, 0.1}},
                      {"interleaved", true}}},
      {.name = "halves, a rest, scale, batch of one",
       .inputs = {{7, 21}},
       .attributes = {{"heads", heads(3)}, {"frequencies", Numbers{0.7, 0.02}}, {"scale", 1.25}},
       .batch = 1},
      {.name = "interleaved, a rest, several parts",
       .inputs = {{40, 5}},
       .attributes = {{"heads", heads(1)}, {"frequencies", Numbers{0.3}}, {"interleaved", true}}},
  };
}

OpDefinition rope() {
  OpDefinition op;
  op.name = "rope";
  op.attributes = {"heads", "interleaved", "frequencies", "scale"};
  op.in_place = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(rope())

}  // namespace
}  // namespace fishermask
