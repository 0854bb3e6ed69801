// where: y = a where the condition is not 0, else b, with broadcasting (broadcast.cuh).
// Deterministic: yes. Bound by memory.
#include "ops/broadcast.cuh"

namespace fishermask::cuda {
namespace {

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<BroadcastOp<formula::Where<float>>>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("where", make)

}  // namespace fishermask::cuda
