// A node's attributes: typed, read with a clear error, and checked so that none is left unread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace fishermask {

using Attribute = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>,
                               std::vector<double>>;

class Attributes {
 public:
  Attributes() = default;
  explicit Attributes(std::map<std::string, Attribute> values) : values_(std::move(values)) {}

  // All getters: Errors GRAPH when the attribute is missing without a fallback or has another type.
  // A number without a fraction is accepted where a double is asked for.
  [[nodiscard]] std::int64_t integer(const std::string& key,
                                     std::optional<std::int64_t> fallback = {}) const;
  [[nodiscard]] double number(const std::string& key, std::optional<double> fallback = {}) const;
  [[nodiscard]] bool boolean(const std::string& key, std::optional<bool> fallback = {}) const;
  [[nodiscard]] std::string string(const std::string& key,
                                   std::optional<std::string> fallback = {}) const;
  // Exactly `size` integers (any number when size < 0).
  [[nodiscard]] std::vector<std::int64_t> integers(
      const std::string& key, std::int64_t size,
      std::optional<std::vector<std::int64_t>> fallback = {}) const;
  // Exactly `size` numbers (any number when size < 0). A list of integers is accepted.
  [[nodiscard]] std::vector<double> numbers(const std::string& key, std::int64_t size,
                                            std::optional<std::vector<double>> fallback = {}) const;
  // Errors: GRAPH naming the first key that is not among `known`.
  void check_known(const std::vector<std::string>& known) const;

  [[nodiscard]] const std::map<std::string, Attribute>& values() const noexcept { return values_; }

 private:
  [[nodiscard]] const Attribute* find(const std::string& key) const;
  std::map<std::string, Attribute> values_;
};

}  // namespace fishermask
