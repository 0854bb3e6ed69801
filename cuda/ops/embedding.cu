// embedding: y[…, c] = W[ids[…], c]; an id of −1 is padding and gives zeros.
// Shapes:     ids (N, T…) i32, W (V, D), y (N, T…, D).
// Accumulate: grad W uses +=, the positions in their order: the CPU's bits. Ids have no gradient.
// Backward:   the first position of an id is found by an integer minimum; its block then reads the
// later ids and adds the gradients of those that are the same.
// Workspace:  8 bytes a row of W (scratch).
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
__global__ void __launch_bounds__(TeamTuning::kMostThreads)
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
    Position* const first = fresh_positions(rows_);
    launch("find_first_positions", context_.stream, over(count), find_first_positions, ids, count,
           first);
    constexpr std::int64_t kBlockColumns = std::int64_t{kScatterThreads} * kColumns;
    const dim3 grid(static_cast<unsigned>(std::min(count, kMostBlocks)),
                    static_cast<unsigned>((width_ + kBlockColumns - 1) / kBlockColumns));
    launch("scatter_rows", context_.stream, {grid, dim3(kScatterThreads), 0}, scatter_rows, ids,
           first, io.grad_outputs[0].as<float>(), count, width_, grad_weight.as<float>());
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
