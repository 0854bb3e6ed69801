// slice: steps through a range of every size. The plan is core/strided_map.h's, the kernels are
// those of moves.cu. Deterministic: yes. Bound by memory.
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return make_move_kernel(slice_move(node), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("slice", make)

}  // namespace fishermask::cuda
