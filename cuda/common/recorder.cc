#include "common/recorder.h"

#include <cstdlib>
#include <string>

#include "common/check.h"

namespace fishermask::cuda {
namespace {

// A node of an executable graph costs some hundred bytes on both sides, and to make it costs about
// what its launch does: beyond this a pass is better run directly.
constexpr std::size_t kMostNodes = 1 << 14;

bool turned_on() {
  const char* const setting = std::getenv("FISHERMASK_CUDA_GRAPHS");
  return setting == nullptr || std::string_view(setting) != "off";
}

}  // namespace

void GraphCloser::operator()(cudaGraph_t graph) const noexcept {
  check_quietly(cudaGraphDestroy(graph));
}
void GraphExecCloser::operator()(cudaGraphExec_t graph) const noexcept {
  check_quietly(cudaGraphExecDestroy(graph));
}

class Recorder::Replayed final : public Recording {
 public:
  Replayed(Recorder& recorder, GraphExec graph)
      : recorder_(recorder),
        given_up_(recorder.given_up_),
        generation_(recorder.generation_),
        graph_(std::move(graph)) {}
  // May come after the recorder's own end.
  ~Replayed() override {
    const std::lock_guard lock(given_up_->mutex);
    try {
      given_up_->graphs.push_back(std::move(graph_));
    } catch (...) {
      graph_.reset();
    }
  }

  [[nodiscard]] bool replay() override {
    if (generation_ != recorder_.generation_) {
      ++recorder_.counts_.outdated;
      return false;
    }
    FM_CUDA(cudaGraphLaunch(graph_.get(), recorder_.stream_));
    ++recorder_.counts_.replays;
    return true;
  }

 private:
  Recorder& recorder_;
  std::shared_ptr<GivenUp> given_up_;
  std::uint64_t generation_;
  GraphExec graph_;
};

Recorder::Recorder(cudaStream_t stream) : stream_(stream), on_(turned_on()) {}

void Recorder::refuse(std::string_view what) const {
  if (recording_) throw Unrecordable("a recording cannot hold " + std::string(what));
}

std::unique_ptr<Recording> Recorder::record(const std::function<void()>& work) {
  refuse("another recording");
  if (!on_) return nullptr;
  Graph graph;
  GraphExec made;
  if (capture(work, graph)) made = instantiate(graph);
  if (made == nullptr) {
    ++counts_.refused;
    return nullptr;
  }
  auto recording = std::make_unique<Replayed>(*this, std::move(made));
  ++counts_.made;
  return recording;
}

// Thread-local: other threads may go on to give and take memory.
bool Recorder::capture(const std::function<void()>& work, Graph& graph) {
  FM_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  recording_ = true;
  try {
    work();
  } catch (const Unrecordable&) {
    recording_ = false;
    (void)end_capture();
    return false;
  } catch (...) {
    // A call that CUDA refuses within captures is no error of the work.
    const bool refused = invalidated();
    recording_ = false;
    (void)end_capture();
    if (refused) return false;
    throw;
  }
  recording_ = false;
  graph = end_capture();
  return graph != nullptr;
}

Graph Recorder::end_capture() const noexcept {
  cudaGraph_t graph = nullptr;
  check_quietly(cudaStreamEndCapture(stream_, &graph));
  return Graph(graph);
}

bool Recorder::invalidated() const noexcept {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  check_quietly(cudaStreamIsCapturing(stream_, &status));
  return status == cudaStreamCaptureStatusInvalidated;
}

// Null where the device has no room for it, or would rather not.
GraphExec Recorder::instantiate(const Graph& graph) {
  std::size_t nodes = 0;
  FM_CUDA(cudaGraphGetNodes(graph.get(), nullptr, &nodes));
  if (nodes > kMostNodes) return nullptr;
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, graph.get(), 0);
  if (status == cudaErrorMemoryAllocation || status == cudaErrorNotSupported) {
    check_quietly(status);
    return nullptr;
  }
  FM_CUDA(status);
  return GraphExec(made);
}

void Recorder::bury() noexcept {
  std::vector<GraphExec> graphs;
  const std::lock_guard lock(given_up_->mutex);
  graphs.swap(given_up_->graphs);
}

}  // namespace fishermask::cuda
