#include "memory.h"

#include <malloc.h>

#include <fstream>
#include <string>

namespace fishermask::bench {
namespace {

// A line "VmHWM:   123456 kB" of /proc/self/status.
std::optional<std::int64_t> status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != key + ":") continue;
    std::int64_t kibibytes = 0;
    if (status >> kibibytes) return kibibytes * 1024;
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> resident_bytes() { return status_bytes("VmRSS"); }
std::optional<std::int64_t> peak_resident_bytes() { return status_bytes("VmHWM"); }

void trim_memory() { malloc_trim(0); }

bool reset_peak() {
  // proc(5): 5 resets the peak resident set size to the current one.
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return clear.good();
}

std::optional<std::int64_t> peak_during(const std::function<void()>& work) {
  trim_memory();
  const bool known = reset_peak();
  work();
  return known ? peak_resident_bytes() : std::nullopt;
}

}  // namespace fishermask::bench
