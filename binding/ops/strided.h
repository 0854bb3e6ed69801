// Runs a StridedMap on the CPU. Axes that lie together in both layouts are walked as one; where the
// two disagree on which axis is contiguous, the walk goes in tiles that use every cache line whole.
// Deterministic: yes, every element of `to` is written once.
#pragma once

#include <cstdint>

#include "core/strided_map.h"

namespace fishermask {

// Writes, or adds, `batch` samples. The rest of `to` stays as it is.
template <typename T>
void copy_strided(const StridedMap& map, std::int64_t batch, const T* from, T* to, bool add);

}  // namespace fishermask
