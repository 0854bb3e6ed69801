// "--name value" pairs of the benchmark's command line.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/error.h"

namespace fishermask::bench {

class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& words) {
    for (std::size_t i = 0; i < words.size(); i += 2) {
      FM_CHECK(words[i].starts_with("--") && i + 1 < words.size(), ARGUMENT,
               "expected --name value but received ", words[i]);
      values_[words[i].substr(2)] = words[i + 1];
    }
  }
  [[nodiscard]] std::string string(const std::string& name, const std::string& fallback) const {
    const auto found = values_.find(name);
    return found == values_.end() ? fallback : found->second;
  }
  [[nodiscard]] std::int64_t integer(const std::string& name, std::int64_t fallback) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return fallback;
    try {
      return std::stoll(found->second);
    } catch (const std::exception&) {
      fail(ErrorCode::kARGUMENT, "expected a whole number for --", name, " but received ",
           found->second);
    }
  }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace fishermask::bench
