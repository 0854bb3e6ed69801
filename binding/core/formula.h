// Functions of numbers alone that the CPU's kernels and the CUDA backend's share: nvcc compiles
// them for both sides, every other compiler for its own.
//   FM_BOTH_SIDES  in front of a function
//   FM_FORMULA     in front of a function that must be inlined, as FM_INLINE_IN_CLONES
#pragma once

#include "core/vector_clones.h"

#ifdef __CUDACC__
#define FM_BOTH_SIDES __host__ __device__
#define FM_FORMULA __host__ __device__ __forceinline__
#else
#define FM_BOTH_SIDES
#define FM_FORMULA FM_INLINE_IN_CLONES
#endif
