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
#include "stop.h"

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
  const std::string name = arguments.choice("clock", "wall", {"wall", "cpu"});
  return name == "wall" ? Clock::kWall : Clock::kProcessor;
}

// --rounds. Errors: ARGUMENT.
[[nodiscard]] inline int rounds_of(const Arguments& arguments, int fallback) {
  return static_cast<int>(arguments.count("rounds", fallback));
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

// One warm-up of each, then `rounds` rounds. Returns each piece's seconds in the order of the
// rounds. Errors: ABORTED (stop.h), and those of the work.
inline std::vector<std::vector<double>> run_rounds(std::vector<Timed>& pieces, int rounds,
                                                   Clock clock) {
  for (Timed& piece : pieces) {
    throw_if_stopped();
    piece.work();
  }
  for (int round = 0; round < rounds; ++round) {
    for (Timed& piece : pieces) {
      throw_if_stopped();
      piece.seconds.push_back(seconds_of(piece.work, clock));
    }
  }
  std::vector<std::vector<double>> by_round;
  for (Timed& piece : pieces) {
    by_round.push_back(piece.seconds);
    std::sort(piece.seconds.begin(), piece.seconds.end());
  }
  return by_round;
}

}  // namespace fishermask::bench
