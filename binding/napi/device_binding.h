// Devices for JavaScript: what CUDA devices there are, and an opened one as an opaque handle.
#pragma once

#include <napi.h>

#include <memory>

#include "core/device.h"

namespace fishermask::napi {

// The device of a handle that openCudaDevice gave; null for undefined. Errors: ARGUMENT.
[[nodiscard]] std::shared_ptr<Device> device_value(const Napi::Value& value);

void define_device_functions(Napi::Env env, Napi::Object exports);

}  // namespace fishermask::napi
