#include "core/attributes.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"

namespace fishermask {
namespace {
[[noreturn]] void wrong(const std::string& key, const char* expected, bool present) {
  fail(ErrorCode::kGRAPH, "expected ", expected, " for attribute '", key, "' but ",
       present ? "received another type" : "it is missing");
}
}  // namespace

const Attribute* Attributes::find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::int64_t Attributes::integer(const std::string& key,
                                 std::optional<std::int64_t> fallback) const {
  const Attribute* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !std::holds_alternative<std::int64_t>(*value)) {
    wrong(key, "an integer", value != nullptr);
  }
  return std::get<std::int64_t>(*value);
}

double Attributes::number(const std::string& key, std::optional<double> fallback) const {
  const Attribute* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && std::holds_alternative<std::int64_t>(*value)) {
    return static_cast<double>(std::get<std::int64_t>(*value));
  }
  if (value == nullptr || !std::holds_alternative<double>(*value)) {
    wrong(key, "a number", value != nullptr);
  }
  return std::get<double>(*value);
}

bool Attributes::boolean(const std::string& key, std::optional<bool> fallback) const {
  const Attribute* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !std::holds_alternative<bool>(*value)) {
    wrong(key, "true or false", value != nullptr);
  }
  return std::get<bool>(*value);
}

std::string Attributes::string(const std::string& key, std::optional<std::string> fallback) const {
  const Attribute* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !std::holds_alternative<std::string>(*value)) {
    wrong(key, "a string", value != nullptr);
  }
  return std::get<std::string>(*value);
}

std::vector<std::int64_t> Attributes::integers(
    const std::string& key, std::int64_t size,
    std::optional<std::vector<std::int64_t>> fallback) const {
  const Attribute* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !std::holds_alternative<std::vector<std::int64_t>>(*value)) {
    wrong(key, "a list of integers", value != nullptr);
  }
  const auto& list = std::get<std::vector<std::int64_t>>(*value);
  FM_CHECK(size < 0 || static_cast<std::int64_t>(list.size()) == size, GRAPH, "expected ", size,
           " integers for attribute '", key, "' but received ", list.size());
  return list;
}

std::vector<double> Attributes::numbers(const std::string& key, std::int64_t size,
                                        std::optional<std::vector<double>> fallback) const {
  const Attribute* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  std::vector<double> list;
  if (value != nullptr && std::holds_alternative<std::vector<std::int64_t>>(*value)) {
    const auto& integers = std::get<std::vector<std::int64_t>>(*value);
    std::transform(integers.begin(), integers.end(), std::back_inserter(list),
                   [](std::int64_t item) { return static_cast<double>(item); });
  } else if (value != nullptr && std::holds_alternative<std::vector<double>>(*value)) {
    list = std::get<std::vector<double>>(*value);
  } else {
    wrong(key, "a list of numbers", value != nullptr);
  }
  FM_CHECK(size < 0 || static_cast<std::int64_t>(list.size()) == size, GRAPH, "expected ", size,
           " numbers for attribute '", key, "' but received ", list.size());
  return list;
}

void Attributes::check_known(const std::vector<std::string>& known) const {
  for (const auto& [key, value] : values_) {
    FM_CHECK(std::find(known.begin(), known.end(), key) != known.end(), GRAPH,
             "unknown attribute '", key, "'");
  }
}

}  // namespace fishermask
