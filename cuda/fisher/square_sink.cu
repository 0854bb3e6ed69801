#include "common/parts.h"
namespace fishermask::cuda {
std::unique_ptr<SquareSink> make_square_sink(Backend& /*backend*/) {
  fail(ErrorCode::kUNSUPPORTED, "squares are not there yet");
}
}  // namespace fishermask::cuda
