// Squares of per-sample gradients of an embedding (V, C) that is the weight of a linear head as
// well, on the device.
#pragma once

#include "common/backend.h"

namespace fishermask::cuda {

// Whether the two are uses of one (V, C) matrix: a plain linear head with V outputs and C inputs.
[[nodiscard]] bool is_tied(const ContractionForm& head, const ScatterForm& embedding);

// What:       sums[v, c] += Σ_n (A_n + B_n)²[v, c], with A_n = δ_headᵀ·h of sample n and B_n the
//             embedding's gradient, which is 0 but for the rows that the sample holds. So
//             (A + B)² = A² + B·(2A + B): the head's own squares by its fused kernel, and of each
//             row held the second term, for which A's row is computed again from operands rounded
//             as the fused kernel rounds them.
// Layout:     sums (V, C) f64 on the device.
// Accuracy:   as the contraction's; rows of A in f32.
// Workspace:  those of the contraction and of sort_ids. Sync: waits for the device once.
// Errors:     INTERNAL for an id of V or more, before anything is added.
// Deterministic: yes.
void accumulate_tied(Backend& backend, const ContractionForm& head, const ScatterForm& embedding,
                     double* sums);

}  // namespace fishermask::cuda
