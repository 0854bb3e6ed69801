// Times of work on a device by the host's clock: the device is waited for before and after a run of
// repeats, so that what is measured is the device's rate and not a launch.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

#include "core/device.h"

namespace fishermask::cuda_bench {

struct TimingPlan {
  int rounds = 7;
  double round_seconds = 0.05;  // repeats of the work fill it; 0: one repeat a round
  int most_repeats = 1000;
};

struct Timing {
  std::vector<double> seconds;  // of one repeat, one per round, ascending
  int repeats = 1;

  [[nodiscard]] double best() const { return seconds.front(); }
  [[nodiscard]] double median() const { return seconds[seconds.size() / 2]; }
  // (third quartile − first quartile) / median
  [[nodiscard]] double spread() const {
    const std::size_t quarter = seconds.size() / 4;
    return (seconds[seconds.size() - 1 - quarter] - seconds[quarter]) / median();
  }
};

// Seconds of `repeats` times the work, the device idle before and after.
[[nodiscard]] inline double seconds_of(Device& device, const std::function<void()>& work,
                                       int repeats = 1) {
  device.synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) work();
  device.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// One run that loads kernels and takes memory, one that says how many repeats fill a round, then
// the rounds. `prepare` runs untimed before each round; with it, a round is one repeat.
[[nodiscard]] inline Timing time_work(Device& device, const TimingPlan& plan,
                                      const std::function<void()>& work,
                                      const std::function<void()>& prepare = {}) {
  Timing timing;
  if (prepare) prepare();
  work();
  if (!prepare && plan.round_seconds > 0) {
    const double wanted = plan.round_seconds / std::max(seconds_of(device, work), 1e-7);
    timing.repeats = std::clamp(static_cast<int>(std::min(wanted, 1e6)), 1, plan.most_repeats);
  }
  for (int round = 0; round < plan.rounds; ++round) {
    if (prepare) prepare();
    timing.seconds.push_back(seconds_of(device, work, timing.repeats) / timing.repeats);
  }
  std::sort(timing.seconds.begin(), timing.seconds.end());
  return timing;
}

}  // namespace fishermask::cuda_bench
