// The real library on a machine without a driver (FISHERMASK_CUDA_ABSENT=1, scripts/test-cuda.sh):
// it loads, and says why there is no device, in words, without harm to the process.
#include <doctest/doctest.h>

#include <cstdlib>

#include "core/device.h"

using namespace fishermask;

namespace {

bool device_expected() { return std::getenv("FISHERMASK_CUDA_ABSENT") == nullptr; }

std::string refusal(const DeviceOptions& options, const std::string& library = "") {
  try {
    (void)open_cuda_device(options, library);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::kNO_DEVICE);
    return e.what();
  }
  FAIL("a device was opened");
  return "";
}

}  // namespace

TEST_CASE("without a driver the library loads and says that there is no device" *
          doctest::skip(device_expected())) {
  const CudaAvailability found = cuda_availability();
  CHECK(found.devices == 0);
  CHECK(found.infos.empty());
  CAPTURE(found.reason);
  // Its own words, not the loader's: the library was loaded.
  CHECK(found.reason.find("could not be loaded") == std::string::npos);
  CHECK((found.reason.find("driver") != std::string::npos ||
         found.reason.find("no CUDA-capable device") != std::string::npos));
  // The same again: the first refusal left nothing behind.
  CHECK(cuda_availability().reason == found.reason);
}

TEST_CASE("without a driver open_cuda_device throws NO_DEVICE with the reason" *
          doctest::skip(device_expected())) {
  const std::string reason = cuda_availability().reason;
  CHECK(refusal({}).find(reason) != std::string::npos);
  CHECK(refusal({.index = 7}).find(reason) != std::string::npos);
}
