// Squares of contractions by wgmma: large problems in bf16 on sm_90a. See contraction_wgmma.cu.
#pragma once

#include "fisher/contraction.h"

namespace fishermask::cuda {

// Whether the kernel takes this form at all: bf16, channels of a group in eights and not few,
// positions enough, operands aligned to 16 bytes. Says nothing of the device.
[[nodiscard]] bool fits_wgmma(Precision precision, const ContractionForm& form);

// Sums as accumulate_contraction's. The form must fit, the device be of compute capability 9.0.
// `most_shares`: of the samples, for blocks that walk over several of them however few there are.
inline constexpr std::int64_t kMostShares = std::int64_t{1} << 30U;
void accumulate_contraction_wgmma(Backend& backend, const ContractionForm& form, double* sums,
                                  std::int64_t most_shares = kMostShares);

// Whether the device may be given it: FISHERMASK_CUDA_WGMMA (off, on, checked; checked without it)
// and, where checked, the outcome of the first use on this device, which is when a small problem is
// given to this kernel and to the tiles and their sums are compared. square_notes().wgmma says what
// came of it. Errors: ARGUMENT for another word; OUT_OF_MEMORY.
[[nodiscard]] bool may_use_wgmma(Backend& backend);

}  // namespace fishermask::cuda
