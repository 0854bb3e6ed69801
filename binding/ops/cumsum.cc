// cumsum: y_i = Σ_{j ≤ i} x_j along one axis.
// Shapes:     y as x, any with at least one size.
// Attributes: axis (negative from the end); exclusive (false): j < i; reverse (false): from the
// end. In-place:   y may lie over x. Gradient:   the sum of δ in the other direction.
// Deterministic: a run is one thread's, summed in f64.
#include <algorithm>

#include "core/axis.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  (void)axis_runs(node);
  (void)node.attributes.boolean("exclusive", false);
  (void)node.attributes.boolean("reverse", false);
  return {node.inputs[0]};
}

template <typename T>
class Cumsum : public Kernel {
 public:
  explicit Cumsum(const NodeSpec& node)
      : axis_(axis_runs(node)),
        exclusive_(node.attributes.boolean("exclusive", false)),
        reverse_(node.attributes.boolean("reverse", false)) {}

  void forward(const NodeIo& io) override {
    sum_runs(io.batch, io.inputs[0].as<T>(), io.outputs[0].as<T>(), reverse_, false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    sum_runs(io.batch, io.grad_outputs[0].as<T>(), io.grad_inputs[0].as<T>(), !reverse_,
             io.accumulate[0]);
  }

 private:
  void sum_runs(std::int64_t batch, const T* from, T* to, bool reverse, bool add) const {
    constexpr std::int64_t kGrain = 1 << 12;
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / axis_.length);
    parallel_for(axis_.runs(batch), grain, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t run = begin; run < end; ++run) {
        const std::int64_t at = axis_.start(run);
        sum_run(from + at, to + at, reverse, add);
      }
    });
  }

  void sum_run(const T* from, T* to, bool reverse, bool add) const {
    double sum = 0;
    for (std::int64_t i = 0; i < axis_.length; ++i) {
      const std::int64_t at = (reverse ? axis_.length - 1 - i : i) * axis_.inner;
      const double before = sum;
      sum += static_cast<double>(from[at]);
      const auto value = static_cast<T>(exclusive_ ? before : sum);
      to[at] = add ? to[at] + value : value;
    }
  }

  AxisRuns axis_;
  bool exclusive_;
  bool reverse_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Cumsum<double>>(node);
  return std::make_unique<Cumsum<float>>(node);
}

OpDefinition cumsum() {
  const auto axis = [](std::int64_t at) { return Attribute{at}; };
  OpDefinition op;
  op.name = "cumsum";
  op.attributes = {"axis", "exclusive", "reverse"};
  op.in_place = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "vector", .inputs = {{37}}, .attributes = {{"axis", axis(0)}}},
      {.name = "axis -2, exclusive",
       .inputs = {{3, 5, 4}},
       .attributes = {{"axis", axis(-2)}, {"exclusive", true}},
       .batch = 2},
      {.name = "reverse, batch of one",
       .inputs = {{4, 6}},
       .attributes = {{"axis", axis(1)}, {"reverse", true}},
       .batch = 1},
      {.name = "exclusive and reverse",
       .inputs = {{5, 3}},
       .attributes = {{"axis", axis(0)}, {"exclusive", true}, {"reverse", true}}},
  };
  return op;
}

FM_REGISTER_OP(cumsum())

}  // namespace
}  // namespace fishermask
