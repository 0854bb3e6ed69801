// resample: y[…, j, …] = Σ_t weight[j·taps + t] · x[…, index[j·taps + t], …] along one axis:
// nearest, linear and cubic interpolation, antialiased or not, and pooling with uneven windows.
// Shapes:     x (N, …, A, …), y (N, …, out, …) with out = length of index / taps.
// Attributes: axis (negative from the end), taps, index (−1: nothing), weight.
// Accumulate: grad x as asked; sums in f64.   Deterministic: yes.
#include <algorithm>
#include <cmath>

#include "core/moved_shape.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/axis_weights.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  Shape output = node.inputs[0].shape;
  const std::size_t axis = axis_attribute(node, output.size());
  const std::vector<std::int64_t> index = places_attribute(node, -1, output[axis]);
  const std::int64_t taps = node.attributes.integer("taps");
  const auto count = static_cast<std::int64_t>(index.size());
  node.check(taps >= 1 && count >= 1 && count % taps == 0,
             "expected an 'index' of 1 or more rows of ", taps, " taps but received ", count,
             " places");
  for (const double weight : node.attributes.numbers("weight", count)) {
    node.check(std::isfinite(weight), "expected finite weights but received ", weight);
  }
  output[axis] = count / taps;
  (void)element_count(output);
  return {{output, node.inputs[0].dtype}};
}

template <typename T>
class Resample : public Kernel {
 public:
  explicit Resample(const NodeSpec& node)
      : split_(split_at(node.inputs[0].shape, axis_attribute(node, node.inputs[0].shape.size()))),
        weights_(split_.length, node.attributes.integer("taps"),
                 node.attributes.integers("index", -1), node.attributes.numbers("weight", -1)),
        back_(weights_.transposed()) {}

  void forward(const NodeIo& io) override {
    weights_.apply(io.batch * split_.outer, split_.inner, io.inputs[0].as<const T>(),
                   io.outputs[0].as<T>(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    back_.apply(io.batch * split_.outer, split_.inner, io.grad_outputs[0].as<const T>(),
                io.grad_inputs[0].as<T>(), io.accumulate[0]);
  }

 private:
  AxisSplit split_;
  AxisWeights weights_;
  AxisWeights back_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Resample<double>>(node);
  return std::make_unique<Resample<float>>(node);
}

SampleCase row(const char* name, const Shape& input, std::int64_t axis, std::int64_t taps,
               const std::vector<std::int64_t>& index, const std::vector<double>& weight,
               std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {input},
          .attributes = {{"axis", axis}, {"taps", taps}, {"index", index}, {"weight", weight}},
          .batch = batch};
}

// Every output position is the mean of all of the axis.
SampleCase mean_row(std::int64_t length, std::int64_t out) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(out * length));
  for (std::size_t i = 0; i < index.size(); ++i) {
    index[i] = static_cast<std::int64_t>(i) % length;
  }
  return row("long windows", {2, length}, -1, length, index,
             std::vector<double>(index.size(), 1.0 / static_cast<double>(length)), 2);
}

OpDefinition resample() {
  OpDefinition op;
  op.name = "resample";
  op.attributes = {"axis", "taps", "index", "weight"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("rows, nearest, twice the size", {3, 5, 4}, 0, 1, {0, 0, 1, 1, 2, 2}, {1, 1, 1, 1, 1, 1}),
      row("columns, linear", {3, 4, 7}, 1, 2, {0, 1, 0, 1, 1, 2, 2, 3, 3, -1},
          {0.75, 0.25, 0.25, 0.75, 0.5, 0.5, 0.1, 0.9, 1, 0}, 2),
      row("last axis, a column left out, batch of one", {4, 6}, -1, 3,
          {5, -1, 0, -1, -1, -1, 2, 2, 3}, {0.5, 9, -1.5, 1, 1, 1, 0.25, 0.25, 2}, 1),
      row("several chunks of channels", {2, 4, 600}, -2, 2, {0, 3, 2, 1, 1, 1},
          {0.3, 0.7, 1.5, -0.5, 0.5, 0.5}, 2),
      mean_row(500, 3),
  };
  return op;
}

FM_REGISTER_OP(resample())

}  // namespace
}  // namespace fishermask
