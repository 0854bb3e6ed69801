// scatter: y = x, but at the places of a list, where the updates go, in their order.
// Shapes:     x (N, s…), updates (N, u…), y (N, s…).
// Attributes: index: one flat place of x per update; reduction: "none" (the last update of a place
//             replaces x; the default), "add", "mul", "max", "min" (folded from x on).
// Gradients:  none: to the last update of a place alone. max, min: to the first of equals, x first;
//             NaN wins. mul: the product of the other factors, also where one is 0.
// Accumulate: grad x, then grad updates as asked, so that they may be the same memory.
// Deterministic: yes, one thread owns a place.
#include <algorithm>
#include <cmath>
#include <span>

#include "core/moved_shape.h"
#include "core/parallel.h"
#include "core/places.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 12;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  (void)scatter_reduction(node);
  const std::int64_t updates = element_count(node.inputs[1].shape);
  const auto index = places_attribute(node, 0, element_count(node.inputs[0].shape));
  node.check(static_cast<std::int64_t>(index.size()) == updates, "expected ", updates,
             " places for updates of ", shape_text(node.inputs[1].shape), " but received ",
             index.size());
  return {node.inputs[0]};
}

template <typename T>
bool takes_over(ScatterReduction reduction, T value, T held) {
  if (std::isnan(held)) return false;
  if (std::isnan(value)) return true;
  return reduction == ScatterReduction::kMax ? value > held : value < held;
}

template <typename T>
class Scatter : public Kernel {
 public:
  explicit Scatter(const NodeSpec& node)
      : reduction_(scatter_reduction(node)),
        places_(node.attributes.integers("index", -1)),
        count_(element_count(node.inputs[0].shape)),
        updates_(element_count(node.inputs[1].shape)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    const T* updates = io.inputs[1].as<T>();
    T* y = io.outputs[0].as<T>();
    parallel_for(io.batch * count_, kGrain, [=](std::int64_t begin, std::int64_t end) {
      std::copy(x + begin, x + end, y + begin);
    });
    for_each_group(io.batch, [=, this](std::int64_t n, std::int64_t g) {
      T& to = y[n * count_ + place(g)];
      to = folded(to, updates + n * updates_, places_.group(g));
    });
  }

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) backward_input(io);
    if (io.grad_inputs[1]) backward_updates(io);
  }

 private:
  // What an output's gradient is multiplied with on its way to each factor that made it: x first,
  // then the updates of the place in order.
  using Partials = std::vector<T>;

  [[nodiscard]] std::int64_t place(std::int64_t g) const {
    return places_.place_of[static_cast<std::size_t>(g)];
  }

  template <typename Body>
  void for_each_group(std::int64_t batch, const Body& body) const {
    const std::int64_t groups = places_.count();
    parallel_for(batch * groups, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t item = begin; item < end; ++item) body(item / groups, item % groups);
    });
  }

  T folded(T held, const T* updates, std::span<const std::int64_t> group) const {
    for (const std::int64_t j : group) {
      const T value = updates[j];
      if (reduction_ == ScatterReduction::kNone) held = value;
      if (reduction_ == ScatterReduction::kAdd) held += value;
      if (reduction_ == ScatterReduction::kMul) held *= value;
      if (reduction_ == ScatterReduction::kMax || reduction_ == ScatterReduction::kMin) {
        held = takes_over(reduction_, value, held) ? value : held;
      }
    }
    return held;
  }

  void partials(T x, const T* updates, std::span<const std::int64_t> group,
                Partials& factors) const {
    factors.assign(group.size() + 1, reduction_ == ScatterReduction::kAdd ? T{1} : T{0});
    if (reduction_ == ScatterReduction::kNone) factors.back() = 1;
    if (reduction_ == ScatterReduction::kMul) products(x, updates, group, factors);
    if (reduction_ == ScatterReduction::kMax || reduction_ == ScatterReduction::kMin) {
      std::size_t winner = 0;
      for (std::size_t i = 0; i < group.size(); ++i) {
        if (!takes_over(reduction_, updates[group[i]], x)) continue;
        x = updates[group[i]];
        winner = i + 1;
      }
      factors[winner] = 1;
    }
  }

  // Products of all factors but one, from either end: no division, so that zeros are no matter.
  static void products(T x, const T* updates, std::span<const std::int64_t> group,
                       Partials& factors) {
    T before = x;
    factors[0] = 1;
    for (std::size_t i = 0; i < group.size(); ++i) {
      factors[i + 1] = before;
      before *= updates[group[i]];
    }
    T after = 1;
    for (std::size_t i = group.size(); i > 0; --i) {
      factors[i] *= after;
      after *= updates[group[i - 1]];
    }
    factors[0] = after;
  }

  // Every group's partials, handed to body(sample, group, partials).
  template <typename Body>
  void for_each_partials(const NodeIo& io, const Body& body) const {
    const T* x = io.inputs[0].as<T>();
    const T* updates = io.inputs[1].as<T>();
    const std::int64_t groups = places_.count();
    parallel_for(io.batch * groups, kGrain, [&](std::int64_t begin, std::int64_t end) {
      Partials factors;
      for (std::int64_t item = begin; item < end; ++item) {
        const std::int64_t n = item / groups;
        const std::int64_t g = item % groups;
        partials(x[n * count_ + place(g)], updates + n * updates_, places_.group(g), factors);
        body(n, g, factors);
      }
    });
  }

  // All of it passes first; then the updated places are corrected.
  void backward_input(const NodeIo& io) const {
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    std::vector<std::int64_t> group_at(static_cast<std::size_t>(count_), -1);
    for (std::int64_t g = 0; g < places_.count(); ++g) {
      group_at[static_cast<std::size_t>(place(g))] = g;
    }
    parallel_for(io.batch * count_, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const bool passes = group_at[static_cast<std::size_t>(i % count_)] < 0;
        const T grad = passes ? grad_output[i] : T{0};
        grad_input[i] = add ? grad_input[i] + grad : grad;
      }
    });
    for_each_partials(io, [&](std::int64_t n, std::int64_t g, const Partials& factors) {
      const std::int64_t at = n * count_ + place(g);
      if (factors[0] != T{0}) grad_input[at] += grad_output[at] * factors[0];
    });
  }

  void backward_updates(const NodeIo& io) const {
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_updates = io.grad_inputs[1].as<T>();
    const bool add = io.accumulate[1];
    for_each_partials(io, [&](std::int64_t n, std::int64_t g, const Partials& factors) {
      const T grad = grad_output[n * count_ + place(g)];
      const std::span<const std::int64_t> group = places_.group(g);
      for (std::size_t i = 0; i < group.size(); ++i) {
        T& to = grad_updates[n * updates_ + group[i]];
        const T term = factors[i + 1] != T{0} ? grad * factors[i + 1] : T{0};
        to = add ? to + term : term;
      }
    });
  }

  ScatterReduction reduction_;
  GroupedPlaces places_;
  std::int64_t count_;    // of x, per sample
  std::int64_t updates_;  // per sample
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Scatter<double>>(node);
  return std::make_unique<Scatter<float>>(node);
}

SampleCase row(const char* name, const Shape& input, const Shape& updates,
               const std::vector<std::int64_t>& index, const char* reduction,
               std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {input, updates},
          .attributes = {{"index", index}, {"reduction", std::string(reduction)}},
          .batch = batch};
}

OpDefinition scatter() {
  OpDefinition op;
  op.name = "scatter";
  op.min_inputs = 2;
  op.max_inputs = 2;
  op.attributes = {"index", "reduction"};
  op.backward_needs_inputs = true;
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("rows replaced", {4, 3}, {2, 3}, {9, 10, 11, 0, 1, 2}, "none"),
      row("replaced twice, batch of one", {5}, {4}, {1, 3, 1, 1}, "none", 1),
      row("added", {3, 4}, {5}, {11, 0, 5, 0, 0}, "add"),
      row("multiplied", {6}, {2, 3}, {4, 4, 0, 4, 5, 0}, "mul", 2),
      row("largest", {2, 5}, {7}, {0, 9, 0, 3, 3, 3, 0}, "max"),
      row("smallest, batch of 17", {7}, {6}, {6, 6, 2, 0, 2, 6}, "min", 17),
      row("a scalar", {}, {}, {0}, "add"),
      {.name = "replaced, by default",
       .inputs = {{3}, {1}},
       .attributes = {{"index", std::vector<std::int64_t>{2}}}},
  };
  return op;
}

FM_REGISTER_OP(scatter())

}  // namespace
}  // namespace fishermask
