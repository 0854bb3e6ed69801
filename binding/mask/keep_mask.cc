#include "mask/keep_mask.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"

namespace fishermask {
namespace {

constexpr std::int64_t kChunkBytes = 8192;  // 65536 units: enough work to be worth a thread's while

std::uint8_t valid_bits(std::int64_t units, std::int64_t byte) {
  const std::int64_t left = units - byte * 8;
  return left >= 8 ? std::uint8_t{0xFF} : static_cast<std::uint8_t>((1U << left) - 1U);
}

// Bit i set where unit 8 * byte + i is masked, for eight bytes or what is left; padding never is.
std::uint64_t masked_word(const KeepMask& mask, std::int64_t byte) {
  static_assert(std::endian::native == std::endian::little);
  const std::int64_t bytes = std::min<std::int64_t>(mask_bytes(mask.units) - byte, 8);
  std::uint64_t kept = 0;
  std::memcpy(&kept, mask.bits.data() + byte, static_cast<std::size_t>(bytes));
  const std::int64_t valid = std::min<std::int64_t>(mask.units - byte * 8, 64);
  return ~kept & (~std::uint64_t{0} >> (64 - valid));
}

std::int64_t masked_in(const KeepMask& mask, std::int64_t byte_begin, std::int64_t byte_end) {
  std::int64_t count = 0;
  for (std::int64_t byte = byte_begin; byte < byte_end; byte += 8) {
    count += std::popcount(masked_word(mask, byte));
  }
  return count;
}

struct Chunk {
  std::int64_t byte_begin = 0;
  std::int64_t byte_end = 0;
  std::int64_t masked = 0;
};

std::vector<Chunk> chunks_of(const KeepMask& mask) {
  std::vector<Chunk> chunks;
  const std::int64_t bytes = mask_bytes(mask.units);
  for (std::int64_t begin = 0; begin < bytes; begin += kChunkBytes) {
    chunks.push_back({begin, std::min(begin + kChunkBytes, bytes), 0});
  }
  parallel_items(static_cast<std::int64_t>(chunks.size()), [&](std::int64_t item) {
    Chunk& chunk = chunks[static_cast<std::size_t>(item)];
    chunk.masked = masked_in(mask, chunk.byte_begin, chunk.byte_end);
  });
  return chunks;
}

// visit(unit, how many units are masked before it) for every masked unit, chunks in parallel.
template <typename Visit>
void for_each_masked(const KeepMask& mask, const Visit& visit) {
  const std::vector<Chunk> chunks = chunks_of(mask);
  std::vector<std::int64_t> before(chunks.size() + 1, 0);
  for (std::size_t i = 0; i < chunks.size(); ++i) before[i + 1] = before[i] + chunks[i].masked;
  parallel_items(static_cast<std::int64_t>(chunks.size()), [&](std::int64_t item) {
    const Chunk& chunk = chunks[static_cast<std::size_t>(item)];
    std::int64_t rank = before[static_cast<std::size_t>(item)];
    for (std::int64_t byte = chunk.byte_begin; byte < chunk.byte_end; byte += 8) {
      for (std::uint64_t left = masked_word(mask, byte); left != 0; left &= left - 1U) {
        visit(byte * 8 + std::countr_zero(left), rank++);
      }
    }
  });
}

void check_sizes(const KeepMask& mask, std::int64_t elements_per_unit, std::size_t weights) {
  FM_CHECK(elements_per_unit >= 1, ARGUMENT,
           "Expected at least 1 for elements_per_unit but received ", elements_per_unit);
  const auto count = static_cast<std::int64_t>(weights);
  FM_CHECK(count % elements_per_unit == 0 && count / elements_per_unit == mask.units, MISMATCH,
           "Expected ", mask.units, " units of ", elements_per_unit,
           " weight(s) for the keep-mask but received ", count, " weights");
}

void check_old_values(const KeepMask& mask, std::int64_t elements_per_unit, std::size_t size) {
  const std::int64_t expected = masked_count(mask) * elements_per_unit;
  FM_CHECK(static_cast<std::int64_t>(size) == expected, MISMATCH, "Expected ", expected,
           " old values for the masked weights but received ", size);
}

}  // namespace

std::int64_t mask_bytes(std::int64_t units) { return units / 8 + (units % 8 != 0 ? 1 : 0); }

KeepMask::KeepMask(std::int64_t unit_total) : units(unit_total) {
  FM_CHECK(unit_total >= 0, ARGUMENT, "Expected 0 or more for units but received ", unit_total);
  bits.assign(static_cast<std::size_t>(mask_bytes(unit_total)), 0xFF);
  if (unit_total % 8 != 0) bits.back() = valid_bits(unit_total, unit_total / 8);
}

KeepMask::KeepMask(std::int64_t unit_total, std::vector<std::uint8_t> packed)
    : units(unit_total), bits(std::move(packed)) {
  FM_CHECK(unit_total >= 0, ARGUMENT, "Expected 0 or more for units but received ", unit_total);
  FM_CHECK(static_cast<std::int64_t>(bits.size()) == mask_bytes(unit_total), ARGUMENT, "Expected ",
           mask_bytes(unit_total), " byte(s) for a keep-mask of ", unit_total,
           " units but received ", bits.size());
  FM_CHECK(unit_total % 8 == 0 || (bits.back() & ~valid_bits(unit_total, unit_total / 8)) == 0,
           ARGUMENT, "Expected zeros for the padding of the keep-mask but received ",
           static_cast<int>(bits.back()), " as its last byte");
}

std::int64_t masked_count(const KeepMask& mask) {
  return masked_in(mask, 0, mask_bytes(mask.units));
}

KeepMask intersect(const KeepMask& a, const KeepMask& b) {
  FM_CHECK(a.units == b.units, MISMATCH, "Expected ", a.units,
           " units for the keep-mask to intersect with but received ", b.units);
  KeepMask both = a;
  for (std::size_t i = 0; i < both.bits.size(); ++i) {
    both.bits[i] = static_cast<std::uint8_t>(both.bits[i] & b.bits[i]);
  }
  return both;
}

KeepMask expand_to_weights(const KeepMask& mask, std::int64_t elements_per_unit) {
  FM_CHECK(elements_per_unit >= 1, ARGUMENT,
           "Expected at least 1 for elements_per_unit but received ", elements_per_unit);
  if (elements_per_unit == 1) return mask;
  KeepMask weights(mask.units * elements_per_unit);
  // Neighbouring units share bytes of the result, so this loop stays on one thread.
  for (std::int64_t unit = 0; unit < mask.units; ++unit) {
    if (mask.kept(unit)) continue;
    for (std::int64_t i = 0; i < elements_per_unit; ++i) {
      weights.set_masked(unit * elements_per_unit + i);
    }
  }
  return weights;
}

void apply_keep_mask(const KeepMask& mask, std::int64_t elements_per_unit, std::span<float> weights,
                     std::span<float> old_values) {
  check_sizes(mask, elements_per_unit, weights.size());
  if (!old_values.empty()) check_old_values(mask, elements_per_unit, old_values.size());
  const auto bytes = static_cast<std::size_t>(elements_per_unit) * sizeof(float);
  for_each_masked(mask, [&](std::int64_t unit, std::int64_t rank) {
    float* const first = weights.data() + unit * elements_per_unit;
    if (!old_values.empty()) {
      std::memcpy(old_values.data() + rank * elements_per_unit, first, bytes);
    }
    std::memset(first, 0, bytes);
  });
}

void undo_keep_mask(const KeepMask& mask, std::int64_t elements_per_unit, std::span<float> weights,
                    std::span<const float> old_values) {
  check_sizes(mask, elements_per_unit, weights.size());
  check_old_values(mask, elements_per_unit, old_values.size());
  const auto bytes = static_cast<std::size_t>(elements_per_unit) * sizeof(float);
  for_each_masked(mask, [&](std::int64_t unit, std::int64_t rank) {
    std::memcpy(weights.data() + unit * elements_per_unit,
                old_values.data() + rank * elements_per_unit, bytes);
  });
}

}  // namespace fishermask
