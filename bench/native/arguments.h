// A benchmark's options: "--name value" pairs of a command line, or names and values from
// elsewhere.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/error.h"

namespace fishermask::bench {

class Arguments {
 public:
  explicit Arguments(std::map<std::string, std::string> values) : values_(std::move(values)) {}
  // Errors: ARGUMENT for words that are no pairs.
  [[nodiscard]] static Arguments of_words(const std::vector<std::string>& words);
  // The fallback where the option was not given.
  [[nodiscard]] std::string string(const std::string& name, const std::string& fallback) const;
  // Whole numbers may be written as 1e8. Errors: ARGUMENT.
  [[nodiscard]] std::int64_t integer(const std::string& name, std::int64_t fallback) const;
  [[nodiscard]] double number(const std::string& name, double fallback) const;
  // A whole number of at least 1. Errors: ARGUMENT.
  [[nodiscard]] std::int64_t count(const std::string& name, std::int64_t fallback) const;
  // One of `choices`. Errors: ARGUMENT, listing them.
  [[nodiscard]] std::string choice(const std::string& name, const std::string& fallback,
                                   const std::vector<std::string>& choices) const;
  // Errors: ARGUMENT naming the first option that is not among `known` and not one of all
  // benchmarks (threads, clock, rounds).
  void check_known(const std::vector<std::string>& known) const;

 private:
  [[nodiscard]] const std::string* find(const std::string& name) const;
  std::map<std::string, std::string> values_;
};

}  // namespace fishermask::bench
