// Recordings of the device's stream as CUDA graphs.
//
// What holds a recording together: its launches' arguments are those of the time when it was made.
// The caller answers for the pointers that he gave; the device's own memory, scratch, is the
// recorder's matter: whoever moves it calls outdate(), and recordings from before are refused.
//
// A capture must not meet a call that CUDA refuses within one (it would be lost, and the error
// would look like any other). So whatever cannot be recorded asks refuse() first, which throws
// while a recording is made and else does nothing.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/recording.h"

namespace fishermask::cuda {

struct GraphCloser {
  void operator()(cudaGraph_t graph) const noexcept;
};
struct GraphExecCloser {
  void operator()(cudaGraphExec_t graph) const noexcept;
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphCloser>;
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphExecCloser>;

class Recorder {
 public:
  // FISHERMASK_CUDA_GRAPHS=off turns recordings off.
  explicit Recorder(cudaStream_t stream);
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  [[nodiscard]] bool on() const noexcept { return on_; }
  // Errors: Unrecordable naming `what`, while a recording is made.
  void refuse(std::string_view what) const;
  // As Device::record.
  [[nodiscard]] std::unique_ptr<Recording> record(const std::function<void()>& work);
  // Memory that recordings may name has moved.
  void outdate() noexcept { ++generation_; }
  // The stream is idle: graphs that were given up can go.
  void bury() noexcept;
  [[nodiscard]] RecordingCounts counts() const noexcept { return counts_; }

 private:
  class Replayed;
  // Graphs that were given up, perhaps on another thread and while they still run. They wait here
  // for the stream to be idle: to end them must not wait for the device, nor disturb a capture.
  struct GivenUp {
    std::mutex mutex;
    std::vector<GraphExec> graphs;
  };

  [[nodiscard]] bool capture(const std::function<void()>& work, Graph& graph);
  [[nodiscard]] Graph end_capture() const noexcept;
  [[nodiscard]] bool invalidated() const noexcept;
  [[nodiscard]] static GraphExec instantiate(const Graph& graph);

  cudaStream_t stream_;
  bool on_;
  bool recording_ = false;
  std::uint64_t generation_ = 0;
  RecordingCounts counts_;
  std::shared_ptr<GivenUp> given_up_ = std::make_shared<GivenUp>();
};

}  // namespace fishermask::cuda
