// Squares of per-sample gradients of an embedding (V, C) that is the weight of a linear head as
// well.
#pragma once

#include "core/square_rule.h"

namespace fishermask {

// Whether the two are uses of one (V, C) matrix: a plain linear head with V outputs and C inputs.
[[nodiscard]] bool is_tied(const ContractionForm& head, const ScatterForm& embedding);

// What:       sums[v, c] += Σ_n (A_n + B_n)²[v, c], with A_n = δ_headᵀ·h of sample n and B_n the
//             embedding's gradient, which is 0 but for the rows that the sample holds. So
//             (A + B)² = A² + B·(2A + B): the head's own squares by the fused kernel, and of each
//             row held the second term, for which A's row is computed again.
// Accuracy:   as the contraction's; rows in f32.
// Workspace:  the contraction's; 4 bytes per position of the batch, 12 per channel.
// Errors:     INTERNAL for an id of V or more, before anything is added.
// Deterministic: bit-identical for any thread count (threads take weights or channels).
void accumulate_tied(const ContractionForm& head, const ScatterForm& embedding, double* sums);

}  // namespace fishermask
