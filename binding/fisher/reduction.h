// Squares of per-sample gradients in reduction form (bias, norm scale and shift): see
// square_rule.h.
#pragma once

#include "graph/square_rule.h"

namespace fishermask {

// What:       sums[c] += Σ_n G_n[c]², with G_n[c] = Σ_p δ[n, p, c] · f[n, p, c] in f32 over runs of
// 64 positions, f64 across. Deterministic: bit-identical for any thread count.
void accumulate_reduction(const ReductionForm& form, double* sums);

}  // namespace fishermask
