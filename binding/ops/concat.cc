// concat: the inputs one after the other along one size.
// Shapes:     x_k (N, …, A_k, …), y (N, …, Σ A_k, …).
// Attributes: axis, counted without the batch; negative from the end (default −1: the channels).
// Accumulate: each grad x_k as asked, in order, so that two of them may be the same memory.
// Deterministic: yes.
#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 64;

std::size_t axis_of(const NodeSpec& node) {
  const auto rank = static_cast<std::int64_t>(node.inputs[0].shape.size());
  const std::int64_t axis = node.attributes.integer("axis", -1);
  node.check(axis >= -rank && axis < rank, "expected an axis in [", -rank, ", ", rank,
             ") but received ", axis);
  return static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
}

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const std::size_t axis = axis_of(node);
  Shape output = node.inputs[0].shape;
  for (std::size_t k = 1; k < node.inputs.size(); ++k) {
    Shape shape = node.inputs[k].shape;
    node.check(shape.size() == output.size(), "expected inputs of one rank but received ",
               shape_text(node.inputs[0].shape), " and ", shape_text(shape));
    const std::int64_t length = shape[axis];
    shape[axis] = node.inputs[0].shape[axis];
    node.check(shape == node.inputs[0].shape, "expected inputs that differ along axis ", axis,
               " alone but received ", shape_text(node.inputs[0].shape), " and ",
               shape_text(node.inputs[k].shape));
    output[axis] += length;
  }
  return {{output, node.inputs[0].dtype}};
}

template <typename T>
class Concat : public Kernel {
 public:
  explicit Concat(const NodeSpec& node) {
    const std::size_t axis = axis_of(node);
    const Shape& first = node.inputs[0].shape;
    const auto split = first.begin() + static_cast<std::ptrdiff_t>(axis);
    outer_ = element_count({first.begin(), split});
    const std::int64_t inner = element_count({split + 1, first.end()});
    for (const ValueSpec& input : node.inputs) lengths_.push_back(input.shape[axis] * inner);
    for (const std::int64_t length : lengths_) total_ += length;
  }

  void forward(const NodeIo& io) override {
    T* y = io.outputs[0].as<T>();
    std::int64_t at = 0;
    for (std::size_t k = 0; k < lengths_.size(); ++k) {
      const T* x = io.inputs[k].as<T>();
      const std::int64_t length = lengths_[k];
      parallel_for(io.batch * outer_, kGrain, [=, this](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          std::copy_n(x + r * length, length, y + r * total_ + at);
        }
      });
      at += length;
    }
  }

  void backward(const NodeIo& io) override {
    const T* grad_output = io.grad_outputs[0].as<T>();
    std::int64_t at = 0;
    for (std::size_t k = 0; k < lengths_.size(); ++k) {
      if (io.grad_inputs[k]) {
        backward_one(io, grad_output + at, lengths_[k], io.grad_inputs[k].as<T>(),
                     io.accumulate[k]);
      }
      at += lengths_[k];
    }
  }

 private:
  void backward_one(const NodeIo& io, const T* from, std::int64_t length, T* grad_input,
                    bool add) const {
    parallel_for(io.batch * outer_, kGrain, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        for (std::int64_t i = 0; i < length; ++i) {
          T& to = grad_input[r * length + i];
          to = from[r * total_ + i] + (add ? to : T{0});
        }
      }
    });
  }

  std::int64_t outer_ = 1;  // per sample
  std::int64_t total_ = 0;
  std::vector<std::int64_t> lengths_;  // of one outer step, per input
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Concat<double>>(node);
  return std::make_unique<Concat<float>>(node);
}

OpDefinition concat() {
  OpDefinition op;
  op.name = "concat";
  op.min_inputs = 2;
  op.max_inputs = std::numeric_limits<int>::max();
  op.attributes = {"axis"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "channels", .inputs = {{4, 3, 3}, {4, 3, 17}}},
      {.name = "three, axis 0",
       .inputs = {{2, 3, 2}, {1, 3, 2}, {4, 3, 2}},
       .attributes = {{"axis", std::int64_t{0}}},
       .batch = 2},
      {.name = "axis -2",
       .inputs = {{2, 5}, {3, 5}},
       .attributes = {{"axis", std::int64_t{-2}}},
       .batch = 1},
  };
  return op;
}

FM_REGISTER_OP(concat())

}  // namespace
}  // namespace fishermask
