// The elementwise functions without attributes (core/unary_formulas.h; relu has its own file), in
// f32 with CUDA's accurate functions; the reference is the CPU's, in f64.
// Deterministic: yes. Bound by memory.
#include <cmath>
#include <numbers>

#include "core/unary_formulas.h"
#include "ops/elementwise.cuh"

namespace fishermask::cuda {
namespace {

// In f32: f64 units are few on most devices, and erff is accurate to 2 ulp.
struct Erf {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  __device__ __forceinline__ float value(float x) const { return erff(x); }
  __device__ __forceinline__ float slope(float x) const {
    return static_cast<float>(2 * std::numbers::inv_sqrtpi) * expf(-x * x);
  }
};

}  // namespace

FM_REGISTER_CUDA_OP("abs", make_unary<formula::Abs<float>>)
FM_REGISTER_CUDA_OP("neg", make_unary<formula::Neg<float>>)
FM_REGISTER_CUDA_OP("exp", make_unary<formula::Exp<float>>)
FM_REGISTER_CUDA_OP("log", make_unary<formula::Log<float>>)
FM_REGISTER_CUDA_OP("sqrt", make_unary<formula::Sqrt<float>>)
FM_REGISTER_CUDA_OP("reciprocal", make_unary<formula::Reciprocal<float>>)
FM_REGISTER_CUDA_OP("erf", make_unary<Erf>)
FM_REGISTER_CUDA_OP("sin", make_unary<formula::Sin<float>>)
FM_REGISTER_CUDA_OP("cos", make_unary<formula::Cos<float>>)
FM_REGISTER_CUDA_OP("tan", make_unary<formula::Tan<float>>)
FM_REGISTER_CUDA_OP("asin", make_unary<formula::Asin<float>>)
FM_REGISTER_CUDA_OP("acos", make_unary<formula::Acos<float>>)
FM_REGISTER_CUDA_OP("atan", make_unary<formula::Atan<float>>)
FM_REGISTER_CUDA_OP("sinh", make_unary<formula::Sinh<float>>)
FM_REGISTER_CUDA_OP("cosh", make_unary<formula::Cosh<float>>)
FM_REGISTER_CUDA_OP("tanh", make_unary<formula::Tanh<float>>)
FM_REGISTER_CUDA_OP("asinh", make_unary<formula::Asinh<float>>)
FM_REGISTER_CUDA_OP("acosh", make_unary<formula::Acosh<float>>)
FM_REGISTER_CUDA_OP("atanh", make_unary<formula::Atanh<float>>)
FM_REGISTER_CUDA_OP("sigmoid", make_unary<formula::Sigmoid<float>>)
FM_REGISTER_CUDA_OP("softplus", make_unary<formula::Softplus<float>>)
FM_REGISTER_CUDA_OP("softsign", make_unary<formula::Softsign<float>>)
FM_REGISTER_CUDA_OP("silu", make_unary<formula::Silu<float>>)
FM_REGISTER_CUDA_OP("mish", make_unary<formula::Mish<float>>)
FM_REGISTER_CUDA_OP("hard_swish", make_unary<formula::HardSwish<float>>)
FM_REGISTER_CUDA_OP("floor", make_unary<formula::Floor<float>>)
FM_REGISTER_CUDA_OP("ceil", make_unary<formula::Ceil<float>>)
FM_REGISTER_CUDA_OP("round", make_unary<formula::Round<float>>)
FM_REGISTER_CUDA_OP("sign", make_unary<formula::Sign<float>>)
FM_REGISTER_CUDA_OP("not", make_unary<formula::Not<float>>)
FM_REGISTER_CUDA_OP("isnan", make_unary<formula::IsNan<float>>)

}  // namespace fishermask::cuda
