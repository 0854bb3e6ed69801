// A node's random stream of one step. It is another one at every step, so that a launch with the
// key among its arguments must not be recorded and replayed: the executor seals the key while it
// records, and whoever draws is thereby found out and run directly.
#pragma once

#include <cstdint>

#include "core/recording.h"
#include "core/rng.h"

namespace fishermask {

struct StepRng {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  bool sealed = false;

  // Errors: Unrecordable while sealed. Kernels read the key through this alone.
  operator PhiloxKey() const {
    if (sealed) throw Unrecordable("random numbers are drawn anew at every step");
    return {seed, stream};
  }
};

}  // namespace fishermask
