// flatten: one vector per sample; an image (H, W, C) is read in PyTorch's order, (C, H, W). The
// plan is core/strided_map.h's, the kernels are those of moves.cu. Deterministic: yes. Bound by
// memory.
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return make_move_kernel({.map = flatten_map(node)}, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("flatten", make)

}  // namespace fishermask::cuda
