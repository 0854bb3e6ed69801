// Times of interleaved work: every round runs each piece once, so that a neighbour's load meets all
// of them alike.
#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "arguments.h"

namespace fishermask::bench {

struct Timed {
  std::string name;
  std::function<void()> work;
  std::vector<double> seconds = {};  // one per round, sorted by run_rounds

  [[nodiscard]] double best() const { return seconds.front(); }
  [[nodiscard]] double median() const { return seconds[seconds.size() / 2]; }
  // (third quartile − first quartile) / median
  [[nodiscard]] double spread() const {
    const std::size_t quarter = seconds.size() / 4;
    return (seconds[seconds.size() - 1 - quarter] - seconds[quarter]) / median();
  }
};

// kProcessor: the processor time of the whole process. With one thread it leaves out what other
// programs take, so that a busy machine can still be measured; with several it counts their waiting
// for each other as work.
enum class Clock { kWall, kProcessor };

// --clock wall|cpu. Errors: ARGUMENT.
[[nodiscard]] inline Clock clock_of(const Arguments& arguments) {
  const std::string name = arguments.string("clock", "wall");
  FM_CHECK(name == "wall" || name == "cpu", ARGUMENT,
           "expected wall or cpu for --clock but received ", name);
  return name == "wall" ? Clock::kWall : Clock::kProcessor;
}

[[nodiscard]] inline double now(Clock clock) {
  if (clock == Clock::kProcessor) {
    return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[nodiscard]] inline double seconds_of(const std::function<void()>& work, Clock clock) {
  const double start = now(clock);
  work();
  return now(clock) - start;
}

// One warm-up of each, then `rounds` rounds.
inline void run_rounds(std::vector<Timed>& pieces, int rounds, Clock clock) {
  for (Timed& piece : pieces) piece.work();
  for (int round = 0; round < rounds; ++round) {
    for (Timed& piece : pieces) piece.seconds.push_back(seconds_of(piece.work, clock));
  }
  for (Timed& piece : pieces) std::sort(piece.seconds.begin(), piece.seconds.end());
}

}  // namespace fishermask::bench
