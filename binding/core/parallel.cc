#include "core/parallel.h"

#include <omp.h>

#include <algorithm>
#include <exception>
#include <mutex>

namespace fishermask {
namespace {

// OpenMP regions may not leak exceptions: the first one is kept and rethrown outside.
class FirstException {
 public:
  template <typename Body>
  void guard(const Body& body) noexcept {
    try {
      body();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (first_ == nullptr) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_ != nullptr) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

}  // namespace

void set_thread_count(int threads) { omp_set_num_threads(std::max(threads, 1)); }
int thread_count() noexcept { return omp_get_max_threads(); }

void parallel_for(std::int64_t count, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (count <= 0) return;
  const std::int64_t most =
      (count + std::max<std::int64_t>(grain, 1) - 1) / std::max<std::int64_t>(grain, 1);
  const int threads = static_cast<int>(std::min<std::int64_t>(most, thread_count()));
  if (threads <= 1) {
    body(0, count);
    return;
  }
  FirstException failure;
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t part = omp_get_thread_num();
    const std::int64_t parts = omp_get_num_threads();
    const std::int64_t begin = count * part / parts;
    const std::int64_t end = count * (part + 1) / parts;
    if (begin < end) failure.guard([&] { body(begin, end); });
  }
  failure.rethrow();
}

void parallel_items(std::int64_t count, const std::function<void(std::int64_t)>& body) {
  const int threads = static_cast<int>(std::min<std::int64_t>(count, thread_count()));
  if (threads <= 1) {
    for (std::int64_t item = 0; item < count; ++item) body(item);
    return;
  }
  FirstException failure;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t item = 0; item < count; ++item) {
    failure.guard([&] { body(item); });
  }
  failure.rethrow();
}

}  // namespace fishermask
