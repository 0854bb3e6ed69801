// Squares of per-sample gradients in contraction form (convolution, linear) on the device: see
// core/square_rule.h for the formula. All pointers of a form, and sums, are the device's.
#pragma once

#include "common/backend.h"

namespace fishermask::cuda {

// What:       sums[o, i, kh, kw] += Σ_n G_n[o, i, kh, kw]², without storing any G_n.
// Layout:     sums (O, I/groups, K_h, K_w) f64, row-major.
// Accuracy:   operands at the device's precision (f32, TF32, bf16); G_n and the squares of some 16
//             samples (of up to 64 in bf16 by wgmma) in f32, across those in f64.
// Workspace:  8 bytes per weight and share of the samples; the shares are so many that the device
//             is full, and one where the weights fill it alone (then there is no workspace). Of the
//             wgmma kernel: 8 bytes per weight at the least, and 256 MiB of operands at the most.
// Stream:     asynchronous, on the device's stream.
// Deterministic: the same bits on the same kind of device, where the batch is the same.
// Errors:     UNSUPPORTED for images or channels beyond 2^29; OUT_OF_MEMORY.
void accumulate_contraction(Backend& backend, const ContractionForm& form, double* sums);

// The kernels that accumulate_contraction chooses from. Tiles take any form; vectors one position
// on both sides without groups; few channels any form, and are made for groups of few channels.
// The one of contraction_wgmma.h takes large problems in bf16 on devices of compute capability 9.0.
void accumulate_contraction_tiles(Backend& backend, const ContractionForm& form, double* sums);
void accumulate_contraction_vectors(Backend& backend, const ContractionForm& form, double* sums);
void accumulate_contraction_depthwise(Backend& backend, const ContractionForm& form, double* sums);

}  // namespace fishermask::cuda
