// The kernel of all elementwise ops of two or three operands with broadcasting; a function F is one
// of core/binary_formulas.h. The second operand is the second input or, with one input, the slot
// `other`.
// Kernels:    broadcast_map, one output or, where the sizes allow it, four a thread; fold_terms
//             (fold.cuh) for the gradient of an operand that is repeated, in f64.
// Accumulate: each gradient as asked, in order, so that two of them may be the same memory.
// Deterministic: yes. Bound by memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/binary_formulas.h"
#include "core/broadcast.h"
#include "ops/elementwise.cuh"
#include "ops/fold.cuh"

namespace fishermask::cuda {

// Operands a, b and c; of two, c is a: it is read and not used.
struct BroadcastOperands {
  const float* x[kMostOperands];
};

// What is computed of g (the output's gradient) and the operands' values.
template <typename F>
struct BroadcastValue {
  static constexpr bool kReadsGradient = false;
  __device__ __forceinline__ static float apply(float /*g*/, float a, float b, float c) {
    return F::value(a, b, c);
  }
};
template <typename F, std::size_t kK>
struct BroadcastPassed {
  static constexpr bool kReadsGradient = true;
  __device__ __forceinline__ static float apply(float g, float a, float b, float c) {
    return F::template passed<kK>(g, a, b, c);
  }
};

template <typename Apply>
__global__ void broadcast_map(const __grid_constant__ BroadcastWalk walk,
                              BroadcastOperands operands, const float* g, float* to, bool add) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[kBroadcastLanes] = {};
    add_offsets(walk, i, offset);
    const float y = Apply::apply(Apply::kReadsGradient ? g[i] : 0.0F, operands.x[0][offset[0]],
                                 operands.x[1][offset[1]], operands.x[2][offset[2]]);
    to[i] = add ? to[i] + y : y;
  }
}

// Which operands move along the innermost size; the others stand still over a quad.
struct QuadSteps {
  bool moves[kMostOperands];
};

__device__ __forceinline__ float4 operand_quad(const float* x, std::int64_t offset, bool moves) {
  if (moves) return *reinterpret_cast<const float4*>(x + offset);
  const float value = x[offset];
  return make_float4(value, value, value, value);
}

// `walk` counts quads, its strides elements.
template <typename Apply>
__global__ void broadcast_map_quads(const __grid_constant__ BroadcastWalk walk, QuadSteps steps,
                                    BroadcastOperands operands, const float* g, float* to,
                                    bool add) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[kBroadcastLanes] = {};
    add_offsets(walk, i, offset);
    const float4 a = operand_quad(operands.x[0], offset[0], steps.moves[0]);
    const float4 b = operand_quad(operands.x[1], offset[1], steps.moves[1]);
    const float4 c = operand_quad(operands.x[2], offset[2], steps.moves[2]);
    const float4 d = Apply::kReadsGradient ? quad_at(g, i) : make_float4(0, 0, 0, 0);
    const float4 y =
        make_float4(Apply::apply(d.x, a.x, b.x, c.x), Apply::apply(d.y, a.y, b.y, c.y),
                    Apply::apply(d.z, a.z, b.z, c.z), Apply::apply(d.w, a.w, b.w, c.w));
    set_quad(to, i, add ? sum_of(quad_at(to, i), y) : y);
  }
}

// Whether every quad of the output lies in one run of every operand.
[[nodiscard]] inline bool in_quads(const BroadcastDims& dims, const BroadcastOperands& operands,
                                   const float* g, const float* to) {
  if (dims.back().size % 4 != 0 || !is_aligned16(g) || !is_aligned16(to)) return false;
  for (std::size_t k = 0; k < kMostOperands; ++k) {
    if (dims.back().stride[k] == 0) continue;
    if (dims.back().stride[k] != 1 || !is_aligned16(operands.x[k])) return false;
    for (std::size_t d = 0; d + 1 < dims.size(); ++d) {
      if (dims[d].stride[k] % 4 != 0) return false;
    }
  }
  return true;
}

// to[i] = Apply of output i's operands, or added to it. `to` has the output's shape.
template <typename Apply>
void map_broadcast(const char* name, cudaStream_t stream, BroadcastDims dims,
                   const BroadcastOperands& operands, const float* g, float* to, bool add) {
  if (!in_quads(dims, operands, g, to)) {
    const BroadcastWalk walk = walk_of(dims);
    launch(name, stream, over(walk.count), broadcast_map<Apply>, walk, operands, g, to, add);
    return;
  }
  QuadSteps steps = {};
  for (std::size_t k = 0; k < kMostOperands; ++k) steps.moves[k] = dims.back().stride[k] != 0;
  dims.back().size /= 4;
  for (std::int64_t& stride : dims.back().stride) stride *= 4;
  const BroadcastWalk walk = walk_of(dims);
  launch(name, stream, over(walk.count), broadcast_map_quads<Apply>, walk, steps, operands, g, to,
         add);
}

// The gradient of a repeated operand: the sum of what passes to it.
template <typename Apply>
struct BroadcastSum : SumInto {
  BroadcastOperands operands;
  const float* g;

  __device__ __forceinline__ double term(const std::int64_t (&offset)[kBroadcastLanes],
                                         std::int64_t /*result*/) const {
    return Apply::apply(g[offset[kOutputLane]], operands.x[0][offset[0]], operands.x[1][offset[1]],
                        operands.x[2][offset[2]]);
  }
};

template <typename F>
class BroadcastOp : public Kernel {
 public:
  BroadcastOp(const NodeSpec& node, const KernelContext& context)
      : context_(context), output_(node.outputs[0].shape) {
    for (const ValueSpec& input : node.inputs) operands_.push_back({input.shape, true});
    if (operands_.size() < F::kOperands) {
      operands_.push_back({node.parameters.at("other"), false});
    }
  }

  void forward(const NodeIo& io) override {
    map_broadcast<BroadcastValue<F>>("broadcast_values", context_.stream, dims_of(io),
                                     operands_of(io), nullptr, io.outputs[0].as<float>(), false);
  }

  void backward(const NodeIo& io) override {
    const BroadcastDims dims = dims_of(io);
    backward_operand<0>(io, dims);
    backward_operand<1>(io, dims);
    if constexpr (F::kOperands == 3) backward_operand<2>(io, dims);
  }

 protected:
  [[nodiscard]] const KernelContext& context() const { return context_; }
  [[nodiscard]] const Shape& output_shape() const { return output_; }

 private:
  // An operand that is not there moves as the first, which is read in its place.
  [[nodiscard]] BroadcastDims dims_of(const NodeIo& io) const {
    BroadcastDims dims = broadcast_dims(operands_, output_, io.batch);
    for (BroadcastDim& dim : dims) {
      for (std::size_t k = F::kOperands; k < kMostOperands; ++k) dim.stride[k] = dim.stride[0];
    }
    return dims;
  }

  static BroadcastOperands operands_of(const NodeIo& io) {
    BroadcastOperands operands = {};
    for (std::size_t k = 0; k < F::kOperands; ++k) {
      operands.x[k] =
          k < io.inputs.size() ? io.inputs[k].as<float>() : io.parameter("other").as<float>();
    }
    for (std::size_t k = F::kOperands; k < kMostOperands; ++k) operands.x[k] = operands.x[0];
    return operands;
  }

  template <std::size_t kK>
  void backward_operand(const NodeIo& io, const BroadcastDims& dims) const {
    const bool is_input = kK < io.inputs.size();
    const TensorView target = is_input ? io.grad_inputs[kK] : io.grad_parameter("other");
    if (!target) return;
    float* gradient = target.as<float>();
    const bool add = is_input ? io.accumulate[kK] : true;
    if constexpr (!F::kPasses[kK]) {
      if (!add) fill_elements(context_.stream, gradient, target.count(), 0.0F);
    } else {
      using Apply = BroadcastPassed<F, kK>;
      const float* g = io.grad_outputs[0].as<float>();
      BroadcastOperands operands = operands_of(io);
      // Inputs that backward does not need may have no memory; g is as large, and is not used.
      for (const float*& x : operands.x) x = x == nullptr ? g : x;
      if (split_dims(dims, kK).repeated.empty() || dims_count(dims) == 1) {
        map_broadcast<Apply>("broadcast_pass", context_.stream, dims, operands, g, gradient, add);
      } else {
        fold_lane("broadcast_sum", context_, BroadcastSum<Apply>{{gradient, add}, operands, g},
                  dims, kK);
      }
    }
  }

  KernelContext context_;
  Shape output_;
  std::vector<BroadcastOperand> operands_;
};

}  // namespace fishermask::cuda
