// NanReport: collects which tensors have NaN scores, so that one error names them all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace fishermask {

class NanReport {
 public:
  void add(std::string_view tensor, std::int64_t nan_count) {
    if (nan_count == 0) return;
    if (!list_.empty()) list_ += ", ";
    list_ += text(tensor, " (", nan_count, ")");
  }
  // Errors: NON_FINITE.
  void fail_if_any() const {
    FM_CHECK(
        list_.empty(), NON_FINITE,
        "Expected numbers for the scores but received NaN in these tensors (how many): ", list_);
  }

 private:
  std::string list_;
};

}  // namespace fishermask
