// While it lives, what the calling thread starts (oneDNN's GEMM) runs on that thread alone: inside
// parallel_for, so that a result does not depend on how many threads share the loop.
#pragma once

#include "core/parallel.h"

namespace fishermask {

class OneThread {
 public:
  OneThread() : before_(thread_count()) { set_thread_count(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { set_thread_count(before_); }

 private:
  int before_;
};

}  // namespace fishermask
