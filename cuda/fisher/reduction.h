// Squares of per-sample gradients in reduction form (bias, norm scale and shift) on the device: see
// core/square_rule.h.
#pragma once

#include "common/backend.h"

namespace fishermask::cuda {

// What:       sums[c] += Σ_n G_n[c]², G_n[c] = Σ_p δ[n, p, c] · f[n, p, c].
// Layout:     sums (C,) f64 on the device.
// Accuracy:   runs of 64 positions in f32, across them and the samples in f64.
// Workspace:  8 bytes per sample, channel, share of the positions, and sum; up to 4 positions:
// none. Stream:     asynchronous, on the device's stream. Deterministic: yes.
void accumulate_reduction(Backend& backend, const ReductionForm& form, double* sums);

// A form with an input and, in the same pass over δ, the same one without: a norm's scale and
// shift.
void accumulate_reduction_pair(Backend& backend, const ReductionForm& normalised,
                               double* scale_sums, double* shift_sums);

}  // namespace fishermask::cuda
