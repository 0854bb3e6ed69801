// The keep-bits of one segment of units: LSB first, 1 = kept, bits beyond the
// segment ignored.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

namespace fishermask {

// visit(unit) for every masked unit of the segment, ascending.
template <typename Visit>
void for_each_masked_bit(const std::uint8_t* kept, std::int64_t units, const Visit& visit) {
  static_assert(std::endian::native == std::endian::little);
  for (std::int64_t first = 0; first < units; first += 64) {
    const std::int64_t valid = std::min<std::int64_t>(units - first, 64);
    std::uint64_t word = 0;
    std::memcpy(&word, kept + first / 8, static_cast<std::size_t>((valid + 7) / 8));
    for (std::uint64_t left = ~word & (~std::uint64_t{0} >> (64 - valid)); left != 0;
         left &= left - 1U) {
      visit(first + std::countr_zero(left));
    }
  }
}

}  // namespace fishermask
