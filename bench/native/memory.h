// The memory of this process as Linux counts it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace fishermask::bench {

// Bytes in memory now (VmRSS). Null where the system does not say.
[[nodiscard]] std::optional<std::int64_t> resident_bytes();
// The most since the process began, or since the last reset_peak() (VmHWM).
[[nodiscard]] std::optional<std::int64_t> peak_resident_bytes();
// Gives freed memory back to the system, so that it does not count for what comes next.
void trim_memory();
// Sets the peak to what is resident now. False where the system refuses.
[[nodiscard]] bool reset_peak();
// The peak while `work` ran, everything that the process holds besides included. Null where the
// system does not say.
[[nodiscard]] std::optional<std::int64_t> peak_during(const std::function<void()>& work);

}  // namespace fishermask::bench
