// Masking the top share in one pass, in memory and on disk, for JavaScript (src/native/addon.ts has
// the types).
#pragma once

#include "napi/instance.h"

namespace fishermask::napi {

void define_top_k_functions(Napi::Env env, Napi::Object exports);

}  // namespace fishermask::napi
