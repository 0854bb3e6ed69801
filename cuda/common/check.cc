#include "common/check.h"

#include <array>

#include "core/error.h"

namespace fishermask::cuda {
namespace {

// Sticky: the context is gone with them.
constexpr std::array kLost = {700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 214};
// No driver, an old one, no device, one that another process has for itself, one that the library
// has no code for, not permitted.
constexpr std::array kAbsent = {3, 34, 35, 36, 46, 100, 101, 209, 222, 223, 802, 803, 804};

bool contains(const auto& codes, int code) {
  for (const int one : codes) {
    if (one == code) return true;
  }
  return false;
}

}  // namespace

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // what can be cleared is
  const int code = static_cast<int>(status);
  const char* const name = cudaGetErrorName(status);
  const char* const meaning = cudaGetErrorString(status);
  if (code == 2) {
    fail(ErrorCode::kOUT_OF_MEMORY, "the CUDA device has no memory left for ", what);
  }
  if (contains(kAbsent, code)) {
    fail(ErrorCode::kNO_DEVICE, "CUDA is not available: ", meaning, " (", name, ", in ", what, ")");
  }
  if (contains(kLost, code)) {
    fail(ErrorCode::kDEVICE_LOST, "the CUDA device was lost: ", meaning, " (", name, ", in ", what,
         "); restart the process to use it again");
  }
  fail(ErrorCode::kINTERNAL, "CUDA refused ", what, ": ", meaning, " (", name, ")");
}

void check_quietly(cudaError_t status) noexcept {
  if (status != cudaSuccess) (void)cudaGetLastError();
}

}  // namespace fishermask::cuda
