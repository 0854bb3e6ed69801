// A device's work written down once and started again as a whole (a CUDA graph). Every pointer and
// number that the work's launches had is part of it: it is worth replaying only while they hold.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace fishermask {

// Thrown by what cannot be part of a recording (it waits for the device, needs the host's values,
// takes memory, or changes from call to call), while one is made. The recording is then dropped and
// the work done directly; it never leaves the engine. Code: STATE.
class Unrecordable final : public Error {
 public:
  explicit Unrecordable(std::string message) : Error(ErrorCode::kSTATE, std::move(message)) {}
};

class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  virtual ~Recording() = default;

  // Starts the work, in the order of the device's calls; false: the device's own memory has moved
  // since, nothing was started, and the recording is of no more use. Errors: DEVICE_LOST.
  [[nodiscard]] virtual bool replay() = 0;
};

// What a device has recorded since it was opened.
struct RecordingCounts {
  std::int64_t made = 0;
  std::int64_t refused = 0;  // dropped while they were made
  std::int64_t replays = 0;
  std::int64_t outdated = 0;  // replays that came too late
};

}  // namespace fishermask
