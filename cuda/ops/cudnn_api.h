// The part of cuDNN's C interface that convolutions use, found at run time, never linked.
//
// Prototypes, enumerators and the layout of Performance are those of cudnn_ops.h and cudnn_cnn.h
// (of cudnn_ops_infer.h and its siblings in the major 8); the majors 8 and 9 agree in all of it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <optional>
#include <string>

namespace fishermask::cuda::cudnn {

using Status = int;  // cudnnStatus_t
inline constexpr Status kSuccess = 0;

using Handle = struct FmCudnnContext*;           // cudnnHandle_t
using Tensor = struct FmCudnnTensor*;            // cudnnTensorDescriptor_t
using Filter = struct FmCudnnFilter*;            // cudnnFilterDescriptor_t
using Convolution = struct FmCudnnConvolution*;  // cudnnConvolutionDescriptor_t

inline constexpr int kFloat = 0;             // CUDNN_DATA_FLOAT
inline constexpr int kChannelsLast = 1;      // CUDNN_TENSOR_NHWC; of a filter: (O, kh, kw, I)
inline constexpr int kCrossCorrelation = 1;  // CUDNN_CROSS_CORRELATION: the kernel is not flipped
inline constexpr int kDeterministic = 1;     // CUDNN_DETERMINISTIC

enum MathType : int {   // cudnnMathType_t
  kDefaultMath = 0,     // with f32: TF32 where the device has it
  kTensorMath = 1,      // tensor cores, operands not converted to fewer bits than TF32's
  kConvertingMath = 2,  // f32 may become f16
  kFmaMath = 3          // f32 alone
};

// cudnnConvolutionFwdAlgoPerf_t, and its two siblings.
struct Performance {
  int algorithm;
  Status status;
  float milliseconds;
  std::size_t workspace_bytes;
  int determinism;
  int math;
  int reserved[3];
};
static_assert(sizeof(Performance) == 48 && offsetof(Performance, workspace_bytes) == 16 &&
              offsetof(Performance, math) == 28);

struct Api {
  std::size_t (*version)() = nullptr;
  Status (*create)(Handle*) = nullptr;
  Status (*destroy)(Handle) = nullptr;
  Status (*set_stream)(Handle, cudaStream_t) = nullptr;

  Status (*tensor_create)(Tensor*) = nullptr;
  Status (*tensor_destroy)(Tensor) = nullptr;
  Status (*tensor_set)(Tensor, int format, int type, int n, int c, int h, int w) = nullptr;
  Status (*filter_create)(Filter*) = nullptr;
  Status (*filter_destroy)(Filter) = nullptr;
  Status (*filter_set)(Filter, int type, int format, int k, int c, int h, int w) = nullptr;
  Status (*convolution_create)(Convolution*) = nullptr;
  Status (*convolution_destroy)(Convolution) = nullptr;
  Status (*convolution_set)(Convolution, int pad_h, int pad_w, int stride_h, int stride_w,
                            int dilation_h, int dilation_w, int mode, int compute) = nullptr;
  Status (*convolution_set_groups)(Convolution, int groups) = nullptr;
  Status (*convolution_set_math)(Convolution, int math) = nullptr;

  // Sorted by what the library expects of their speed, the fastest first.
  Status (*forward_algorithms)(Handle, Tensor x, Filter w, Convolution, Tensor y, int wanted,
                               int* found, Performance*) = nullptr;
  Status (*input_algorithms)(Handle, Filter w, Tensor dy, Convolution, Tensor dx, int wanted,
                             int* found, Performance*) = nullptr;
  Status (*weight_algorithms)(Handle, Tensor x, Tensor dy, Convolution, Filter dw, int wanted,
                              int* found, Performance*) = nullptr;
  Status (*forward_workspace)(Handle, Tensor x, Filter w, Convolution, Tensor y, int algorithm,
                              std::size_t* bytes) = nullptr;
  Status (*input_workspace)(Handle, Filter w, Tensor dy, Convolution, Tensor dx, int algorithm,
                            std::size_t* bytes) = nullptr;
  Status (*weight_workspace)(Handle, Tensor x, Tensor dy, Convolution, Filter dw, int algorithm,
                             std::size_t* bytes) = nullptr;
  Status (*forward)(Handle, const void* alpha, Tensor, const void* x, Filter, const void* w,
                    Convolution, int algorithm, void* workspace, std::size_t, const void* beta,
                    Tensor, void* y) = nullptr;
  Status (*input)(Handle, const void* alpha, Filter, const void* w, Tensor, const void* dy,
                  Convolution, int algorithm, void* workspace, std::size_t, const void* beta,
                  Tensor, void* dx) = nullptr;
  Status (*weight)(Handle, const void* alpha, Tensor, const void* x, Tensor, const void* dy,
                   Convolution, int algorithm, void* workspace, std::size_t, const void* beta,
                   Filter, void* dw) = nullptr;
};

// The library that FISHERMASK_CUDNN names, or the system's (not in the emulation, whose memory is
// none that cuDNN could reach). Nothing where it is absent, lacks a function, is older than 8, or
// is turned off by FISHERMASK_CUDNN=off. It stays loaded to the end of the process.
[[nodiscard]] std::optional<Api> load();

// "cuDNN 9.24.0"
[[nodiscard]] std::string version_name(const Api& api);

}  // namespace fishermask::cuda::cudnn
