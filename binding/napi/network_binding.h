// The Network, Trainer and FisherPass classes as JavaScript sees them (src/native/addon.ts has
// their types).
#pragma once

#include <memory>

#include "fisher/fisher_pass.h"
#include "graph/network.h"
#include "napi/instance.h"
#include "optim/trainer.h"

namespace fishermask::napi {

// A network and how it runs. Shared with the jobs in flight, so that a garbage-collected handle
// cannot end them.
struct NetworkState {
  std::unique_ptr<Network> network;
  int threads = 1;
};

class NetworkBinding : public Napi::ObjectWrap<NetworkBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit NetworkBinding(const Napi::CallbackInfo& info);
  [[nodiscard]] const std::shared_ptr<NetworkState>& state() const;  // Errors: DISPOSED
  // The binding behind a JavaScript handle. Errors: ARGUMENT when it is something else.
  static NetworkBinding& from(const Napi::Value& value);

 private:
  Napi::Value set_parameters(const Napi::CallbackInfo& info);
  Napi::Value get_parameters(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value vjp(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  std::shared_ptr<NetworkState> state_;
};

class TrainerBinding : public Napi::ObjectWrap<TrainerBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit TrainerBinding(const Napi::CallbackInfo& info);

 private:
  Napi::Value hold(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info);
  std::shared_ptr<NetworkState> state_;
  std::shared_ptr<Trainer> trainer_;
};

class FisherPassBinding : public Napi::ObjectWrap<FisherPassBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit FisherPassBinding(const Napi::CallbackInfo& info);

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value finish(const Napi::CallbackInfo& info);
  std::shared_ptr<NetworkState> state_;
  std::shared_ptr<FisherPass> pass_;
};

}  // namespace fishermask::napi
