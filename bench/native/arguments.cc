#include "arguments.h"

#include <algorithm>
#include <cmath>

namespace fishermask::bench {
namespace {

constexpr double kLargestWhole = 9007199254740992.0;  // 2^53

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

}  // namespace

Arguments Arguments::of_words(const std::vector<std::string>& words) {
  std::map<std::string, std::string> values;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    FM_CHECK(words[i].starts_with("--") && i + 1 < words.size(), ARGUMENT,
             "expected --name value but received ", words[i]);
    values[words[i].substr(2)] = words[i + 1];
  }
  return Arguments(std::move(values));
}

const std::string* Arguments::find(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

std::string Arguments::string(const std::string& name, const std::string& fallback) const {
  const std::string* value = find(name);
  return value == nullptr ? fallback : *value;
}

double Arguments::number(const std::string& name, double fallback) const {
  const std::string* value = find(name);
  if (value == nullptr) return fallback;
  std::size_t read = 0;
  double result = 0;
  try {
    result = std::stod(*value, &read);
  } catch (const std::exception&) {
    read = 0;
  }
  FM_CHECK(read > 0 && read == value->size() && std::isfinite(result), ARGUMENT,
           "Expected a number for --", name, " but received ", *value);
  return result;
}

std::int64_t Arguments::integer(const std::string& name, std::int64_t fallback) const {
  const std::string* value = find(name);
  if (value == nullptr) return fallback;
  const double result = number(name, 0);
  FM_CHECK(std::floor(result) == result && std::abs(result) <= kLargestWhole, ARGUMENT,
           "Expected a whole number for --", name, " but received ", *value);
  return static_cast<std::int64_t>(result);
}

std::int64_t Arguments::count(const std::string& name, std::int64_t fallback) const {
  const std::int64_t result = integer(name, fallback);
  FM_CHECK(result >= 1, ARGUMENT, "Expected a whole number from 1 for --", name, " but received ",
           result);
  return result;
}

std::string Arguments::choice(const std::string& name, const std::string& fallback,
                              const std::vector<std::string>& choices) const {
  std::string value = string(name, fallback);
  FM_CHECK(std::find(choices.begin(), choices.end(), value) != choices.end(), ARGUMENT,
           "Expected one of ", joined(choices), " for --", name, " but received ", value);
  return value;
}

void Arguments::check_known(const std::vector<std::string>& known) const {
  std::vector<std::string> all = {"threads", "clock", "rounds"};
  all.insert(all.end(), known.begin(), known.end());
  for (const auto& [name, value] : values_) {
    FM_CHECK(std::find(all.begin(), all.end(), name) != all.end(), ARGUMENT,
             "Expected one of the options ", joined(all), " but received --", name);
  }
}

}  // namespace fishermask::bench
