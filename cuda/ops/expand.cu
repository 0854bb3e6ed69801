// expand: sizes of 1 are repeated, and sizes are added in front. Forward is a copy
// (core/strided_map.h, moves.cu); the gradient is the sum over what was repeated (fold.cuh), in
// f64. Deterministic: yes. Bound by memory.
#include "ops/elementwise.cuh"
#include "ops/fold.cuh"

namespace fishermask::cuda {
namespace {

constexpr std::size_t kInput = 0;

// The terms are the output's gradient at the walk's last lane.
struct RepeatSum : SumInto {
  const float* grad_output;

  __device__ __forceinline__ double term(const std::int64_t (&offset)[kBroadcastLanes],
                                         std::int64_t /*result*/) const {
    return grad_output[offset[kOutputLane]];
  }
};

class Expand : public Kernel {
 public:
  Expand(const NodeSpec& node, const KernelContext& context)
      : map_(expand_map(node)), context_(context) {}

  void forward(const NodeIo& io) override {
    copy_strided(context_.stream, map_, io.batch, words_of(io.inputs[0]), words_of(io.outputs[0]),
                 false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* grad_input = io.grad_inputs[0].as<float>();
    if (map_.from_count == map_.to_count) {
      copy_elements(context_.stream, grad_output, grad_input, io.grad_inputs[0].count(),
                    io.accumulate[0]);
      return;
    }
    BroadcastDims dims;
    for (const StridedAxis& axis : map_.batched_axes(io.batch)) {
      BroadcastDim& dim = dims.emplace_back();
      dim.size = axis.size;
      dim.stride[kInput] = axis.from;
      dim.stride[kOutputLane] = axis.to;
    }
    fold_lane("repeat_sum", context_, RepeatSum{{grad_input, io.accumulate[0]}, grad_output}, dims,
              kInput);
  }

 private:
  StridedMap map_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  if (!is_walkable(expand_map(node))) return nullptr;
  return std::make_unique<Expand>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("expand", make)

}  // namespace fishermask::cuda
