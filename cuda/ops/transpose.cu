// transpose: the sizes in another order. The plan is core/strided_map.h's, the kernels are those of
// moves.cu. Deterministic: yes. Bound by memory.
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return make_move_kernel(transpose_move(node), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("transpose", make)

}  // namespace fishermask::cuda
