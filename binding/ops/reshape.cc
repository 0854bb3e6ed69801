// reshape: other sizes for the same values in the same order.
// Shapes:     x (N, …), y (N, shape…), as many values a sample.
// Attributes: shape: sizes of 1 or more.
// In-place:   y may lie over x.   Accumulate: grad x as asked.   Deterministic: yes.
#include <algorithm>

#include "core/moved_shape.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 15;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  Shape output = sizes_attribute(node, "shape");
  const Shape& input = node.inputs[0].shape;
  node.check(element_count(output) == element_count(input), "expected a shape of ",
             element_count(input), " values for an input of ", shape_text(input), " but received ",
             shape_text(output));
  return {{std::move(output), node.inputs[0].dtype}};
}

template <typename T>
class Reshape : public Kernel {
 public:
  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    if (x == y) return;
    parallel_for(io.outputs[0].count(), kGrain, [=](std::int64_t begin, std::int64_t end) {
      std::copy(x + begin, x + end, y + begin);
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    parallel_for(io.grad_outputs[0].count(), kGrain, [=](std::int64_t begin, std::int64_t end) {
      if (!add) {
        std::copy(grad_output + begin, grad_output + end, grad_input + begin);
        return;
      }
      for (std::int64_t i = begin; i < end; ++i) grad_input[i] += grad_output[i];
    });
  }
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& /*node*/, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Reshape<double>>();
  return std::make_unique<Reshape<float>>();
}

SampleCase row(const char* name, const Shape& input, const Shape& shape, std::int64_t batch = 3) {
  return {.name = name, .inputs = {input}, .attributes = {{"shape", shape}}, .batch = batch};
}

OpDefinition reshape() {
  OpDefinition op;
  op.name = "reshape";
  op.attributes = {"shape"};
  op.in_place = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("tokens to heads", {5, 12}, {5, 4, 3}),       row("image to vector", {3, 4, 5}, {60}, 2),
      row("to a scalar, batch of one", {1, 1}, {}, 1),  row("from a scalar", {}, {1}),
      row("several blocks", {200, 171}, {171, 100, 2}),
  };
  return op;
}

FM_REGISTER_OP(reshape())

}  // namespace
}  // namespace fishermask
