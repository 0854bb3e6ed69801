// cuBLASLt, where it is installed: found at run time, never linked.
#pragma once

#include <string>

#include "ops/gemm.h"

namespace fishermask::cuda {

// "cuBLASLt 13.1.0"; empty where the library is absent, too old, or turned off by
// FISHERMASK_CUBLASLT=off. The environment variable may also name the library's file.
[[nodiscard]] std::string cublas_name();

// Whether cuBLASLt took the call. It takes strided batches of one term; sizes or layouts for which
// it offers no algorithm are left to own kernels, as are calls that ask for a tile.
// Errors: OUT_OF_MEMORY for its workspace.
[[nodiscard]] bool multiply_by_cublas(Backend& backend, const GemmCall& call);

}  // namespace fishermask::cuda
