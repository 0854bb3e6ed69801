// parallel_for over the OpenMP team of the calling thread. oneDNN uses the same team, so the two
// never compete for cores; call only from a long-lived engine thread (each calling thread grows its
// own team).
#pragma once

#include <cstdint>
#include <functional>

namespace fishermask {

// Threads that the calling thread's team uses from now on; at least 1.
void set_thread_count(int threads);
[[nodiscard]] int thread_count() noexcept;

// Calls body(begin, end) on disjoint ranges that cover [0, count). A range holds at least `grain`
// items (but the last). The split depends on the thread count: a result must not depend on the
// split. An exception thrown by body is rethrown on the calling thread.
void parallel_for(std::int64_t count, std::int64_t grain,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body);

// Calls body(i) for i in [0, count), each item taken by the next free thread: for uneven items.
void parallel_items(std::int64_t count, const std::function<void(std::int64_t item)>& body);

}  // namespace fishermask
