// Bitonic sort of (row, position) keys: tiles of kTile keys in shared memory, wider exchanges in
// global memory. log²(count) passes, but of 8 bytes a position, where the gradients that follow
// are 4 · channels bytes. Source: Batcher, Sorting networks and their applications, 1968.
#include <algorithm>
#include <bit>

#include "common/launch.cuh"
#include "common/shared.cuh"
#include "fisher/sorted_ids.h"

namespace fishermask::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 1024;

// found: the largest id.
__global__ void make_keys(const std::int32_t* ids, std::int64_t count, std::int64_t padded,
                          IdKey* keys, int* largest) {
  int own = -1;
  for (std::int64_t i = first_item(); i < padded; i += item_step()) {
    const std::int32_t id = i < count ? ids[i] : -1;
    own = own > id ? own : id;
    keys[i] = id < 0 ? kNoRow : static_cast<IdKey>(id) << 32U | static_cast<IdKey>(i);
  }
  atomicMax(largest, own);
}

// The pairs of distance `step` inside sequences that alternate in direction every `run` keys.
__global__ void exchange_far(IdKey* keys, std::int64_t pairs, std::int64_t run, std::int64_t step) {
  for (std::int64_t pair = first_item(); pair < pairs; pair += item_step()) {
    const std::int64_t low = pair / step * (2 * step) + pair % step;
    const IdKey a = keys[low];
    const IdKey b = keys[low + step];
    const bool ascending = (low & run) == 0;
    if ((a > b) == ascending) {
      keys[low] = b;
      keys[low + step] = a;
    }
  }
}

// The steps below kTile of the runs first_run, 2 · first_run, …, last_run.
__global__ void __launch_bounds__(kThreads)
    exchange_near(IdKey* keys, std::int64_t first_run, std::int64_t last_run) {
  FM_SHARED(IdKey, tile, kTile);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * kTile;
  for (int i = thread; i < kTile; i += kThreads) tile[i] = keys[base + i];
  __syncthreads();
  for (std::int64_t run = first_run; run <= last_run; run *= 2) {
    for (int step = static_cast<int>(run / 2 < kTile / 2 ? run / 2 : kTile / 2); step > 0;
         step /= 2) {
      for (int pair = thread; pair < kTile / 2; pair += kThreads) {
        const int low = pair / step * (2 * step) + pair % step;
        const IdKey a = tile[low];
        const IdKey b = tile[low + step];
        const bool ascending = ((base + low) & run) == 0;
        if ((a > b) == ascending) {
          tile[low] = b;
          tile[low + step] = a;
        }
      }
      __syncthreads();
    }
  }
  for (int i = thread; i < kTile; i += kThreads) keys[base + i] = tile[i];
}

}  // namespace

SortedIds sort_ids(Backend& backend, const ScatterForm& form) {
  SortedIds sorted;
  sorted.count = form.batch * form.positions;
  if (sorted.count == 0) return sorted;
  FM_CHECK(sorted.count < std::int64_t{1} << 31U, UNSUPPORTED, "squares of an embedding over ",
           sorted.count, " positions are beyond the CUDA backend");
  const auto padded = std::max<std::int64_t>(
      kTile, static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(sorted.count))));
  sorted.keys = Buffer<IdKey>(backend, padded, "the order of an embedding's positions");
  IdKey* const keys = sorted.keys.data();
  auto* const largest = reinterpret_cast<int*>(backend.scratch(sizeof(int)));
  FM_CUDA(cudaMemsetAsync(largest, 0, sizeof(int), backend.stream()));
  launch("make_keys", backend.stream(), over(padded), make_keys, form.ids, sorted.count, padded,
         keys, largest);
  int met = 0;
  backend.to_host(&met, largest, sizeof met);
  FM_CHECK(met < form.rows, INTERNAL, "a scatter of squares met id ", met, " for ", form.rows,
           " rows");

  const LaunchShape tiles = {dim3(static_cast<unsigned>(padded / kTile)), dim3(kThreads)};
  launch("exchange_near", backend.stream(), tiles, exchange_near, keys, 2, kTile);
  for (std::int64_t run = 2 * kTile; run <= padded; run *= 2) {
    for (std::int64_t step = run / 2; step >= kTile; step /= 2) {
      launch("exchange_far", backend.stream(), over(padded / 2), exchange_far, keys, padded / 2,
             run, step);
    }
    launch("exchange_near", backend.stream(), tiles, exchange_near, keys, run, run);
  }
  return sorted;
}

}  // namespace fishermask::cuda
