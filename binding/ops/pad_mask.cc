// pad_mask: y[…] = 0 where ids[…] ≥ 0 and −1e9 where the id is negative (padding): what attention
// adds to its scores.
// Shapes:     ids (N, T…) i32, y (N, T…). No gradient: ids have none.
// Deterministic: yes.
#include "core/parallel.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const ValueSpec& ids = node.inputs[0];
  node.check(ids.dtype == DType::kI32, "expected whole numbers (i32) for the ids but received ",
             dtype_name(ids.dtype));
  return {{ids.shape, DType::kF32}};
}

template <typename T>
class PadMask : public Kernel {
 public:
  void forward(const NodeIo& io) override {
    const auto* ids = io.inputs[0].as<std::int32_t>();
    T* y = io.outputs[0].as<T>();
    parallel_for(io.outputs[0].count(), kGrain, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) y[i] = ids[i] < 0 ? T{-1e9} : T{0};
    });
  }

  void backward(const NodeIo& /*io*/) override {}
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& /*node*/, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<PadMask<double>>();
  return std::make_unique<PadMask<float>>();
}

OpDefinition pad_mask() {
  OpDefinition op;
  op.name = "pad_mask";
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference;
  const std::vector<InputDraw> ids = {{.low = -1, .high = 2, .integer = true}};
  op.cases = {
      {.name = "sequence", .inputs = {{9}}, .draws = ids},
      {.name = "one id, batch of one", .inputs = {{}}, .batch = 1, .draws = ids},
  };
  return op;
}

FM_REGISTER_OP(pad_mask())

}  // namespace
}  // namespace fishermask
