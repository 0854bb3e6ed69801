// How somebody else ends a benchmark: a flag that is looked at between two timed pieces.
#pragma once

#include <atomic>

#include "core/error.h"

namespace fishermask::bench {

// The flag of the benchmark that runs on this thread; null: none.
inline thread_local const std::atomic<bool>* stop_flag = nullptr;

class StopScope {
 public:
  explicit StopScope(const std::atomic<bool>* flag) { stop_flag = flag; }
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;
  ~StopScope() { stop_flag = nullptr; }
};

// Errors: ABORTED.
inline void throw_if_stopped() {
  FM_CHECK(stop_flag == nullptr || !stop_flag->load(), ABORTED, "the benchmark was stopped");
}

}  // namespace fishermask::bench
