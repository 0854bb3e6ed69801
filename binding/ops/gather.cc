// gather: y[a…, i…, b…] = x[a…, index[i…], b…] at one axis, with ids that each sample brings along.
// Shapes:     x (N, a…, A, b…), index i32 (N, i…), y (N, a…, i…, b…).
// Attributes: axis, counted over x's sizes, negative from the end. Ids in [−A, A); negative ones
//             count from the end.
// Saved:      the ids counted from the front, 4 bytes each, so that backward needs no input.
// Accumulate: grad x as asked; ids that appear again are added in order.
// Deterministic: yes.   Errors: ARGUMENT where an id is out of range.
#include <algorithm>
#include <limits>

#include "core/moved_shape.h"
#include "core/parallel.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  node.check(node.inputs[0].dtype == DType::kF32, "expected real numbers for input 0 but received ",
             dtype_name(node.inputs[0].dtype));
  node.check(node.inputs[1].dtype == DType::kI32, "expected i32 ids for input 1 but received ",
             dtype_name(node.inputs[1].dtype));
  check_no_empty_input(node);
  const Shape& input = node.inputs[0].shape;
  const Shape& index = node.inputs[1].shape;
  const std::size_t axis = axis_attribute(node, input.size());
  node.check(input[axis] <= std::numeric_limits<std::int32_t>::max(),
             "expected an axis that i32 ids can count but its size is ", input[axis]);
  const auto at = input.begin() + static_cast<std::ptrdiff_t>(axis);
  Shape output(input.begin(), at);
  output.insert(output.end(), index.begin(), index.end());
  output.insert(output.end(), at + 1, input.end());
  (void)element_count(output);
  return {{output, node.inputs[0].dtype}};
}

SavedSpec saved(const NodeSpec& node, std::int64_t /*batch*/, bool /*training*/) {
  return {.bytes_per_sample = byte_count(node.inputs[1].shape, DType::kI32), .bytes_fixed = 0};
}

template <typename T>
class Gather : public Kernel {
 public:
  explicit Gather(const NodeSpec& node)
      : name_(node.name),
        split_(split_at(node.inputs[0].shape, axis_attribute(node, node.inputs[0].shape.size()))),
        ids_(element_count(node.inputs[1].shape)) {}

  void forward(const NodeIo& io) override {
    count_from_front(io);
    const auto* ids = reinterpret_cast<const std::int32_t*>(io.saved_per_sample);
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    for_each_block(io.batch, [=, this](std::int64_t n, std::int64_t block) {
      for (std::int64_t i = 0; i < ids_; ++i) {
        const T* from = x + (block * split_.length + ids[n * ids_ + i]) * split_.inner;
        std::copy_n(from, split_.inner, y + (block * ids_ + i) * split_.inner);
      }
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const auto* ids = reinterpret_cast<const std::int32_t*>(io.saved_per_sample);
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    for_each_block(io.batch, [=, this](std::int64_t n, std::int64_t block) {
      T* target = grad_input + block * split_.length * split_.inner;
      if (!add) std::fill_n(target, split_.length * split_.inner, T{0});
      for (std::int64_t i = 0; i < ids_; ++i) {
        const T* from = grad_output + (block * ids_ + i) * split_.inner;
        T* to = target + ids[n * ids_ + i] * split_.inner;
        for (std::int64_t k = 0; k < split_.inner; ++k) to[k] += from[k];
      }
    });
  }

 private:
  void count_from_front(const NodeIo& io) const {
    const std::int32_t* index = io.inputs[1].as<std::int32_t>();
    auto* ids = reinterpret_cast<std::int32_t*>(io.saved_per_sample);
    const auto length = static_cast<std::int32_t>(split_.length);
    for (std::int64_t i = 0; i < io.batch * ids_; ++i) {
      FM_CHECK(index[i] >= -length && index[i] < length, ARGUMENT, "node '", name_,
               "' (gather): expected ids in [", -length, ", ", length, ") but received ", index[i],
               " in sample ", i / ids_, " of the batch");
      ids[i] = index[i] < 0 ? index[i] + length : index[i];
    }
  }

  // body(sample, sample · outer + outer position): what lies before the axis is split over threads.
  template <typename Body>
  void for_each_block(std::int64_t batch, const Body& body) const {
    const std::int64_t elements = std::max(split_.length, ids_) * split_.inner;
    const std::int64_t grain = std::max<std::int64_t>(kGrain / elements, 1);
    parallel_for(batch * split_.outer, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) body(block / split_.outer, block);
    });
  }

  std::string name_;
  AxisSplit split_;
  std::int64_t ids_;  // per sample
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Gather<double>>(node);
  return std::make_unique<Gather<float>>(node);
}

SampleCase row(const char* name, const Shape& input, const Shape& index, std::int64_t axis,
               double low, double high, std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {input, index},
          .attributes = {{"axis", axis}},
          .batch = batch,
          .draws = {{}, {low, high, true}}};
}

OpDefinition gather() {
  OpDefinition op;
  op.name = "gather";
  op.min_inputs = 2;
  op.max_inputs = 2;
  op.attributes = {"axis"};
  op.infer = infer;
  op.saved = saved;
  op.make_reference = make_reference;
  op.cases = {
      row("tokens", {6, 5}, {9}, 0, 0, 6),
      row("one token, no size left", {6, 5}, {}, 0, 0, 6, 2),
      row("last axis, negative ids", {3, 7}, {2, 3}, -1, -7, 7),
      row("middle axis, many repeats, batch of one", {2, 3, 4}, {11, 1}, 1, -3, 3, 1),
      row("axis -2, batch of 17", {5, 3}, {1}, -2, -5, 5, 17),
  };
  return op;
}

FM_REGISTER_OP(gather())

}  // namespace
}  // namespace fishermask
