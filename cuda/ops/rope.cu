// rope: rotates pairs of each head's values by an angle that grows with the position
// (binding/ops/rope.cc has the maths).
// Shapes:     x, y (N, T, H·d); cosines and sines (T, r/2), computed on the host in f64.
// Backward:   the rotation back, with the same scale; reads no value.
// A block takes a row: a thread rotates a pair, or passes one of a head's other values through.
// In-place:   y may lie over x: a pair is read and written by one thread.
// Deterministic: yes. Bound by memory.
#include "common/backend.h"
#include "common/reduce.cuh"
#include "core/rope_sizes.h"

namespace fishermask::cuda {
namespace {

struct RopePlan {
  std::int64_t rows;  // of the batch
  std::int64_t positions;
  int heads;
  int size;   // of a head
  int pairs;  // rotated, of a head
  bool interleaved;
  const float* cosines;
  const float* sines;
};

// turn: 1 forward, −1 back.
template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    rotate_rows(const float* x, RopePlan z, float turn, bool add, float* y) {
  const int items_per_head = z.size - z.pairs;
  for (std::int64_t row = first_row<kTeam>(); row < z.rows; row += row_step<kTeam>()) {
    const std::int64_t angles = row % z.positions * z.pairs;
    const std::int64_t row_start = row * z.heads * z.size;
    for (int item = team_rank<kTeam>(); item < z.heads * items_per_head;
         item += team_size<kTeam>()) {
      const int i = item % items_per_head;
      const std::int64_t head = row_start + std::int64_t{item / items_per_head} * z.size;
      if (i >= z.pairs) {
        const std::int64_t at = head + z.pairs + i;
        y[at] = add ? y[at] + x[at] : x[at];
        continue;
      }
      const std::int64_t at = head + (z.interleaved ? 2 * i : i);
      const std::int64_t other = at + (z.interleaved ? 1 : z.pairs);
      const float a = x[at];
      const float b = x[other];
      const float cosine = z.cosines[angles + i];
      const float sine = turn * z.sines[angles + i];
      const float first = a * cosine - b * sine;
      const float second = a * sine + b * cosine;
      y[at] = add ? y[at] + first : first;
      y[other] = add ? y[other] + second : second;
    }
  }
}

class Rope : public Kernel {
 public:
  Rope(const NodeSpec& node, const KernelContext& context)
      : context_(context), sizes_(rope_sizes(node)) {
    const RopeTurns<float> turns = rope_turns<float>(node);
    const auto count = static_cast<std::int64_t>(turns.cosines.size());
    turns_ = Buffer<float>(*context.backend, 2 * count, "the angles of rope");
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(float));
    context.backend->from_host(turns_.data(), turns.cosines.data(), bytes);
    context.backend->from_host(turns_.data() + count, turns.sines.data(), bytes);
  }

  void forward(const NodeIo& io) override {
    rotate(io.inputs[0].as<float>(), 1.0F, io.batch, false, io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    rotate(io.grad_outputs[0].as<float>(), -1.0F, io.batch, io.accumulate[0],
           io.grad_inputs[0].as<float>());
  }

 private:
  void rotate(const float* x, float turn, std::int64_t batch, bool add, float* y) const {
    const RopePlan plan = {.rows = batch * sizes_.rows,
                           .positions = sizes_.rows,
                           .heads = static_cast<int>(sizes_.heads),
                           .size = static_cast<int>(sizes_.size),
                           .pairs = static_cast<int>(sizes_.pairs),
                           .interleaved = sizes_.interleaved,
                           .cosines = turns_.data(),
                           .sines = turns_.data() + turns_.count() / 2};
    launch_rows("rotate_rows", context_.stream, plan.rows, sizes_.heads * sizes_.size,
                rotate_rows<Team::kWarp>, rotate_rows<Team::kBlock>, x, plan, turn, add, y);
  }

  KernelContext context_;
  RopeSizes sizes_;
  Buffer<float> turns_;  // cosines (T, r/2), then sines
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Rope>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("rope", make)

}  // namespace fishermask::cuda
