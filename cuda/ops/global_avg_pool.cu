// global_avg_pool: y[n, c] = (1/(H·W)) Σ_p x[n, p, c].
// Shapes:     x (N, H, W, C), y (N, C).
// Workspace:  scratch of the sums over positions, which run in f64 (channel_sums.cuh).
// Deterministic: yes, on one kind of device. Bound by memory.
#include "core/window.h"
#include "ops/channel_sums.cuh"
#include "ops/image_items.cuh"

namespace fishermask::cuda {
namespace {

struct WriteMean {
  float* y;
  std::int64_t channels;
  double positions;
  __device__ __forceinline__ void operator()(std::int64_t sample, std::int64_t channel,
                                             const TwoSums& sums) const {
    y[sample * channels + channel] = static_cast<float>(sums.first / positions);
  }
};

__global__ void spread_mean(const ImageSize size, std::int64_t batch, float share,
                            const float* grad_output, float* grad_input, bool add) {
  for_each_image_item(size, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const float value = grad_output[sample * size.channels + item.channel] * share;
    float& to = grad_input[sample * size.count() + index];
    to = add ? to + value : value;
  });
}

class GlobalAvgPool : public Kernel {
 public:
  GlobalAvgPool(const ImageSize& size, const KernelContext& context)
      : size_(size), context_(context) {}

  void forward(const NodeIo& io) override {
    sum_channels(
        *context_.backend, "global_avg_pool", io.batch, positions(), size_.channels,
        PlainTerm{io.inputs[0].as<float>()},
        WriteMean{io.outputs[0].as<float>(), size_.channels, static_cast<double>(positions())});
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    launch("global_avg_pool_backward", context_.stream, over_images(size_, io.batch), spread_mean,
           size_, io.batch, 1.0F / static_cast<float>(positions()), io.grad_outputs[0].as<float>(),
           io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }

 private:
  [[nodiscard]] std::int64_t positions() const { return std::int64_t{size_.height} * size_.width; }

  ImageSize size_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const Shape& in = node.inputs[0].shape;
  if (in.size() != 3 || !fits_image(in[0], in[1], in[2])) return nullptr;
  return std::make_unique<GlobalAvgPool>(image_size(in[0], in[1], in[2]), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("global_avg_pool", make)

}  // namespace fishermask::cuda
