// The one family of errors that leaves the engine. Every error carries a stable code; the Node
// border turns it into a JavaScript FishermaskError with the same code.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

namespace fishermask {

enum class ErrorCode : std::uint8_t {
#define FM_ERROR_CODE(name, meaning) k##name,
#include "core/error_codes.def"
#undef FM_ERROR_CODE
};

// "ERR_FM_SHAPE" for ErrorCode::kSHAPE.
[[nodiscard]] std::string_view error_code_name(ErrorCode code) noexcept;
[[nodiscard]] std::string_view error_code_meaning(ErrorCode code) noexcept;
[[nodiscard]] int error_code_count() noexcept;

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
};

// Concatenates anything that an ostream prints; keeps messages on one line of code.
template <typename... Parts>
[[nodiscard]] std::string text(const Parts&... parts);

template <typename... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  throw Error(code, text(parts...));
}

}  // namespace fishermask

// Throws Error(kCODE, …) unless cond holds. The message parts are only evaluated on failure.
#define FM_CHECK(cond, code, ...)                                                   \
  do {                                                                              \
    if (!(cond)) ::fishermask::fail(::fishermask::ErrorCode::k##code, __VA_ARGS__); \
  } while (false)

#include "core/text.h"
