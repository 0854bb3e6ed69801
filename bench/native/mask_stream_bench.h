// Masking shards on disk that do not pass through memory as a whole.
#pragma once

#include <string>

#include "benchmarks.h"
#include "mask_bench_data.h"

namespace fishermask::bench {

// Writes shards of weights and both Fishers into `folder`, which must exist, masks them into new
// shards there, beside one pass that reads and writes the same bytes in the same pieces, and
// removes them. Before each timed piece the files are dropped from the system's cache as far as it
// lets. Errors: ARGUMENT, IO.
[[nodiscard]] Json mask_stream_benchmark(const Arguments& arguments,
                                         const MaskBenchSettings& settings,
                                         const std::string& folder);

}  // namespace fishermask::bench
