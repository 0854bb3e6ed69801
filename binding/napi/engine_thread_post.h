// post_job: the template half of engine_thread.h.
#pragma once

#include <optional>

#include "napi/errors.h"

namespace fishermask::napi {

template <typename Result>
Napi::Promise post_job(Napi::Env env, EngineThread& engine, std::function<Result()> work,
                       std::function<Napi::Value(Napi::Env, Result&)> convert) {
  const auto deferred =
      std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  const auto result = std::make_shared<std::optional<Result>>();
  engine.post(env, {[work = std::move(work), result] { result->emplace(work()); },
                    [deferred, result, convert = std::move(convert)](
                        Napi::Env js, const std::exception_ptr& failure) {
                      if (failure != nullptr) {
                        deferred->Reject(to_js_error(js, failure).Value());
                        return;
                      }
                      try {
                        deferred->Resolve(convert(js, **result));
                      } catch (const Napi::Error& e) {
                        deferred->Reject(e.Value());
                      } catch (...) {
                        deferred->Reject(to_js_error(js, std::current_exception()).Value());
                      }
                    }});
  return deferred->Promise();
}

}  // namespace fishermask::napi
