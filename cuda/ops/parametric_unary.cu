// The elementwise functions with attributes (core/parametric_formulas.h), in f32 with CUDA's
// accurate functions; gelu in its f32 form.
// Deterministic: yes. Bound by memory.
#include <cmath>

#include "core/parametric_formulas.h"
#include "ops/elementwise.cuh"

namespace fishermask::cuda {
namespace {

struct DeviceMath {
  __device__ __forceinline__ static float exp(float x) { return expf(x); }
  __device__ __forceinline__ static float erf(float x) { return erff(x); }
};

// gelu's f32 form with this side's functions.
struct Gelu {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  using Form = formula::GeluOn<DeviceMath>;
  __device__ __forceinline__ float value(float x) const { return Form{}.value(x); }
  __device__ __forceinline__ float slope(float x) const { return Form{}.slope(x); }
};

std::unique_ptr<Kernel> make_gelu(const NodeSpec& node, const KernelContext& context) {
  return formula::is_tanh_form(node) ? make_unary<formula::GeluTanh<float>>(node, context)
                                     : make_unary<Gelu>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("gelu", make_gelu)
FM_REGISTER_CUDA_OP("elu", make_unary<formula::Elu<float>>)
FM_REGISTER_CUDA_OP("selu", make_unary<formula::Selu<float>>)
FM_REGISTER_CUDA_OP("celu", make_unary<formula::Celu<float>>)
FM_REGISTER_CUDA_OP("leaky_relu", make_unary<formula::LeakyRelu<float>>)
FM_REGISTER_CUDA_OP("thresholded_relu", make_unary<formula::ThresholdedRelu<float>>)
FM_REGISTER_CUDA_OP("hard_sigmoid", make_unary<formula::HardSigmoid<float>>)
FM_REGISTER_CUDA_OP("clip", make_unary<formula::Clip<float>>)
FM_REGISTER_CUDA_OP("shrink", make_unary<formula::Shrink<float>>)
FM_REGISTER_CUDA_OP("affine", make_unary<formula::Affine<float>>)

}  // namespace fishermask::cuda
