// conv2d: y[n, oy, ox, o] = b[o] + Σ_(ky,kx,i) x[n, iy, ix, g·I/groups + i] · W[o, i, ky, kx], with
// iy = oy·stride − pad_top + ky·dilation (ix alike), x = 0 in the padding, g = o / (O/groups).
// Shapes:     x (N, H, W, I), W (O, I/groups, K_h, K_w), b (O,) optional, y (N, H', W', O).
// Attributes: stride [2], padding [top, left, bottom, right], dilation [2], groups.
// Accumulate: grad W and grad b use +=; grad x as asked.
// Workspace:  W in oneDNN's layouts; with accumulation, one input batch.
// Squares:    contraction form (weight), reduction form (bias).
// Deterministic: yes for a given thread count and instruction set (oneDNN).
#include <algorithm>
#include <optional>
#include <unordered_map>

#include "core/conv_sizes.h"
#include "core/parallel.h"
#include "graph/op.h"
#include "ops/conv_reference.h"
#include "ops/onednn.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  const ConvSizes sizes = conv_sizes(node);
  check_conv_bias(node, sizes.out);
  return {{{sizes.window.rows.out, sizes.window.columns.out, sizes.out}, node.inputs[0].dtype}};
}

// Every product of the op, for TapReference.
class ConvTaps {
 public:
  explicit ConvTaps(const ConvSizes& sizes) : sizes_(sizes) {}
  [[nodiscard]] std::int64_t out() const { return sizes_.out; }

  template <typename Body>
  void for_each(std::int64_t batch, const Body& body) const {
    const WindowAxis& rows = sizes_.window.rows;
    const WindowAxis& columns = sizes_.window.columns;
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t oy = 0; oy < rows.out; ++oy) {
        for (std::int64_t ox = 0; ox < columns.out; ++ox) {
          for (std::int64_t ky = 0; ky < rows.kernel; ++ky) {
            for (std::int64_t kx = 0; kx < columns.kernel; ++kx) {
              const std::int64_t iy = rows.at(oy, ky);
              const std::int64_t ix = columns.at(ox, kx);
              if (!rows.inside(iy) || !columns.inside(ix)) continue;
              const std::int64_t x_base = ((n * rows.in + iy) * columns.in + ix) * sizes_.in;
              const std::int64_t y_base = ((n * rows.out + oy) * columns.out + ox) * sizes_.out;
              for_each_channel(x_base, y_base, ky * columns.kernel + kx, body);
            }
          }
        }
      }
    }
  }

 private:
  template <typename Body>
  void for_each_channel(std::int64_t x_base, std::int64_t y_base, std::int64_t tap,
                        const Body& body) const {
    const std::int64_t taps = sizes_.window.rows.kernel * sizes_.window.columns.kernel;
    for (std::int64_t o = 0; o < sizes_.out; ++o) {
      const std::int64_t first = o / sizes_.out_per_group() * sizes_.in_per_group();
      for (std::int64_t i = 0; i < sizes_.in_per_group(); ++i) {
        body(x_base + first + i, (o * sizes_.in_per_group() + i) * taps + tap, y_base + o);
      }
    }
  }

  ConvSizes sizes_;
};

// What the three primitives are made from. Activations are NHWC; W may take any layout.
struct ConvDescs {
  dnnl::memory::desc src, dst, bias, weight, weight_any;
  dnnl::memory::dims strides, dilates, pad_before, pad_after;

  ConvDescs(const ConvSizes& sizes, std::int64_t batch) {
    using Tag = dnnl::memory::format_tag;
    const auto real = dnnl::memory::data_type::f32;
    const WindowAxis& rows = sizes.window.rows;
    const WindowAxis& columns = sizes.window.columns;
    src = {{batch, sizes.in, rows.in, columns.in}, real, Tag::nhwc};
    dst = {{batch, sizes.out, rows.out, columns.out}, real, Tag::nhwc};
    bias = {{sizes.out}, real, Tag::a};
    dnnl::memory::dims dims = {sizes.out_per_group(), sizes.in_per_group(), rows.kernel,
                               columns.kernel};
    const bool grouped = sizes.groups > 1;
    if (grouped) dims.insert(dims.begin(), sizes.groups);
    weight = {dims, real, grouped ? Tag::goihw : Tag::oihw};
    weight_any = {dims, real, Tag::any};
    strides = {rows.stride, columns.stride};
    // oneDNN counts dilation from zero.
    dilates = {rows.dilation - 1, columns.dilation - 1};
    pad_before = {rows.pad_before, columns.pad_before};
    pad_after = {rows.pad_after, columns.pad_after};
  }
};

using ConvForward = dnnl::convolution_forward;
using ConvBackwardData = dnnl::convolution_backward_data;
using ConvBackwardWeights = dnnl::convolution_backward_weights;
constexpr auto kDirect = dnnl::algorithm::convolution_direct;

ConvForward::primitive_desc forward_desc(const ConvDescs& d, const dnnl::memory::desc& src,
                                         const dnnl::memory::desc& dst, bool has_bias) {
  const dnnl::memory::desc bias = has_bias ? d.bias : dnnl::memory::desc();
  return {ConvForward::desc(dnnl::prop_kind::forward_training, kDirect, src, d.weight_any, bias,
                            dst, d.strides, d.dilates, d.pad_before, d.pad_after),
          onednn_engine()};
}

// oneDNN's memory around one of our buffers.
dnnl::memory wrap(const dnnl::memory::desc& desc, const void* data) {
  return {desc, onednn_engine(), const_cast<void*>(data)};
}

void run(const dnnl::primitive& primitive, const std::unordered_map<int, dnnl::memory>& arguments) {
  primitive.execute(onednn_stream(), arguments);
  onednn_stream().wait();
}

void add_to(float* sums, const float* terms, std::int64_t count) {
  parallel_for(count, kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) sums[i] += terms[i];
  });
}

// W in the layout of one primitive, or W itself where that layout is ours.
class PackedWeight {
 public:
  void prepare(const dnnl::memory::desc& ours, const dnnl::memory::desc& theirs) {
    ours_ = ours;
    if (ours == theirs) return;
    packed_ = dnnl::memory(theirs, onednn_engine());
    reorder_ = dnnl::reorder(wrap(ours, DNNL_MEMORY_NONE), packed_);
  }
  dnnl::memory pack(const float* weight) {
    if (!reorder_) return wrap(ours_, weight);
    run(reorder_, {{DNNL_ARG_FROM, wrap(ours_, weight)}, {DNNL_ARG_TO, packed_}});
    return packed_;
  }

 private:
  dnnl::memory::desc ours_;
  dnnl::memory packed_;
  dnnl::primitive reorder_;
};

// grad x. Made at the first batch that asks for it: the first layer of a network never does.
class BackwardData {
 public:
  BackwardData(const ConvDescs& d, const ConvForward::primitive_desc& hint)
      : desc_(ConvBackwardData::desc(kDirect, d.src, d.weight_any, d.dst, d.strides, d.dilates,
                                     d.pad_before, d.pad_after),
              onednn_engine(), hint),
        primitive_(desc_) {}

  [[nodiscard]] dnnl::memory::desc weight_desc() const { return desc_.weights_desc(); }

  void operator()(const NodeIo& io, const dnnl::memory& weight) {
    float* grad_input = io.grad_inputs[0].as<float>();
    if (io.accumulate[0] && !scratch_) scratch_ = dnnl::memory(src(), onednn_engine());
    run(primitive_,
        {{DNNL_ARG_DIFF_DST, wrap(desc_.diff_dst_desc(), io.grad_outputs[0].as<float>())},
         {DNNL_ARG_WEIGHTS, weight},
         {DNNL_ARG_DIFF_SRC, io.accumulate[0] ? scratch_ : wrap(src(), grad_input)}});
    if (!io.accumulate[0]) return;
    add_to(grad_input, static_cast<const float*>(scratch_.get_data_handle()),
           io.grad_inputs[0].count());
  }

 private:
  [[nodiscard]] dnnl::memory::desc src() const { return desc_.diff_src_desc(); }

  ConvBackwardData::primitive_desc desc_;
  ConvBackwardData primitive_;
  dnnl::memory scratch_;
};

// grad W and grad b: oneDNN overwrites, so both go through a copy that is then added.
// oneDNN 2.6's jit_1x1 writes beyond its buffers (two threads; 8 -> 8 channels, stride 2) where it
// strides over channels that do not fill its vectors, and it has no other backward pass for that.
bool may_overrun(const ConvSizes& sizes) {
  constexpr std::int64_t kLanes = 16;
  const WindowAxis& rows = sizes.window.rows;
  const WindowAxis& columns = sizes.window.columns;
  const bool one_by_one = rows.kernel == 1 && columns.kernel == 1;
  const bool strided = rows.stride > 1 || columns.stride > 1;
  const bool filled = sizes.in_per_group() % kLanes == 0 && sizes.out_per_group() % kLanes == 0;
  return one_by_one && strided && !filled;
}

// The gradients of a strided 1x1 convolution's weights: the pixels that it reads, laid side by
// side, make it a linear layer.
class StridedPointwiseWeights {
 public:
  StridedPointwiseWeights(const ConvSizes& sizes, std::int64_t batch)
      : sizes_(sizes),
        batch_(batch),
        read_(DType::kF32, {batch * sizes.window.rows.out * sizes.window.columns.out, sizes.in},
              "the pixels of a strided convolution") {}

  void operator()(const NodeIo& io) {
    const std::int64_t count = read_.shape()[0];
    const float* grad_output = io.grad_outputs[0].as<float>();
    if (const TensorView grad_weight = io.grad_parameter("weight")) {
      gather(io.inputs[0].as<float>());
      const std::int64_t in = sizes_.in_per_group();
      const std::int64_t out = sizes_.out_per_group();
      for (std::int64_t g = 0; g < sizes_.groups; ++g) {
        gemm(true, false, out, in, count, grad_output + g * out, sizes_.out,
             read_.as<float>() + g * in, sizes_.in, 1.0F, grad_weight.as<float>() + g * out * in,
             in);
      }
    }
    if (const TensorView grad_bias = io.grad_parameter("bias")) {
      float* sums = grad_bias.as<float>();
      for (std::int64_t p = 0; p < count; ++p) {
        for (std::int64_t o = 0; o < sizes_.out; ++o) sums[o] += grad_output[p * sizes_.out + o];
      }
    }
  }

 private:
  void gather(const float* input) const {
    const WindowAxis& rows = sizes_.window.rows;
    const WindowAxis& columns = sizes_.window.columns;
    float* to = read_.as<float>();
    for (std::int64_t n = 0; n < batch_; ++n) {
      for (std::int64_t y = 0; y < rows.out; ++y) {
        for (std::int64_t x = 0; x < columns.out; ++x, to += sizes_.in) {
          const std::int64_t row = rows.at(y, 0);
          const std::int64_t column = columns.at(x, 0);
          if (rows.inside(row) && columns.inside(column)) {
            const std::int64_t at = (n * rows.in + row) * columns.in + column;
            std::copy_n(input + at * sizes_.in, sizes_.in, to);
          } else {
            std::fill_n(to, sizes_.in, 0.0F);
          }
        }
      }
    }
  }

  ConvSizes sizes_;
  std::int64_t batch_;
  Tensor read_;
};

class BackwardWeights {
 public:
  BackwardWeights(const ConvDescs& d, const ConvForward::primitive_desc& hint, bool has_bias)
      : desc_(ConvBackwardWeights::desc(kDirect, d.src, d.weight_any,
                                        has_bias ? d.bias : dnnl::memory::desc(), d.dst, d.strides,
                                        d.dilates, d.pad_before, d.pad_after),
              onednn_engine(), hint),
        primitive_(desc_),
        theirs_(desc_.diff_weights_desc(), onednn_engine()),
        ours_(theirs_) {
    if (has_bias) bias_ = dnnl::memory(d.bias, onednn_engine());
    if (d.weight == desc_.diff_weights_desc()) return;
    ours_ = dnnl::memory(d.weight, onednn_engine());
    reorder_ = dnnl::reorder(theirs_, ours_);
  }

  void operator()(const NodeIo& io) {
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, wrap(desc_.src_desc(), io.inputs[0].as<float>())},
        {DNNL_ARG_DIFF_DST, wrap(desc_.diff_dst_desc(), io.grad_outputs[0].as<float>())},
        {DNNL_ARG_DIFF_WEIGHTS, theirs_}};
    if (bias_) arguments.emplace(DNNL_ARG_DIFF_BIAS, bias_);
    run(primitive_, arguments);
    if (const TensorView grad_weight = io.grad_parameter("weight")) {
      if (reorder_) run(reorder_, {{DNNL_ARG_FROM, theirs_}, {DNNL_ARG_TO, ours_}});
      add(grad_weight, ours_);
    }
    if (const TensorView grad_bias = io.grad_parameter("bias")) add(grad_bias, bias_);
  }

 private:
  static void add(const TensorView& sums, const dnnl::memory& terms) {
    add_to(sums.as<float>(), static_cast<const float*>(terms.get_data_handle()), sums.count());
  }

  ConvBackwardWeights::primitive_desc desc_;
  ConvBackwardWeights primitive_;
  dnnl::memory theirs_, ours_, bias_;
  dnnl::primitive reorder_;
};

// Many channels at few positions: oneDNN's NHWC convolution is so much slower there than the one in
// its own layout that copying there and back pays (512 -> 512 at 4x4, batch 64, one thread of Zen
// 4: 116 against 147 GFLOP/s, the copies 0.1 of 33 ms).
bool prefers_blocked(const ConvSizes& sizes) {
  constexpr std::int64_t kFewPositions = 16;
  constexpr std::int64_t kManyChannels = 512;
  const std::int64_t positions = sizes.window.rows.out * sizes.window.columns.out;
  return sizes.groups == 1 && positions > 1 && positions <= kFewPositions &&
         sizes.in >= kManyChannels && sizes.out >= kManyChannels;
}

// Forward in the layout of oneDNN's choice.
class BlockedForward {
 public:
  BlockedForward(const ConvDescs& d, bool has_bias)
      : desc_(forward_desc(d, any(d.src), any(d.dst), has_bias)),
        primitive_(desc_),
        ours_src_(d.src),
        ours_dst_(d.dst),
        bias_(d.bias),
        has_bias_(has_bias),
        src_(desc_.src_desc(), onednn_engine()),
        dst_(desc_.dst_desc(), onednn_engine()),
        in_(wrap(d.src, DNNL_MEMORY_NONE), src_),
        out_(dst_, wrap(d.dst, DNNL_MEMORY_NONE)) {
    weight_.prepare(d.weight, desc_.weights_desc());
  }

  void operator()(const NodeIo& io) {
    std::unordered_map<int, dnnl::memory> arguments = {
        {DNNL_ARG_SRC, src_},
        {DNNL_ARG_WEIGHTS, weight_.pack(io.parameter("weight").as<float>())},
        {DNNL_ARG_DST, dst_}};
    if (has_bias_) {
      arguments.emplace(DNNL_ARG_BIAS, wrap(bias_, io.parameter("bias").as<float>()));
    }
    run(in_, {{DNNL_ARG_FROM, wrap(ours_src_, io.inputs[0].as<float>())}, {DNNL_ARG_TO, src_}});
    run(primitive_, arguments);
    run(out_, {{DNNL_ARG_FROM, dst_}, {DNNL_ARG_TO, wrap(ours_dst_, io.outputs[0].as<float>())}});
  }

 private:
  static dnnl::memory::desc any(const dnnl::memory::desc& desc) {
    return {desc.dims(), desc.data_type(), dnnl::memory::format_tag::any};
  }

  ConvForward::primitive_desc desc_;
  ConvForward primitive_;
  dnnl::memory::desc ours_src_, ours_dst_, bias_;
  bool has_bias_;
  dnnl::memory src_, dst_;
  dnnl::reorder in_, out_;
  PackedWeight weight_;
};

class ConvFast : public Kernel {
 public:
  ConvFast(const NodeSpec& node, std::int64_t batch)
      : sizes_(conv_sizes(node)),
        batch_(batch),
        has_bias_(node.has_parameter("bias")),
        descs_(sizes_, batch),
        forward_desc_(forward_desc(descs_, descs_.src, descs_.dst, has_bias_)),
        forward_(forward_desc_) {
    forward_weight_.prepare(descs_.weight, forward_desc_.weights_desc());
    if (prefers_blocked(sizes_)) blocked_.emplace(descs_, has_bias_);
  }

  void forward(const NodeIo& io) override {
    check_batch(io);
    with_onednn("conv2d forward", [&] {
      const float* weight = io.parameter("weight").as<float>();
      backward_weight_ = dnnl::memory();  // the weights may have changed since the last step
      forward_seen_ = true;
      if (blocked_) return (*blocked_)(io);
      std::unordered_map<int, dnnl::memory> arguments = {
          {DNNL_ARG_SRC, wrap(forward_desc_.src_desc(), io.inputs[0].as<float>())},
          {DNNL_ARG_WEIGHTS, forward_weight_.pack(weight)},
          {DNNL_ARG_DST, wrap(forward_desc_.dst_desc(), io.outputs[0].as<float>())}};
      if (has_bias_) {
        arguments.emplace(DNNL_ARG_BIAS, wrap(descs_.bias, io.parameter("bias").as<float>()));
      }
      run(forward_, arguments);
    });
  }

  void backward(const NodeIo& io) override {
    check_batch(io);
    with_onednn("conv2d backward", [&] {
      if (io.grad_inputs[0]) backward_data(io);
      if (!io.grad_parameter("weight") && !io.grad_parameter("bias")) return;
      backward_weights(io);
    });
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    const WindowAxis& rows = sizes_.window.rows;
    const WindowAxis& columns = sizes_.window.columns;
    ContractionForm weight;
    weight.grad_output = io.grad_outputs[0].as<float>();
    weight.input = io.inputs[0].as<float>();
    weight.batch = io.batch;
    weight.in_height = rows.in, weight.in_width = columns.in, weight.in_channels = sizes_.in;
    weight.out_height = rows.out, weight.out_width = columns.out, weight.out_channels = sizes_.out;
    weight.kernel_height = rows.kernel, weight.kernel_width = columns.kernel;
    weight.stride_height = rows.stride, weight.stride_width = columns.stride;
    weight.pad_top = rows.pad_before, weight.pad_left = columns.pad_before;
    weight.dilation_height = rows.dilation, weight.dilation_width = columns.dilation;
    weight.groups = sizes_.groups;
    std::vector<SquareProblem> problems = {{"weight", weight}};
    if (!has_bias_) return problems;
    ReductionForm bias;
    bias.grad_output = weight.grad_output;
    bias.batch = io.batch;
    bias.positions = rows.out * columns.out;
    bias.channels = sizes_.out;
    problems.push_back({"bias", bias});
    return problems;
  }

 private:
  void check_batch(const NodeIo& io) const {
    FM_CHECK(io.batch == batch_, INTERNAL, "a conv2d kernel for batch ", batch_,
             " was called with batch ", io.batch);
  }

  void backward_data(const NodeIo& io) {
    if (!backward_data_) {
      backward_data_.emplace(descs_, forward_desc_);
      data_weight_.prepare(descs_.weight, backward_data_->weight_desc());
    }
    // Packed once per forward, as several backward passes may follow one (a label each). A kernel
    // that only ever runs backward cannot tell when the weights change.
    if (!backward_weight_ || !forward_seen_) {
      backward_weight_ = data_weight_.pack(io.parameter("weight").as<float>());
    }
    (*backward_data_)(io, backward_weight_);
  }

  void backward_weights(const NodeIo& io) {
    if (may_overrun(sizes_)) {
      if (!pointwise_weights_) pointwise_weights_.emplace(sizes_, batch_);
      (*pointwise_weights_)(io);
      return;
    }
    if (!backward_weights_) backward_weights_.emplace(descs_, forward_desc_, has_bias_);
    (*backward_weights_)(io);
  }

  ConvSizes sizes_;
  std::int64_t batch_;
  bool has_bias_;
  ConvDescs descs_;
  ConvForward::primitive_desc forward_desc_;
  ConvForward forward_;
  PackedWeight forward_weight_;
  std::optional<BlockedForward> blocked_;
  std::optional<BackwardData> backward_data_;
  PackedWeight data_weight_;
  dnnl::memory backward_weight_;
  bool forward_seen_ = false;
  std::optional<BackwardWeights> backward_weights_;
  std::optional<StridedPointwiseWeights> pointwise_weights_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64)
    return std::make_unique<TapReference<double, ConvTaps>>(ConvTaps(conv_sizes(node)));
  return std::make_unique<TapReference<float, ConvTaps>>(ConvTaps(conv_sizes(node)));
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t batch) {
  return with_onednn("conv2d set-up", [&] { return std::make_unique<ConvFast>(node, batch); });
}

using Integers = std::vector<std::int64_t>;

std::vector<SampleCase> cases() {
  return {
      {.name = "3x3 same",
       .inputs = {{5, 6, 3}},
       .parameters = {{"weight", {4, 3, 3, 3}}, {"bias", {4}}},
       .attributes = {{"padding", Integers{1, 1, 1, 1}}}},
      {.name = "1x1", .inputs = {{4, 5, 17}}, .parameters = {{"weight", {33, 17, 1, 1}}}},
      {.name = "1x1 stride 2",
       .inputs = {{5, 7, 16}},
       .parameters = {{"weight", {32, 16, 1, 1}}},
       .attributes = {{"stride", Integers{2, 2}}}},
      // oneDNN's own choice overran its buffers here.
      {.name = "1x1 stride 2, 8 channels",
       .inputs = {{16, 16, 8}},
       .parameters = {{"weight", {8, 8, 1, 1}}, {"bias", {8}}},
       .attributes = {{"stride", Integers{2, 2}}},
       .batch = 1},
      {.name = "1x1 stride 2, groups, padding",
       .inputs = {{7, 5, 6}},
       .parameters = {{"weight", {4, 3, 1, 1}}, {"bias", {4}}},
       .attributes = {{"stride", Integers{2, 3}},
                      {"groups", std::int64_t{2}},
                      {"padding", Integers{1, 0, 0, 2}}}},
      {.name = "stride 2x3, asymmetric padding",
       .inputs = {{7, 9, 3}},
       .parameters = {{"weight", {5, 3, 3, 2}}, {"bias", {5}}},
       .attributes = {{"stride", Integers{2, 3}}, {"padding", Integers{0, 1, 2, 1}}},
       .batch = 2},
      {.name = "dilation 2x3",
       .inputs = {{8, 9, 4}},
       .parameters = {{"weight", {3, 4, 3, 3}}},
       .attributes = {{"dilation", Integers{2, 3}}, {"padding", Integers{2, 3, 2, 3}}},
       .batch = 2},
      {.name = "groups 2",
       .inputs = {{5, 5, 6}},
       .parameters = {{"weight", {4, 3, 3, 3}}, {"bias", {4}}},
       .attributes = {{"groups", std::int64_t{2}}, {"padding", Integers{1, 1, 1, 1}}}},
      {.name = "groups 2, 16 channels each",
       .inputs = {{4, 4, 32}},
       .parameters = {{"weight", {32, 16, 3, 3}}},
       .attributes = {{"groups", std::int64_t{2}}, {"padding", Integers{1, 1, 1, 1}}},
       .batch = 2},
      {.name = "depthwise",
       .inputs = {{6, 5, 17}},
       .parameters = {{"weight", {17, 1, 3, 3}}, {"bias", {17}}},
       .attributes = {{"groups", std::int64_t{17}},
                      {"stride", Integers{2, 2}},
                      {"padding", Integers{1, 1, 1, 1}}}},
      {.name = "depthwise, multiplier 2",
       .inputs = {{4, 4, 8}},
       .parameters = {{"weight", {16, 1, 3, 3}}},
       .attributes = {{"groups", std::int64_t{8}}, {"padding", Integers{1, 1, 1, 1}}}},
      {.name = "batch of one, one channel",
       .inputs = {{7, 7, 1}},
       .parameters = {{"weight", {1, 1, 5, 5}}, {"bias", {1}}},
       .batch = 1},
      {.name = "16 channels, 3x3",
       .inputs = {{8, 8, 16}},
       .parameters = {{"weight", {16, 16, 3, 3}}},
       .attributes = {{"padding", Integers{1, 1, 1, 1}}},
       .batch = 5},
      {.name = "512 channels at two positions",
       .inputs = {{1, 2, 512}},
       .parameters = {{"weight", {512, 512, 1, 1}}, {"bias", {512}}},
       .batch = 1},
      {.name = "window as large as the image",
       .inputs = {{4, 3, 5}},
       .parameters = {{"weight", {7, 5, 4, 3}}, {"bias", {7}}}},
  };
}

OpDefinition conv2d() {
  OpDefinition op;
  op.name = "conv2d";
  op.slots = {{.name = "weight"}, {.name = "bias", .required = false}};
  op.attributes = {"stride", "padding", "dilation", "groups"};
  op.backward_needs_inputs = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(conv2d())

}  // namespace
}  // namespace fishermask
