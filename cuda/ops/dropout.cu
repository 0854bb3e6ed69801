// dropout: in training y_i = x_i / (1 − rate) where u_i ≥ rate, else 0; in evaluation y = x.
// Random:     u_i = philox_uniform(the node's stream of this step, n · per-sample size + i): the
// CPU's numbers, and its products to the bit. Backward draws them again, so nothing is kept.
// A thread draws one Philox block, for the four values that it then writes.
// In-place:   y may lie over x.   Deterministic: yes.   Bound by memory.
#include "common/backend.h"
#include "common/launch.cuh"
#include "common/philox.cuh"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kWords = 4;

__global__ void drop_values(const float* from, std::int64_t count, PhiloxKey key, double rate,
                            float scale, bool add, float* to) {
  const std::int64_t blocks = (count + kWords - 1) / kWords;
  for (std::int64_t block = first_item(); block < blocks; block += item_step()) {
    const PhiloxWords words = philox_words(key, static_cast<std::uint64_t>(block));
#pragma unroll
    for (unsigned word = 0; word < kWords; ++word) {
      const std::int64_t i = block * kWords + word;
      if (i >= count) break;
      const double uniform = uniform_of_word(philox_word(words, word));
      const float kept = __fmul_rn(from[i], uniform >= rate ? scale : 0.0F);
      to[i] = add ? __fadd_rn(to[i], kept) : kept;
    }
  }
}

__global__ void pass_values(const float* from, std::int64_t count, bool add, float* to) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    to[i] = add ? to[i] + from[i] : from[i];
  }
}

class Dropout : public Kernel {
 public:
  Dropout(const NodeSpec& node, const KernelContext& context)
      : context_(context),
        rate_(node.attributes.number("rate")),
        scale_(rate_ < 1 ? static_cast<float>(1 / (1 - rate_)) : 0.0F) {}

  void forward(const NodeIo& io) override {
    drop(io, io.inputs[0].as<float>(), io.outputs[0].as<float>(), io.outputs[0].count(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    drop(io, io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(),
         io.grad_inputs[0].count(), io.accumulate[0]);
  }

 private:
  void drop(const NodeIo& io, const float* from, float* to, std::int64_t count, bool add) const {
    if (io.training) {
      launch("drop_values", context_.stream, over((count + kWords - 1) / kWords), drop_values, from,
             count, io.rng, rate_, scale_, add, to);
    } else if (add || from != to) {
      launch("pass_values", context_.stream, over(count), pass_values, from, count, add, to);
    }
  }

  KernelContext context_;
  double rate_;
  float scale_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Dropout>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("dropout", make)

}  // namespace fishermask::cuda
