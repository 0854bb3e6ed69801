// dropout: in training y_i = x_i / (1 − rate) where u_i ≥ rate, else 0; in evaluation y = x.
// Random:     u_i = philox_uniform(the node's stream of this step, n · per-sample size + i): the
// same
//             for any thread count. Backward draws it again, so nothing is kept.
// Attributes: rate in [0, 1] (1 drops everything, as in PyTorch).
// In-place:   y may lie over x.   Accumulate: grad x as asked.   Deterministic: yes.
#include <array>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 12;

double rate_of(const NodeSpec& node) { return node.attributes.number("rate"); }

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const double rate = rate_of(node);
  node.check(rate >= 0 && rate <= 1, "expected a rate in [0, 1] but received ", rate);
  return {node.inputs[0]};
}

template <typename T>
class Dropout : public Kernel {
 public:
  explicit Dropout(const NodeSpec& node)
      : rate_(rate_of(node)), scale_(rate_ < 1 ? static_cast<T>(1 / (1 - rate_)) : T{0}) {}

  void forward(const NodeIo& io) override {
    drop(io, io.inputs[0].as<T>(), io.outputs[0].as<T>(), io.outputs[0].count(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    drop(io, io.grad_outputs[0].as<T>(), io.grad_inputs[0].as<T>(), io.grad_inputs[0].count(),
         io.accumulate[0]);
  }

 private:
  void drop(const NodeIo& io, const T* from, T* to, std::int64_t count, bool add) const {
    if (!io.training && !add && from == to) return;
    parallel_for(count, kGrain, [=, this, &io](std::int64_t begin, std::int64_t end) {
      for_each_factor(io, begin, end, [=](std::int64_t i, T factor) {
        const T kept = from[i] * factor;
        to[i] = add ? to[i] + kept : kept;
      });
    });
  }

  // One Philox block makes four numbers, so this is philox_uniform at a quarter of its price.
  template <typename Body>
  void for_each_factor(const NodeIo& io, std::int64_t begin, std::int64_t end,
                       const Body& body) const {
    std::array<std::uint32_t, 4> words = {};
    for (std::int64_t i = begin; i < end; ++i) {
      const auto lane = static_cast<std::size_t>(i % 4);
      if (io.training && (lane == 0 || i == begin)) {
        words = philox(io.rng, static_cast<std::uint64_t>(i / 4));
      }
      const double uniform = static_cast<double>(words[lane] >> 8U) * 0x1p-24;
      const T factor = uniform >= rate_ ? scale_ : T{0};
      body(i, io.training ? factor : T{1});
    }
  }

  double rate_;
  T scale_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Dropout<double>>(node);
  return std::make_unique<Dropout<float>>(node);
}

OpDefinition dropout() {
  OpDefinition op;
  op.name = "dropout";
  op.attributes = {"rate"};
  op.in_place = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "training", .inputs = {{5, 4, 3}}, .attributes = {{"rate", 0.3}}, .training = true},
      {.name = "training, everything dropped",
       .inputs = {{9}},
       .attributes = {{"rate", std::int64_t{1}}},
       .training = true},
      {.name = "evaluation", .inputs = {{17}}, .attributes = {{"rate", 0.5}}, .batch = 2},
  };
  return op;
}

FM_REGISTER_OP(dropout())

}  // namespace
}  // namespace fishermask
