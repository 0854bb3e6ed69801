// Squares of per-sample gradients in contraction form (convolution, linear): see square_rule.h for
// the formula.
#pragma once

#include "core/square_rule.h"

namespace fishermask {

// What:       sums[o, i, kh, kw] += Σ_n G_n[o, i, kh, kw]², without storing any G_n.
// Layout:     sums (O, I/groups, K_h, K_w) f64, row-major.
// Accuracy:   G_n in f32; squares in f32 over 16 samples at most, across those in f64.
// Workspace:  of each thread: 8 bytes per weight of a block (at most 32 Ki weights where operands
//             allow it) and a copy of a block's channels of both operands over 256 positions or one
//             sample, whichever is more; vectors: 256 KiB.
// Deterministic: bit-identical for any thread count (threads take weights, never samples).
void accumulate_contraction(const ContractionForm& form, double* sums);

// The tile kernel alone, whatever the shape; accumulate_contraction takes a GEMM of squares for
// linear on vectors and vectors of channels for depthwise convolutions.
void accumulate_contraction_tiles(const ContractionForm& form, double* sums);

// sums[o, i] += Σ_n δ[n, o]² · a[n, i]²: one GEMM of squares per 32 samples. For 1×1 positions
// without groups.
void accumulate_contraction_vectors(const ContractionForm& form, double* sums);

// As many groups as channels on both sides: each weight sees one channel of δ and one of a, so that
// vectors run along the groups.
void accumulate_contraction_depthwise(const ContractionForm& form, double* sums);

// The plain definition in f64: the reference of the above.
void accumulate_contraction_reference(const ContractionForm& form, double* sums);

}  // namespace fishermask
