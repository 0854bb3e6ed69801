// The benchmarks for JavaScript (src/native/addon.ts has the types).
#pragma once

#include "napi/instance.h"

namespace fishermask::napi {

void define_bench_functions(Napi::Env env, Napi::Object exports);

}  // namespace fishermask::napi
