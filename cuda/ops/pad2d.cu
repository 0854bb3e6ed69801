// pad2d: takes every step-th row and column, then frames the image, and its channels, with `value`
// (as binding/ops/pad2d.cc).
// Shapes:     x (N, H, W, C), y (N, top + ⌈H/step⌉ + bottom, left + ⌈W/step⌉ + right,
//             before + C + after).
// Deterministic: yes: a thread per output forward, per input backward. Bound by memory.
#include "core/pad2d_sizes.h"
#include "ops/image_items.cuh"

namespace fishermask::cuda {
namespace {

struct PadShape {
  ImageSize in, out;
  int top = 0, left = 0, before = 0;
  int step_height = 1, step_width = 1;
  float value = 0;
};

__global__ void pad_forward(const PadShape p, std::int64_t batch, const float* x, float* y) {
  for_each_image_item(p.out, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const std::int64_t row = std::int64_t{item.row - p.top} * p.step_height;
    const std::int64_t column = std::int64_t{item.column - p.left} * p.step_width;
    const int channel = item.channel - p.before;
    const bool inside = row >= 0 && row < p.in.height && column >= 0 && column < p.in.width &&
                        channel >= 0 && channel < p.in.channels;
    const std::int64_t from =
        sample * p.in.count() + (row * p.in.width + column) * p.in.channels + channel;
    y[sample * p.out.count() + index] = inside ? x[from] : p.value;
  });
}

__global__ void pad_backward(const PadShape p, std::int64_t batch, const float* grad_output,
                             float* grad_input, bool add) {
  for_each_image_item(p.in, batch, [&](std::int64_t sample, int index, const ImageItem& item) {
    const bool taken = item.row % p.step_height == 0 && item.column % p.step_width == 0;
    const int row = p.top + item.row / p.step_height;
    const int column = p.left + item.column / p.step_width;
    const int from = (row * p.out.width + column) * p.out.channels + p.before + item.channel;
    const float value = taken ? grad_output[sample * p.out.count() + from] : 0.0F;
    float& to = grad_input[sample * p.in.count() + index];
    to = add ? to + value : value;
  });
}

class Pad2d : public Kernel {
 public:
  Pad2d(const PadShape& shape, const KernelContext& context) : shape_(shape), context_(context) {}

  void forward(const NodeIo& io) override {
    launch("pad2d_forward", context_.stream, over_images(shape_.out, io.batch), pad_forward, shape_,
           io.batch, io.inputs[0].as<float>(), io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    launch("pad2d_backward", context_.stream, over_images(shape_.in, io.batch), pad_backward,
           shape_, io.batch, io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(),
           io.accumulate[0]);
  }

 private:
  PadShape shape_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const Pad2dSizes sizes = pad2d_sizes(node);
  const Shape& in = sizes.in;
  const Shape& out = sizes.out;
  if (!fits_image(in[0], in[1], in[2]) || !fits_image(out[0], out[1], out[2])) return nullptr;
  PadShape shape;
  shape.in = image_size(in[0], in[1], in[2]);
  shape.out = image_size(out[0], out[1], out[2]);
  shape.top = static_cast<int>(sizes.top);
  shape.left = static_cast<int>(sizes.left);
  shape.before = static_cast<int>(sizes.before);
  // A step beyond the image takes its first row alone, as does one of its size.
  shape.step_height = static_cast<int>(std::min(sizes.step_height, kMostImage));
  shape.step_width = static_cast<int>(std::min(sizes.step_width, kMostImage));
  shape.value = static_cast<float>(sizes.value);
  return std::make_unique<Pad2d>(shape, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("pad2d", make)

}  // namespace fishermask::cuda
