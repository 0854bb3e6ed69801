#include "mask/unit.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace fishermask {
namespace {
constexpr std::array<std::string_view, 3> kUnitNames = {"weight", "kernel", "filter"};

// Leading dimensions that number the units; the rest lies inside a unit.
std::size_t counted_dimensions(const Shape& shape, Unit unit) {
  switch (unit) {
    case Unit::kKernel:
      return std::min<std::size_t>(shape.size(), 2);
    case Unit::kFilter:
      return std::min<std::size_t>(shape.size(), 1);
    default:
      return shape.size();
  }
}
}  // namespace

std::string_view unit_name(Unit unit) noexcept {
  return kUnitNames[static_cast<std::size_t>(unit)];
}

Unit parse_unit(std::string_view name) {
  for (std::size_t i = 0; i < kUnitNames.size(); ++i) {
    if (kUnitNames[i] == name) return static_cast<Unit>(i);
  }
  fail(ErrorCode::kARGUMENT, "Expected weight, kernel or filter for unit but received ", name);
}

std::int64_t elements_per_unit(const Shape& shape, Unit unit) {
  const auto first = shape.begin() + static_cast<std::ptrdiff_t>(counted_dimensions(shape, unit));
  return std::max<std::int64_t>(element_count(Shape(first, shape.end())), 1);
}

std::int64_t unit_count(const Shape& shape, Unit unit) {
  return element_count(shape) / elements_per_unit(shape, unit);
}

}  // namespace fishermask
