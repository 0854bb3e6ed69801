// linear: y[…, o] = Σ_i x[…, i] · W[o, i] + b[o], on the last size of x.
// Shapes:     x (N, …, in), W (out, in), b (out,) optional, y (N, …, out).
// Backward:   grad x = δ · W, grad W += δᵀ · x, grad b += sums of δ over rows, in two passes:
// blocks of rows first, then their sums in order. Workspace:  (row blocks, out) f32 for the bias;
// what gemm.h takes. Squares:    as binding/ops/linear.cc. Deterministic: yes. Bound by:   the
// products; the bias's sums by memory.
#include "common/backend.h"
#include "common/launch.cuh"
#include "common/shared.cuh"
#include "core/linear_sizes.h"
#include "ops/gemm.h"

namespace fishermask::cuda {
namespace {

// A block of 32 × 8 threads sums kRowsOfBlock rows of 32 columns. Not measured on a GPU.
constexpr int kColumnsOfBlock = 32;
constexpr int kRowThreads = 8;
constexpr std::int64_t kRowsOfBlock = 256;

// partial[b, o] = Σ of the rows r of block b of from[r, o].
__global__ void sum_row_blocks(const float* from, std::int64_t rows, std::int64_t columns,
                               float* partial) {
  FM_SHARED(float, sums, kRowThreads* kColumnsOfBlock);
  const int x = static_cast<int>(threadIdx.x) % kColumnsOfBlock;
  const int y = static_cast<int>(threadIdx.x) / kColumnsOfBlock;
  const std::int64_t strips = (columns + kColumnsOfBlock - 1) / kColumnsOfBlock;
  const std::int64_t blocks = (rows + kRowsOfBlock - 1) / kRowsOfBlock;
  for (std::int64_t i = blockIdx.x; i < strips * blocks; i += gridDim.x) {
    const std::int64_t column = i % strips * kColumnsOfBlock + x;
    const std::int64_t first = i / strips * kRowsOfBlock;
    const std::int64_t last = std::min(rows, first + kRowsOfBlock);
    float sum = 0.0F;
    if (column < columns) {
      for (std::int64_t r = first + y; r < last; r += kRowThreads)
        sum += from[r * columns + column];
    }
    sums[y * kColumnsOfBlock + x] = sum;
    __syncthreads();
    if (y == 0 && column < columns) {
      for (int other = 1; other < kRowThreads; ++other) sum += sums[other * kColumnsOfBlock + x];
      partial[i / strips * columns + column] = sum;
    }
    __syncthreads();
  }
}

__global__ void add_row_blocks(const float* partial, std::int64_t blocks, std::int64_t columns,
                               float* to) {
  for (std::int64_t i = first_item(); i < columns; i += item_step()) {
    float sum = 0.0F;
    for (std::int64_t b = 0; b < blocks; ++b) sum += partial[b * columns + i];
    to[i] += sum;
  }
}

class Linear : public Kernel {
 public:
  Linear(const LinearSizes& sizes, const KernelContext& context)
      : sizes_(sizes), context_(context) {}

  void forward(const NodeIo& io) override {
    GemmCall call = {.m = io.batch * sizes_.rows, .n = sizes_.out, .k = sizes_.in};
    call.a = {.data = io.inputs[0].as<float>(), .row_stride = sizes_.in};
    call.b = {
        .data = io.parameter("weight").as<float>(), .row_stride = sizes_.in, .transposed = true};
    call.c = io.outputs[0].as<float>();
    call.c_row_stride = sizes_.out;
    if (const TensorView bias = io.parameter("bias")) call.bias = bias.as<float>();
    gemm(*context_.backend, call);
  }

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) backward_input(io);
    if (const TensorView grad = io.grad_parameter("weight")) backward_weight(io, grad.as<float>());
    if (const TensorView grad = io.grad_parameter("bias")) backward_bias(io, grad.as<float>());
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    const float* grad_output = io.grad_outputs[0].as<float>();
    ContractionForm weight;
    weight.grad_output = grad_output;
    weight.input = io.inputs[0].as<float>();
    weight.batch = io.batch;
    weight.in_width = weight.out_width = sizes_.rows;
    weight.in_channels = sizes_.in;
    weight.out_channels = sizes_.out;
    ReductionForm bias;
    bias.grad_output = grad_output;
    bias.batch = io.batch;
    bias.positions = sizes_.rows;
    bias.channels = sizes_.out;
    std::vector<SquareProblem> problems = {{"weight", weight}};
    if (io.parameter("bias")) problems.push_back({"bias", bias});
    return problems;
  }

 private:
  void backward_input(const NodeIo& io) const {
    GemmCall call = {.m = io.batch * sizes_.rows, .n = sizes_.in, .k = sizes_.out};
    call.a = {.data = io.grad_outputs[0].as<float>(), .row_stride = sizes_.out};
    call.b = {.data = io.parameter("weight").as<float>(), .row_stride = sizes_.in};
    call.c = io.grad_inputs[0].as<float>();
    call.c_row_stride = sizes_.in;
    call.beta = io.accumulate[0] ? 1.0F : 0.0F;
    gemm(*context_.backend, call);
  }

  void backward_weight(const NodeIo& io, float* grad) const {
    GemmCall call = {.m = sizes_.out, .n = sizes_.in, .k = io.batch * sizes_.rows};
    call.a = {.data = io.grad_outputs[0].as<float>(), .row_stride = sizes_.out, .transposed = true};
    call.b = {.data = io.inputs[0].as<float>(), .row_stride = sizes_.in};
    call.c = grad;
    call.c_row_stride = sizes_.in;
    call.beta = 1.0F;
    gemm(*context_.backend, call);
  }

  void backward_bias(const NodeIo& io, float* grad) const {
    const std::int64_t rows = io.batch * sizes_.rows;
    const std::int64_t columns = sizes_.out;
    if (rows == 0 || columns == 0) return;
    const std::int64_t blocks = (rows + kRowsOfBlock - 1) / kRowsOfBlock;
    const std::int64_t strips = (columns + kColumnsOfBlock - 1) / kColumnsOfBlock;
    auto* const partial = reinterpret_cast<float*>(
        context_.backend->scratch(blocks * columns * static_cast<std::int64_t>(sizeof(float))));
    constexpr int kThreads = kColumnsOfBlock * kRowThreads;
    launch("sum_row_blocks", context_.stream, over(blocks * strips * kThreads, kThreads),
           sum_row_blocks, io.grad_outputs[0].as<float>(), rows, columns, partial);
    launch("add_row_blocks", context_.stream, over(columns, 128), add_row_blocks, partial, blocks,
           columns, grad);
  }

  LinearSizes sizes_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Linear>(linear_sizes(node), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("linear", make)

}  // namespace fishermask::cuda
