// lrn: y[c] = x[c] · s[c]^−beta with s[c] = bias + alpha/size · Σ x² over the `size` channels that
// begin ⌊(size − 1)/2⌋ before c, as far as there are any (as binding/ops/lrn.cc).
// Shapes:     x, y (N, …, C).
// Backward:   grad x[j] = g[j] · s[j]^−beta − 2·alpha·beta/size · x[j] · Σ g[c]·x[c]·s[c]^(−beta−1)
//             over the c whose window holds j; a first launch writes the terms of the sum.
// Workspace:  scratch as large as x, backward.
// Deterministic: yes: a thread per element. Bound by memory for the usual sizes (5 channels, from
//             the caches), and by powf.
#include "common/backend.h"
#include "common/launch.cuh"
#include "core/lrn_sizes.h"

namespace fishermask::cuda {
namespace {

struct LrnShape {
  std::int64_t channels = 1, before = 0, after = 0;
  float factor = 0, beta = 0, bias = 0;
};

// s of channel c of the row that begins at x.
__device__ __forceinline__ float window_sum(const LrnShape& p, const float* x, std::int64_t c) {
  const std::int64_t first = c > p.before ? c - p.before : 0;
  const std::int64_t last = p.channels - 1 - c > p.after ? c + p.after : p.channels - 1;
  float sum = 0.0F;
  for (std::int64_t i = first; i <= last; ++i) sum += x[i] * x[i];
  return p.bias + p.factor * sum;
}

__global__ void lrn_forward(const LrnShape p, std::int64_t count, const float* x, float* y) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t c = i % p.channels;
    y[i] = x[i] * powf(window_sum(p, x + (i - c), c), -p.beta);
  }
}

// terms = g · x · s^(−beta−1)
__global__ void lrn_terms(const LrnShape p, std::int64_t count, const float* x,
                          const float* grad_output, float* terms) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t c = i % p.channels;
    const float sum = window_sum(p, x + (i - c), c);
    terms[i] = grad_output[i] * x[i] * powf(sum, -p.beta) / sum;
  }
}

__global__ void lrn_backward(const LrnShape p, std::int64_t count, const float* x,
                             const float* grad_output, const float* terms, float* grad_input,
                             bool add) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t j = i % p.channels;
    const std::int64_t row = i - j;
    const std::int64_t first = j > p.after ? j - p.after : 0;
    const std::int64_t last = p.channels - 1 - j > p.before ? j + p.before : p.channels - 1;
    float sum = 0.0F;
    for (std::int64_t c = first; c <= last; ++c) sum += terms[row + c];
    const float power = powf(window_sum(p, x + row, j), -p.beta);
    const float value = grad_output[i] * power - 2.0F * p.factor * p.beta * x[i] * sum;
    grad_input[i] = add ? grad_input[i] + value : value;
  }
}

class Lrn : public Kernel {
 public:
  Lrn(const LrnSizes& sizes, const KernelContext& context)
      : shape_{sizes.channels,
               sizes.before,
               sizes.after,
               static_cast<float>(sizes.factor),
               static_cast<float>(sizes.beta),
               static_cast<float>(sizes.bias)},
        context_(context) {}

  void forward(const NodeIo& io) override {
    const std::int64_t count = io.inputs[0].count();
    launch("lrn_forward", context_.stream, over(count), lrn_forward, shape_, count,
           io.inputs[0].as<float>(), io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const float* const x = io.inputs[0].as<float>();
    const float* const grad_output = io.grad_outputs[0].as<float>();
    const std::int64_t count = io.inputs[0].count();
    auto* const terms = reinterpret_cast<float*>(
        context_.backend->scratch(count * static_cast<std::int64_t>(sizeof(float))));
    launch("lrn_terms", context_.stream, over(count), lrn_terms, shape_, count, x, grad_output,
           terms);
    launch("lrn_backward", context_.stream, over(count), lrn_backward, shape_, count, x,
           grad_output, terms, io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }

 private:
  LrnShape shape_;
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Lrn>(lrn_sizes(node), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("lrn", make)

}  // namespace fishermask::cuda
