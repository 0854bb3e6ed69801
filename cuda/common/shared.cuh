// Shared memory of a block, with one way to write it for the device and for the emulation, which
// checks every access (emulation/shared.h).
//
//   FM_SHARED(float, tile, 1024);                          fixed size
//   FM_DYNAMIC_SHARED(float, tile, first_byte, count);     a part of what the launch asked for;
//                                                          first_byte a multiple of 16
//   tile[i] = x;  x = tile[i];  tile[i] += x;              one element
//   load4(tile, i), store4(tile, i, float4)                16 bytes; i a multiple of 4
//   atomic_add(tile, i, x)                                 returns the old value
//
// A SharedArray is passed to device functions by value.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifdef FM_EMULATION
#include "emulation/shared.h"
#endif

namespace fishermask::cuda {

#ifndef FM_EMULATION

template <typename T>
struct SharedArray {
  T* memory;
  __device__ __forceinline__ T& operator[](int i) const { return memory[i]; }
  __device__ __forceinline__ SharedArray from(int first) const { return {memory + first}; }
};

#define FM_SHARED(type, name, count)                  \
  __shared__ __align__(16) type name##_memory[count]; \
  const ::fishermask::cuda::SharedArray<type> name { name##_memory }

#define FM_DYNAMIC_SHARED(type, name, first_byte, count)              \
  extern __shared__ __align__(128) unsigned char fm_dynamic_shared[]; \
  const ::fishermask::cuda::SharedArray<type> name {                  \
    reinterpret_cast<type*>(fm_dynamic_shared + (first_byte))         \
  }

template <typename T>
__device__ __forceinline__ T atomic_add(SharedArray<T> array, int i, T value) {
  return atomicAdd(array.memory + i, value);
}
__device__ __forceinline__ float4 load4(SharedArray<float> array, int i) {
  return *reinterpret_cast<const float4*>(array.memory + i);
}
__device__ __forceinline__ void store4(SharedArray<float> array, int i, float4 value) {
  *reinterpret_cast<float4*>(array.memory + i) = value;
}

#else

template <typename T>
struct SharedArray {
  ::fishermask::emulation::SharedMemory<T>* memory;
  std::int64_t first = 0;

  class Reference {
   public:
    Reference(const SharedArray& array, std::int64_t i) : array_(array), i_(array.first + i) {}
    operator T() const { return array_.memory->read(i_); }
    const Reference& operator=(const T& value) const {
      array_.memory->write(i_, value);
      return *this;
    }
    const Reference& operator=(const Reference& other) const { return *this = T(other); }
    const Reference& operator+=(const T& value) const { return *this = T(*this) + value; }
    const Reference& operator-=(const T& value) const { return *this = T(*this) - value; }
    const Reference& operator*=(const T& value) const { return *this = T(*this) * value; }

   private:
    SharedArray array_;
    std::int64_t i_;
  };
  Reference operator[](std::int64_t i) const { return {*this, i}; }
  SharedArray from(std::int64_t offset) const { return {memory, first + offset}; }
};

#define FM_SHARED(type, name, count)                                             \
  static thread_local ::fishermask::emulation::SharedMemory<type> name##_memory; \
  name##_memory.enter(count, #name, nullptr);                                    \
  const ::fishermask::cuda::SharedArray<type> name{&name##_memory, 0}

#define FM_DYNAMIC_SHARED(type, name, first_byte, count)                                 \
  static thread_local ::fishermask::emulation::SharedMemory<type> name##_memory;         \
  name##_memory.enter(count, #name,                                                      \
                      ::fishermask::cuda::dynamic_part<type>(first_byte, count, #name)); \
  const ::fishermask::cuda::SharedArray<type> name{&name##_memory, 0}

template <typename T>
T* dynamic_part(std::int64_t first_byte, std::int64_t count, const char* name) {
  ::fishermask::emulation::Block& block = ::fishermask::emulation::block();
  if (first_byte % 16 != 0 || first_byte < 0 ||
      first_byte + count * static_cast<std::int64_t>(sizeof(T)) >
          static_cast<std::int64_t>(block.dynamic_bytes())) {
    throw ::fishermask::emulation::EmulationError(
        block.where() + ": shared '" + name + "' of " + std::to_string(count) +
        " elements at byte " + std::to_string(first_byte) + " does not fit the launch's " +
        std::to_string(block.dynamic_bytes()) + " bytes, or is misaligned");
  }
  return reinterpret_cast<T*>(block.dynamic_shared() + first_byte);
}

template <typename T>
T atomic_add(SharedArray<T> array, std::int64_t i, T value) {
  return array.memory->atomic(array.first + i, [value](T old) { return old + value; });
}
inline void check_aligned4(SharedArray<float> array, std::int64_t i) {
  if ((array.first + i) % 4 != 0) array.memory->fail(array.first + i, "is misaligned for 16 bytes");
}
inline float4 load4(SharedArray<float> array, std::int64_t i) {
  check_aligned4(array, i);
  return {array[i], array[i + 1], array[i + 2], array[i + 3]};
}
inline void store4(SharedArray<float> array, std::int64_t i, float4 value) {
  check_aligned4(array, i);
  array[i] = value.x;
  array[i + 1] = value.y;
  array[i + 2] = value.z;
  array[i + 3] = value.w;
}

#endif

}  // namespace fishermask::cuda
