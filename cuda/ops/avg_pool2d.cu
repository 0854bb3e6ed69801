// avg_pool2d: y[n, oy, ox, c] = (1/d) Σ over the window of x[n, ·, ·, c], x = 0 in the padding; d
// is the window's size, or with count_include_pad false the number of its taps inside the image.
// Shapes:     x (N, H, W, C), y (N, H', W', C).
// Backward:   a gather: every input adds up the shares of the windows that cover it.
// Deterministic: yes. Bound by memory; overlapping windows are read again from the caches.
#include "ops/pool_window.cuh"

namespace fishermask::cuda {
namespace {

// How many taps of window o lie inside.
__device__ __forceinline__ int taps_inside(const PoolAxis& axis, int o) {
  int count = 0;
  for (int k = 0; k < axis.kernel; ++k) count += axis.inside(axis.at(o, k)) ? 1 : 0;
  return count;
}

__device__ __forceinline__ float share_of(const PoolShape& p, bool count_padding, int oy, int ox) {
  const float rows = static_cast<float>(count_padding ? p.rows.kernel : taps_inside(p.rows, oy));
  const float columns =
      static_cast<float>(count_padding ? p.columns.kernel : taps_inside(p.columns, ox));
  return 1.0F / (rows * columns);
}

__global__ void avg_pool_forward(const PoolShape p, bool count_padding, std::int64_t batch,
                                 const float* x, float* y) {
  for_each_image_item(p.out, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const float* const image = x + sample * p.in.count() + item.channel;
    float sum = 0.0F;
    for (int ky = 0; ky < p.rows.kernel; ++ky) {
      const int row = p.rows.at(item.row, ky);
      if (!p.rows.inside(row)) continue;
      float line = 0.0F;  // line by line: fewer roundings than one sum
      for (int kx = 0; kx < p.columns.kernel; ++kx) {
        const int column = p.columns.at(item.column, kx);
        if (p.columns.inside(column)) line += image[(row * p.in.width + column) * p.in.channels];
      }
      sum += line;
    }
    y[sample * p.out.count() + index] = sum * share_of(p, count_padding, item.row, item.column);
  });
}

__global__ void avg_pool_backward(const PoolShape p, bool count_padding, std::int64_t batch,
                                  const float* grad_output, float* grad_input, bool add) {
  for_each_image_item(p.in, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const float* const image = grad_output + sample * p.out.count() + item.channel;
    float sum = 0.0F;
    for (int oy = p.rows.first_output(item.row); oy <= p.rows.last_output(item.row); ++oy) {
      if (!p.rows.sees(oy, item.row)) continue;
      for (int ox = p.columns.first_output(item.column); ox <= p.columns.last_output(item.column);
           ++ox) {
        if (!p.columns.sees(ox, item.column)) continue;
        sum += image[(oy * p.out.width + ox) * p.out.channels] * share_of(p, count_padding, oy, ox);
      }
    }
    float& to = grad_input[sample * p.in.count() + index];
    to = add ? to + sum : sum;
  });
}

class AvgPool : public Kernel {
 public:
  AvgPool(const PoolShape& shape, bool count_padding, const KernelContext& context)
      : shape_(shape), count_padding_(count_padding), context_(context) {}

  void forward(const NodeIo& io) override {
    launch("avg_pool_forward", context_.stream, over_images(shape_.out, io.batch), avg_pool_forward,
           shape_, count_padding_, io.batch, io.inputs[0].as<float>(), io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    launch("avg_pool_backward", context_.stream, over_images(shape_.in, io.batch),
           avg_pool_backward, shape_, count_padding_, io.batch, io.grad_outputs[0].as<float>(),
           io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }

 private:
  PoolShape shape_;
  bool count_padding_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const Window window = pool_window_of(node);
  const std::int64_t channels = node.inputs[0].shape[2];
  if (!covers_pool(window, channels)) return nullptr;
  return std::make_unique<AvgPool>(pool_shape(window, channels),
                                   node.attributes.boolean("count_include_pad", true), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("avg_pool2d", make)

}  // namespace fishermask::cuda
