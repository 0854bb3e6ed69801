// The addon's entry: what one Node environment gets.
#include <thread>

#include "core/error.h"
#include "graph/op.h"
#include "mask/score_program.h"
#include "napi/bench_binding.h"
#include "napi/device_binding.h"
#include "napi/mask_binding.h"
#include "napi/network_binding.h"
#include "napi/top_k_binding.h"
#include "ops/onednn.h"

namespace fishermask::napi {
namespace {

Napi::Value build_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  const dnnl_version_t* version = dnnl_version();
  out.Set("oneDNN", text(version->major, ".", version->minor, ".", version->patch));
  out.Set("compiler", std::string("g++ " __VERSION__));
  out.Set("hardwareThreads", static_cast<double>(std::thread::hardware_concurrency()));
  return out;
}

Napi::Value error_codes(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (int i = 0; i < error_code_count(); ++i) {
    out.Set(static_cast<std::uint32_t>(i), std::string(error_code_name(static_cast<ErrorCode>(i))));
  }
  return out;
}

Napi::Value score_ops(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (int i = 0; i < kScoreOpCount; ++i) {
    out.Set(static_cast<std::uint32_t>(i), std::string(score_op_name(score_op_from_number(i))));
  }
  return out;
}

Napi::Value registered_ops(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  std::uint32_t index = 0;
  for (const std::string& name : op_names()) out.Set(index++, name);
  return out;
}

// process.exit() runs no cleanup hook: without this the engine would go on while oneDNN's static
// objects are destroyed below it.
void stop_engine_on_exit(Napi::Env env) {
  const auto process = env.Global().Get("process").As<Napi::Object>();
  const auto stop = Napi::Function::New(
      env, [](const Napi::CallbackInfo& info) { instance_of(info.Env()).engine->stop(); });
  process.Get("once").As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), stop});
}

}  // namespace

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto instance = std::make_unique<Instance>();
  instance->engine = std::make_unique<EngineThread>(env);
  instance->network = Napi::Persistent(NetworkBinding::define(env));
  instance->trainer = Napi::Persistent(TrainerBinding::define(env));
  instance->fisher_pass = Napi::Persistent(FisherPassBinding::define(env));
  exports.Set("Network", instance->network.Value());
  exports.Set("Trainer", instance->trainer.Value());
  exports.Set("FisherPass", instance->fisher_pass.Value());
  exports.Set("buildInfo", Napi::Function::New(env, build_info, "buildInfo"));
  exports.Set("errorCodes", Napi::Function::New(env, error_codes, "errorCodes"));
  exports.Set("scoreOps", Napi::Function::New(env, score_ops, "scoreOps"));
  exports.Set("ops", Napi::Function::New(env, registered_ops, "ops"));
  define_mask_functions(env, exports);
  define_top_k_functions(env, exports);
  define_bench_functions(env, exports);
  define_device_functions(env, exports);
  // The thread must be gone before Node frees what it would deliver to.
  env.AddCleanupHook([engine = instance->engine.get()] { engine->stop(); });
  env.SetInstanceData(instance.release());  // Node deletes it when the environment ends
  stop_engine_on_exit(env);
  return exports;
}

}  // namespace fishermask::napi

// The macro pastes the name into another one, so it must be a plain identifier.
static Napi::Object fishermask_init(Napi::Env env, Napi::Object exports) {
  return fishermask::napi::init(env, exports);
}
NODE_API_MODULE(fishermask, fishermask_init)
