// embedding: y[…, c] = W[ids[…], c]; an id of −1 is padding and gives zeros.
// Shapes:     ids (N, T…) i32, W (V, D), y (N, T…, D).
// Accumulate: grad W uses +=, the positions in their order; ids have no gradient.
// Squares:    scatter form.
// Deterministic: yes, for any thread count: backward's threads take columns of W, never positions.
// Errors:     ARGUMENT for an id outside [−1, V).
#include <algorithm>

#include "core/parallel.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kTokenGrain = 64;
constexpr std::int64_t kColumnGrain = 16;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const ValueSpec& ids = node.inputs[0];
  node.check(ids.dtype == DType::kI32, "expected whole numbers (i32) for the ids but received ",
             dtype_name(ids.dtype));
  const Shape& weight = node.parameters.at("weight");
  node.check(weight.size() == 2, "expected a weight of shape (rows, width) but received ",
             shape_text(weight));
  Shape output = ids.shape;
  output.push_back(weight[1]);
  return {{output, DType::kF32}};
}

template <typename T>
class Embedding : public Kernel {
 public:
  explicit Embedding(const NodeSpec& node)
      : name_(node.name),
        positions_(element_count(node.inputs[0].shape)),
        rows_(node.parameters.at("weight")[0]),
        width_(node.parameters.at("weight")[1]) {}

  void forward(const NodeIo& io) override {
    const auto* ids = io.inputs[0].as<std::int32_t>();
    check_ids(ids, io.batch * positions_);
    const T* weight = io.parameter("weight").as<T>();
    T* y = io.outputs[0].as<T>();
    parallel_for(io.batch * positions_, kTokenGrain,
                 [=, this](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t p = begin; p < end; ++p) {
                     if (ids[p] < 0) {
                       std::fill_n(y + p * width_, width_, T{0});
                     } else {
                       std::copy_n(weight + ids[p] * width_, width_, y + p * width_);
                     }
                   }
                 });
  }

  void backward(const NodeIo& io) override {
    const TensorView grad_weight = io.grad_parameter("weight");
    if (!grad_weight) return;
    const auto* ids = io.inputs[0].as<std::int32_t>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* sums = grad_weight.as<T>();
    const std::int64_t count = io.batch * positions_;
    parallel_for(width_, kColumnGrain, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = 0; p < count; ++p) {
        if (ids[p] < 0) continue;
        T* row = sums + ids[p] * width_;
        for (std::int64_t c = begin; c < end; ++c) row[c] += grad_output[p * width_ + c];
      }
    });
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ScatterForm weight;
    weight.grad_output = io.grad_outputs[0].as<float>();
    weight.ids = io.inputs[0].as<std::int32_t>();
    weight.batch = io.batch;
    weight.positions = positions_;
    weight.channels = width_;
    weight.rows = rows_;
    return {{"weight", weight}};
  }

 private:
  void check_ids(const std::int32_t* ids, std::int64_t count) const {
    const std::int32_t* wrong =
        std::find_if(ids, ids + count, [this](std::int32_t id) { return id < -1 || id >= rows_; });
    FM_CHECK(wrong == ids + count, ARGUMENT, "node '", name_,
             "' (embedding): expected ids below its ", rows_, " rows, or -1, but received ", *wrong,
             " in sample ", (wrong - ids) / positions_, " of the batch");
  }

  std::string name_;
  std::int64_t positions_;  // per sample
  std::int64_t rows_;
  std::int64_t width_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Embedding<double>>(node);
  return std::make_unique<Embedding<float>>(node);
}

std::vector<SampleCase> cases() {
  const auto ids = [](double low, double rows) {
    return std::vector<InputDraw>{{.low = low, .high = rows, .integer = true}};
  };
  return {
      {.name = "sequence",
       .inputs = {{7}},
       .parameters = {{"weight", {11, 5}}},
       .draws = ids(0, 11)},
      {.name = "padding, repeated ids",
       .inputs = {{9}},
       .parameters = {{"weight", {3, 17}}},
       .batch = 4,
       .draws = ids(-1, 3)},
      {.name = "one id a sample, batch of one",
       .inputs = {{}},
       .parameters = {{"weight", {6, 33}}},
       .batch = 1,
       .draws = ids(0, 6)},
      {.name = "two sizes of ids, one column",
       .inputs = {{3, 4}},
       .parameters = {{"weight", {20, 1}}},
       .draws = ids(-1, 20)},
      {.name = "several parts",
       .inputs = {{70}},
       .parameters = {{"weight", {40, 48}}},
       .draws = ids(-1, 40)},
  };
}

OpDefinition embedding() {
  OpDefinition op;
  op.name = "embedding";
  op.slots = {{.name = "weight"}};
  op.backward_needs_inputs = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(embedding())

}  // namespace
}  // namespace fishermask
