// Finds cuDNN and its functions.
#include "ops/cudnn_api.h"

#include <dlfcn.h>

#include <cstdlib>

namespace fishermask::cuda::cudnn {
namespace {

// Before the major 8, DEFAULT_MATH and FMA_MATH meant other things.
constexpr std::size_t kOldestVersion = 8000;

// Not unloaded: its own exit handlers must find it.
constexpr int kMode = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;

void* open_library() {
  const char* const chosen = std::getenv("FISHERMASK_CUDNN");
  if (chosen != nullptr && *chosen != '\0') {
    return std::string(chosen) == "off" ? nullptr : dlopen(chosen, kMode);
  }
#ifndef FM_EMULATION
  for (const char* const name : {"libcudnn.so.9", "libcudnn.so.8"}) {
    if (void* const library = dlopen(name, kMode)) return library;
  }
#endif
  return nullptr;
}

template <typename Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

bool find_descriptors(void* from, Api& api) {
  return find(from, "cudnnCreateTensorDescriptor", api.tensor_create) &&
         find(from, "cudnnDestroyTensorDescriptor", api.tensor_destroy) &&
         find(from, "cudnnSetTensor4dDescriptor", api.tensor_set) &&
         find(from, "cudnnCreateFilterDescriptor", api.filter_create) &&
         find(from, "cudnnDestroyFilterDescriptor", api.filter_destroy) &&
         find(from, "cudnnSetFilter4dDescriptor", api.filter_set) &&
         find(from, "cudnnCreateConvolutionDescriptor", api.convolution_create) &&
         find(from, "cudnnDestroyConvolutionDescriptor", api.convolution_destroy) &&
         find(from, "cudnnSetConvolution2dDescriptor", api.convolution_set) &&
         find(from, "cudnnSetConvolutionGroupCount", api.convolution_set_groups) &&
         find(from, "cudnnSetConvolutionMathType", api.convolution_set_math);
}

bool find_passes(void* from, Api& api) {
  return find(from, "cudnnGetConvolutionForwardAlgorithm_v7", api.forward_algorithms) &&
         find(from, "cudnnGetConvolutionBackwardDataAlgorithm_v7", api.input_algorithms) &&
         find(from, "cudnnGetConvolutionBackwardFilterAlgorithm_v7", api.weight_algorithms) &&
         find(from, "cudnnGetConvolutionForwardWorkspaceSize", api.forward_workspace) &&
         find(from, "cudnnGetConvolutionBackwardDataWorkspaceSize", api.input_workspace) &&
         find(from, "cudnnGetConvolutionBackwardFilterWorkspaceSize", api.weight_workspace) &&
         find(from, "cudnnConvolutionForward", api.forward) &&
         find(from, "cudnnConvolutionBackwardData", api.input) &&
         find(from, "cudnnConvolutionBackwardFilter", api.weight);
}

}  // namespace

std::optional<Api> load() {
  void* const from = open_library();
  if (from == nullptr) return std::nullopt;
  Api api;
  const bool whole =
      find(from, "cudnnGetVersion", api.version) && find(from, "cudnnCreate", api.create) &&
      find(from, "cudnnDestroy", api.destroy) && find(from, "cudnnSetStream", api.set_stream) &&
      find_descriptors(from, api) && find_passes(from, api);
  if (!whole || api.version() < kOldestVersion) return std::nullopt;
  return api;
}

std::string version_name(const Api& api) {
  const std::size_t version = api.version();
  const std::size_t of_major = version < 10000 ? 1000 : 10000;  // 8907 is 8.9.7, 92400 is 9.24.0
  return "cuDNN " + std::to_string(version / of_major) + "." +
         std::to_string(version % of_major / 100) + "." + std::to_string(version % 100);
}

}  // namespace fishermask::cuda::cudnn
