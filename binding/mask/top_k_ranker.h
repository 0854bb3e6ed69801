// rank_top_k: the algorithm of mask_top_k (mask/top_k.h), over any store.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "mask/top_k.h"
#include "mask/top_k_store.h"

namespace fishermask {

// What the ranker knows of a tensor; the data are the store's.
struct TopKUnits {
  std::string name;
  std::int64_t units = 0;
  std::int64_t elements_per_unit = 1;
  std::uint64_t first_unit = 0;
  const KeepMask* previous_keep = nullptr;
  std::int64_t group = 0;
};

// Units of every segment of a tensor but its last: a multiple of 8.
[[nodiscard]] std::int64_t segment_units(std::int64_t elements_per_unit, const TopKTuning& tuning);

// Errors: ARGUMENT, NON_FINITE, ABORTED and what the store throws; the store is
// undone then.
[[nodiscard]] TopKResult rank_top_k(const ScoreProgram& program, const ScoreSettings& settings,
                                    std::span<const TopKUnits> tensors, TopKStore& store,
                                    const TopKAmount& amount, const TopKControl& control,
                                    const TopKTuning& tuning);

}  // namespace fishermask
