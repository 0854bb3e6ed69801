// Elementwise loops: to[i] = f(a[i]) or f(a[i], b[i]), or added to it, in quads of 16 bytes where
// all pointers allow it. `to` may lie over a or b. On top of them, the kernel of every op of one
// operand (binding/ops/unary.h).
// Deterministic: yes. Bound by memory, but for functions of many instructions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

#include "common/backend.h"
#include "common/launch.cuh"
#include "core/unary_formulas.h"

namespace fishermask::cuda {

[[nodiscard]] inline bool is_aligned16(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}
// How many whole quads there are where every pointer is aligned (a null one is), else 0.
[[nodiscard]] inline std::int64_t quads_of(std::initializer_list<const void*> pointers,
                                           std::int64_t count) {
  const bool aligned = std::all_of(pointers.begin(), pointers.end(), is_aligned16);
  return aligned ? count / 4 : 0;
}
[[nodiscard]] inline LaunchShape over_quads(std::int64_t quads, std::int64_t count) {
  return over(std::max(quads, count - 4 * quads));
}

[[nodiscard]] __device__ __forceinline__ float4 quad_at(const float* from, std::int64_t quad) {
  return reinterpret_cast<const float4*>(from)[quad];
}
__device__ __forceinline__ void set_quad(float* to, std::int64_t quad, float4 value) {
  reinterpret_cast<float4*>(to)[quad] = value;
}
[[nodiscard]] __device__ __forceinline__ float4 sum_of(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

template <typename F>
__global__ void map_one(F f, const float* a, float* to, std::int64_t count, std::int64_t quads,
                        bool add) {
  for (std::int64_t i = first_item(); i < quads; i += item_step()) {
    const float4 x = quad_at(a, i);
    const float4 y = make_float4(f(x.x), f(x.y), f(x.z), f(x.w));
    set_quad(to, i, add ? sum_of(quad_at(to, i), y) : y);
  }
  for (std::int64_t i = 4 * quads + first_item(); i < count; i += item_step()) {
    const float y = f(a[i]);
    to[i] = add ? to[i] + y : y;
  }
}

template <typename F>
__global__ void map_two(F f, const float* a, const float* b, float* to, std::int64_t count,
                        std::int64_t quads, bool add) {
  for (std::int64_t i = first_item(); i < quads; i += item_step()) {
    const float4 x = quad_at(a, i);
    const float4 z = quad_at(b, i);
    const float4 y = make_float4(f(x.x, z.x), f(x.y, z.y), f(x.z, z.z), f(x.w, z.w));
    set_quad(to, i, add ? sum_of(quad_at(to, i), y) : y);
  }
  for (std::int64_t i = 4 * quads + first_item(); i < count; i += item_step()) {
    const float y = f(a[i], b[i]);
    to[i] = add ? to[i] + y : y;
  }
}

template <typename F>
void map_elements(const char* name, cudaStream_t stream, const F& f, const float* a, float* to,
                  std::int64_t count, bool add) {
  const std::int64_t quads = quads_of({a, to}, count);
  launch(name, stream, over_quads(quads, count), map_one<F>, f, a, to, count, quads, add);
}
template <typename F>
void map_elements(const char* name, cudaStream_t stream, const F& f, const float* a, const float* b,
                  float* to, std::int64_t count, bool add) {
  const std::int64_t quads = quads_of({a, b, to}, count);
  launch(name, stream, over_quads(quads, count), map_two<F>, f, a, b, to, count, quads, add);
}

struct Identity {
  __device__ __forceinline__ float operator()(float x) const { return x; }
};

// moves.cu: to[i] = from[i], or added to it; and to[i] = value (4-byte elements).
void copy_elements(cudaStream_t stream, const float* from, float* to, std::int64_t count, bool add);
void fill_elements(cudaStream_t stream, float* to, std::int64_t count, float value);

// A list of the host in the device's memory.
template <typename T>
[[nodiscard]] Buffer<T> device_list(Backend& backend, const std::vector<T>& list,
                                    std::string_view purpose) {
  const auto count = static_cast<std::int64_t>(list.size());
  Buffer<T> buffer(backend, std::max<std::int64_t>(count, 1), purpose);
  if (count > 0) {
    backend.from_host(buffer.data(), list.data(), count * static_cast<std::int64_t>(sizeof(T)));
  }
  return buffer;
}

template <typename Function>
struct ValueOf {
  Function f;
  __device__ __forceinline__ float operator()(float x) const { return f.value(x); }
};
template <typename Function>
struct SlopeTimes {
  Function f;
  __device__ __forceinline__ float operator()(float grad_output, float z) const {
    return grad_output * f.slope(z);
  }
};
template <typename Function>
struct ConstantSlopeTimes {
  Function f;
  __device__ __forceinline__ float operator()(float grad_output) const {
    return grad_output * f.slope(0.0F);
  }
};

// y = value(x); what its slope is taken from, and what may lie in place, is as in binding/ops.
template <typename Function>
class UnaryOp : public Kernel {
 public:
  UnaryOp(Function f, const KernelContext& context) : f_(f), context_(context) {}

  void forward(const NodeIo& io) override {
    map_elements("unary_values", context_.stream, ValueOf<Function>{f_}, io.inputs[0].as<float>(),
                 io.outputs[0].as<float>(), io.outputs[0].count(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* grad_input = io.grad_inputs[0].as<float>();
    const std::int64_t count = io.grad_inputs[0].count();
    const bool add = io.accumulate[0];
    if constexpr (Function::kSlopeFrom == SlopeFrom::kZero) {
      if (!add) fill_elements(context_.stream, grad_input, count, 0.0F);
    } else if constexpr (Function::kSlopeFrom == SlopeFrom::kConstant) {
      map_elements("unary_slope", context_.stream, ConstantSlopeTimes<Function>{f_}, grad_output,
                   grad_input, count, add);
    } else {
      const TensorView& z =
          Function::kSlopeFrom == SlopeFrom::kInput ? io.inputs[0] : io.outputs[0];
      map_elements("unary_slopes", context_.stream, SlopeTimes<Function>{f_}, grad_output,
                   z.as<float>(), grad_input, count, add);
    }
  }

 private:
  Function f_;
  KernelContext context_;
};

// The maker of a function, with the node's attributes where it has some.
template <typename Function>
std::unique_ptr<Kernel> make_unary(const NodeSpec& node, const KernelContext& context) {
  if constexpr (std::is_constructible_v<Function, const NodeSpec&>) {
    return std::make_unique<UnaryOp<Function>>(Function(node), context);
  } else {
    return std::make_unique<UnaryOp<Function>>(Function{}, context);
  }
}

}  // namespace fishermask::cuda
