// What one Node environment (main thread or worker) owns of fishermask: no global state.
#pragma once

#include <memory>

#include "napi/engine_thread.h"

namespace fishermask::napi {

struct Instance {
  std::unique_ptr<EngineThread> engine;
  Napi::FunctionReference network;
  Napi::FunctionReference trainer;
  Napi::FunctionReference fisher_pass;
};

[[nodiscard]] inline Instance& instance_of(Napi::Env env) {
  return *env.GetInstanceData<Instance>();
}

}  // namespace fishermask::napi
