// Squares of per-sample gradients in scatter form (embedding): see square_rule.h.
#pragma once

#include <vector>

#include "core/square_rule.h"

namespace fishermask {

// What:       sums[v, c] += Σ_n G_n[v, c]², with G_n[v, c] the sum of δ over the positions of
// sample n that hold row v, in f64. Only the touched rows are read or written. Workspace:  4 bytes
// per position of the batch, 8 per channel. Errors:     INTERNAL for an id of `rows` or more,
// before anything is added. Deterministic: bit-identical for any thread count (threads take
// channels, never samples).
void accumulate_scatter(const ScatterForm& form, double* sums);

// Each sample's positions by the id that they hold, equal ids in the order of the positions: (N,
// positions). Errors: INTERNAL for an id of `rows` or more.
[[nodiscard]] std::vector<std::int32_t> scatter_order(const ScatterForm& form);

}  // namespace fishermask
