// Plans the gathers of a convolution and runs them: one going forward; transposed one for each
// phase of the stride, so that no tap is tried where it cannot meet.
// Workspace:  the packed weights of either direction, kept from call to call. cuDNN's, which goes
// first, is cudnn_conv.cc's matter.
#include "ops/channel_sums.cuh"
#include "ops/conv_engine.h"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 30;

// Groups so small that a tile would be mostly padding.
constexpr std::int64_t kDirectChannels = 4;

bool covers_axis(const WindowAxis& axis) {
  const std::int64_t reach = axis.dilation * (axis.kernel - 1);
  return axis.dilation < kMost && axis.kernel < kMost && reach < kMost / 4 &&
         axis.pad_before < kMost / 4 && axis.pad_after < kMost / 4 && axis.in < kMost / 4 &&
         axis.out < kMost / 4 && axis.stride < kMost / 4;
}

}  // namespace

bool ConvEngine::covers(const ConvShape& s) {
  constexpr std::int64_t kMostGroups = 65535;  // of a grid's z
  const std::int64_t taps = s.window.rows.kernel * s.window.columns.kernel;
  return covers_axis(s.window.rows) && covers_axis(s.window.columns) && s.groups <= kMostGroups &&
         s.batch * s.in_positions() < kMost && s.batch * s.out_positions() < kMost &&
         taps * std::max(s.in, s.out) < kMost &&
         s.window.rows.stride * s.window.columns.stride < 65536;
}

ConvEngine::ConvEngine(const ConvShape& shape, const KernelContext& context)
    : shape_(shape),
      context_(context),
      direct_(shape.groups > 1 && shape.in / shape.groups <= kDirectChannels &&
              shape.out / shape.groups <= kDirectChannels &&
              // blocks of the weight gradient's grid
              shape.window.rows.kernel * shape.window.columns.kernel * kDirectChannels <= 65535),
      cudnn_(direct_ ? nullptr : CudnnConv::make(shape, context)) {}

ConvEngine::Plan ConvEngine::plan_of(const GatherAxis& rows, const GatherAxis& columns,
                                     bool transposed) const {
  const auto in = static_cast<int>(shape_.in);
  const auto out = static_cast<int>(shape_.out);
  const auto groups = static_cast<int>(shape_.groups);
  Plan plan;
  ConvGather& gather = plan.gather;
  gather.rows = rows, gather.columns = columns;
  gather.groups = groups;
  gather.source_channels = transposed ? out : in;
  gather.dest_channels = transposed ? in : out;
  gather.source_per_group = gather.source_channels / groups;
  gather.dest_per_group = gather.dest_channels / groups;
  gather.finish(shape_.batch);
  ConvPack& pack = plan.pack;
  if (direct_) {
    gather.packed_depth = gather.depth;
    gather.packed_columns = gather.dest_per_group;
    pack.order = PackOrder::kDirect;
  } else {
    pack.order = plan_gather(context_.precision, gather);
  }
  pack.transposed = transposed;
  pack.groups = groups;
  pack.taps = rows.taps * columns.taps;
  pack.tap_columns = std::max(columns.taps, 1);
  pack.kernel_columns = static_cast<int>(shape_.window.columns.kernel);
  pack.kernel_taps = static_cast<int>(shape_.window.rows.kernel) * pack.kernel_columns;
  pack.first_row = rows.first_tap, pack.row_step = rows.tap_step;
  pack.first_column = columns.first_tap, pack.column_step = columns.tap_step;
  pack.source_per_group = gather.source_per_group;
  pack.dest_per_group = gather.dest_per_group;
  pack.depth = gather.packed_depth, pack.columns = gather.packed_columns;
  return plan;
}

void ConvEngine::plan(bool transposed, Direction& direction) const {
  const Window& window = shape_.window;
  if (!transposed) {
    direction.plans = {plan_of(forward_axis(window.rows), forward_axis(window.columns), false)};
  } else {
    for (std::int64_t y = 0; y < std::min(window.rows.stride, window.rows.in); ++y) {
      for (std::int64_t x = 0; x < std::min(window.columns.stride, window.columns.in); ++x) {
        direction.plans.push_back(
            plan_of(transposed_axis(window.rows, y), transposed_axis(window.columns, x), true));
      }
    }
  }
  for (Plan& plan : direction.plans) {
    plan.first = direction.packed_count;
    direction.packed_count += (plan.pack.count() + 3) / 4 * 4;  // aligned to 16 bytes
  }
}

void ConvEngine::forget_weights() {
  forward_.fresh = transposed_.fresh = false;
  if (cudnn_ != nullptr) cudnn_->forget_weights();
}

void ConvEngine::run(Direction& direction, bool transposed, const float* source,
                     const float* weight, const ConvEnding& ending, float* dest) {
  if (direction.plans.empty()) plan(transposed, direction);
  if (!direction.packed) {
    direction.packed =
        Buffer<float>(*context_.backend, std::max<std::int64_t>(direction.packed_count, 4),
                      "the packed weights of a convolution");
  }
  for (Plan& plan : direction.plans) {
    float* const packed = direction.packed.data() + plan.first;
    if (!direction.fresh) {
      plan.pack.weight = weight;
      plan.pack.packed = packed;
      pack_weights(context_.stream, plan.pack);
    }
    ConvGather gather = plan.gather;
    // Nothing reaches these destinations: they stay as they are.
    const bool nothing = ending.bias == nullptr && ending.residual == nullptr && !ending.relu;
    if (gather.depth == 0 && ending.add && nothing) continue;
    gather.source = source, gather.packed = packed, gather.dest = dest;
    gather.bias = ending.bias, gather.residual = ending.residual;
    gather.add = ending.add, gather.relu = ending.relu;
    gather.vector_source = gather.source_per_group % 4 == 0 && aligned16(source);
    gather.vector_dest = gather.dest_per_group % 4 == 0 && aligned16(dest);
    if (direct_) {
      run_gather_direct(context_.stream, gather);
    } else {
      run_gather(*context_.backend, context_.precision, gather);
    }
  }
  direction.fresh = true;
}

void ConvEngine::to_output(const float* x, const float* weight, const ConvEnding& ending,
                           float* y) {
  if (cudnn_ != nullptr && cudnn_->to_output(x, weight, ending, y)) return;
  run(forward_, false, x, weight, ending, y);
}

void ConvEngine::to_input(const float* y, const float* weight, const ConvEnding& ending, float* x) {
  if (cudnn_ != nullptr && cudnn_->to_input(y, weight, ending, x)) return;
  run(transposed_, true, y, weight, ending, x);
}

void ConvEngine::add_weight_gradient(const float* x, const float* y, float* grad_weight) {
  if (cudnn_ != nullptr && cudnn_->add_weight_gradient(x, y, grad_weight)) return;
  ConvWeights problem;
  problem.source = x, problem.grad = y;
  problem.rows = forward_axis(shape_.window.rows);
  problem.columns = forward_axis(shape_.window.columns);
  problem.groups = static_cast<int>(shape_.groups);
  problem.source_channels = static_cast<int>(shape_.in);
  problem.source_per_group = static_cast<int>(shape_.in / shape_.groups);
  problem.grad_channels = static_cast<int>(shape_.out);
  problem.grad_per_group = static_cast<int>(shape_.out / shape_.groups);
  problem.finish(shape_.batch);
  problem.vector_source = problem.source_per_group % 4 == 0 && aligned16(x);
  problem.vector_grad = problem.grad_per_group % 4 == 0 && aligned16(y);
  cuda::add_weight_gradient(*context_.backend, context_.precision, problem, direct_, grad_weight);
}

ContractionForm ConvEngine::contraction(const float* x, const float* y) const {
  const WindowAxis& rows = shape_.window.rows;
  const WindowAxis& columns = shape_.window.columns;
  ContractionForm form;
  form.grad_output = y;
  form.input = x;
  form.batch = shape_.batch;
  form.in_height = rows.in, form.in_width = columns.in, form.in_channels = shape_.in;
  form.out_height = rows.out, form.out_width = columns.out, form.out_channels = shape_.out;
  form.kernel_height = rows.kernel, form.kernel_width = columns.kernel;
  form.stride_height = rows.stride, form.stride_width = columns.stride;
  form.pad_top = rows.pad_before, form.pad_left = columns.pad_before;
  form.dilation_height = rows.dilation, form.dilation_width = columns.dilation;
  form.groups = shape_.groups;
  return form;
}

void add_bias_gradient(Backend& backend, const float* grad, std::int64_t rows,
                       std::int64_t channels, float* grad_bias) {
  sum_channels(backend, "conv_bias", 1, rows, channels, PlainTerm{grad}, AddFirst{grad_bias});
}

}  // namespace fishermask::cuda
