// The pieces that the benchmarks' JSON documents share.
#pragma once

#include "benchmarks.h"
#include "ceilings.h"
#include "core/parallel.h"
#include "timing.h"

namespace fishermask::bench {

// What every document says of how it was measured.
[[nodiscard]] inline Json settings_of(const Arguments& arguments, int rounds) {
  return {{"threads", thread_count()},
          {"rounds", rounds},
          {"warmUpRounds", 1},
          {"clock", arguments.string("clock", "wall")}};
}

[[nodiscard]] inline Json describe(const Timed& piece) {
  return {{"milliseconds", piece.median() * 1e3},
          {"bestMilliseconds", piece.best() * 1e3},
          {"spread", piece.spread()}};
}

[[nodiscard]] inline Json describe_ceilings(const Timed& gemm, const Timed& copy) {
  return {{"gemmGflops", Ceilings::gemm_gflops(gemm.median())},
          {"gemmSpread", gemm.spread()},
          {"copyGBps", Ceilings::copy_gb_per_second(copy.median())},
          {"copySpread", copy.spread()},
          {"gemm", gemm.name},
          {"copy", copy.name}};
}

}  // namespace fishermask::bench
