// reduce_sum, _mean, _max, _min, _prod, _l1, _l2, _log_sum_exp: one number for each run along the
// axes.
// Kernels:    values are folds (fold.cuh); gradients are elementwise over x, after a fold where a
//             slope needs more than x and y: which of equals is the first (max, min), the product
//             and how many zeros it has (prod), the f64 result (log_sum_exp).
// Workspace:  from the pool, up to 16 bytes an output, and that of the folds.
// Sums are f64. Deterministic: yes. Bound by memory.
#include <cmath>
#include <limits>
#include <memory>

#include "core/reduced_shape.h"
#include "ops/elementwise.cuh"
#include "ops/fold.cuh"

namespace fishermask::cuda {
namespace {

constexpr std::size_t kInputLane = 0;
constexpr std::size_t kResultLane = 1;

// --- values: a reduction maps x, combines, and makes y of the state

struct DoubleSum {
  using State = double;
  __device__ __forceinline__ static double identity() { return 0.0; }
  __device__ __forceinline__ static double combine(double a, double b) { return a + b; }
};

struct Sum : DoubleSum {
  __device__ __forceinline__ static double map(double x) { return x; }
  __device__ __forceinline__ static double result(double sum, double /*terms*/) { return sum; }
};
struct Mean : Sum {
  __device__ __forceinline__ static double result(double sum, double terms) { return sum / terms; }
};
struct L1 : Sum {
  __device__ __forceinline__ static double map(double x) { return std::abs(x); }
};
struct L2 : Sum {
  __device__ __forceinline__ static double map(double x) { return x * x; }
  __device__ __forceinline__ static double result(double sum, double /*terms*/) {
    return std::sqrt(sum);
  }
};
struct Product : Sum {
  __device__ __forceinline__ static double identity() { return 1.0; }
  __device__ __forceinline__ static double combine(double a, double b) { return a * b; }
};
// kSign 1: the largest; −1: the smallest. NaN wins.
template <int kSign>
struct Extreme {
  using State = float;
  __device__ __forceinline__ static float identity() {
    return -kSign * std::numeric_limits<float>::infinity();
  }
  __device__ __forceinline__ static float combine(float a, float b) {
    if (kSign * b > kSign * a || b != b) return a != a ? a : b;
    return a;
  }
  __device__ __forceinline__ static float map(float x) { return x; }
  __device__ __forceinline__ static float result(float best, double /*terms*/) { return best; }
};

template <typename R>
struct ValueFold : R {
  using State = typename R::State;
  using Last = ValueFold;
  const float* x;
  float* y;
  double terms;

  __device__ __forceinline__ State term(const std::int64_t (&offset)[kBroadcastLanes],
                                        std::int64_t /*result*/) const {
    return R::map(x[offset[kInputLane]]);
  }
  __device__ __forceinline__ void finish(std::int64_t at, State state) const {
    y[at] = static_cast<float>(R::result(state, terms));
  }
};

// The sum of e^(x − most). Nothing but −inf, an inf or a NaN: the largest is the result.
template <typename T>
struct LogSumFold : DoubleSum {
  using Last = LogSumFold;
  const float* x;
  const float* most;
  T* y;

  __device__ __forceinline__ double term(const std::int64_t (&offset)[kBroadcastLanes],
                                         std::int64_t result) const {
    return std::exp(static_cast<double>(x[offset[kInputLane]]) - static_cast<double>(most[result]));
  }
  __device__ __forceinline__ void finish(std::int64_t at, double sum) const {
    const double largest = most[at];
    y[at] = static_cast<T>(std::isfinite(largest) ? largest + std::log(sum) : largest);
  }
};

// --- what slopes need of a whole run

// Where the first value stands that is the result.
struct FirstFold {
  using State = std::int64_t;
  using Last = FirstFold;
  const float* x;
  const float* y;
  std::int64_t* first;

  __device__ __forceinline__ static State identity() {
    return std::numeric_limits<std::int64_t>::max();
  }
  __device__ __forceinline__ static State combine(State a, State b) { return a < b ? a : b; }
  __device__ __forceinline__ State term(const std::int64_t (&offset)[kBroadcastLanes],
                                        std::int64_t result) const {
    const float value = x[offset[kInputLane]];
    const float best = y[result];
    const bool takes = value == best || (value != value && best != best);
    return takes ? offset[kInputLane] : identity();
  }
  __device__ __forceinline__ void finish(std::int64_t at, State state) const { first[at] = state; }
};

// The product without its zeros, and how many there are.
struct Factors {
  double others;
  double zeros;
};
struct FactorsFold {
  using State = Factors;
  using Last = FactorsFold;
  const float* x;
  Factors* factors;

  __device__ __forceinline__ static Factors identity() { return {1.0, 0.0}; }
  __device__ __forceinline__ static Factors combine(Factors a, Factors b) {
    return {a.others * b.others, a.zeros + b.zeros};
  }
  __device__ __forceinline__ Factors term(const std::int64_t (&offset)[kBroadcastLanes],
                                          std::int64_t /*result*/) const {
    const double value = x[offset[kInputLane]];
    return value == 0 ? Factors{1.0, 1.0} : Factors{value, 0.0};
  }
  __device__ __forceinline__ void finish(std::int64_t at, Factors state) const {
    factors[at] = state;
  }
};

// --- slopes: ∂y[result]/∂x[at]

struct ConstantSlope {
  double slope;
  __device__ __forceinline__ double operator()(std::int64_t, std::int64_t) const { return slope; }
};
struct FirstSlope {
  const std::int64_t* first;
  __device__ __forceinline__ double operator()(std::int64_t at, std::int64_t result) const {
    return at == first[result] ? 1.0 : 0.0;
  }
};
struct ProductSlope {
  const float* x;
  const Factors* factors;
  __device__ __forceinline__ double operator()(std::int64_t at, std::int64_t result) const {
    const Factors all = factors[result];
    const double value = x[at];
    if (all.zeros == 0) return all.others / value;
    return all.zeros == 1 && value == 0 ? all.others : 0.0;
  }
};
struct L1Slope {
  const float* x;
  __device__ __forceinline__ double operator()(std::int64_t at, std::int64_t) const {
    const double value = x[at];
    return value > 0 ? 1.0 : value < 0 ? -1.0 : value;
  }
};
struct L2Slope {
  const float* x;
  const float* y;
  __device__ __forceinline__ double operator()(std::int64_t at, std::int64_t result) const {
    const double norm = y[result];
    return norm == 0 ? 0.0 : static_cast<double>(x[at]) / norm;
  }
};
struct LogSumSlope {
  const float* x;
  const double* y;  // an f32 one of 1000 leaves but four digits of e^(x − y)
  __device__ __forceinline__ double operator()(std::int64_t at, std::int64_t result) const {
    return std::exp(static_cast<double>(x[at]) - y[result]);
  }
};

template <typename Slope>
__global__ void reduce_slopes(const __grid_constant__ BroadcastWalk walk, Slope slope,
                              const float* grad_output, float* grad_input, bool add) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[kBroadcastLanes] = {};
    add_offsets(walk, i, offset);
    const std::int64_t result = offset[kResultLane];
    const double s = slope(i, result);
    const auto passed =
        static_cast<float>(s == 0 ? 0.0 : static_cast<double>(grad_output[result]) * s);
    grad_input[i] = add ? grad_input[i] + passed : passed;
  }
}

// --- the kernels

class Reduce : public Kernel {
 public:
  Reduce(const NodeSpec& node, const KernelContext& context)
      : context_(context), input_(node.inputs[0].shape), output_(kept_shape(node)) {}

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) pass(io);
  }

 protected:
  virtual void pass(const NodeIo& io) = 0;

  // The walk over x, in whose order x lies, and where each result is.
  [[nodiscard]] BroadcastDims dims(const NodeIo& io) const {
    return broadcast_dims({{input_}, {output_}}, input_, io.batch);
  }
  [[nodiscard]] std::int64_t results(const NodeIo& io) const {
    return io.batch * element_count(output_);
  }
  [[nodiscard]] double terms() const {
    return static_cast<double>(element_count(input_) / element_count(output_));
  }

  template <typename F>
  void fold(const NodeIo& io, const F& f) const {
    fold_lane("reduce", context_, f, dims(io), kResultLane);
  }
  template <typename R>
  void value(const NodeIo& io, float* y) const {
    fold(io, ValueFold<R>{{}, io.inputs[0].as<float>(), y, terms()});
  }
  template <typename Slope>
  void slopes(const NodeIo& io, const Slope& slope) const {
    const BroadcastWalk walk = walk_of(dims(io));
    launch("reduce_slopes", context_.stream, over(walk.count), reduce_slopes<Slope>, walk, slope,
           io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }
  template <typename T>
  [[nodiscard]] Buffer<T> per_result(const NodeIo& io) const {
    return Buffer<T>(*context_.backend, results(io), "a reduction's gradient");
  }

 private:
  KernelContext context_;
  Shape input_;   // per sample
  Shape output_;  // per sample, of the input's rank
};

template <typename R, bool kMean = false>
class ReduceSum : public Reduce {
 public:
  using Reduce::Reduce;
  void forward(const NodeIo& io) override { value<R>(io, io.outputs[0].as<float>()); }
  void pass(const NodeIo& io) override { slopes(io, ConstantSlope{kMean ? 1 / terms() : 1.0}); }
};

template <int kSign>
class ReduceExtreme : public Reduce {
 public:
  using Reduce::Reduce;
  void forward(const NodeIo& io) override { value<Extreme<kSign>>(io, io.outputs[0].as<float>()); }
  void pass(const NodeIo& io) override {
    const auto first = per_result<std::int64_t>(io);
    fold(io, FirstFold{io.inputs[0].as<float>(), io.outputs[0].as<float>(), first.data()});
    slopes(io, FirstSlope{first.data()});
  }
};

class ReduceProduct : public Reduce {
 public:
  using Reduce::Reduce;
  void forward(const NodeIo& io) override { value<Product>(io, io.outputs[0].as<float>()); }
  void pass(const NodeIo& io) override {
    const auto factors = per_result<Factors>(io);
    fold(io, FactorsFold{io.inputs[0].as<float>(), factors.data()});
    slopes(io, ProductSlope{io.inputs[0].as<float>(), factors.data()});
  }
};

class ReduceL1 : public Reduce {
 public:
  using Reduce::Reduce;
  void forward(const NodeIo& io) override { value<L1>(io, io.outputs[0].as<float>()); }
  void pass(const NodeIo& io) override { slopes(io, L1Slope{io.inputs[0].as<float>()}); }
};

class ReduceL2 : public Reduce {
 public:
  using Reduce::Reduce;
  void forward(const NodeIo& io) override { value<L2>(io, io.outputs[0].as<float>()); }
  void pass(const NodeIo& io) override {
    slopes(io, L2Slope{io.inputs[0].as<float>(), io.outputs[0].as<float>()});
  }
};

class ReduceLogSumExp : public Reduce {
 public:
  using Reduce::Reduce;
  void forward(const NodeIo& io) override { log_sum(io, io.outputs[0].as<float>()); }
  void pass(const NodeIo& io) override {
    const auto exact = per_result<double>(io);
    log_sum(io, exact.data());
    slopes(io, LogSumSlope{io.inputs[0].as<float>(), exact.data()});
  }

 private:
  template <typename T>
  void log_sum(const NodeIo& io, T* y) const {
    const auto most = per_result<float>(io);
    value<Extreme<1>>(io, most.data());
    fold(io, LogSumFold<T>{{}, io.inputs[0].as<float>(), most.data(), y});
  }
};

template <typename R>
std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<R>(node, context);
}

using ReduceMean = ReduceSum<Mean, true>;

}  // namespace

FM_REGISTER_CUDA_OP("reduce_sum", make<ReduceSum<Sum>>)
FM_REGISTER_CUDA_OP("reduce_mean", make<ReduceMean>)
FM_REGISTER_CUDA_OP("reduce_max", make<ReduceExtreme<1>>)
FM_REGISTER_CUDA_OP("reduce_min", make<ReduceExtreme<-1>>)
FM_REGISTER_CUDA_OP("reduce_prod", make<ReduceProduct>)
FM_REGISTER_CUDA_OP("reduce_l1", make<ReduceL1>)
FM_REGISTER_CUDA_OP("reduce_l2", make<ReduceL2>)
FM_REGISTER_CUDA_OP("reduce_log_sum_exp", make<ReduceLogSumExp>)

}  // namespace fishermask::cuda
