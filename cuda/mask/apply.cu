// apply_mask: decides every candidate against the threshold, turns the bits of what is masked for
// certain into keep bits in place, and writes 0 to the masked weights, and to them alone.
// Shapes:        kernels.h. Reads 2 bits per unit and 4 bytes per candidate, writes 1 bit per unit
//                and the masked weights.
// Deterministic: yes.
// Bound by:      memory, at the sectors that masked weights lie in.
#include "common/launch.cuh"
#include "mask/find.cuh"
#include "mask/kernels.h"

namespace fishermask::cuda {
namespace {

// The units of one word become 0; `masked` has their bits. By all lanes.
__device__ __forceinline__ void zero_units(const MaskTensor& tensor, std::int64_t first,
                                           unsigned masked) {
  const int lane = lane_of();
  if (tensor.elements == 1) {
    if ((masked >> lane & 1U) != 0) tensor.weight[first + lane] = 0.0F;
    return;
  }
  for (unsigned left = masked; left != 0; left &= left - 1U) {
    const std::int64_t unit = first + __ffs(static_cast<int>(left)) - 1;
    float* const weight = tensor.weight + unit * tensor.elements;
    for (std::int64_t e = lane; e < tensor.elements; e += 32) weight[e] = 0.0F;
  }
}

__device__ __forceinline__ void apply_strip(const MaskWorkspace& workspace, const MaskState& state,
                                            std::int64_t number, bool collected) {
  const int lane = lane_of();
  const unsigned before_lane = (1U << lane) - 1U;
  const int tensor_index = tensor_of_strip(workspace.table, number);
  const MaskTensor tensor = workspace.table.tensors[tensor_index];
  const Strip strip = strip_of(tensor, number);
  const bool has_word = lane < strip.words;
  const unsigned own_certain = has_word ? workspace.keep[strip.first_word + lane] : 0U;
  const unsigned own_inside = has_word ? workspace.inside[strip.first_word + lane] : 0U;
  const std::uint32_t* const keys =
      collected ? workspace.candidates + workspace.strip_first[number] : nullptr;
  const Counter own_before = sum_before_lane(static_cast<Counter>(__popc(own_inside)));
  // How many of this strip's ties are masked.
  const auto place = static_cast<Counter>(number);
  const Counter ties_masked = place < state.last_strip    ? ~Counter{0}
                              : place == state.last_strip ? state.last_tie + 1
                                                          : 0;
  Counter ties_seen = 0;
  unsigned own_masked = 0;
  for (unsigned rows = __ballot_sync(kAllLanes, (own_certain | own_inside) != 0); rows != 0;
       rows &= rows - 1U) {
    const int row = __ffs(static_cast<int>(rows)) - 1;
    unsigned masked = __shfl_sync(kAllLanes, own_certain, row);
    const unsigned inside = __shfl_sync(kAllLanes, own_inside, row);
    const Counter before = __shfl_sync(kAllLanes, own_before, row);
    if (inside != 0) {
      const bool is_candidate = (inside >> lane & 1U) != 0;
      std::uint32_t key = state.threshold;
      if (collected && is_candidate) {
        key = keys[before + static_cast<unsigned>(__popc(inside & before_lane))];
      }
      const bool is_tie = is_candidate && key == state.threshold;
      const unsigned ties = __ballot_sync(kAllLanes, is_tie);
      const Counter tie_rank = ties_seen + static_cast<unsigned>(__popc(ties & before_lane));
      ties_seen += static_cast<unsigned>(__popc(ties));
      masked |= __ballot_sync(
          kAllLanes, is_candidate && (is_tie ? tie_rank < ties_masked : key > state.threshold));
    }
    if (lane == row) own_masked = masked;
    zero_units(tensor, strip.first_unit + row * 32, masked);
  }
  if (has_word) {
    const int units = strip.units - lane * 32;
    const unsigned valid = units >= 32 ? ~0U : (1U << units) - 1U;
    workspace.keep[strip.first_word + lane] = ~own_masked & valid;
  }
  const Counter masked_before = sum_before_lane(static_cast<Counter>(__popc(own_masked)));
  const Counter masked = masked_before + static_cast<Counter>(__popc(own_masked));
  if (lane == 31 && masked > 0) atomicAdd(&workspace.counts[tensor_index].masked, masked);
}

__global__ void __launch_bounds__(kThreads)
    apply_kernel(const MaskWorkspace workspace, bool collected) {
  const MaskState state = *workspace.state;
  if (state.decided == 0 || state.nan_count > 0) return;
  for (std::int64_t strip = first_strip_of_warp(); strip < workspace.table.strips;
       strip += strip_step()) {
    apply_strip(workspace, state, strip, collected);
  }
}

}  // namespace

void apply_mask(cudaStream_t stream, const MaskWorkspace& workspace, bool collected) {
  launch("mask_apply", stream, over_strips(workspace.table.strips), apply_kernel, workspace,
         collected);
}

}  // namespace fishermask::cuda
