// Convolutions by cuDNN. Written against its headers and its descriptors; its kernels were NOT RUN:
// there was no GPU where this was built. test/cuda/tools/fake_cudnn.cc stands in for it in tests.
//
// Layout:     tensors are channels-last, as they are. Weights are ordered (O, kh, kw, I) first,
// once for all products of a pass; the gradient of the weights comes in that order and is added
// from there. A kernel of one tap needs neither. Precision:  f32 asks for FMA alone, TF32 for
// cuDNN's default, which rounds operands to TF32 at the most. Only algorithms that multiply the
// operands themselves are taken: Winograd's and Fourier's round sums of them. Deterministic: only
// algorithms that cuDNN says are; the first of its list that fits, which depends on the problem,
// the device and the library's version alone. Workspace:  at most kMostWorkspace, from scratch().
// After a product's first call nothing is allocated, described or waited for.
#include "ops/cudnn_conv.h"

#include <algorithm>

#include "core/error.h"
#include "ops/aligned.h"

namespace fishermask::cuda {
namespace {

using cudnn::kSuccess;

constexpr std::size_t kMostWorkspace = std::size_t{256} << 20U;
constexpr int kMostOffers = 24;  // an algorithm may be listed once for each kind of arithmetic

std::int64_t as_bytes(std::size_t bytes) { return static_cast<std::int64_t>(bytes); }
int as_int(std::int64_t size) { return static_cast<int>(size); }

// cuDNN pads both sides alike: as many positions as it would find are computed.
bool covers_axis(const WindowAxis& axis) {
  const std::int64_t reach = axis.dilation * (axis.kernel - 1) + 1;
  const std::int64_t room = axis.in + 2 * axis.pad_before - reach;
  return axis.pad_before >= 0 && room >= 0 && room / axis.stride + 1 == axis.out;
}

bool covers(const ConvShape& shape) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  const std::int64_t taps = shape.window.rows.kernel * shape.window.columns.kernel;
  return covers_axis(shape.window.rows) && covers_axis(shape.window.columns) && shape.batch > 0 &&
         shape.batch * shape.in_positions() <= kMost / shape.in &&
         shape.batch * shape.out_positions() <= kMost / shape.out &&
         shape.out * (shape.in / shape.groups) <= kMost / taps;
}

cudnn::MathType math_of(Precision precision) {
  return precision == Precision::kF32 ? cudnn::kFmaMath : cudnn::kDefaultMath;
}

// A failed call may leave an error behind that the next launch would take for its own. One that has
// broken the device stays and shows there.
void forget_error() { (void)cudaGetLastError(); }

std::size_t rounded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

constexpr float kOne = 1.0F;
constexpr float kZero = 0.0F;

}  // namespace

std::unique_ptr<CudnnConv> CudnnConv::make(const ConvShape& shape, const KernelContext& context) {
  if (!covers(shape)) return nullptr;
  Cudnn* const cudnn = context.backend->cudnn();
  if (cudnn == nullptr) return nullptr;
  std::unique_ptr<CudnnConv> made(new CudnnConv(shape, context, *cudnn));
  return made->describe() ? std::move(made) : nullptr;
}

CudnnConv::CudnnConv(const ConvShape& shape, const KernelContext& context, Cudnn& cudnn)
    : shape_(shape),
      context_(context),
      cudnn_(cudnn),
      order_{shape.out, shape.in / shape.groups,
             shape.window.rows.kernel * shape.window.columns.kernel},
      x_(nullptr, cudnn.api().tensor_destroy),
      y_(nullptr, cudnn.api().tensor_destroy),
      weight_(nullptr, cudnn.api().filter_destroy),
      plans_{Plan(cudnn.api()), Plan(cudnn.api()), Plan(cudnn.api())} {}

bool CudnnConv::describe() {
  const cudnn::Api& api = cudnn_.api();
  const Window& window = shape_.window;
  const auto tensor = [&](Owned<cudnn::Tensor>& into, std::int64_t channels, std::int64_t rows,
                          std::int64_t columns) {
    cudnn::Tensor raw = nullptr;
    if (api.tensor_create(&raw) != kSuccess) return false;
    into.reset(raw);
    return api.tensor_set(raw, cudnn::kChannelsLast, cudnn::kFloat, as_int(shape_.batch),
                          as_int(channels), as_int(rows), as_int(columns)) == kSuccess;
  };
  if (!tensor(x_, shape_.in, window.rows.in, window.columns.in)) return false;
  if (!tensor(y_, shape_.out, window.rows.out, window.columns.out)) return false;
  cudnn::Filter raw = nullptr;
  if (api.filter_create(&raw) != kSuccess) return false;
  weight_.reset(raw);
  return api.filter_set(raw, cudnn::kFloat, cudnn::kChannelsLast, as_int(order_.outputs),
                        as_int(order_.inputs), as_int(window.rows.kernel),
                        as_int(window.columns.kernel)) == kSuccess;
}

bool CudnnConv::describe(Plan& plan) const {
  const cudnn::Api& api = cudnn_.api();
  const WindowAxis& rows = shape_.window.rows;
  const WindowAxis& columns = shape_.window.columns;
  cudnn::Convolution raw = nullptr;
  if (api.convolution_create(&raw) != kSuccess) return false;
  plan.convolution.reset(raw);
  return api.convolution_set(raw, as_int(rows.pad_before), as_int(columns.pad_before),
                             as_int(rows.stride), as_int(columns.stride), as_int(rows.dilation),
                             as_int(columns.dilation), cudnn::kCrossCorrelation,
                             cudnn::kFloat) == kSuccess &&
         api.convolution_set_groups(raw, as_int(shape_.groups)) == kSuccess &&
         api.convolution_set_math(raw, math_of(context_.precision)) == kSuccess;
}

cudnn::Status CudnnConv::offers(Product product, const Plan& plan, int* found,
                                cudnn::Performance* into) const {
  const cudnn::Api& api = cudnn_.api();
  const cudnn::Handle handle = cudnn_.handle();
  const cudnn::Convolution convolution = plan.convolution.get();
  switch (product) {
    case Product::kOutput:
      return api.forward_algorithms(handle, x_.get(), weight_.get(), convolution, y_.get(),
                                    kMostOffers, found, into);
    case Product::kInput:
      return api.input_algorithms(handle, weight_.get(), y_.get(), convolution, x_.get(),
                                  kMostOffers, found, into);
    case Product::kWeight:
      break;
  }
  return api.weight_algorithms(handle, x_.get(), y_.get(), convolution, weight_.get(), kMostOffers,
                               found, into);
}

cudnn::Status CudnnConv::workspace(Product product, const Plan& plan, int algorithm,
                                   std::size_t* bytes) const {
  const cudnn::Api& api = cudnn_.api();
  const cudnn::Handle handle = cudnn_.handle();
  const cudnn::Convolution convolution = plan.convolution.get();
  switch (product) {
    case Product::kOutput:
      return api.forward_workspace(handle, x_.get(), weight_.get(), convolution, y_.get(),
                                   algorithm, bytes);
    case Product::kInput:
      return api.input_workspace(handle, weight_.get(), y_.get(), convolution, x_.get(), algorithm,
                                 bytes);
    case Product::kWeight:
      break;
  }
  return api.weight_workspace(handle, x_.get(), y_.get(), convolution, weight_.get(), algorithm,
                              bytes);
}

// The algorithms that multiply operands as they are: implicit and explicit products of matrices.
bool CudnnConv::take(Product product, const cudnn::Performance& offer, Plan& plan) const {
  const auto listed = [&](std::initializer_list<int> algorithms) {
    return std::find(algorithms.begin(), algorithms.end(), offer.algorithm) != algorithms.end();
  };
  const bool plain = product == Product::kOutput  ? listed({0, 1, 2})
                     : product == Product::kInput ? listed({0, 1})
                                                  : listed({0, 1, 3});
  const bool exact = context_.precision == Precision::kF32 ? offer.math == cudnn::kFmaMath
                                                           : offer.math != cudnn::kConvertingMath;
  if (offer.status != kSuccess || offer.determinism != cudnn::kDeterministic || !plain || !exact) {
    return false;
  }
  // An algorithm is an offer together with its arithmetic.
  if (cudnn_.api().convolution_set_math(plan.convolution.get(), offer.math) != kSuccess) {
    return false;
  }
  std::size_t bytes = 0;
  if (workspace(product, plan, offer.algorithm, &bytes) != kSuccess || bytes > kMostWorkspace) {
    return false;
  }
  plan.algorithm = offer.algorithm;
  plan.workspace_bytes = rounded(bytes);
  return true;
}

bool CudnnConv::choose(Product product, Plan& plan) const {
  if (!describe(plan)) return false;
  std::array<cudnn::Performance, kMostOffers> all{};
  int found = 0;
  if (offers(product, plan, &found, all.data()) != kSuccess) return false;
  for (int i = 0; i < std::min(found, kMostOffers); ++i) {
    if (take(product, all[static_cast<std::size_t>(i)], plan)) return true;
  }
  return false;
}

CudnnConv::Plan* CudnnConv::plan_of(Product product) {
  Plan& plan = plans_[static_cast<std::size_t>(product)];
  if (!plan.tried) {
    plan.tried = true;
    plan.refused = !choose(product, plan);
    if (plan.refused) forget_error();
  }
  return plan.refused ? nullptr : &plan;
}

bool CudnnConv::done(cudnn::Status status, Plan& plan) const {
  if (status == kSuccess) return true;
  plan.refused = true;
  forget_error();
  return false;
}

std::byte* CudnnConv::memory(Plan& plan, std::size_t bytes) const {
  try {
    return context_.backend->scratch(as_bytes(std::max<std::size_t>(bytes, 256)));
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kOUT_OF_MEMORY) throw;
    plan.refused = true;  // own kernels need less
    return nullptr;
  }
}

const float* CudnnConv::ordered(const float* weight) {
  if (order_.same() && aligned16(weight)) return weight;
  if (!ordered_) {
    ordered_ = Buffer<float>(*context_.backend, order_.count(), "the weights of a convolution");
  }
  if (!fresh_) order_channels_last(context_.stream, order_, weight, ordered_.data());
  fresh_ = true;
  return ordered_.data();
}

void CudnnConv::end(const ConvEnding& ending, std::int64_t rows, std::int64_t channels,
                    float* y) const {
  ConvEndingPass pass;
  pass.y = y;
  pass.bias = ending.bias, pass.residual = ending.residual, pass.relu = ending.relu;
  pass.rows = rows, pass.channels = channels;
  end_convolution(context_.stream, pass);
}

bool CudnnConv::to_output(const float* x, const float* weight, const ConvEnding& ending, float* y) {
  if (!aligned16(x) || !aligned16(y)) return false;
  Plan* const plan = plan_of(Product::kOutput);
  if (plan == nullptr) return false;
  std::byte* const workspace = memory(*plan, plan->workspace_bytes);
  if (workspace == nullptr) return false;
  const float* const w = ordered(weight);
  const cudnn::Status status = cudnn_.api().forward(
      cudnn_.handle(), &kOne, x_.get(), x, weight_.get(), w, plan->convolution.get(),
      plan->algorithm, workspace, plan->workspace_bytes, ending.add ? &kOne : &kZero, y_.get(), y);
  if (!done(status, *plan)) return false;
  end(ending, shape_.batch * shape_.out_positions(), shape_.out, y);
  return true;
}

bool CudnnConv::to_input(const float* y, const float* weight, const ConvEnding& ending, float* x) {
  if (!aligned16(x) || !aligned16(y)) return false;
  Plan* const plan = plan_of(Product::kInput);
  if (plan == nullptr) return false;
  std::byte* const workspace = memory(*plan, plan->workspace_bytes);
  if (workspace == nullptr) return false;
  const float* const w = ordered(weight);
  const cudnn::Status status = cudnn_.api().input(
      cudnn_.handle(), &kOne, weight_.get(), w, y_.get(), y, plan->convolution.get(),
      plan->algorithm, workspace, plan->workspace_bytes, ending.add ? &kOne : &kZero, x_.get(), x);
  if (!done(status, *plan)) return false;
  end(ending, shape_.batch * shape_.in_positions(), shape_.in, x);
  return true;
}

bool CudnnConv::add_weight_gradient(const float* x, const float* y, float* grad_weight) {
  if (!aligned16(x) || !aligned16(y)) return false;
  Plan* const plan = plan_of(Product::kWeight);
  if (plan == nullptr) return false;
  // Where the order is the engine's own, cuDNN adds to what is there.
  const bool direct = order_.same() && aligned16(grad_weight);
  const std::size_t gradient_bytes =
      direct ? 0 : static_cast<std::size_t>(order_.count()) * sizeof(float);
  std::byte* const workspace = memory(*plan, plan->workspace_bytes + gradient_bytes);
  if (workspace == nullptr) return false;
  float* const gradient =
      direct ? grad_weight : reinterpret_cast<float*>(workspace + plan->workspace_bytes);
  const cudnn::Status status = cudnn_.api().weight(
      cudnn_.handle(), &kOne, x_.get(), x, y_.get(), y, plan->convolution.get(), plan->algorithm,
      workspace, plan->workspace_bytes, direct ? &kOne : &kZero, weight_.get(), gradient);
  if (!done(status, *plan)) return false;
  if (!direct) add_channels_last(context_.stream, order_, gradient, grad_weight);
  return true;
}

}  // namespace fishermask::cuda
