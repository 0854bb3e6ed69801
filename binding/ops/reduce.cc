// reduce_sum, _mean, _max, _min, _prod, _l1, _l2, _log_sum_exp: one number for each run along
// `axes`. Shapes:     x (N, …), y (N, … with size 1 along the axes), or without them where keepdims
// is false. Attributes: axes (all where left out or empty; negative from the end), keepdims (true).
// Gradients:  max and min: to the first of equals. l1 at 0, and l2 of nothing but zeros: 0. prod:
//             the product of the others, also around zeros.
// NaN makes max and min NaN. Deterministic: each output is computed by one thread, in f64, in
// order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/broadcast.h"
#include "core/parallel.h"
#include "core/reduced_shape.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const Shape& input = node.inputs[0].shape;
  node.check(input.size() <= kMostRank, "expected at most ", kMostRank, " sizes but received ",
             shape_text(input));
  node.check(element_count(input) > 0, "expected something to reduce but received ",
             shape_text(input));
  Shape output = kept_shape(node);
  if (!node.attributes.boolean("keepdims", true)) {
    const std::vector<bool> reduced = reduced_axes(node);
    output.clear();
    for (std::size_t d = 0; d < input.size(); ++d) {
      if (!reduced[d]) output.push_back(input[d]);
    }
  }
  return {{output, node.inputs[0].dtype}};
}

// The values that make one output.
template <typename T>
struct Run {
  const T* x;
  const BroadcastDims& dims;

  // visit(value, offset), in row-major order.
  template <typename Visit>
  void each(Visit&& visit) const {
    const std::int64_t step = dims.back().stride[0];
    for_each_row(dims, 0, dims_count(dims),
                 [&](const LaneOffsets& offsets, std::int64_t /*at*/, std::int64_t count) {
                   for (std::int64_t i = 0; i < count; ++i) {
                     const std::int64_t offset = offsets[0] + i * step;
                     visit(static_cast<double>(x[offset]), offset);
                   }
                 });
  }
};

// A reduction: value(run), and slopes(run, y, write) which calls write(offset, ∂y/∂x) for each
// value.
struct Sum {
  static double value(const auto& run) {
    double sum = 0;
    run.each([&](double x, std::int64_t) { sum += x; });
    return sum;
  }
  static void slopes(const auto& run, double /*y*/, auto&& write) {
    run.each([&](double, std::int64_t at) { write(at, 1.0); });
  }
};

struct Mean {
  static double value(const auto& run) {
    return Sum::value(run) / static_cast<double>(dims_count(run.dims));
  }
  static void slopes(const auto& run, double /*y*/, auto&& write) {
    const double share = 1.0 / static_cast<double>(dims_count(run.dims));
    run.each([&](double, std::int64_t at) { write(at, share); });
  }
};

// kSign 1: the largest; −1: the smallest.
template <int kSign>
struct Extreme {
  static double value(const auto& run) {
    double best = -kSign * std::numeric_limits<double>::infinity();
    run.each([&](double x, std::int64_t) {
      if (kSign * x > kSign * best || x != x) best = best != best ? best : x;
    });
    return best;
  }
  static void slopes(const auto& run, double y, auto&& write) {
    bool taken = false;
    run.each([&](double x, std::int64_t at) {
      const bool takes = !taken && (x == y || (x != x && y != y));
      taken = taken || takes;
      write(at, takes ? 1.0 : 0.0);
    });
  }
};

struct Product {
  static double value(const auto& run) {
    double product = 1;
    run.each([&](double x, std::int64_t) { product *= x; });
    return product;
  }
  static void slopes(const auto& run, double /*y*/, auto&& write) {
    double others = 1;
    int zeros = 0;
    run.each([&](double x, std::int64_t) {
      if (x == 0) {
        ++zeros;
      } else {
        others *= x;
      }
    });
    run.each([&](double x, std::int64_t at) {
      const bool alone = zeros == 1 && x == 0;
      write(at, zeros == 0 ? others / x : alone ? others : 0.0);
    });
  }
};

struct L1 {
  static double value(const auto& run) {
    double sum = 0;
    run.each([&](double x, std::int64_t) { sum += std::abs(x); });
    return sum;
  }
  static void slopes(const auto& run, double /*y*/, auto&& write) {
    run.each([&](double x, std::int64_t at) { write(at, x > 0 ? 1.0 : x < 0 ? -1.0 : x); });
  }
};

struct L2 {
  static double value(const auto& run) {
    double sum = 0;
    run.each([&](double x, std::int64_t) { sum += x * x; });
    return std::sqrt(sum);
  }
  static void slopes(const auto& run, double y, auto&& write) {
    run.each([&](double x, std::int64_t at) { write(at, y == 0 ? 0.0 : x / y); });
  }
};

struct LogSumExp {
  static double value(const auto& run) {
    const double most = Extreme<1>::value(run);
    // Nothing but −inf, an inf or a NaN: the largest is the result, and inf − inf would be NaN.
    if (!std::isfinite(most)) return most;
    double sum = 0;
    run.each([&](double x, std::int64_t) { sum += std::exp(x - most); });
    return most + std::log(sum);
  }
  // Against the f64 result: an f32 one of 1000 leaves but four digits of e^(x − y).
  static void slopes(const auto& run, double /*y*/, auto&& write) {
    const double exact = value(run);
    run.each([&](double x, std::int64_t at) { write(at, std::exp(x - exact)); });
  }
};

template <typename T, typename Reduction>
class Reduce : public Kernel {
 public:
  explicit Reduce(const NodeSpec& node) : input_(node.inputs[0].shape), output_(kept_shape(node)) {}

  void forward(const NodeIo& io) override {
    T* y = io.outputs[0].as<T>();
    for_each_output(io, [=](const Run<T>& run, std::int64_t at) {
      y[at] = static_cast<T>(Reduction::value(run));
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* x = io.inputs[0].as<T>();
    const T* y = io.outputs[0].as<T>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    for_each_output(io, [=](const Run<T>& run, std::int64_t at) {
      const auto delta = static_cast<double>(grad_output[at]);
      T* const to = grad_input + (run.x - x);
      Reduction::slopes(run, static_cast<double>(y[at]), [=](std::int64_t offset, double slope) {
        const auto passed = static_cast<T>(slope == 0 ? 0.0 : delta * slope);
        to[offset] = add ? to[offset] + passed : passed;
      });
    });
  }

 private:
  // body(run, index of the output)
  template <typename Body>
  void for_each_output(const NodeIo& io, const Body& body) const {
    constexpr std::int64_t kGrain = 1 << 12;
    const T* x = io.inputs[0].as<T>();
    SplitDims split = split_dims(broadcast_dims({{input_}, {output_}}, input_, io.batch), 1);
    if (split.repeated.empty()) split.repeated.emplace_back();
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / dims_count(split.repeated));
    parallel_for(dims_count(split.kept), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        const LaneOffsets base = offsets_at(split.kept, task);
        body(Run<T>{x + base[0], split.repeated}, base[1]);
      }
    });
  }

  Shape input_;   // per sample
  Shape output_;  // per sample, of the input's rank
};

template <typename Reduction>
std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Reduce<double, Reduction>>(node);
  return std::make_unique<Reduce<float, Reduction>>(node);
}

std::vector<SampleCase> cases(InputDraw draw) {
  using Axes = std::vector<std::int64_t>;
  return {
      {.name = "all", .inputs = {{5, 7}}, .draws = {draw}},
      {.name = "the last axis",
       .inputs = {{3, 4, 17}},
       .attributes = {{"axes", Axes{-1}}},
       .draws = {draw}},
      {.name = "the first axis, not kept",
       .inputs = {{6, 5}},
       .attributes = {{"axes", Axes{0}}, {"keepdims", false}},
       .batch = 1,
       .draws = {draw}},
      {.name = "two axes apart",
       .inputs = {{3, 4, 2, 5}},
       .attributes = {{"axes", Axes{-1, 1}}, {"keepdims", false}},
       .batch = 2,
       .draws = {draw}},
      {.name = "an axis of size 1",
       .inputs = {{4, 1, 3}},
       .attributes = {{"axes", Axes{1}}},
       .draws = {draw}},
      {.name = "scalar", .inputs = {{}}, .batch = 2, .draws = {draw}},
  };
}

struct BackwardNeeds {
  bool inputs;
  bool outputs;
};

template <typename Reduction>
void register_reduction(const char* name, BackwardNeeds needs, bool nonlinear = true,
                        InputDraw draw = {}) {
  OpDefinition op;
  op.name = name;
  op.attributes = {"axes", "keepdims"};
  op.backward_needs_inputs = needs.inputs;
  op.backward_needs_outputs = needs.outputs;
  op.nonlinear = nonlinear;
  op.infer = infer;
  op.make_reference = make_reference<Reduction>;
  op.cases = cases(draw);
  register_op(std::move(op));
}

int register_all() {
  register_reduction<Sum>("reduce_sum", {.inputs = false, .outputs = false}, false);
  register_reduction<Mean>("reduce_mean", {.inputs = false, .outputs = false}, false);
  register_reduction<Extreme<1>>("reduce_max", {.inputs = true, .outputs = true});
  register_reduction<Extreme<-1>>("reduce_min", {.inputs = true, .outputs = true});
  // Away from 0, as the product of many small numbers has no digits left to check.
  register_reduction<Product>("reduce_prod", {.inputs = true, .outputs = false}, true, {0.6, 1.6});
  register_reduction<L1>("reduce_l1", {.inputs = true, .outputs = false});
  register_reduction<L2>("reduce_l2", {.inputs = true, .outputs = true});
  register_reduction<LogSumExp>("reduce_log_sum_exp", {.inputs = true, .outputs = false});
  return 0;
}

[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace fishermask
