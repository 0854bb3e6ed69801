#include "common/parts.h"
namespace fishermask::cuda {
void sgd_step(Backend&, const DeviceSgd&, std::span<const DeviceOptimized>) {
  fail(ErrorCode::kUNSUPPORTED, "the optimiser is not there yet");
}
void adamw_step(Backend&, const DeviceAdamW&, std::span<const DeviceOptimized>) {
  fail(ErrorCode::kUNSUPPORTED, "the optimiser is not there yet");
}
}  // namespace fishermask::cuda
