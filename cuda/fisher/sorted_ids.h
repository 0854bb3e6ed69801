// The positions of a batch by the embedding row that they hold.
#pragma once

#include "common/backend.h"

namespace fishermask::cuda {

// One position: the row above, its number n · positions + p below. As keys ascend, so do rows, and
// the samples and positions of one row.
using IdKey = unsigned long long;
inline constexpr IdKey kNoRow = ~IdKey{0};  // padding: behind everything

struct SortedIds {
  Buffer<IdKey> keys;      // on the device; sorted
  std::int64_t count = 0;  // of positions; keys may be longer
};

// Workspace: 8 bytes per position, rounded up to a power of two. Sync: waits for the device once,
// for the check of the ids. Deterministic: yes; keys are distinct.
// Errors: INTERNAL for an id of `rows` or more; UNSUPPORTED for 2^31 positions and more.
[[nodiscard]] SortedIds sort_ids(Backend& backend, const ScatterForm& form);

}  // namespace fishermask::cuda
