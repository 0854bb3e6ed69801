// cumsum: y_i = Σ_{j ≤ i} x_j along one axis; exclusive: j < i; reverse: from the end.
// Gradient:   the sum of δ in the other direction.
// Along the last axis a warp takes a run, 32 values at a time; along another a thread does, so that
// neighbours read neighbours. Sums in f64.
// In-place:   y may lie over x: a value is read by the thread that writes it, and before it.
// Workspace:  none. Deterministic: yes. Bound by memory, for few long runs by their length.
#include "common/backend.h"
#include "common/reduce.cuh"
#include "core/axis.h"

namespace fishermask::cuda {
namespace {

struct Direction {
  bool exclusive;
  bool reverse;
  bool add;
};

__device__ __forceinline__ void put(float* to, double value, bool add) {
  const auto rounded = static_cast<float>(value);
  *to = add ? *to + rounded : rounded;
}

// Of contiguous runs, a warp each.
__global__ void sum_rows(const float* from, float* to, std::int64_t rows, std::int64_t length,
                         Direction way) {
  const int lane = team_rank<Team::kWarp>();
  for (std::int64_t row = first_row<Team::kWarp>(); row < rows; row += row_step<Team::kWarp>()) {
    double before = 0;  // the values of earlier rounds
    for (std::int64_t round = 0; round < length; round += kWarpThreads) {
      const std::int64_t i = round + lane;
      const bool inside = i < length;
      const std::int64_t at = row * length + (way.reverse ? length - 1 - i : i);
      const double own = inside ? static_cast<double>(from[at]) : 0.0;
      double sum = own;
#pragma unroll
      for (int distance = 1; distance < kWarpThreads; distance *= 2) {
        const double lower = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(distance));
        if (lane >= distance) sum += lower;
      }
      const double earlier = __shfl_up_sync(kAllLanes, sum, 1U);
      const double exclusive = before + (lane == 0 ? 0.0 : earlier);
      if (inside) put(to + at, way.exclusive ? exclusive : before + sum, way.add);
      before += __shfl_sync(kAllLanes, sum, kWarpThreads - 1);
    }
  }
}

// A run is one thread's.
__global__ void sum_runs(const float* from, float* to, AxisRuns axis, std::int64_t runs,
                         Direction way) {
  for (std::int64_t run = first_item(); run < runs; run += item_step()) {
    const std::int64_t start = run / axis.inner * axis.length * axis.inner + run % axis.inner;
    double sum = 0;
    for (std::int64_t i = 0; i < axis.length; ++i) {
      const std::int64_t at = start + (way.reverse ? axis.length - 1 - i : i) * axis.inner;
      const double before = sum;
      sum += static_cast<double>(from[at]);
      put(to + at, way.exclusive ? before : sum, way.add);
    }
  }
}

class Cumsum : public Kernel {
 public:
  Cumsum(const NodeSpec& node, const KernelContext& context)
      : context_(context),
        axis_(axis_runs(node)),
        exclusive_(node.attributes.boolean("exclusive", false)),
        reverse_(node.attributes.boolean("reverse", false)) {}

  void forward(const NodeIo& io) override {
    sum(io.batch, io.inputs[0].as<float>(), io.outputs[0].as<float>(), reverse_, false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    sum(io.batch, io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(), !reverse_,
        io.accumulate[0]);
  }

 private:
  void sum(std::int64_t batch, const float* from, float* to, bool reverse, bool add) const {
    const Direction way = {exclusive_, reverse, add};
    const std::int64_t runs = axis_.runs(batch);
    if (axis_.inner == 1) {
      launch("sum_rows", context_.stream, over(runs * kWarpThreads), sum_rows, from, to, runs,
             axis_.length, way);
    } else {
      launch("sum_runs", context_.stream, over(runs), sum_runs, from, to, axis_, runs, way);
    }
  }

  KernelContext context_;
  AxisRuns axis_;
  bool exclusive_;
  bool reverse_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Cumsum>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("cumsum", make)

}  // namespace fishermask::cuda
