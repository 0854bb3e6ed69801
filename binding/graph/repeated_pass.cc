#include "graph/repeated_pass.h"

#include <algorithm>

namespace fishermask {

void RepeatedPass::run(Device* device, const PassSteps& steps) {
  if (device == nullptr || !device->records()) return run_directly(steps, 0, steps.count);
  if (restart_ || direct_.size() != steps.count) {
    restart_ = false;
    state_ = State::kNew;
    segments_.clear();
    direct_.assign(steps.count, false);
  }
  if (state_ == State::kRecorded) return run_recorded(steps);
  if (state_ == State::kSeen) return run_recording(*device, steps);
  run_directly(steps, 0, steps.count);
  state_ = State::kSeen;
}

void RepeatedPass::run_directly(const PassSteps& steps, std::size_t first, std::size_t end) {
  for (std::size_t step = first; step < end; ++step) steps.run(step, false);
}

// Segment by segment: each is started before the next is recorded, as the steps between recordings
// are run at once and read what those before them wrote.
void RepeatedPass::run_recording(Device& device, const PassSteps& steps) {
  segments_.clear();
  bool held = true;
  for (std::size_t first = 0; first < steps.count; first = segments_.back().end) {
    segments_.push_back(make_segment(device, steps, first));
    held = start(steps, segments_.back()) && held;
  }
  if (held) state_ = State::kRecorded;
}

void RepeatedPass::run_recorded(const PassSteps& steps) {
  bool held = true;
  for (const Segment& segment : segments_) held = start(steps, segment) && held;
  // A direct run has just been made: the next one records.
  if (!held) state_ = State::kSeen;
}

bool RepeatedPass::start(const PassSteps& steps, const Segment& segment) {
  if (segment.recording != nullptr) {
    steps.forget();
    if (segment.recording->replay()) return true;
  }
  run_directly(steps, segment.first, segment.end);
  return segment.recording == nullptr;
}

std::size_t RepeatedPass::end_of_run(std::size_t first) const {
  const auto from = direct_.begin() + static_cast<std::ptrdiff_t>(first);
  return static_cast<std::size_t>(std::find(from, direct_.end(), !direct_[first]) -
                                  direct_.begin());
}

RepeatedPass::Segment RepeatedPass::make_segment(Device& device, const PassSteps& steps,
                                                 std::size_t first) {
  Segment segment{first, end_of_run(first), nullptr};
  while (!direct_[first]) {
    std::size_t step = first;
    steps.forget();
    segment.recording = device.record([&] {
      for (; step < segment.end; ++step) steps.run(step, true);
    });
    if (segment.recording != nullptr) return segment;
    steps.forget();
    if (step < segment.end) {
      // This step cannot be recorded; those before it can.
      direct_[step] = true;
      segment.end = std::max(step, first + 1);
    } else {
      // The device refused the whole.
      for (std::size_t i = first; i < segment.end; ++i) direct_[i] = true;
    }
  }
  segment.end = end_of_run(first);
  return segment;
}

}  // namespace fishermask
