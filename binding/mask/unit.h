// Unit: what is masked as one. Weights are in PyTorch layout, so a unit is contiguous in memory.
// Shapes:  convolution (O, I/groups, K...), rank 3 or more; linear (O, I); anything else rank 0
// or 1.
//   weight: one scalar.
//   kernel: one (out, in) slice of a convolution; one scalar of a linear or 1-d tensor.
//   filter: one output channel or row, that is one index of the first dimension.
// Source:  units of Liu et al. 2023, arXiv:2310.05331 (authors' code: kernel).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/tensor.h"

namespace fishermask {

enum class Unit : std::uint8_t { kWeight, kKernel, kFilter };

[[nodiscard]] std::string_view unit_name(Unit unit) noexcept;  // "kernel"
[[nodiscard]] Unit parse_unit(std::string_view name);          // Errors: ARGUMENT
// At least 1, also for an empty tensor. Errors: SHAPE on a negative size or on overflow.
[[nodiscard]] std::int64_t elements_per_unit(const Shape& shape, Unit unit);
// unit_count * elements_per_unit = element_count. Errors: SHAPE.
[[nodiscard]] std::int64_t unit_count(const Shape& shape, Unit unit);

}  // namespace fishermask
