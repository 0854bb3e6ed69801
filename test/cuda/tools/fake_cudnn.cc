// A stand-in for libcudnn in tests without a GPU: the functions that the backend calls, with the
// types of NVIDIA's headers, computing at once on the emulated device's memory, which is the
// host's. It checks every descriptor and call, offers algorithms that must not be taken before the
// one that may be, and misbehaves when told to.
//
// fake_cudnn_behave(NAME) chooses: plain, nondeterministic, converting, large, huge, fail-create,
// fail-offers, fail-run. fake_cudnn_count(NAME) says how often a function was called; "calls" is
// all of them, "complaints" are calls that were wrong, "live" what was created and not destroyed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using Status = int;
constexpr Status kSuccess = 0;
constexpr Status kNotInitialized = 1001;
constexpr Status kBadParameter = 2000;
constexpr Status kNotSupported = 3000;
constexpr Status kExecutionFailed = 5000;

constexpr int kFloat = 0;
constexpr int kChannelsLast = 1;
constexpr int kCrossCorrelation = 1;
enum Math : int { kDefault = 0, kTensor = 1, kConverting = 2, kFma = 3 };

constexpr int kTakeable = 1;  // of each product: the algorithm that may run
constexpr std::size_t kWorkspace = 1000;
constexpr std::size_t kLargeWorkspace = std::size_t{200} << 20U;
constexpr std::size_t kHugeWorkspace = std::size_t{300} << 20U;

// A handle or a descriptor. One type, so that each function can tell what it was given.
struct Object {
  enum Kind { kHandle, kTensorObject, kFilterObject, kConvolutionObject };
  Kind kind = kHandle;
  bool set = false;
  void* stream = nullptr;
  int n = 0, c = 0, h = 0, w = 0;  // of a filter n is the number of outputs
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, dilation_h = 0, dilation_w = 0;
  int groups = 1;
  int math = kDefault;
};

struct State {
  std::string behaviour = "plain";
  std::map<std::string, std::int64_t> calls;
  std::map<const Object*, std::unique_ptr<Object>> live;
};
// Never destroyed: devices of the tests are closed at the very end.
State& state() {
  static State& all = *new State;
  return all;
}

// Counts a call, and all of them together.
void note(const char* name) {
  ++state().calls[name];
  ++state().calls["calls"];
}

bool behaves(const char* as) { return state().behaviour == as; }

Status complain(const char* about) {
  std::fprintf(stderr, "fake cuDNN: %s\n", about);
  ++state().calls["complaints"];
  return kBadParameter;
}

Status create(const char* name, Object** into, Object::Kind kind) {
  note(name);
  if (into == nullptr) return complain("nowhere to put what is created");
  auto made = std::make_unique<Object>();
  made->kind = kind;
  *into = made.get();
  state().live.emplace(*into, std::move(made));
  return kSuccess;
}

bool is(const Object* object, Object::Kind kind) {
  return object != nullptr && state().live.contains(object) && object->kind == kind;
}

Status destroy(const char* name, Object* object, Object::Kind kind) {
  note(name);
  if (!is(object, kind)) return complain("what is destroyed does not exist");
  state().live.erase(object);
  return kSuccess;
}

Status set_sizes(const char* name, Object* object, Object::Kind kind, int type, int format, int n,
                 int c, int h, int w) {
  note(name);
  if (!is(object, kind)) return complain("sizes of something else");
  if (type != kFloat || format != kChannelsLast) return complain("not f32 or not channels-last");
  if (n < 1 || c < 1 || h < 1 || w < 1) return complain("sizes below 1");
  object->n = n, object->c = c, object->h = h, object->w = w;
  object->set = true;
  return kSuccess;
}

// One convolution: x (N, H, W, C), w (K, R, S, C/groups), y (N, P, Q, K).
struct Problem {
  const Object &x, &w, &y, &how;

  [[nodiscard]] std::size_t x_at(int n, int h, int v, int c) const {
    return ((static_cast<std::size_t>(n) * x.h + h) * x.w + v) * x.c + c;
  }
  [[nodiscard]] std::size_t y_at(int n, int p, int q, int k) const {
    return ((static_cast<std::size_t>(n) * y.h + p) * y.w + q) * y.c + k;
  }
  [[nodiscard]] std::size_t w_at(int k, int r, int s, int c) const {
    return ((static_cast<std::size_t>(k) * w.h + r) * w.w + s) * w.c + c;
  }

  // visit(x index, w index, y index) of every product.
  template <typename Visit>
  void each(const Visit& visit) const {
    const int per_group = w.n / how.groups;
    for (int n = 0; n < y.n; ++n) {
      for (int p = 0; p < y.h; ++p) {
        for (int q = 0; q < y.w; ++q) {
          for (int k = 0; k < w.n; ++k) {
            taps(visit, n, p, q, k, k / per_group * w.c);
          }
        }
      }
    }
  }

  template <typename Visit>
  void taps(const Visit& visit, int n, int p, int q, int k, int first) const {
    for (int r = 0; r < w.h; ++r) {
      const int row = p * how.stride_h - how.pad_h + r * how.dilation_h;
      if (row < 0 || row >= x.h) continue;
      for (int s = 0; s < w.w; ++s) {
        const int column = q * how.stride_w - how.pad_w + s * how.dilation_w;
        if (column < 0 || column >= x.w) continue;
        for (int c = 0; c < w.c; ++c) {
          visit(x_at(n, row, column, first + c), w_at(k, r, s, c), y_at(n, p, q, k));
        }
      }
    }
  }
};

std::size_t count(const Object& object) {
  return static_cast<std::size_t>(object.n) * object.c * object.h * object.w;
}

int found_size(int in, int pad, int kernel, int dilation, int stride) {
  return (in + 2 * pad - (dilation * (kernel - 1) + 1)) / stride + 1;
}

// Null, or what is wrong.
const char* wrong(const Object* handle, const Object* x, const Object* w, const Object* y,
                  const Object* how) {
  if (!is(handle, Object::kHandle) || handle->stream == nullptr) return "a handle without a stream";
  if (!is(x, Object::kTensorObject) || !x->set) return "x is no tensor";
  if (!is(y, Object::kTensorObject) || !y->set) return "y is no tensor";
  if (!is(w, Object::kFilterObject) || !w->set) return "w is no filter";
  if (!is(how, Object::kConvolutionObject) || !how->set) return "no convolution";
  if (x->n != y->n || w->n != y->c || w->c * how->groups != x->c || w->n % how->groups != 0) {
    return "channels or batches do not fit";
  }
  if (found_size(x->h, how->pad_h, w->h, how->dilation_h, how->stride_h) != y->h ||
      found_size(x->w, how->pad_w, w->w, how->dilation_w, how->stride_w) != y->w) {
    return "sizes do not fit";
  }
  return nullptr;
}

struct Performance {
  int algorithm;
  Status status;
  float milliseconds;
  std::size_t bytes;
  int determinism;
  int math;
  int reserved[3];
};

std::size_t workspace_of(const Object& how) {
  if (behaves("large") && how.math != kTensor) return kLargeWorkspace;
  return behaves("huge") || how.math == kTensor ? kHugeWorkspace : kWorkspace;
}

// Fast ones that must be left, then the one that may be taken.
std::vector<Performance> offers_of(const Object& how, int winograd) {
  const int math = how.math == kFma ? kFma : kDefault;
  std::vector<Performance> all = {
      {kTakeable, kNotSupported, -1, 0, 1, math, {}},
      {0, kSuccess, 1, 0, 0, math, {}},
      {kTakeable, kSuccess, 2, 0, 1, kConverting, {}},
      {winograd, kSuccess, 3, 0, 1, math, {}},
      {kTakeable, kSuccess, 4, kHugeWorkspace, 1, kTensor, {}},
      {kTakeable, kSuccess, 5, kWorkspace, 1, math, {}},
  };
  for (Performance& one : all) {
    if (behaves("nondeterministic")) one.determinism = 0;
    if (behaves("converting")) one.math = kConverting;
  }
  return all;
}

Status offer(const char* name, const char* fault, const Object* how, int winograd, int wanted,
             int* found, Performance* into) {
  note(name);
  if (fault != nullptr) return complain(fault);
  if (behaves("fail-offers")) return kNotSupported;
  const std::vector<Performance> all = offers_of(*how, winograd);
  if (wanted < static_cast<int>(all.size())) return complain("few algorithms were asked for");
  *found = static_cast<int>(all.size());
  std::copy(all.begin(), all.end(), into);
  return kSuccess;
}

Status tell_workspace(const char* name, const char* fault, const Object* how, int algorithm,
                      std::size_t* bytes) {
  note(name);
  if (fault != nullptr) return complain(fault);
  if (algorithm != kTakeable) return complain("the workspace of an algorithm not to be taken");
  *bytes = workspace_of(*how);
  return kSuccess;
}

bool aligned(const void* pointer) {
  return pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

// Null, or what is wrong. The workspace is overwritten, as an algorithm would.
const char* wrong_run(const Object& how, int algorithm, void* workspace, std::size_t bytes,
                      std::initializer_list<const void*> tensors) {
  if (algorithm != kTakeable) return "an algorithm that is not deterministic";
  if (how.math == kConverting || how.math == kTensor) return "arithmetic that was not to be taken";
  if (bytes < workspace_of(how) || !aligned(workspace)) return "a small workspace";
  for (const void* const tensor : tensors) {
    if (!aligned(tensor)) return "a tensor that is not aligned";
  }
  std::memset(workspace, 0xFF, bytes);
  return nullptr;
}

// What the arithmetic reads: 10 bits of fraction, to nearest even, unless FMA was asked for.
double read(float value, const Object& how) {
  if (how.math == kFma || !std::isfinite(value)) return static_cast<double>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0xFFFU + (bits >> 13U & 1U)) & ~0x1FFFU;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<double>(value);
}

// to = alpha · sums + beta · to; without beta it is not read.
void store(const std::vector<double>& sums, const void* alpha, const void* beta, float* to) {
  const float a = *static_cast<const float*>(alpha);
  const float b = *static_cast<const float*>(beta);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const float value = a * static_cast<float>(sums[i]);
    to[i] = b == 0.0F ? value : value + b * to[i];
  }
}

}  // namespace

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

FAKE_EXPORT void fake_cudnn_behave(const char* as) {
  state().behaviour = as;
  state().calls.clear();
}
FAKE_EXPORT std::int64_t fake_cudnn_count(const char* name) {
  if (std::string(name) == "live") return static_cast<std::int64_t>(state().live.size());
  return state().calls[name];
}

FAKE_EXPORT std::size_t cudnnGetVersion() { return 91234; }
FAKE_EXPORT Status cudnnCreate(Object** handle) {
  if (behaves("fail-create")) return kNotInitialized;
  return create(__func__, handle, Object::kHandle);
}
FAKE_EXPORT Status cudnnDestroy(Object* handle) {
  return destroy(__func__, handle, Object::kHandle);
}
FAKE_EXPORT Status cudnnSetStream(Object* handle, void* stream) {
  note(__func__);
  if (!is(handle, Object::kHandle)) return complain("the stream of no handle");
  handle->stream = stream;
  return kSuccess;
}

FAKE_EXPORT Status cudnnCreateTensorDescriptor(Object** into) {
  return create(__func__, into, Object::kTensorObject);
}
FAKE_EXPORT Status cudnnDestroyTensorDescriptor(Object* object) {
  return destroy(__func__, object, Object::kTensorObject);
}
FAKE_EXPORT Status cudnnSetTensor4dDescriptor(Object* tensor, int format, int type, int n, int c,
                                              int h, int w) {
  return set_sizes(__func__, tensor, Object::kTensorObject, type, format, n, c, h, w);
}
FAKE_EXPORT Status cudnnCreateFilterDescriptor(Object** into) {
  return create(__func__, into, Object::kFilterObject);
}
FAKE_EXPORT Status cudnnDestroyFilterDescriptor(Object* object) {
  return destroy(__func__, object, Object::kFilterObject);
}
FAKE_EXPORT Status cudnnSetFilter4dDescriptor(Object* filter, int type, int format, int k, int c,
                                              int h, int w) {
  return set_sizes(__func__, filter, Object::kFilterObject, type, format, k, c, h, w);
}
FAKE_EXPORT Status cudnnCreateConvolutionDescriptor(Object** into) {
  return create(__func__, into, Object::kConvolutionObject);
}
FAKE_EXPORT Status cudnnDestroyConvolutionDescriptor(Object* object) {
  return destroy(__func__, object, Object::kConvolutionObject);
}
FAKE_EXPORT Status cudnnSetConvolution2dDescriptor(Object* how, int pad_h, int pad_w, int stride_h,
                                                   int stride_w, int dilation_h, int dilation_w,
                                                   int mode, int type) {
  note(__func__);
  if (!is(how, Object::kConvolutionObject)) return complain("no convolution is set");
  if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1) {
    return complain("padding, strides or dilations out of range");
  }
  if (mode != kCrossCorrelation || type != kFloat) return complain("flipped, or not summed in f32");
  how->pad_h = pad_h, how->pad_w = pad_w;
  how->stride_h = stride_h, how->stride_w = stride_w;
  how->dilation_h = dilation_h, how->dilation_w = dilation_w;
  how->set = true;
  return kSuccess;
}
FAKE_EXPORT Status cudnnSetConvolutionGroupCount(Object* how, int groups) {
  note(__func__);
  if (!is(how, Object::kConvolutionObject) || groups < 1) return complain("groups");
  how->groups = groups;
  return kSuccess;
}
FAKE_EXPORT Status cudnnSetConvolutionMathType(Object* how, int math) {
  note(__func__);
  if (!is(how, Object::kConvolutionObject) || math < kDefault || math > kFma) {
    return complain("math type");
  }
  how->math = math;
  return kSuccess;
}

FAKE_EXPORT Status cudnnGetConvolutionForwardAlgorithm_v7(Object* handle, Object* x, Object* w,
                                                          Object* how, Object* y, int wanted,
                                                          int* found, Performance* into) {
  return offer(__func__, wrong(handle, x, w, y, how), how, 7, wanted, found, into);
}
FAKE_EXPORT Status cudnnGetConvolutionBackwardDataAlgorithm_v7(Object* handle, Object* w, Object* y,
                                                               Object* how, Object* x, int wanted,
                                                               int* found, Performance* into) {
  return offer(__func__, wrong(handle, x, w, y, how), how, 5, wanted, found, into);
}
FAKE_EXPORT Status cudnnGetConvolutionForwardWorkspaceSize(Object* handle, Object* x, Object* w,
                                                           Object* how, Object* y, int algorithm,
                                                           std::size_t* bytes) {
  return tell_workspace(__func__, wrong(handle, x, w, y, how), how, algorithm, bytes);
}
FAKE_EXPORT Status cudnnGetConvolutionBackwardDataWorkspaceSize(Object* handle, Object* w,
                                                                Object* y, Object* how, Object* x,
                                                                int algorithm, std::size_t* bytes) {
  return tell_workspace(__func__, wrong(handle, x, w, y, how), how, algorithm, bytes);
}
FAKE_EXPORT Status cudnnGetConvolutionBackwardFilterWorkspaceSize(Object* handle, Object* x,
                                                                  Object* y, Object* how, Object* w,
                                                                  int algorithm,
                                                                  std::size_t* bytes) {
  return tell_workspace(__func__, wrong(handle, x, w, y, how), how, algorithm, bytes);
}

FAKE_EXPORT Status cudnnConvolutionForward(Object* handle, const void* alpha, Object* x_object,
                                           const void* x, Object* w_object, const void* w,
                                           Object* how, int algorithm, void* workspace,
                                           std::size_t bytes, const void* beta, Object* y_object,
                                           void* y) {
  note(__func__);
  if (const char* const fault = wrong(handle, x_object, w_object, y_object, how)) {
    return complain(fault);
  }
  if (behaves("fail-run")) return kExecutionFailed;
  if (const char* const fault = wrong_run(*how, algorithm, workspace, bytes, {x, w, y})) {
    return complain(fault);
  }
  std::vector<double> sums(count(*y_object));
  Problem{*x_object, *w_object, *y_object, *how}.each(
      [&](std::size_t at_x, std::size_t at_w, std::size_t at_y) {
        sums[at_y] += read(static_cast<const float*>(x)[at_x], *how) *
                      read(static_cast<const float*>(w)[at_w], *how);
      });
  store(sums, alpha, beta, static_cast<float*>(y));
  return kSuccess;
}

FAKE_EXPORT Status cudnnConvolutionBackwardData(Object* handle, const void* alpha, Object* w_object,
                                                const void* w, Object* y_object, const void* y,
                                                Object* how, int algorithm, void* workspace,
                                                std::size_t bytes, const void* beta,
                                                Object* x_object, void* x) {
  note(__func__);
  if (const char* const fault = wrong(handle, x_object, w_object, y_object, how)) {
    return complain(fault);
  }
  if (behaves("fail-run")) return kExecutionFailed;
  if (const char* const fault = wrong_run(*how, algorithm, workspace, bytes, {x, w, y})) {
    return complain(fault);
  }
  std::vector<double> sums(count(*x_object));
  Problem{*x_object, *w_object, *y_object, *how}.each(
      [&](std::size_t at_x, std::size_t at_w, std::size_t at_y) {
        sums[at_x] += read(static_cast<const float*>(y)[at_y], *how) *
                      read(static_cast<const float*>(w)[at_w], *how);
      });
  store(sums, alpha, beta, static_cast<float*>(x));
  return kSuccess;
}

#ifndef FAKE_WITHOUT_WEIGHT_GRADIENT
FAKE_EXPORT Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(Object* handle, Object* x,
                                                                 Object* y, Object* how, Object* w,
                                                                 int wanted, int* found,
                                                                 Performance* into) {
  return offer(__func__, wrong(handle, x, w, y, how), how, 5, wanted, found, into);
}

FAKE_EXPORT Status cudnnConvolutionBackwardFilter(Object* handle, const void* alpha,
                                                  Object* x_object, const void* x, Object* y_object,
                                                  const void* y, Object* how, int algorithm,
                                                  void* workspace, std::size_t bytes,
                                                  const void* beta, Object* w_object, void* w) {
  note(__func__);
  if (const char* const fault = wrong(handle, x_object, w_object, y_object, how)) {
    return complain(fault);
  }
  if (behaves("fail-run")) return kExecutionFailed;
  if (const char* const fault = wrong_run(*how, algorithm, workspace, bytes, {x, w, y})) {
    return complain(fault);
  }
  std::vector<double> sums(count(*w_object));
  Problem{*x_object, *w_object, *y_object, *how}.each(
      [&](std::size_t at_x, std::size_t at_w, std::size_t at_y) {
        sums[at_w] += read(static_cast<const float*>(x)[at_x], *how) *
                      read(static_cast<const float*>(y)[at_y], *how);
      });
  store(sums, alpha, beta, static_cast<float*>(w));
  return kSuccess;
}
#endif
