// The engine's thread: all long work of one Node environment runs here, in order, never on libuv's
// pool.
//
// oneDNN keeps an OpenMP team per calling thread, so there is one long-lived thread per
// environment. Jobs hold no JavaScript value on this thread; promises settle on the JavaScript
// thread through a thread-safe function. Pending jobs keep the process alive; an idle engine does
// not.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "napi/napi_setup.h"

namespace fishermask::napi {

class EngineThread {
 public:
  explicit EngineThread(Napi::Env env);
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;
  ~EngineThread();

  // A job: `work` runs on the engine thread and may throw; `settle` runs on the JavaScript thread
  // with what was thrown.
  struct Job {
    std::function<void()> work;
    std::function<void(Napi::Env, const std::exception_ptr&)> settle;
  };
  void post(Napi::Env env, Job job);  // JavaScript thread
  // Drops waiting jobs, finishes the running one and joins. Idempotent.
  void stop() noexcept;

 private:
  struct Done {
    std::function<void(Napi::Env, const std::exception_ptr&)> settle;
    std::exception_ptr failure;
  };
  void loop();
  static void deliver(Napi::Env env, Napi::Function callback, EngineThread* engine, Done* done);
  using Channel = Napi::TypedThreadSafeFunction<EngineThread, Done, &EngineThread::deliver>;

  Channel channel_;
  std::int64_t pending_ = 0;  // JavaScript thread only
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

// Posts work that makes a Result, and returns a promise of convert(env, result).
template <typename Result>
Napi::Promise post_job(Napi::Env env, EngineThread& engine, std::function<Result()> work,
                       std::function<Napi::Value(Napi::Env, Result&)> convert);

}  // namespace fishermask::napi

#include "napi/engine_thread_post.h"
