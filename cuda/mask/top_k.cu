#include "common/parts.h"
namespace fishermask::cuda {
DeviceMaskResult mask_top_k(Backend&, const DeviceMaskRequest&) {
  fail(ErrorCode::kUNSUPPORTED, "masking is not there yet");
}
}  // namespace fishermask::cuda
