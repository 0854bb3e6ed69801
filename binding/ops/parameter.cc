// parameter: a parameter as a value: y[n] = value for every sample n.
// Shapes:     no input; slot value (…), y (N, …).
// Accumulate: grad value += Σ_n δ[n].
// Squares:    reduction form with one position: G_n = δ[n].
// Deterministic: yes.
#include <algorithm>
#include <type_traits>

#include "core/parallel.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 13;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  return {{node.parameters.at("value"), DType::kF32}};
}

template <typename T>
class ParameterValue : public Kernel {
 public:
  explicit ParameterValue(const NodeSpec& node)
      : count_(element_count(node.parameters.at("value"))) {}

  void forward(const NodeIo& io) override {
    const T* value = io.parameter("value").as<T>();
    T* y = io.outputs[0].as<T>();
    for (std::int64_t n = 0; n < io.batch; ++n) std::copy_n(value, count_, y + n * count_);
  }

  void backward(const NodeIo& io) override {
    const TensorView target = io.grad_parameter("value");
    if (!target) return;
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* gradient = target.as<T>();
    const std::int64_t grain = std::max<std::int64_t>(64, kGrain / io.batch);
    parallel_for(count_, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        double sum = static_cast<double>(gradient[i]);
        for (std::int64_t n = 0; n < io.batch; ++n) {
          sum += static_cast<double>(grad_output[n * count_ + i]);
        }
        gradient[i] = static_cast<T>(sum);
      }
    });
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if constexpr (std::is_same_v<T, float>) {
      ReductionForm form;
      form.grad_output = io.grad_outputs[0].as<float>();
      form.batch = io.batch;
      form.channels = count_;
      return {{"value", form}};
    }
    return Kernel::square_rule(io);
  }

 private:
  std::int64_t count_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<ParameterValue<double>>(node);
  return std::make_unique<ParameterValue<float>>(node);
}

OpDefinition parameter() {
  OpDefinition op;
  op.name = "parameter";
  op.slots = {{.name = "value"}};
  op.min_inputs = op.max_inputs = 0;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "matrix", .inputs = {}, .parameters = {{"value", {5, 7}}}},
      {.name = "long vector", .inputs = {}, .parameters = {{"value", {1300}}}, .batch = 2},
      {.name = "scalar, batch of one", .inputs = {}, .parameters = {{"value", {}}}, .batch = 1},
  };
  return op;
}

FM_REGISTER_OP(parameter())

}  // namespace
}  // namespace fishermask
