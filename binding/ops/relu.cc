// relu: y = max(x, 0), elementwise. Backward reads the output alone, so the output may lie over the
// input. Kink:       at x = 0 the gradient is 0, as in PyTorch. NaN passes through. Deterministic:
// yes.
#include "core/parallel.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

std::vector<ValueSpec> infer(const NodeSpec& node) { return {node.inputs[0]}; }

template <typename T>
class Relu : public Kernel {
 public:
  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    parallel_for(io.outputs[0].count(), kGrain, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) y[i] = x[i] < T{0} ? T{0} : x[i];
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* y = io.outputs[0].as<T>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    parallel_for(io.outputs[0].count(), kGrain, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T passed = y[i] > T{0} ? grad_output[i] : T{0};
        grad_input[i] = add ? grad_input[i] + passed : passed;
      }
    });
  }
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& /*node*/, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Relu<double>>();
  return std::make_unique<Relu<float>>();
}

OpDefinition relu() {
  OpDefinition op;
  op.name = "relu";
  op.backward_needs_outputs = true;
  op.in_place = true;
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {{.name = "vector", .inputs = {{37}}},
              {.name = "image", .inputs = {{5, 4, 3}}, .batch = 2}};
  return op;
}

FM_REGISTER_OP(relu())

}  // namespace
}  // namespace fishermask
