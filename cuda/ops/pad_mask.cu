// pad_mask: y[…] = 0 where ids[…] ≥ 0 and −1e9 where the id is negative (padding).
// Shapes:     ids (N, T…) i32, y (N, T…). No gradient: ids have none.
// Deterministic: yes. Bound by memory.
#include "common/backend.h"
#include "common/launch.cuh"

namespace fishermask::cuda {
namespace {

__global__ void mask_padding(const std::int32_t* ids, std::int64_t count, float* y) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    y[i] = ids[i] < 0 ? -1e9F : 0.0F;
  }
}

class PadMask : public Kernel {
 public:
  explicit PadMask(const KernelContext& context) : context_(context) {}

  void forward(const NodeIo& io) override {
    const std::int64_t count = io.outputs[0].count();
    launch("mask_padding", context_.stream, over(count), mask_padding,
           io.inputs[0].as<std::int32_t>(), count, io.outputs[0].as<float>());
  }

  void backward(const NodeIo& /*io*/) override {}

 private:
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& /*node*/, const KernelContext& context) {
  return std::make_unique<PadMask>(context);
}

}  // namespace

FM_REGISTER_CUDA_OP("pad_mask", make)

}  // namespace fishermask::cuda
