// CUDA's return codes as errors of fishermask.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string_view>

namespace fishermask::cuda {

// Errors: OUT_OF_MEMORY; NO_DEVICE (no device or driver); DEVICE_LOST for errors after which the
// device cannot be used any more by this process; INTERNAL for the rest. The message names `what`.
void check(cudaError_t status, std::string_view what);

// For destructors: nothing is thrown.
void check_quietly(cudaError_t status) noexcept;

}  // namespace fishermask::cuda

#define FM_CUDA(call) ::fishermask::cuda::check((call), #call)
