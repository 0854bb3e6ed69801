#include "core/places.h"

#include <algorithm>
#include <numeric>

namespace fishermask {

std::int64_t common_block(const std::vector<std::int64_t>& index, std::int64_t places) {
  std::int64_t block = std::gcd(static_cast<std::int64_t>(index.size()), places);
  for (std::size_t j = 0; j < index.size() && block > 1; ++j) {
    const bool nothing = index[j] < 0;
    const bool goes_on =
        j > 0 && (nothing ? index[j - 1] < 0 : index[j - 1] >= 0 && index[j] == index[j - 1] + 1);
    if (goes_on) continue;
    block = std::gcd(block, static_cast<std::int64_t>(j));
    if (!nothing) block = std::gcd(block, index[j]);
  }
  return block;
}

GroupedPlaces::GroupedPlaces(const std::vector<std::int64_t>& index) {
  for (std::size_t j = 0; j < index.size(); ++j) {
    if (index[j] >= 0) updates.push_back(static_cast<std::int64_t>(j));
  }
  std::stable_sort(updates.begin(), updates.end(), [&](std::int64_t a, std::int64_t b) {
    return index[static_cast<std::size_t>(a)] < index[static_cast<std::size_t>(b)];
  });
  for (std::size_t i = 0; i < updates.size(); ++i) {
    const std::int64_t place = index[static_cast<std::size_t>(updates[i])];
    if (!place_of.empty() && place_of.back() == place) continue;
    place_of.push_back(place);
    starts.push_back(static_cast<std::int64_t>(i));
  }
  starts.push_back(static_cast<std::int64_t>(updates.size()));
}

ScatterReduction scatter_reduction(const NodeSpec& node) {
  const std::string name = node.attributes.string("reduction", "none");
  if (name == "none") return ScatterReduction::kNone;
  if (name == "add") return ScatterReduction::kAdd;
  if (name == "mul") return ScatterReduction::kMul;
  if (name == "max") return ScatterReduction::kMax;
  node.check(name == "min", "expected a reduction of none, add, mul, max or min but received '",
             name, "'");
  return ScatterReduction::kMin;
}

}  // namespace fishermask
