// For tests: whether the emulated runtime refuses within a capture what CUDA's documentation says
// that it refuses, with the same codes.
#include <cuda_runtime.h>

#include <array>
#include <functional>
#include <string>

namespace {

struct Try {
  const char* what;
  std::function<cudaError_t()> call;
};

// Empty, or what went otherwise than it has to.
std::string capture_with(cudaStream_t stream, const Try& one) {
  const auto expect = [&](const char* when, cudaError_t got, cudaError_t wanted) {
    return got == wanted
               ? std::string()
               : std::string(one.what) + ", " + when + ": " + cudaGetErrorName(got) + "; ";
  };
  int word = 0;
  cudaGraph_t graph = nullptr;
  std::string wrong = expect(
      "begin", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  wrong += expect("before", cudaMemsetAsync(&word, 1, sizeof word, stream), cudaSuccess);
  wrong += expect("itself", one.call(), cudaErrorStreamCaptureUnsupported);
  wrong += expect("after", cudaMemsetAsync(&word, 1, sizeof word, stream),
                  cudaErrorStreamCaptureInvalidated);
  wrong += expect("end", cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  wrong += expect("a wait later", cudaStreamSynchronize(stream), cudaSuccess);
  if (graph != nullptr || word != 0) wrong += std::string(one.what) + ": something ran; ";
  return wrong;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* fishermask_test_captures() {
  static std::string wrong;
  wrong.clear();
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  void* memory = nullptr;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess ||
      cudaEventCreate(&event) != cudaSuccess || cudaMalloc(&memory, 64) != cudaSuccess) {
    return "the runtime itself";
  }
  std::array<int, 16> pageable{};
  const std::array tries = {
      Try{"synchronize", [&] { return cudaStreamSynchronize(stream); }},
      Try{"device synchronize", [] { return cudaDeviceSynchronize(); }},
      Try{"download",
          [&] {
            return cudaMemcpyAsync(pageable.data(), memory, 64, cudaMemcpyDeviceToHost, stream);
          }},
      Try{"upload",
          [&] {
            return cudaMemcpyAsync(memory, pageable.data(), 64, cudaMemcpyHostToDevice, stream);
          }},
      Try{"malloc",
          [] {
            void* other = nullptr;
            return cudaMalloc(&other, 64);
          }},
      Try{"free", [&] { return cudaFree(memory); }},
      Try{"malloc host", [] {
            void* other = nullptr;
            return cudaMallocHost(&other, 64);
          }}};
  for (const Try& one : tries) wrong += capture_with(stream, one);
  (void)cudaFree(memory);
  (void)cudaEventDestroy(event);
  (void)cudaStreamDestroy(stream);
  return wrong.c_str();
}
