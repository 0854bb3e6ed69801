// take: y[j] = x[index[j]], both read as flat vectors; a place of −1 gives 0. Reorderings that no
// transpose or slice says, e.g. windows, shifts, relative positions.
// Shapes:     x (N, …), y (N, shape…).
// Attributes: shape, index: one flat place of x per value of y.
// Accumulate: grad x as asked, the sum over the places that took it, in f64.   Deterministic: yes.
#include "core/moved_shape.h"
#include "core/places.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/axis_weights.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  Shape output = sizes_attribute(node, "shape");
  const std::vector<std::int64_t> index =
      places_attribute(node, -1, element_count(node.inputs[0].shape));
  node.check(static_cast<std::int64_t>(index.size()) == element_count(output), "expected ",
             element_count(output), " places for a shape of ", shape_text(output), " but received ",
             index.size());
  return {{std::move(output), node.inputs[0].dtype}};
}

AxisWeights weights_of(const std::vector<std::int64_t>& index, std::int64_t places,
                       std::int64_t block) {
  std::vector<std::int64_t> blocks;
  for (std::size_t j = 0; j < index.size(); j += static_cast<std::size_t>(block)) {
    blocks.push_back(index[j] < 0 ? -1 : index[j] / block);
  }
  const std::vector<double> ones(blocks.size(), 1.0);
  return {places / block, 1, blocks, ones};
}

template <typename T>
class Take : public Kernel {
 public:
  explicit Take(const NodeSpec& node) {
    const std::vector<std::int64_t> index = node.attributes.integers("index", -1);
    const std::int64_t places = element_count(node.inputs[0].shape);
    block_ = common_block(index, places);
    weights_ = weights_of(index, places, block_);
    back_ = weights_.transposed();
  }

  void forward(const NodeIo& io) override {
    weights_.apply(io.batch, block_, io.inputs[0].as<const T>(), io.outputs[0].as<T>(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    back_.apply(io.batch, block_, io.grad_outputs[0].as<const T>(), io.grad_inputs[0].as<T>(),
                io.accumulate[0]);
  }

 private:
  std::int64_t block_ = 1;
  AxisWeights weights_;
  AxisWeights back_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Take<double>>(node);
  return std::make_unique<Take<float>>(node);
}

SampleCase row(const char* name, const Shape& input, const Shape& shape,
               const std::vector<std::int64_t>& index, std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {input},
          .attributes = {{"shape", shape}, {"index", index}},
          .batch = batch};
}

OpDefinition take() {
  OpDefinition op;
  op.name = "take";
  op.attributes = {"shape", "index"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("with gaps and repeats", {2, 4}, {3, 3}, {7, -1, 0, 0, 3, -1, 6, 5, 0}),
      row("rows of three", {4, 3}, {3, 1, 3}, {9, 10, 11, 0, 1, 2, 9, 10, 11}, 2),
      row("rows of two and nothing", {3, 2}, {4, 2}, {4, 5, -1, -1, 0, 1, 4, 5}),
      row("runs across rows, batch of one", {3, 2}, {4}, {1, 2, 3, 4}, 1),
      row("a scalar", {5}, {}, {3}),
      row("from a scalar", {}, {2}, {0, 0}),
      row("all of it", {2, 3}, {6}, {0, 1, 2, 3, 4, 5}),
      row("one value to many", {1}, {40}, std::vector<std::int64_t>(40, 0), 2),
  };
  return op;
}

FM_REGISTER_OP(take())

}  // namespace
}  // namespace fishermask
