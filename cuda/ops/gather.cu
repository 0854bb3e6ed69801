// gather: y[a…, i…, b…] = x[a…, index[i…], b…] at one axis, with ids that each sample brings along.
// Saved:      the ids counted from the front, 4 bytes each, so that backward needs no input.
// Gradient:   a warp owns some positions of one id of one sample, looks through the sample's ids
// for
//             its own, 32 at a time, and adds what it finds in order.
// Errors:     ARGUMENT where an id is out of range; forward waits for the device to say so.
// Deterministic: yes. Bound by memory; for many ids of an axis of many, by looking through them.
#include <algorithm>

#include "core/moved_shape.h"
#include "ops/elementwise.cuh"
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

// Positions of a warp: so many sums a lane, in registers. Not measured on a GPU.
constexpr int kSumsPerLane = 4;
constexpr std::int64_t kWarpPositions = 32 * kSumsPerLane;

using FirstBad = unsigned long long;  // what atomicMin takes
constexpr FirstBad kNoneBad = ~FirstBad{0};

__global__ void count_from_front(const std::int32_t* index, std::int32_t* ids, std::int64_t count,
                                 std::int32_t length, FirstBad* first_bad) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int32_t id = index[i];
    const bool fits = id >= -length && id < length;
    if (!fits) atomicMin(first_bad, static_cast<FirstBad>(i));
    ids[i] = !fits ? 0 : id < 0 ? id + length : id;
  }
}

// The walk over y: lane 0 counts ids, of the whole batch; lane 1 is x's place of id 0.
__global__ void gather_values(const __grid_constant__ Walk<2> walk, const std::int32_t* ids,
                              std::int64_t inner, const float* x, float* y) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[2] = {0, 0};
    add_offsets(walk, i, offset);
    y[i] = x[offset[1] + ids[offset[0]] * inner];
  }
}

struct GatherSizes {
  std::int64_t outer, length, inner;
  std::int64_t ids;     // per sample
  std::int64_t chunks;  // of kWarpPositions among the outer · inner positions of an id
};

__global__ void gather_gradient(GatherSizes sizes, std::int64_t batch, const std::int32_t* ids,
                                const float* grad_output, float* grad_input, bool add) {
  const auto lane = static_cast<std::int64_t>(threadIdx.x % 32);
  const std::int64_t positions = sizes.outer * sizes.inner;
  const std::int64_t items = batch * sizes.length * sizes.chunks;
  for (std::int64_t item = first_item() / 32; item < items; item += item_step() / 32) {
    const std::int64_t first = item % sizes.chunks * kWarpPositions + lane;
    const std::int64_t id = item / sizes.chunks % sizes.length;
    const std::int64_t sample = item / sizes.chunks / sizes.length;
    float sums[kSumsPerLane] = {};
    std::int64_t from[kSumsPerLane];  // of id 0 of the sample in grad_output
    std::int64_t to[kSumsPerLane];
#pragma unroll
    for (int s = 0; s < kSumsPerLane; ++s) {
      const std::int64_t position = first + 32 * s;
      const std::int64_t block = sample * sizes.outer + position / sizes.inner;
      const std::int64_t k = position % sizes.inner;
      from[s] = block * sizes.ids * sizes.inner + k;
      to[s] = (block * sizes.length + id) * sizes.inner + k;
    }
    for (std::int64_t base = 0; base < sizes.ids; base += 32) {
      const bool inside = base + lane < sizes.ids;
      const bool own = inside && ids[sample * sizes.ids + base + lane] == id;
      unsigned found = __ballot_sync(0xFFFFFFFFU, own ? 1 : 0);
      for (; found != 0; found &= found - 1) {
        const std::int64_t i = base + __ffs(static_cast<int>(found)) - 1;
#pragma unroll
        for (int s = 0; s < kSumsPerLane; ++s) {
          if (first + 32 * s < positions) sums[s] += grad_output[from[s] + i * sizes.inner];
        }
      }
    }
#pragma unroll
    for (int s = 0; s < kSumsPerLane; ++s) {
      if (first + 32 * s < positions) {
        grad_input[to[s]] = add ? grad_input[to[s]] + sums[s] : sums[s];
      }
    }
  }
}

class Gather : public Kernel {
 public:
  Gather(const NodeSpec& node, const KernelContext& context)
      : context_(context),
        name_(node.name),
        split_(split_at(node.inputs[0].shape, axis_attribute(node, node.inputs[0].shape.size()))),
        ids_(element_count(node.inputs[1].shape)),
        first_bad_(*context.backend, 1, "gather's check of ids") {}

  void forward(const NodeIo& io) override {
    check_ids(io);
    Walk<2> walk;
    const std::int64_t x_count = split_.length * split_.inner;
    walk.add(io.batch, {ids_, split_.outer * x_count});
    walk.add(split_.outer, {0, x_count});
    walk.add(ids_, {1, 0});
    walk.add(split_.inner, {0, 1});
    launch("gather_values", context_.stream, over(walk.count), gather_values, walk, saved_ids(io),
           split_.inner, words_of(io.inputs[0]), words_of(io.outputs[0]));
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const std::int64_t positions = split_.outer * split_.inner;
    const GatherSizes sizes = {split_.outer, split_.length, split_.inner, ids_,
                               (positions + kWarpPositions - 1) / kWarpPositions};
    const std::int64_t warps = io.batch * sizes.length * sizes.chunks;
    launch("gather_gradient", context_.stream, over(32 * warps), gather_gradient, sizes, io.batch,
           saved_ids(io), io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(),
           io.accumulate[0]);
  }

 private:
  static std::int32_t* saved_ids(const NodeIo& io) {
    return reinterpret_cast<std::int32_t*>(io.saved_per_sample);
  }

  // Also writes the ids that count from the front.
  void check_ids(const NodeIo& io) const {
    const auto* index = io.inputs[1].as<std::int32_t>();
    const auto length = static_cast<std::int32_t>(split_.length);
    const std::int64_t count = io.batch * ids_;
    FM_CUDA(cudaMemsetAsync(first_bad_.data(), 0xFF, sizeof(FirstBad), context_.stream));
    launch("count_from_front", context_.stream, over(count), count_from_front, index, saved_ids(io),
           count, length, first_bad_.data());
    FirstBad bad = kNoneBad;
    context_.backend->to_host(&bad, first_bad_.data(), sizeof(bad));
    if (bad == kNoneBad) return;
    std::int32_t id = 0;
    context_.backend->to_host(&id, index + bad, sizeof(id));
    fail(ErrorCode::kARGUMENT, "node '", name_, "' (gather): expected ids in [", -length, ", ",
         length, ") but received ", id, " in sample ", static_cast<std::int64_t>(bad) / ids_,
         " of the batch");
  }

  KernelContext context_;
  std::string name_;
  AxisSplit split_;
  std::int64_t ids_;  // per sample
  Buffer<FirstBad> first_bad_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Gather>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("gather", make)

}  // namespace fishermask::cuda
