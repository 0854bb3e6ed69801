// max_pool2d: y[n, oy, ox, c] = max over the window of x[n, ·, ·, c]; the padding takes no part.
// Among equal values the first of the window wins; NaN wins over any number (as
// binding/ops/max_pool2d.cc).
// Shapes:     x (N, H, W, C), y (N, H', W', C).
// Saved:      the winner's offset in its sample, int32, per output.
// Backward:   a gather: every input adds up the windows that cover it and that it won.
// Deterministic: yes. Bound by memory; overlapping windows are read again from the caches.
#include "ops/pool_window.cuh"

namespace fishermask::cuda {
namespace {

__global__ void max_pool_forward(const PoolShape p, std::int64_t batch, const float* x, float* y,
                                 std::int32_t* winners) {
  for_each_image_item(p.out, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const float* const image = x + sample * p.in.count();
    float best = 0.0F;
    int winner = -1;
    for (int ky = 0; ky < p.rows.kernel; ++ky) {
      const int row = p.rows.at(item.row, ky);
      if (!p.rows.inside(row)) continue;
      for (int kx = 0; kx < p.columns.kernel; ++kx) {
        const int column = p.columns.at(item.column, kx);
        if (!p.columns.inside(column)) continue;
        const int offset = (row * p.in.width + column) * p.in.channels + item.channel;
        const float value = image[offset];
        if (winner < 0 || value > best || value != value) {
          best = value;
          winner = offset;
        }
      }
    }
    y[sample * p.out.count() + index] = best;
    winners[sample * p.out.count() + index] = winner;
  });
}

__global__ void max_pool_backward(const PoolShape p, std::int64_t batch, const float* grad_output,
                                  const std::int32_t* winners, float* grad_input, bool add) {
  for_each_image_item(p.in, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const std::int64_t first = sample * p.out.count();
    float sum = 0.0F;
    for (int oy = p.rows.first_output(item.row); oy <= p.rows.last_output(item.row); ++oy) {
      for (int ox = p.columns.first_output(item.column); ox <= p.columns.last_output(item.column);
           ++ox) {
        const std::int64_t o = first + (oy * p.out.width + ox) * p.out.channels + item.channel;
        if (winners[o] == index) sum += grad_output[o];
      }
    }
    float& to = grad_input[sample * p.in.count() + index];
    to = add ? to + sum : sum;
  });
}

class MaxPool : public Kernel {
 public:
  MaxPool(const PoolShape& shape, const KernelContext& context)
      : shape_(shape), context_(context) {}

  void forward(const NodeIo& io) override {
    launch("max_pool_forward", context_.stream, over_images(shape_.out, io.batch), max_pool_forward,
           shape_, io.batch, io.inputs[0].as<float>(), io.outputs[0].as<float>(),
           reinterpret_cast<std::int32_t*>(io.saved_per_sample));
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    launch("max_pool_backward", context_.stream, over_images(shape_.in, io.batch),
           max_pool_backward, shape_, io.batch, io.grad_outputs[0].as<float>(),
           reinterpret_cast<const std::int32_t*>(io.saved_per_sample),
           io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }

 private:
  PoolShape shape_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const Window window = pool_window_of(node);
  const std::int64_t channels = node.inputs[0].shape[2];
  if (!covers_pool(window, channels)) return nullptr;
  return std::make_unique<MaxPool>(pool_shape(window, channels), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("max_pool2d", make)

}  // namespace fishermask::cuda
