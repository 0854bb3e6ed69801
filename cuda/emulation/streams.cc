#include "emulation/streams.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "emulation/memory.h"

using Work = std::function<void()>;

struct FmEmulatedGraph {
  std::vector<Work> nodes;
};
struct FmEmulatedGraphExec {
  std::shared_ptr<const std::vector<Work>> nodes;
  std::shared_ptr<int> running = std::make_shared<int>(0);  // launches that have not run yet
};

struct FmEmulatedStream {
  std::deque<Work> queue;
  std::uint64_t enqueued = 0, begun = 0;
  bool late = false;
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  std::vector<Work> captured;
};
// What was last recorded: a place in a stream's order.
struct FmEmulatedEvent {
  std::shared_ptr<FmEmulatedStream> stream;
  std::uint64_t place = 0;
  std::shared_ptr<std::chrono::steady_clock::time_point> time =
      std::make_shared<std::chrono::steady_clock::time_point>();
};

namespace {

// Never destroyed, as in runtime.cc. Held while work runs: work of one stream runs work of others.
std::recursive_mutex& mutex = *new std::recursive_mutex;
std::map<cudaStream_t, std::shared_ptr<FmEmulatedStream>>& streams =
    *new std::map<cudaStream_t, std::shared_ptr<FmEmulatedStream>>;
std::map<const std::byte*, std::size_t>& pinned = *new std::map<const std::byte*, std::size_t>;
bool graph_lost = false;  // destroyed before it ran
thread_local cudaStream_t capturing = nullptr;

bool is_late() {
  const char* const order = std::getenv("FISHERMASK_EMULATED_STREAMS");
  return order != nullptr && std::string_view(order) == "late";
}

bool is_pinned(const void* memory) {
  const auto* const place = static_cast<const std::byte*>(memory);
  const auto above = pinned.upper_bound(place);
  if (above == pinned.begin()) return false;
  const auto& [first, bytes] = *std::prev(above);
  return place < first + bytes;
}

void run_to(FmEmulatedStream& stream, std::uint64_t place) {
  while (stream.begun < place) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.begun;
    work();
  }
}
void run_all(FmEmulatedStream& stream) { run_to(stream, stream.enqueued); }

// Not part of a capture: for what ends it.
cudaError_t refuse(FmEmulatedStream& stream) {
  if (stream.capture == cudaStreamCaptureStatusNone) return cudaSuccess;
  stream.capture = cudaStreamCaptureStatusInvalidated;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t add(FmEmulatedStream& stream, Work work) {
  if (stream.capture == cudaStreamCaptureStatusInvalidated)
    return cudaErrorStreamCaptureInvalidated;
  if (stream.capture == cudaStreamCaptureStatusActive) {
    stream.captured.push_back(std::move(work));
    return cudaSuccess;
  }
  stream.queue.push_back(std::move(work));
  ++stream.enqueued;
  if (!stream.late) run_all(stream);
  return cudaSuccess;
}

Work copy_work(void* to, const void* from, std::size_t bytes) {
  return [=] { std::memmove(to, from, bytes); };
}

}  // namespace

namespace fishermask::emulation {

void enqueue(FmEmulatedStream* stream, std::function<void()> work) {
  const std::lock_guard lock(mutex);
  const cudaError_t status = add(*stream, std::move(work));
  if (status != cudaSuccess) throw EmulationError(cudaGetErrorName(status));
}

bool may_touch_memory() {
  const std::lock_guard lock(mutex);
  return capturing == nullptr || refuse(*capturing) == cudaSuccess;
}

void run_everything() {
  const std::lock_guard lock(mutex);
  for (const auto& [handle, stream] : streams) run_all(*stream);
}

}  // namespace fishermask::emulation

using namespace fishermask::emulation;

// --- memory of the host, and copies

cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  if (!may_touch_memory()) return cudaErrorStreamCaptureUnsupported;
  *memory = std::malloc(std::max<std::size_t>(bytes, 1));
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  const std::lock_guard lock(mutex);
  pinned[static_cast<const std::byte*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  if (!may_touch_memory()) return cudaErrorStreamCaptureUnsupported;
  run_everything();
  const std::lock_guard lock(mutex);
  pinned.erase(static_cast<const std::byte*>(memory));
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard lock(mutex);
  if (kind == cudaMemcpyDeviceToDevice) return add(*stream, copy_work(to, from, bytes));
  if (kind == cudaMemcpyHostToDevice && is_pinned(from)) {
    return add(*stream, copy_work(to, from, bytes));
  }
  // Pageable: the host's part of the work is done when the call returns.
  if (const cudaError_t status = refuse(*stream); status != cudaSuccess) return status;
  if (kind == cudaMemcpyHostToDevice) {
    const auto* const first = static_cast<const std::byte*>(from);
    return add(*stream, [to, held = std::vector<std::byte>(first, first + bytes)] {
      std::memcpy(to, held.data(), held.size());
    });
  }
  run_all(*stream);
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard lock(mutex);
  return add(*stream, [=] { std::memset(to, value, bytes); });
}

// --- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  const std::lock_guard lock(mutex);
  auto made = std::make_shared<FmEmulatedStream>();
  made->late = is_late();
  *stream = made.get();
  streams[made.get()] = made;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  run_all(*stream);
  streams.erase(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  {
    const std::lock_guard lock(mutex);
    if (const cudaError_t status = refuse(*stream); status != cudaSuccess) return status;
    run_all(*stream);
    if (graph_lost) return cudaErrorLaunchFailure;
  }
  return check_memory();
}
cudaError_t cudaDeviceSynchronize() {
  if (!may_touch_memory()) return cudaErrorStreamCaptureUnsupported;
  run_everything();
  return check_memory();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = refuse(*stream); status != cudaSuccess) return status;
  if (event->stream == nullptr) return cudaSuccess;
  // What the event says now: it may be recorded again before this stream gets here.
  return add(*stream, [of = event->stream, place = event->place] { run_to(*of, place); });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new FmEmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = refuse(*stream); status != cudaSuccess) return status;
  event->stream = streams.at(stream);
  event->place = stream->enqueued + 1;
  return add(*stream, [time = event->time] { *time = std::chrono::steady_clock::now(); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(mutex);
  if (event->stream != nullptr) run_to(*event->stream, event->place);
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *start->time).count();
  return cudaSuccess;
}

// --- captures and graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode /*mode*/) {
  const std::lock_guard lock(mutex);
  if (stream->capture != cudaStreamCaptureStatusNone) return cudaErrorIllegalState;
  stream->capture = cudaStreamCaptureStatusActive;
  stream->captured.clear();
  capturing = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(mutex);
  *status = stream->capture;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(mutex);
  *graph = nullptr;
  const auto was = std::exchange(stream->capture, cudaStreamCaptureStatusNone);
  if (was == cudaStreamCaptureStatusNone) return cudaErrorIllegalState;
  capturing = nullptr;
  auto nodes = std::exchange(stream->captured, {});
  if (was == cudaStreamCaptureStatusInvalidated) return cudaErrorStreamCaptureInvalidated;
  *graph = new FmEmulatedGraph{std::move(nodes)};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (nodes != nullptr) return cudaErrorNotSupported;
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  if (!may_touch_memory()) return cudaErrorStreamCaptureUnsupported;
  *made = new FmEmulatedGraphExec{std::make_shared<const std::vector<Work>>(graph->nodes)};
  return cudaSuccess;
}
// One that still has to run is lost with it: the next synchronising call says so.
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  const std::lock_guard lock(mutex);
  if (*graph->running > 0) graph_lost = true;
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (const cudaError_t status = refuse(*stream); status != cudaSuccess) return status;
  ++*graph->running;
  return add(*stream, [nodes = graph->nodes, running = graph->running] {
    --*running;
    for (const Work& node : *nodes) node();
  });
}
