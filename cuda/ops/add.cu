// add: y = Σ_k x_k, elementwise, of two or more inputs of one shape, then relu where it is fused.
// y may lie over the first input, even where that input appears again: up to kMostAtOnce inputs are
// summed in registers, more go through memory aside.
// Deterministic: in the order of the inputs. Bound by memory.
#include <algorithm>

#include "ops/elementwise.cuh"

namespace fishermask::cuda {
namespace {

constexpr int kMostAtOnce = 8;

struct Terms {
  const float* x[kMostAtOnce];
  int count;
};

// Unrolled, so that the loads of all inputs are under way together.
__global__ void sum_terms(const __grid_constant__ Terms terms, float* y, std::int64_t count,
                          std::int64_t quads, bool relu) {
  // As relu's own: NaN passes through.
  const auto clamped = [relu](float sum) { return relu && sum < 0.0F ? 0.0F : sum; };
  for (std::int64_t i = first_item(); i < quads; i += item_step()) {
    float4 sum = quad_at(terms.x[0], i);
#pragma unroll
    for (int k = 1; k < kMostAtOnce; ++k) {
      if (k < terms.count) sum = sum_of(sum, quad_at(terms.x[k], i));
    }
    set_quad(y, i, make_float4(clamped(sum.x), clamped(sum.y), clamped(sum.z), clamped(sum.w)));
  }
  for (std::int64_t i = 4 * quads + first_item(); i < count; i += item_step()) {
    float sum = terms.x[0][i];
#pragma unroll
    for (int k = 1; k < kMostAtOnce; ++k) {
      if (k < terms.count) sum += terms.x[k][i];
    }
    y[i] = clamped(sum);
  }
}

class Add : public Kernel {
 public:
  explicit Add(const KernelContext& context) : context_(context) {}

  void forward(const NodeIo& io) override {
    float* const y = io.outputs[0].as<float>();
    const std::int64_t count = io.outputs[0].count();
    const std::size_t inputs = io.inputs.size();
    float* aside = nullptr;
    if (inputs > kMostAtOnce) {
      const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(float));
      aside = reinterpret_cast<float*>(context_.backend->scratch(bytes));
    }
    Terms terms = {};
    for (std::size_t k = 0; k < inputs; ++k) {
      terms.x[terms.count++] = io.inputs[k].as<float>();
      if (terms.count < kMostAtOnce || k + 1 == inputs) continue;
      sum(terms, aside, count, false);
      terms = {};
      terms.x[terms.count++] = aside;
    }
    sum(terms, y, count, relu_);
  }

  [[nodiscard]] bool fuse(const Epilogue& epilogue) override {
    if (epilogue.add) return false;
    relu_ = epilogue.relu;
    return true;
  }

  void backward(const NodeIo& io) override {
    for (std::size_t k = 0; k < io.grad_inputs.size(); ++k) {
      if (!io.grad_inputs[k]) continue;
      copy_elements(context_.stream, io.grad_outputs[0].as<float>(), io.grad_inputs[k].as<float>(),
                    io.grad_inputs[k].count(), io.accumulate[k]);
    }
  }

 private:
  void sum(const Terms& terms, float* to, std::int64_t count, bool relu) const {
    const bool aligned =
        std::all_of(terms.x, terms.x + terms.count, is_aligned16) && is_aligned16(to);
    const std::int64_t quads = aligned ? count / 4 : 0;
    launch("sum_terms", context_.stream, over_quads(quads, count), sum_terms, terms, to, count,
           quads, relu);
  }

  KernelContext context_;
  bool relu_ = false;
};

std::unique_ptr<Kernel> make(const NodeSpec& /*node*/, const KernelContext& context) {
  return std::make_unique<Add>(context);
}

}  // namespace

FM_REGISTER_CUDA_OP("add", make)

}  // namespace fishermask::cuda
