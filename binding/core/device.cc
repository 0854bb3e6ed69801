#include "core/device.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"

namespace fishermask {
namespace {

constexpr std::array<std::string_view, 3> kPrecisionNames = {"f32", "tf32", "bf16"};
constexpr const char* kLibraryName = "libfishermask_cuda.so";

// The library stays loaded to the end of the process: its kernels are registered with the driver.
const CudaBackendEntry& load(const std::string& given) {
  const std::string path = cuda_library_path(given);
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  const char* const reason = library == nullptr ? dlerror() : nullptr;
  FM_CHECK(library != nullptr, NO_DEVICE, "the CUDA backend could not be loaded: ",
           reason == nullptr ? path : std::string(reason));
  const auto* const entry =
      static_cast<const CudaBackendEntry*>(dlsym(library, kCudaBackendSymbol));
  FM_CHECK(entry != nullptr && entry->abi == kCudaBackendAbi, NO_DEVICE, "the CUDA backend ", path,
           " was not built together with this version of fishermask");
  return *entry;
}

}  // namespace

std::string cuda_library_path(const std::string& given) {
  if (const char* const chosen = std::getenv("FISHERMASK_CUDA_LIBRARY");
      chosen != nullptr && *chosen != '\0') {
    return chosen;
  }
  if (!given.empty()) return given;
  // Beside the library (or program) that this code is part of.
  Dl_info own{};
  if (dladdr(reinterpret_cast<const void*>(&precision_name), &own) != 0 &&
      own.dli_fname != nullptr) {
    return (std::filesystem::path(own.dli_fname).parent_path() / kLibraryName).string();
  }
  return kLibraryName;
}

std::string_view precision_name(Precision precision) noexcept {
  return kPrecisionNames[static_cast<std::size_t>(precision)];
}

Precision parse_precision(std::string_view name) {
  for (std::size_t i = 0; i < kPrecisionNames.size(); ++i) {
    if (kPrecisionNames[i] == name) return static_cast<Precision>(i);
  }
  fail(ErrorCode::kARGUMENT, "expected a precision of f32, tf32 or bf16 but received '", name, "'");
}

std::shared_ptr<Device> open_cuda_device(const DeviceOptions& options, const std::string& library) {
  return load(library).open(options);
}

CudaAvailability cuda_availability(const std::string& library) {
  try {
    return load(library).availability();
  } catch (const Error& e) {
    CudaAvailability none;
    none.reason = e.what();
    return none;
  }
}

}  // namespace fishermask
