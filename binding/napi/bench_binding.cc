#include "napi/bench_binding.h"

#include <atomic>
#include <map>

#include "bench/native/benchmarks.h"
#include "napi/arguments.h"

namespace fishermask::napi {
namespace {

using StopFlag = std::shared_ptr<std::atomic<bool>>;

std::map<std::string, std::string> option_values(const Napi::Value& value) {
  std::map<std::string, std::string> options;
  for (const auto& [name, option] : entries(value, "the benchmark's options")) {
    options.emplace(name, string_value(option, name.c_str()));
  }
  return options;
}

// benchmark(name, {option: text}) -> Promise<string>, a JSON document. Runs on the engine thread.
Napi::Value benchmark(const Napi::CallbackInfo& info, const StopFlag& stop) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string name = string_value(info[0], "the benchmark");
    const bench::Arguments arguments(option_values(info[1]));
    stop->store(false);
    return post_job<std::string>(
        info.Env(), *instance_of(info.Env()).engine,
        [name, arguments, stop] {
          return bench::run_benchmark(name, arguments, stop.get()).dump();
        },
        [](Napi::Env env, std::string& document) -> Napi::Value {
          return Napi::String::New(env, document);
        });
  });
}

}  // namespace

void define_bench_functions(Napi::Env env, Napi::Object exports) {
  const StopFlag stop = std::make_shared<std::atomic<bool>>(false);
  exports.Set("benchmark", Napi::Function::New(
                               env,
                               [stop](const Napi::CallbackInfo& info) -> Napi::Value {
                                 return benchmark(info, stop);
                               },
                               "benchmark"));
  // Ends the running benchmark before its next timed piece: its promise is rejected with ABORTED.
  exports.Set(
      "stopBenchmark",
      Napi::Function::New(
          env, [stop](const Napi::CallbackInfo& /*info*/) { stop->store(true); }, "stopBenchmark"));
}

}  // namespace fishermask::napi
