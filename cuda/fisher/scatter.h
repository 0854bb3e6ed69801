// Squares of per-sample gradients in scatter form (embedding) on the device: see
// core/square_rule.h.
#pragma once

#include "common/backend.h"

namespace fishermask::cuda {

// What:       sums[v, c] += Σ_n G_n[v, c]², G_n[v, c] the sum of δ over the positions of sample n
//             that hold row v, in f64. Only the touched rows are read or written.
// Layout:     sums (V, C) f64 on the device.
// Workspace:  that of sort_ids. Sync: waits for the device once, for the check of the ids.
// Errors:     INTERNAL for an id of `rows` or more, before anything is added.
// Deterministic: yes; one block owns a row, and takes its positions in their order.
void accumulate_scatter(Backend& backend, const ScatterForm& form, double* sums);

}  // namespace fishermask::cuda
