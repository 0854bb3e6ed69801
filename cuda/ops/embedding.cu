// embedding: y[…, c] = W[ids[…], c]; an id of −1 is padding and gives zeros.
// Shapes:     ids (N, T…) i32, W (V, D), y (N, T…, D).
// Accumulate: grad W uses +=. Ids have no gradient.
// Backward:   the first position of an id is found by an integer minimum; its block then reads the
// later ids and adds the gradients of those that are the same, in their order. Where W has few rows
// and there are many positions (token types), each row's gradients are added over stretches of
// positions, then over the stretches.
// Workspace:  8 bytes a row of W, or a W per stretch (scratch).
// Squares:    scatter form.
// Errors:     ARGUMENT for an id outside [−1, V); forward waits for the device to know it, as it
// must not read beside W.
// Deterministic: yes. Bound by memory, and by the ids of all positions once per different id:
// positions² / 32 steps of a warp in the worst case. An id that fills the batch is one block's
// work.
#include <climits>

#include "common/backend.h"
#include "common/reduce.cuh"
#include "core/error.h"

namespace fishermask::cuda {
namespace {

using Position = unsigned long long;
constexpr Position kNowhere = ULLONG_MAX;  // bytes of ones, as a memset writes them

// first_wrong: the smallest position whose id is outside [−1, rows).
__global__ void find_wrong_id(const std::int32_t* ids, std::int64_t count, std::int64_t rows,
                              Position* first_wrong) {
  for (std::int64_t p = first_item(); p < count; p += item_step()) {
    if (ids[p] < -1 || ids[p] >= rows) atomicMin(first_wrong, static_cast<Position>(p));
  }
}

template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    gather_rows(const std::int32_t* ids, const float* weight, std::int64_t count, std::int64_t rows,
                std::int64_t width, float* y) {
  for (std::int64_t p = first_row<kTeam>(); p < count; p += row_step<kTeam>()) {
    const std::int64_t id = ids[p];
    const bool kept = id >= 0 && id < rows;
    for (std::int64_t c = team_rank<kTeam>(); c < width; c += team_size<kTeam>()) {
      y[p * width + c] = kept ? weight[id * width + c] : 0.0F;
    }
  }
}

__global__ void find_first_positions(const std::int32_t* ids, std::int64_t count, Position* first) {
  for (std::int64_t p = first_item(); p < count; p += item_step()) {
    if (ids[p] >= 0) atomicMin(first + ids[p], static_cast<Position>(p));
  }
}

// A block's columns, kColumns a thread, lie blockDim.x apart. Not measured on a GPU: 256 threads
// of 4 columns cover usual widths with one reading of the ids.
constexpr int kScatterThreads = 256;
constexpr int kColumns = 4;
constexpr int kScatterWarps = kScatterThreads / kWarpThreads;

// Block (p, k): the row of position p, where p is its id's first, in the columns of part k.
__global__ void __launch_bounds__(kScatterThreads)
    scatter_rows(const std::int32_t* ids, const Position* first, const float* grad_output,
                 std::int64_t count, std::int64_t width, float* sums) {
  FM_SHARED(unsigned, matches, kScatterWarps);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t first_column =
      static_cast<std::int64_t>(blockIdx.y) * kScatterThreads * kColumns + thread;
  for (std::int64_t leader = blockIdx.x; leader < count; leader += gridDim.x) {
    const std::int32_t id = ids[leader];
    if (id < 0 || first[id] != static_cast<Position>(leader)) continue;  // the whole block's
    float* const row = sums + id * width;
    float totals[kColumns];
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const std::int64_t column = first_column + k * kScatterThreads;
      totals[k] = column < width ? row[column] : 0.0F;
    }
    for (std::int64_t from = leader; from < count; from += kScatterThreads) {
      const bool same = from + thread < count && ids[from + thread] == id;
      const unsigned votes = __ballot_sync(kAllLanes, same ? 1 : 0);
      if (thread % kWarpThreads == 0) matches[thread / kWarpThreads] = votes;
      if (__syncthreads_or(same ? 1 : 0) == 0) continue;
      for (int warp = 0; warp < kScatterWarps; ++warp) {
        for (unsigned left = matches[warp]; left != 0; left &= left - 1) {
          const int lane = __ffs(static_cast<int>(left)) - 1;
          const float* const grad = grad_output + (from + warp * kWarpThreads + lane) * width;
#pragma unroll
          for (int k = 0; k < kColumns; ++k) {
            const std::int64_t column = first_column + k * kScatterThreads;
            if (column < width) totals[k] += grad[column];
          }
        }
      }
      __syncthreads();  // the next votes may be written
    }
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const std::int64_t column = first_column + k * kScatterThreads;
      if (column < width) row[column] = totals[k];
    }
  }
}

// Not measured on a GPU: from where on stretches are worth a second launch, and what keeps their
// sums small beside the gradients that are read.
constexpr std::int64_t kFewRows = 16;
constexpr std::int64_t kManyPositions = 1024;
constexpr std::int64_t kStretch = 256;

// partial (stretches, rows, width): the sums of a row's gradients in a stretch of positions. Block
// (columns, stretch, row).
__global__ void __launch_bounds__(kColumnThreads)
    sum_stretches(const std::int32_t* ids, const float* grad_output, std::int64_t count,
                  std::int64_t width, float* partial) {
  const int lane = static_cast<int>(threadIdx.x) / kWarpThreads;
  const auto row = static_cast<std::int32_t>(blockIdx.z);
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x) * kWarpThreads + threadIdx.x % kWarpThreads;
  const std::int64_t stretches = (count + kStretch - 1) / kStretch;
  for (std::int64_t s = blockIdx.y; s < stretches; s += gridDim.y) {
    const std::int64_t end = (s + 1) * kStretch < count ? (s + 1) * kStretch : count;
    float sum = 0;
    if (column < width) {
      for (std::int64_t p = s * kStretch + lane; p < end; p += kRowLanes) {
        if (ids[p] == row) sum += grad_output[p * width + column];
      }
    }
    sum = sum_of_lanes(sum);
    if (lane == 0 && column < width) partial[(s * gridDim.z + row) * width + column] = sum;
  }
}

__global__ void add_stretches(const float* partial, std::int64_t stretches, std::int64_t count,
                              float* sums) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    double sum = sums[i];
    for (std::int64_t s = 0; s < stretches; ++s) sum += static_cast<double>(partial[s * count + i]);
    sums[i] = static_cast<float>(sum);
  }
}

class Embedding : public Kernel {
 public:
  Embedding(const NodeSpec& node, const KernelContext& context)
      : context_(context),
        name_(node.name),
        positions_(element_count(node.inputs[0].shape)),
        rows_(node.parameters.at("weight")[0]),
        width_(node.parameters.at("weight")[1]) {}

  void forward(const NodeIo& io) override {
    const auto* const ids = io.inputs[0].as<std::int32_t>();
    const std::int64_t count = io.batch * positions_;
    check_ids(ids, count);
    launch_rows("gather_rows", context_.stream, count, width_, gather_rows<Team::kWarp>,
                gather_rows<Team::kBlock>, ids, io.parameter("weight").as<float>(), count, rows_,
                width_, io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    const TensorView grad_weight = io.grad_parameter("weight");
    const std::int64_t count = io.batch * positions_;
    if (!grad_weight || count == 0 || width_ == 0) return;
    const auto* const ids = io.inputs[0].as<std::int32_t>();
    const float* const grad_output = io.grad_outputs[0].as<float>();
    if (rows_ <= kFewRows && count >= kManyPositions) {
      backward_of_few(ids, grad_output, count, grad_weight.as<float>());
    } else {
      backward_by_leaders(ids, grad_output, count, grad_weight.as<float>());
    }
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ScatterForm weight;
    weight.grad_output = io.grad_outputs[0].as<float>();
    weight.ids = io.inputs[0].as<std::int32_t>();
    weight.batch = io.batch;
    weight.positions = positions_;
    weight.channels = width_;
    weight.rows = rows_;
    return {{"weight", weight}};
  }

 private:
  void backward_by_leaders(const std::int32_t* ids, const float* grad_output, std::int64_t count,
                           float* sums) const {
    Position* const first = fresh_positions(rows_);
    launch("find_first_positions", context_.stream, over(count), find_first_positions, ids, count,
           first);
    constexpr std::int64_t kBlockColumns = std::int64_t{kScatterThreads} * kColumns;
    const dim3 grid(static_cast<unsigned>(std::min(count, kMostBlocks)),
                    static_cast<unsigned>((width_ + kBlockColumns - 1) / kBlockColumns));
    launch("scatter_rows", context_.stream, {grid, dim3(kScatterThreads), 0}, scatter_rows, ids,
           first, grad_output, count, width_, sums);
  }

  void backward_of_few(const std::int32_t* ids, const float* grad_output, std::int64_t count,
                       float* sums) const {
    const std::int64_t stretches = (count + kStretch - 1) / kStretch;
    const std::int64_t size = rows_ * width_;
    auto* const partial = reinterpret_cast<float*>(
        context_.backend->scratch(stretches * size * static_cast<std::int64_t>(sizeof(float))));
    const dim3 grid(static_cast<unsigned>((width_ + kWarpThreads - 1) / kWarpThreads),
                    static_cast<unsigned>(std::min<std::int64_t>(stretches, 65535)),
                    static_cast<unsigned>(rows_));
    launch("sum_stretches", context_.stream, {grid, dim3(kColumnThreads), 0}, sum_stretches, ids,
           grad_output, count, width_, partial);
    launch("add_stretches", context_.stream, over(size), add_stretches, partial, stretches, size,
           sums);
  }

  // (count,) of kNowhere.
  [[nodiscard]] Position* fresh_positions(std::int64_t count) const {
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(Position));
    std::byte* const memory = context_.backend->scratch(bytes);
    FM_CUDA(cudaMemsetAsync(memory, 0xFF, static_cast<std::size_t>(bytes), context_.stream));
    return reinterpret_cast<Position*>(memory);
  }

  void check_ids(const std::int32_t* ids, std::int64_t count) const {
    Position* const found = fresh_positions(1);
    launch("find_wrong_id", context_.stream, over(count), find_wrong_id, ids, count, rows_, found);
    Position wrong = kNowhere;
    context_.backend->to_host(&wrong, found, sizeof wrong);
    if (wrong == kNowhere) return;
    std::int32_t id = 0;
    context_.backend->to_host(&id, ids + wrong, sizeof id);
    fail(ErrorCode::kARGUMENT, "node '", name_, "' (embedding): expected ids below its ", rows_,
         " rows, or -1, but received ", id, " in sample ",
         static_cast<std::int64_t>(wrong) / positions_, " of the batch");
  }

  KernelContext context_;
  std::string name_;
  std::int64_t positions_;  // per sample
  std::int64_t rows_;
  std::int64_t width_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Embedding>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("embedding", make)

}  // namespace fishermask::cuda
