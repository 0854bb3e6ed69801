// KeepMask: one bit per unit, 1 = kept, 0 = masked. LSB first, padded to a byte with zeros.
// Deterministic: yes; the parallel loops write disjoint bytes.
// Errors: ARGUMENT or MISMATCH on sizes that do not fit; nothing is changed then.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fishermask {

struct KeepMask {
  std::int64_t units = 0;
  std::vector<std::uint8_t> bits;  // (mask_bytes(units),)

  KeepMask() = default;
  // Everything kept. Errors: ARGUMENT on a negative count.
  explicit KeepMask(std::int64_t unit_total);
  // A mask read from a file. Errors: ARGUMENT when the bytes do not fit or padding bits are set.
  KeepMask(std::int64_t unit_total, std::vector<std::uint8_t> packed);

  [[nodiscard]] bool kept(std::int64_t unit) const {
    return ((bits[static_cast<std::size_t>(unit / 8)] >> (unit % 8)) & 1U) != 0;
  }
  void set_masked(std::int64_t unit) {
    auto& byte = bits[static_cast<std::size_t>(unit / 8)];
    byte = static_cast<std::uint8_t>(byte & ~(1U << (unit % 8)));
  }
  void set_kept(std::int64_t unit) {
    auto& byte = bits[static_cast<std::size_t>(unit / 8)];
    byte = static_cast<std::uint8_t>(byte | (1U << (unit % 8)));
  }
  [[nodiscard]] bool operator==(const KeepMask&) const = default;
};

[[nodiscard]] std::int64_t mask_bytes(std::int64_t units);
[[nodiscard]] std::int64_t masked_count(const KeepMask& mask);
// Kept in both: what either masks is masked. Errors: MISMATCH when the unit counts differ.
[[nodiscard]] KeepMask intersect(const KeepMask& a, const KeepMask& b);
// One bit per weight instead of one per unit. Errors: ARGUMENT when elements_per_unit < 1.
[[nodiscard]] KeepMask expand_to_weights(const KeepMask& mask, std::int64_t elements_per_unit);

// Weights (units * elements_per_unit,): masked units become +0. old_values is empty or takes the
// masked weights in index order: (masked_count * elements_per_unit,). Errors: MISMATCH.
void apply_keep_mask(const KeepMask& mask, std::int64_t elements_per_unit, std::span<float> weights,
                     std::span<float> old_values = {});
// Puts old_values back, bit for bit. Errors: MISMATCH.
void undo_keep_mask(const KeepMask& mask, std::int64_t elements_per_unit, std::span<float> weights,
                    std::span<const float> old_values);

}  // namespace fishermask
