// Squares of per-sample gradients in reduction form (bias, norm scale and shift): see
// square_rule.h.
#pragma once

#include "core/square_rule.h"

namespace fishermask {

// What:       sums[c] += Σ_n G_n[c]², with G_n[c] = Σ_p δ[n, p, c] · f[n, p, c] in f32 over runs of
// 64 positions, f64 across. Deterministic: bit-identical for any thread count. Workspace: 16 bytes
// per sample and channel.
void accumulate_reduction(const ReductionForm& form, double* sums);

// A form with an input and, in the same pass over δ, the same one without: a norm's scale and
// shift.
void accumulate_reduction_pair(const ReductionForm& normalised, double* scale_sums,
                               double* shift_sums);

}  // namespace fishermask
