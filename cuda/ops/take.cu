// take: y[j] = x[index[j]], both read as flat vectors; a place of −1 gives 0. Whole blocks of both
// are moved with one index (core/places.h), in quads of 16 bytes where they allow it.
// Gradient:   one thread, or one warp where a place is taken often, sums a place's takers in f64
// and
//             in a fixed order.
// Memory:     4 bytes a block of y, the same again and 4 bytes a block of x for the gradient.
// Deterministic: yes. Bound by memory.
#include <algorithm>
#include <limits>

#include "core/places.h"
#include "ops/elementwise.cuh"
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU: from so many takers of one place on, a warp sums them.
constexpr std::int64_t kManyTakers = 64;

// Samples, blocks, words of a block. Lane 0 counts blocks; lane 1 is the place of word k of the
// other side's first block of the sample.
Walk<2> block_walk(std::int64_t batch, std::int64_t blocks, std::int64_t words,
                   std::int64_t other_blocks) {
  Walk<2> walk;
  walk.add(batch, {0, other_blocks * words});
  walk.add(blocks, {1, 0});
  walk.add(words, {0, 1});
  return walk;
}

__device__ __forceinline__ void clear(float& word) { word = 0.0F; }
__device__ __forceinline__ void clear(float4& word) { word = make_float4(0, 0, 0, 0); }

template <typename Word>
__global__ void take_blocks(const __grid_constant__ Walk<2> walk, const std::int32_t* places,
                            std::int64_t words, const Word* x, Word* y) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[2] = {0, 0};
    add_offsets(walk, i, offset);
    const std::int64_t place = places[offset[0]];
    Word value;
    clear(value);
    if (place >= 0) value = x[offset[1] + place * words];
    y[i] = value;
  }
}

struct Sum1 {
  double x = 0;
  __device__ __forceinline__ void add(float value) { x += value; }
  [[nodiscard]] __device__ __forceinline__ float with(float old, bool add) const {
    const auto sum = static_cast<float>(x);
    return add ? old + sum : sum;
  }
};
struct Sum4 {
  Sum1 x, y, z, w;
  __device__ __forceinline__ void add(float4 value) {
    x.add(value.x), y.add(value.y), z.add(value.z), w.add(value.w);
  }
  [[nodiscard]] __device__ __forceinline__ float4 with(float4 old, bool add) const {
    return make_float4(x.with(old.x, add), y.with(old.y, add), z.with(old.z, add),
                       w.with(old.w, add));
  }
};

// The takers of block b of x are takers[starts[b]] … takers[starts[b + 1] − 1].
template <typename Word, typename Sum>
__global__ void sum_takers(const __grid_constant__ Walk<2> walk, const std::int32_t* starts,
                           const std::int32_t* takers, std::int64_t words, const Word* grad_output,
                           Word* grad_input, bool add) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[2] = {0, 0};
    add_offsets(walk, i, offset);
    Sum sum;
    const std::int32_t end = starts[offset[0] + 1];
    for (std::int32_t t = starts[offset[0]]; t < end; ++t) {
      sum.add(grad_output[offset[1] + takers[t] * words]);
    }
    Word old;
    clear(old);
    if (add) old = grad_input[i];
    grad_input[i] = sum.with(old, add);
  }
}

// A warp for each word.
__global__ void sum_many_takers(const __grid_constant__ Walk<2> walk, const std::int32_t* starts,
                                const std::int32_t* takers, std::int64_t words,
                                const float* grad_output, float* grad_input, bool add) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x % 32);
  for (std::int64_t i = first_item() / 32; i < walk.count; i += item_step() / 32) {
    std::int64_t offset[2] = {0, 0};
    add_offsets(walk, i, offset);
    Sum1 sum;
    const std::int32_t end = starts[offset[0] + 1];
    for (std::int32_t t = starts[offset[0]] + lane; t < end; t += 32) {
      sum.add(grad_output[offset[1] + takers[t] * words]);
    }
    for (int away = 16; away > 0; away /= 2) {
      sum.x += __shfl_down_sync(0xFFFFFFFFU, sum.x, static_cast<unsigned>(away));
    }
    if (lane == 0) grad_input[i] = sum.with(add ? grad_input[i] : 0.0F, add);
  }
}

class Take : public Kernel {
 public:
  Take(const NodeSpec& node, const KernelContext& context) : context_(context) {
    const std::vector<std::int64_t> index = node.attributes.integers("index", -1);
    const std::int64_t places = element_count(node.inputs[0].shape);
    block_ = common_block(index, places);
    x_blocks_ = places / block_;
    y_blocks_ = static_cast<std::int64_t>(index.size()) / block_;
    std::vector<std::int64_t> blocks;
    for (std::size_t j = 0; j < index.size(); j += static_cast<std::size_t>(block_)) {
      blocks.push_back(index[j] < 0 ? -1 : index[j] / block_);
    }
    Backend& backend = *context.backend;
    places_ = device_list(backend, std::vector<std::int32_t>(blocks.begin(), blocks.end()),
                          "take's places");
    const GroupedPlaces grouped(blocks);
    takers_ = device_list(backend,
                          std::vector<std::int32_t>(grouped.updates.begin(), grouped.updates.end()),
                          "take's takers");
    starts_ = device_list(backend, starts_of(grouped), "take's takers");
  }

  void forward(const NodeIo& io) override {
    const float* x = words_of(io.inputs[0]);
    float* y = words_of(io.outputs[0]);
    if (in_quads(x, y)) {
      run_forward(io, block_ / 4, reinterpret_cast<const float4*>(x), reinterpret_cast<float4*>(y));
    } else {
      run_forward(io, block_, x, y);
    }
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const float* from = io.grad_outputs[0].as<float>();
    float* to = io.grad_inputs[0].as<float>();
    const bool add = io.accumulate[0];
    if (most_takers_ >= kManyTakers) {
      const Walk<2> walk = block_walk(io.batch, x_blocks_, block_, y_blocks_);
      launch("sum_many_takers", context_.stream, over(32 * walk.count), sum_many_takers, walk,
             starts_.data(), takers_.data(), block_, from, to, add);
    } else if (in_quads(from, to)) {
      run_backward<float4, Sum4>(io, block_ / 4, reinterpret_cast<const float4*>(from),
                                 reinterpret_cast<float4*>(to));
    } else {
      run_backward<float, Sum1>(io, block_, from, to);
    }
  }

 private:
  std::vector<std::int32_t> starts_of(const GroupedPlaces& grouped) {
    std::vector<std::int32_t> starts(static_cast<std::size_t>(x_blocks_) + 1, 0);
    for (std::int64_t g = 0; g < grouped.count(); ++g) {
      const auto takers = static_cast<std::int64_t>(grouped.group(g).size());
      most_takers_ = std::max(most_takers_, takers);
      starts[static_cast<std::size_t>(grouped.place_of[static_cast<std::size_t>(g)]) + 1] =
          static_cast<std::int32_t>(takers);
    }
    for (std::size_t b = 1; b < starts.size(); ++b) starts[b] += starts[b - 1];
    return starts;
  }

  [[nodiscard]] bool in_quads(const float* from, const float* to) const {
    return block_ % 4 == 0 && is_aligned16(from) && is_aligned16(to);
  }

  template <typename Word>
  void run_forward(const NodeIo& io, std::int64_t words, const Word* x, Word* y) const {
    const Walk<2> walk = block_walk(io.batch, y_blocks_, words, x_blocks_);
    launch("take_blocks", context_.stream, over(walk.count), take_blocks<Word>, walk,
           places_.data(), words, x, y);
  }
  template <typename Word, typename Sum>
  void run_backward(const NodeIo& io, std::int64_t words, const Word* from, Word* to) const {
    const Walk<2> walk = block_walk(io.batch, x_blocks_, words, y_blocks_);
    launch("sum_takers", context_.stream, over(walk.count), sum_takers<Word, Sum>, walk,
           starts_.data(), takers_.data(), words, from, to, io.accumulate[0]);
  }

  KernelContext context_;
  std::int64_t block_ = 1;
  std::int64_t x_blocks_ = 0, y_blocks_ = 0;  // per sample
  std::int64_t most_takers_ = 0;
  Buffer<std::int32_t> places_, starts_, takers_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (element_count(node.inputs[0].shape) >= kMost ||
      element_count(node.outputs[0].shape) >= kMost) {
    return nullptr;
  }
  return std::make_unique<Take>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("take", make)

}  // namespace fishermask::cuda
