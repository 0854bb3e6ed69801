// One optimiser step over all parameters in one launch; binding/optim/optimizer.cc has the maths.
// Shapes:     every parameter, its gradient and its state (count,) f32.
// A table of the parameters lies in scratch; a block takes one chunk of one parameter and finds it
// by bisection of the parameters' first chunks.
// Precision:  every operation is rounded by itself: the CPU's bits where its compiler joins none.
// Deterministic: yes. Bound by memory: SGD reads two or three values and writes one or two, AdamW
// reads four and writes three.
#include <vector>

#include "common/launch.cuh"
#include "common/parts.h"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU: 16 values a thread hide the bisection, and small parameters (biases) waste
// no more than a block each.
constexpr int kThreads = 256;
constexpr std::int64_t kChunk = 16 * kThreads;

struct Entry {
  DeviceOptimized parameter;
  std::int64_t first_chunk;
};

struct SgdUpdate {
  DeviceSgd step;
  __device__ __forceinline__ void operator()(const DeviceOptimized& p, std::int64_t i) const {
    const float value = p.value[i];
    float g = __fadd_rn(p.gradient[i], __fmul_rn(step.decay, value));
    if (p.first != nullptr) {
      // As in PyTorch, the first step takes the gradient whole, without dampening.
      const float buffer = step.first_step ? g
                                           : __fadd_rn(__fmul_rn(step.momentum, p.first[i]),
                                                       __fmul_rn(step.keep, g));
      p.first[i] = buffer;
      g = step.nesterov ? __fadd_rn(g, __fmul_rn(step.momentum, buffer)) : buffer;
    }
    p.value[i] = __fsub_rn(value, __fmul_rn(step.rate, g));
  }
};

struct AdamWUpdate {
  DeviceAdamW step;
  __device__ __forceinline__ void operator()(const DeviceOptimized& p, std::int64_t i) const {
    const float g = p.gradient[i];
    const float first = __fadd_rn(__fmul_rn(step.beta1, p.first[i]), __fmul_rn(step.rest1, g));
    const float second =
        __fadd_rn(__fmul_rn(step.beta2, p.second[i]), __fmul_rn(__fmul_rn(step.rest2, g), g));
    p.first[i] = first;
    p.second[i] = second;
    const float root =
        __fadd_rn(__fdiv_rn(__fsqrt_rn(second), step.root_correction2), step.epsilon);
    p.value[i] =
        __fsub_rn(__fmul_rn(p.value[i], step.shrink), __fdiv_rn(__fmul_rn(step.rate, first), root));
  }
};

// The last entry that begins at this chunk or before it: one without elements is passed over.
__device__ __forceinline__ Entry entry_of(const Entry* entries, int count, std::int64_t chunk) {
  int low = 0;
  int high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (entries[middle].first_chunk <= chunk) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return entries[low];
}

template <typename Update>
__global__ void __launch_bounds__(kThreads)
    update_parameters(const Entry* entries, int count, std::int64_t chunks, Update update) {
  for (std::int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const Entry entry = entry_of(entries, count, chunk);
    const std::int64_t begin = (chunk - entry.first_chunk) * kChunk;
    const std::int64_t left = entry.parameter.count - begin;
    const std::int64_t end = begin + (left < kChunk ? left : kChunk);
    for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) update(entry.parameter, i);
  }
}

template <typename Update>
void update_all(Backend& backend, const char* name, const Update& update,
                std::span<const DeviceOptimized> parameters) {
  std::vector<Entry> entries;
  std::int64_t chunks = 0;
  for (const DeviceOptimized& parameter : parameters) {
    entries.push_back({parameter, chunks});
    chunks += (parameter.count + kChunk - 1) / kChunk;
  }
  if (chunks == 0) return;
  const auto bytes = static_cast<std::int64_t>(entries.size() * sizeof(Entry));
  auto* const table = reinterpret_cast<Entry*>(backend.scratch(bytes));
  backend.from_host(table, entries.data(), bytes);
  launch(name, backend.stream(), over(chunks * kThreads, kThreads), update_parameters<Update>,
         table, static_cast<int>(entries.size()), chunks, update);
}

}  // namespace

void sgd_step(Backend& backend, const DeviceSgd& step,
              std::span<const DeviceOptimized> parameters) {
  update_all(backend, "sgd_step", SgdUpdate{step}, parameters);
}

void adamw_step(Backend& backend, const DeviceAdamW& step,
                std::span<const DeviceOptimized> parameters) {
  update_all(backend, "adamw_step", AdamWUpdate{step}, parameters);
}

}  // namespace fishermask::cuda
