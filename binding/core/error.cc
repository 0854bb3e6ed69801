#include "core/error.h"

#include <array>

namespace fishermask {
namespace {
struct CodeText {
  std::string_view name;
  std::string_view meaning;
};
constexpr std::array kCodes = {
#define FM_ERROR_CODE(name, meaning) CodeText{"ERR_FM_" #name, meaning},
#include "core/error_codes.def"
#undef FM_ERROR_CODE
};
}  // namespace

std::string_view error_code_name(ErrorCode code) noexcept {
  return kCodes[static_cast<std::size_t>(code)].name;
}
std::string_view error_code_meaning(ErrorCode code) noexcept {
  return kCodes[static_cast<std::size_t>(code)].meaning;
}
int error_code_count() noexcept { return static_cast<int>(kCodes.size()); }

}  // namespace fishermask
