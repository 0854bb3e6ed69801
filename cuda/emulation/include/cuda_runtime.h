// The CUDA runtime as the host executes it: what the kernels and their launchers use of it, no
// more. Found instead of NVIDIA's header when the same sources are compiled for the emulation.
// Device memory is the host's, with guard bands; streams are those of emulation/streams.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emulation/block.h"
#include "emulation/streams.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __grid_constant__

// --- vectors
// ---------------------------------------------------------------------------------------

#define FM_EMULATED_VECTORS(type, name)                                                       \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                    \
  struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; }; \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
FM_EMULATED_VECTORS(float, float)
FM_EMULATED_VECTORS(int, int)
FM_EMULATED_VECTORS(unsigned int, uint)
#undef FM_EMULATED_VECTORS
struct alignas(16) double2 {
  double x, y;
};

using dim3 = ::fishermask::emulation::Dim3;
using uint3 = ::fishermask::emulation::Dim3;

#define threadIdx (::fishermask::emulation::self().index)
#define blockIdx (::fishermask::emulation::block().index())
#define blockDim (::fishermask::emulation::block().threads())
#define gridDim (::fishermask::emulation::block().grid())
inline constexpr int warpSize = 32;

// --- threads of a block
// ----------------------------------------------------------------------------

inline void __syncthreads() { ::fishermask::emulation::block().barrier(); }
inline int __syncthreads_or(int value) {
  return ::fishermask::emulation::block().barrier_or(value);
}
inline int __syncthreads_count(int value) {
  return ::fishermask::emulation::block().barrier_count(value);
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return ::fishermask::emulation::shuffle(mask, value, width, "__shfl_sync", [&](int lane) {
    return (lane & ~(width - 1)) | (source & (width - 1));
  });
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  return ::fishermask::emulation::shuffle(mask, value, width, "__shfl_xor_sync",
                                          [&](int lane) { return lane ^ bits; });
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return ::fishermask::emulation::shuffle(mask, value, width, "__shfl_down_sync", [&](int lane) {
    const int from = lane + static_cast<int>(delta);
    return (lane & (width - 1)) + static_cast<int>(delta) < width ? from : lane;
  });
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return ::fishermask::emulation::shuffle(mask, value, width, "__shfl_up_sync", [&](int lane) {
    const int from = lane - static_cast<int>(delta);
    return (lane & (width - 1)) >= static_cast<int>(delta) ? from : lane;
  });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ::fishermask::emulation::ballot(mask, predicate, "__ballot_sync");
}
inline int __any_sync(unsigned mask, int predicate) {
  return ::fishermask::emulation::ballot(mask, predicate, "__any_sync") != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return ::fishermask::emulation::ballot(mask, predicate, "__all_sync") == mask;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFU) {
  (void)::fishermask::emulation::ballot(mask, 1, "__syncwarp");
}

// --- atomics and bits
// ------------------------------------------------------------------------------

template <typename T>
T atomicAdd(T* to, T value) {
  return ::fishermask::emulation::atomic_update(to, [value](T old) { return old + value; });
}
template <typename T>
T atomicMax(T* to, T value) {
  return ::fishermask::emulation::atomic_update(
      to, [value](T old) { return old > value ? old : value; });
}
template <typename T>
T atomicMin(T* to, T value) {
  return ::fishermask::emulation::atomic_update(
      to, [value](T old) { return old < value ? old : value; });
}
template <typename T>
T atomicOr(T* to, T value) {
  return ::fishermask::emulation::atomic_update(to, [value](T old) { return old | value; });
}
template <typename T>
T atomicExch(T* to, T value) {
  return ::fishermask::emulation::atomic_update(to, [value](T) { return value; });
}
template <typename T>
T atomicCAS(T* to, T expected, T value) {
  return ::fishermask::emulation::atomic_update(
      to, [=](T old) { return old == expected ? value : old; });
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32U);
}
inline float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
// Rounded each: the host compiles these without contraction.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
template <typename T>
T __ldg(const T* from) {
  return *from;
}
template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
void __stcs(T* to, T value) {
  *to = value;
}
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }

// --- the host's side
// -------------------------------------------------------------------------------

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorIllegalState = 401,
  cudaErrorUnknown = 999
};
enum cudaMemcpyKind : int {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaFuncAttribute : int { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
using cudaStream_t = struct FmEmulatedStream*;
using cudaEvent_t = struct FmEmulatedEvent*;
using cudaGraph_t = struct FmEmulatedGraph*;
using cudaGraphExec_t = struct FmEmulatedGraphExec*;
using cudaGraphNode_t = struct FmEmulatedGraphNode*;
enum cudaStreamCaptureMode : int { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaStreamCaptureStatus : int {
  cudaStreamCaptureStatusNone,
  cudaStreamCaptureStatusActive,
  cudaStreamCaptureStatusInvalidated
};
struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  std::size_t sharedMemPerBlockOptin;
  int major, minor;
  int multiProcessorCount;
  int l2CacheSize;
};
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDisableTiming = 2;

const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total);
cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
template <typename Function>
cudaError_t cudaFuncSetAttribute(Function* /*kernel*/, cudaFuncAttribute /*attribute*/,
                                 int /*value*/) {
  return cudaSuccess;
}
