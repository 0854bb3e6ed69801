// select: exactly the k units of largest score, over many tensors.
// Order:     largest first; equal scores in order of flat index (tensor order as given, then unit
//            index); -0 equals +0. Units of score -infinity are not eligible.
// Algorithm: order-preserving u32 key of the f32; a histogram of its 16 high bits finds the
// boundary
//            bucket, a histogram of the 16 low bits inside it finds the threshold, ties go by
//            index. From 2^20 units on, a sample brackets the threshold first and the histograms
//            count only the keys inside; when the bracket misses or ties overfill it, they count
//            all keys, so the result is exact. No sort; two streaming passes over the scores, four
//            without bracket.
// Workspace: 512 KiB per thread, 1 bit per unit for the masks, 56 bytes per 65536 units, and the
// keys
//            inside the bracket (4 bytes each, at most 1/8 of the units).
// Deterministic: bit-identical on any thread count (integer counts only).
// Errors:    ARGUMENT (k < 0, ratio outside 0..1), NON_FINITE (NaN, naming the tensors).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mask/keep_mask.h"

namespace fishermask {

// Over what the units are ranked: the network, a layer (tensors that share a group), a tensor.
enum class Scope : std::uint8_t { kGlobal, kLayer, kTensor };

[[nodiscard]] std::string_view scope_name(Scope scope) noexcept;  // "layer"
[[nodiscard]] Scope parse_scope(std::string_view name);           // Errors: ARGUMENT

struct SelectTensor {
  std::string name;
  std::span<const float> scores;  // (units,)
  std::int64_t group = 0;         // read for Scope::kLayer alone
};

// What one ranking did.
struct Ranking {
  std::vector<std::int64_t> tensors;  // positions of the tensors that took part, ascending
  std::int64_t units = 0;
  std::int64_t eligible = 0;
  std::int64_t asked = 0;          // k
  std::int64_t masked = 0;         // min(k, eligible)
  std::optional<float> threshold;  // the smallest masked score; none when nothing is masked
};

struct Selection {
  std::vector<KeepMask> masks;       // one per tensor: 0 where a unit was selected
  std::vector<std::int64_t> masked;  // one per tensor
  std::vector<Ranking> rankings;     // one per group, in order of its first tensor
  std::int64_t total_units = 0;
  std::int64_t total_masked = 0;
};

// floor(ratio * units) as meant in decimal: the largest k whose quotient k / units, rounded to f64,
// does not exceed ratio. So 0.29 of 100 is 29, although 0.29 * 100 is 28.999999999999996 in f64,
// and k never falls as ratio grows. Errors: ARGUMENT when ratio is NaN or outside 0..1, or units <
// 0.
[[nodiscard]] std::int64_t ratio_to_k(double ratio, std::int64_t units);

// Positions of the tensors of each ranking, in order of the ranking's first
// tensor. `groups` has one entry per tensor, read for Scope::kLayer alone.
[[nodiscard]] std::vector<std::vector<std::int64_t>> ranking_members(
    std::span<const std::int64_t> groups, Scope scope);

// One ranking over all tensors.
[[nodiscard]] Selection select_top_k(std::span<const SelectTensor> tensors, std::int64_t k);
// One ranking per group of the scope, each with k = ratio_to_k(ratio, its units).
[[nodiscard]] Selection select_ratio(std::span<const SelectTensor> tensors, Scope scope,
                                     double ratio);

}  // namespace fishermask
