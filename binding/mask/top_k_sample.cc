#include "mask/top_k_sample.h"

#include <algorithm>
#include <cmath>

namespace fishermask {
namespace {

// Ascending in the order of mask_top_k: large keys first, then small ordinals.
using Ordered = std::uint64_t;

Ordered ordered(std::uint32_t key, std::size_t ordinal) {
  return (Ordered{~key} << 32U) | static_cast<Ordered>(ordinal);
}
constexpr double kFarBehind = 512.0;  // sampled units

std::uint32_t key_of(Ordered value) { return ~static_cast<std::uint32_t>(value >> 32U); }
std::size_t ordinal_of(Ordered value) { return static_cast<std::size_t>(value & 0xFFFFFFFFU); }

// Standard deviation of how many of a sample come before `pivot`.
double spread_of_count(std::span<const Ordered> sample, std::span<const std::int64_t> run_ends,
                       Ordered pivot, double rank) {
  double squares = 0.0;
  double total = 0.0;
  std::int64_t begin = 0;
  for (const std::int64_t end : run_ends) {
    double count = 0.0;
    for (std::int64_t i = begin; i < end; ++i) {
      count += sample[static_cast<std::size_t>(i)] < pivot ? 1.0 : 0.0;
    }
    squares += count * count;
    total += count;
    begin = end;
  }
  const auto strata = static_cast<double>(run_ends.size());
  const auto size = static_cast<double>(sample.size());
  return std::sqrt(std::max(squares - total * total / strata, rank * (1.0 - rank / size)));
}

}  // namespace

TopKBracket bracket_of(std::span<const TopKSampled> sampled, std::span<const std::int64_t> run_ends,
                       double share, const TopKTuning& tuning) {
  std::vector<Ordered> sample;
  sample.reserve(sampled.size());
  std::size_t eligible = 0;
  for (std::size_t i = 0; i < sampled.size(); ++i) {
    sample.push_back(ordered(sampled[i].key, i));
    eligible += sampled[i].key > kNotEligibleKey ? 1U : 0U;
  }
  const std::vector<Ordered> in_strata = sample;
  std::size_t sorted_before = sample.size();  // [sorted_before, end) follows what is before it
  const auto at = [&](double rank) {          // ranks must fall from call to call
    const auto nth = sample.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(sample.begin(), nth,
                     sample.begin() + static_cast<std::ptrdiff_t>(sorted_before));
    sorted_before = static_cast<std::size_t>(nth - sample.begin()) + 1;
    return *nth;
  };
  const auto mark_at = [&](double rank) -> TopKMark {
    if (rank >= static_cast<double>(eligible)) return kAfterAll;
    if (rank < 0.0) return kBeforeAll;
    const Ordered found = at(rank);
    return {key_of(found), sampled[ordinal_of(found)].flat};
  };
  const double rank =
      std::min(share * static_cast<double>(sample.size()), static_cast<double>(eligible));
  // Marks are taken from the last rank down, and of a few ranks around the pivot: what is far
  // behind is put aside first, so that the sample is partitioned as a whole but once. The pivot of
  // the estimate is found on a copy of the rest.
  const double far = 2.0 * rank + kFarBehind;
  if (far < static_cast<double>(sample.size())) static_cast<void>(at(far));
  const auto pivot_at =
      static_cast<std::ptrdiff_t>(std::min(rank, static_cast<double>(sample.size()) - 1.0));
  std::vector<Ordered> copy(sample.begin(),
                            sample.begin() + static_cast<std::ptrdiff_t>(sorted_before));
  std::nth_element(copy.begin(), copy.begin() + pivot_at, copy.end());
  const double spread =
      spread_of_count(in_strata, run_ends, copy[static_cast<std::size_t>(pivot_at)], rank);
  const double margin = tuning.sigmas * spread + tuning.slack;
  if (rank + margin >= static_cast<double>(sorted_before)) sorted_before = sample.size();
  TopKBracket bracket;
  bracket.low = mark_at(std::max(rank + margin, 0.0));
  bracket.guess = mark_at(std::min(rank, rank + margin));
  bracket.high = mark_at(std::min(rank, rank - margin));
  // Jitter can place neighbouring runs out of order by a few units.
  if (bracket.low.key == bracket.guess.key) {
    bracket.low.place = std::max(bracket.low.place, bracket.guess.place);
  }
  if (bracket.high.key == bracket.guess.key) {
    bracket.high.place = std::min(bracket.high.place, bracket.guess.place);
  }
  return bracket;
}

}  // namespace fishermask
