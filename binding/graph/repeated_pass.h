// A pass that is run again and again with the same memory: the same steps in the same order. On a
// device that records, the first run is direct (kernels take their memory), the second is recorded
// and started as a whole, and later ones replay it.
//
// Steps that cannot be recorded are run directly, at every run; those before and behind them are
// recordings of their own, so that a check that needs the host costs a pass one cut and no more.
// The caller sees to it that a recording's pointers hold, and calls restart() when they do not.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "core/device.h"

namespace fishermask {

struct PassSteps {
  std::size_t count = 0;
  // Runs one step; `recorded`: what it launches will be replayed.
  std::function<void(std::size_t step, bool recorded)> run;
  // Called before steps are recorded or replayed, and after a recording of them was dropped: what
  // the host noted of the device's memory no longer holds (Kernel::forget).
  std::function<void()> forget;
};

class RepeatedPass {
 public:
  // Errors: what the steps throw. Steps that had begun by then are as after a direct run.
  void run(Device* device, const PassSteps& steps);
  // Everything is begun anew at the next run.
  void restart() noexcept { restart_ = true; }

 private:
  enum class State : std::uint8_t { kNew, kSeen, kRecorded };
  // Steps [first, end); direct where there is no recording.
  struct Segment {
    std::size_t first = 0, end = 0;
    std::unique_ptr<Recording> recording;
  };

  static void run_directly(const PassSteps& steps, std::size_t first, std::size_t end);
  void run_recording(Device& device, const PassSteps& steps);
  void run_recorded(const PassSteps& steps);
  [[nodiscard]] std::size_t end_of_run(std::size_t first) const;
  [[nodiscard]] Segment make_segment(Device& device, const PassSteps& steps, std::size_t first);
  // Whether the segment's recording still held; else it was run directly.
  static bool start(const PassSteps& steps, const Segment& segment);

  State state_ = State::kNew;
  bool restart_ = false;
  std::vector<bool> direct_;  // steps known to be unrecordable
  std::vector<Segment> segments_;
};

}  // namespace fishermask
