// Lists of flat places that ops read from (take) or write to (scatter).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/kernel.h"

namespace fishermask {

// The largest block that a list and the `places` it points into are both made of: places follow one
// another inside a block, and blocks begin at its multiples. Moving whole channels then costs no
// index per value. A place of −1 is nothing.
[[nodiscard]] std::int64_t common_block(const std::vector<std::int64_t>& index,
                                        std::int64_t places);

// The places of a list, each with the positions that name it in order of appearance. Negative
// places are left out.
struct GroupedPlaces {
  explicit GroupedPlaces(const std::vector<std::int64_t>& index);
  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(place_of.size()); }
  // The positions of group g.
  [[nodiscard]] std::span<const std::int64_t> group(std::int64_t g) const {
    const auto at = static_cast<std::size_t>(g);
    return {updates.data() + starts[at], updates.data() + starts[at + 1]};
  }

  std::vector<std::int64_t> place_of;  // by group, ascending
  std::vector<std::int64_t> starts;    // by group, where its positions begin; the end last
  std::vector<std::int64_t> updates;   // positions in the list
};

enum class ScatterReduction : std::uint8_t { kNone, kAdd, kMul, kMax, kMin };

// Attribute "reduction". Errors: GRAPH.
[[nodiscard]] ScatterReduction scatter_reduction(const NodeSpec& node);

}  // namespace fishermask
