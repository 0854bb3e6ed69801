#include "napi/engine_thread.h"

namespace fishermask::napi {

EngineThread::EngineThread(Napi::Env env)
    : channel_(Channel::New(env, "fishermask engine", 0, 1, this)) {
  channel_.Unref(env);
  thread_ = std::thread([this] { loop(); });
}

EngineThread::~EngineThread() { stop(); }

void EngineThread::post(Napi::Env env, Job job) {
  if (pending_++ == 0) channel_.Ref(env);
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void EngineThread::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  // What the engine had posted and Node has not delivered yet is freed by Node's own finalisation
  // of the channel.
  channel_.Abort();
}

void EngineThread::loop() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    auto done = std::make_unique<Done>();
    done->settle = std::move(job.settle);
    try {
      job.work();
    } catch (...) {
      done->failure = std::current_exception();
    }
    job.work = nullptr;
    // Never blocks: the queue is unlimited. After an abort the call fails and the result is
    // dropped.
    if (channel_.NonBlockingCall(done.get()) == napi_ok) (void)done.release();
  }
}

void EngineThread::deliver(Napi::Env env, Napi::Function /*callback*/, EngineThread* engine,
                           Done* raw) {
  const std::unique_ptr<Done> done(raw);
  if (env == nullptr) return;
  // A terminated worker still delivers while it closes, when no JavaScript can run: settling throws
  // then, and what leaves this function would end the process.
  try {
    const Napi::HandleScope scope(env);
    if (--engine->pending_ == 0) engine->channel_.Unref(env);
    done->settle(env, done->failure);
  } catch (const Napi::Error&) {
    return;
  }
}

}  // namespace fishermask::napi
