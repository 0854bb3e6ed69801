// Squares of per-sample gradients in contraction form (convolution, linear): see square_rule.h for
// the formula.
#pragma once

#include "graph/square_rule.h"

namespace fishermask {

// What:       sums[o, i, kh, kw] += Σ_n G_n[o, i, kh, kw]², without storing any G_n.
// Layout:     sums (O, I/groups, K_h, K_w) f64, row-major.
// Accuracy:   G_n in f32; squares in f32 over 16 samples, across those in f64.
// Workspace:  12 bytes per weight of the tiles in flight on each thread, at most 192 KiB; vectors:
// O·I floats. Deterministic: bit-identical for any thread count (threads take tiles, never
// samples).
void accumulate_contraction(const ContractionForm& form, double* sums);

// The tile kernel alone, whatever the shape; accumulate_contraction takes a GEMM of squares for
// linear on vectors.
void accumulate_contraction_tiles(const ContractionForm& form, double* sums);

// sums[o, i] += Σ_n δ[n, o]² · a[n, i]²: one GEMM of squares per 32 samples. For 1×1 positions
// without groups.
void accumulate_contraction_vectors(const ContractionForm& form, double* sums);

// The plain definition in f64: the reference of the above.
void accumulate_contraction_reference(const ContractionForm& form, double* sums);

}  // namespace fishermask
