// conv_transpose2d in f32: a GEMM from a block of positions to all their taps, which are then added
// to where they lie in the output; backward gathers from there.
#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/vector_clones.h"
#include "ops/conv_transpose2d.h"
#include "ops/one_thread.h"
#include "ops/onednn.h"

namespace fishermask {
namespace {

constexpr std::int64_t kBlockFloats = 1 << 16;
constexpr std::int64_t kChannelGrain = 16;

FM_VECTOR_CLONES void add_values(const float* __restrict from, std::int64_t count,
                                 float* __restrict to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

class ConvTransposeFast : public Kernel {
 public:
  explicit ConvTransposeFast(const ConvTransposeSizes& sizes)
      : sizes_(sizes),
        row_(sizes.taps() * sizes.out_per_group()),
        block_(std::clamp<std::int64_t>(kBlockFloats / std::max<std::int64_t>(row_, 1), 1,
                                        sizes.in_positions())) {}

  void forward(const NodeIo& io) override {
    pack(io.parameter("weight").as<float>());
    const TensorView bias = io.parameter("bias");
    for_each_group(io.batch, [&](std::int64_t n, std::int64_t group, std::vector<float>& taps) {
      start(io, n, group, bias ? bias.as<float>() : nullptr);
      forward_group(io, n, group, taps.data());
    });
  }

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) {
      pack(io.parameter("weight").as<float>());
      for_each_group(io.batch, [&](std::int64_t n, std::int64_t group, std::vector<float>& taps) {
        backward_group(io, n, group, taps.data());
      });
    }
    if (const TensorView sums = io.grad_parameter("weight")) backward_weight(io, sums);
    if (const TensorView sums = io.grad_parameter("bias")) backward_bias(io, sums);
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    const WindowAxis& rows = sizes_.window.rows;
    const WindowAxis& columns = sizes_.window.columns;
    ContractionForm weight;
    weight.grad_output = io.inputs[0].as<float>();
    weight.input = io.grad_outputs[0].as<float>();
    weight.batch = io.batch;
    weight.in_height = rows.in, weight.in_width = columns.in, weight.in_channels = sizes_.out;
    weight.out_height = rows.out, weight.out_width = columns.out, weight.out_channels = sizes_.in;
    weight.kernel_height = rows.kernel, weight.kernel_width = columns.kernel;
    weight.stride_height = rows.stride, weight.stride_width = columns.stride;
    weight.pad_top = rows.pad_before, weight.pad_left = columns.pad_before;
    weight.dilation_height = rows.dilation, weight.dilation_width = columns.dilation;
    weight.groups = sizes_.groups;
    std::vector<SquareProblem> problems = {{"weight", weight}};
    if (!io.parameter("bias")) return problems;
    ReductionForm bias;
    bias.grad_output = weight.input;
    bias.batch = io.batch;
    bias.positions = sizes_.out_positions();
    bias.channels = sizes_.out;
    problems.push_back({"bias", bias});
    return problems;
  }

 private:
  // W as (groups, I/groups, taps, O/groups): what one position gives to one place is contiguous.
  void pack(const float* weight) {
    const std::int64_t out = sizes_.out_per_group();
    const std::int64_t taps = sizes_.taps();
    packed_.resize(static_cast<std::size_t>(sizes_.in * row_));
    for (std::int64_t i = 0; i < sizes_.in; ++i) {
      for (std::int64_t o = 0; o < out; ++o) {
        for (std::int64_t tap = 0; tap < taps; ++tap) {
          packed_[static_cast<std::size_t>((i * taps + tap) * out + o)] =
              weight[(i * out + o) * taps + tap];
        }
      }
    }
  }

  // body(sample, group, scratch for one block of positions).
  template <typename Body>
  void for_each_group(std::int64_t batch, const Body& body) const {
    parallel_for(batch * sizes_.groups, 1, [&](std::int64_t begin, std::int64_t end) {
      const OneThread alone;
      std::vector<float> taps(static_cast<std::size_t>(block_ * row_));
      for (std::int64_t i = begin; i < end; ++i) body(i / sizes_.groups, i % sizes_.groups, taps);
    });
  }

  // body(first position, positions) over the input's positions.
  template <typename Body>
  void for_each_block(const Body& body) const {
    for (std::int64_t p = 0; p < sizes_.in_positions(); p += block_) {
      body(p, std::min(block_, sizes_.in_positions() - p));
    }
  }

  // Where tap `tap` of input position p lies among the output's positions; −1: outside.
  [[nodiscard]] std::int64_t place(std::int64_t p, std::int64_t tap) const {
    const WindowAxis& rows = sizes_.window.rows;
    const WindowAxis& columns = sizes_.window.columns;
    const std::int64_t oy = rows.at(p / columns.out, tap / columns.kernel);
    const std::int64_t ox = columns.at(p % columns.out, tap % columns.kernel);
    return rows.inside(oy) && columns.inside(ox) ? oy * columns.in + ox : -1;
  }

  [[nodiscard]] std::int64_t at_input(std::int64_t n, std::int64_t group, std::int64_t p) const {
    return (n * sizes_.in_positions() + p) * sizes_.in + group * sizes_.in_per_group();
  }
  [[nodiscard]] std::int64_t at_output(std::int64_t n, std::int64_t group, std::int64_t p) const {
    return (n * sizes_.out_positions() + p) * sizes_.out + group * sizes_.out_per_group();
  }
  [[nodiscard]] const float* packed(std::int64_t group) const {
    return packed_.data() + group * sizes_.in_per_group() * row_;
  }

  void start(const NodeIo& io, std::int64_t n, std::int64_t group, const float* bias) const {
    const std::int64_t out = sizes_.out_per_group();
    float* y = io.outputs[0].as<float>();
    for (std::int64_t p = 0; p < sizes_.out_positions(); ++p) {
      float* to = y + at_output(n, group, p);
      if (bias == nullptr) {
        std::fill_n(to, out, 0.0F);
      } else {
        std::copy_n(bias + group * out, out, to);
      }
    }
  }

  void forward_group(const NodeIo& io, std::int64_t n, std::int64_t group, float* taps) const {
    const float* x = io.inputs[0].as<float>();
    float* y = io.outputs[0].as<float>();
    const std::int64_t out = sizes_.out_per_group();
    for_each_block([&](std::int64_t first, std::int64_t count) {
      gemm(false, false, count, row_, sizes_.in_per_group(), x + at_input(n, group, first),
           sizes_.in, packed(group), row_, 0.0F, taps, row_);
      for (std::int64_t p = 0; p < count; ++p) {
        for (std::int64_t tap = 0; tap < sizes_.taps(); ++tap) {
          const std::int64_t to = place(first + p, tap);
          if (to < 0) continue;
          add_values(taps + p * row_ + tap * out, out, y + at_output(n, group, to));
        }
      }
    });
  }

  // What output position `from` of a gradient holds, or zeros.
  void gather(const float* grad_output, std::int64_t n, std::int64_t group, std::int64_t from,
              float* to) const {
    if (from < 0) {
      std::fill_n(to, sizes_.out_per_group(), 0.0F);
    } else {
      std::copy_n(grad_output + at_output(n, group, from), sizes_.out_per_group(), to);
    }
  }

  void backward_group(const NodeIo& io, std::int64_t n, std::int64_t group, float* taps) const {
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* grad_input = io.grad_inputs[0].as<float>();
    const std::int64_t out = sizes_.out_per_group();
    for_each_block([&](std::int64_t first, std::int64_t count) {
      for (std::int64_t p = 0; p < count; ++p) {
        for (std::int64_t tap = 0; tap < sizes_.taps(); ++tap) {
          gather(grad_output, n, group, place(first + p, tap), taps + p * row_ + tap * out);
        }
      }
      gemm(false, true, count, sizes_.in_per_group(), row_, taps, row_, packed(group), row_,
           io.accumulate[0] ? 1.0F : 0.0F, grad_input + at_input(n, group, first), sizes_.in);
    });
  }

  void backward_weight(const NodeIo& io, const TensorView& sums) {
    packed_gradient_.assign(static_cast<std::size_t>(sizes_.in * row_), 0.0F);
    parallel_for(sizes_.groups * sizes_.taps(), 1, [&](std::int64_t begin, std::int64_t end) {
      const OneThread alone;
      std::vector<float> gathered(static_cast<std::size_t>(block_ * sizes_.out_per_group()));
      for (std::int64_t i = begin; i < end; ++i) {
        backward_tap(io, i / sizes_.taps(), i % sizes_.taps(), gathered.data());
      }
    });
    unpack_to(sums.as<float>());
  }

  // (I/groups, O/groups) of one tap, over all samples.
  void backward_tap(const NodeIo& io, std::int64_t group, std::int64_t tap, float* gathered) {
    const float* x = io.inputs[0].as<float>();
    const float* grad_output = io.grad_outputs[0].as<float>();
    const std::int64_t out = sizes_.out_per_group();
    float* gradient = packed_gradient_.data() + group * sizes_.in_per_group() * row_ + tap * out;
    for (std::int64_t n = 0; n < io.batch; ++n) {
      for_each_block([&](std::int64_t first, std::int64_t count) {
        for (std::int64_t p = 0; p < count; ++p) {
          gather(grad_output, n, group, place(first + p, tap), gathered + p * out);
        }
        gemm(true, false, sizes_.in_per_group(), out, count, x + at_input(n, group, first),
             sizes_.in, gathered, out, 1.0F, gradient, row_);
      });
    }
  }

  void unpack_to(float* sums) const {
    const std::int64_t out = sizes_.out_per_group();
    const std::int64_t taps = sizes_.taps();
    for (std::int64_t i = 0; i < sizes_.in; ++i) {
      for (std::int64_t o = 0; o < out; ++o) {
        for (std::int64_t tap = 0; tap < taps; ++tap) {
          sums[(i * out + o) * taps + tap] +=
              packed_gradient_[static_cast<std::size_t>((i * taps + tap) * out + o)];
        }
      }
    }
  }

  void backward_bias(const NodeIo& io, const TensorView& sums) const {
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* to = sums.as<float>();
    const std::int64_t rows = io.batch * sizes_.out_positions();
    parallel_for(sizes_.out, kChannelGrain, [=, this](std::int64_t begin, std::int64_t end) {
      std::vector<double> total(static_cast<std::size_t>(end - begin));
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* from = grad_output + r * sizes_.out + begin;
        for (std::size_t o = 0; o < total.size(); ++o) total[o] += static_cast<double>(from[o]);
      }
      for (std::size_t o = 0; o < total.size(); ++o)
        to[begin + static_cast<std::int64_t>(o)] += static_cast<float>(total[o]);
    });
  }

  ConvTransposeSizes sizes_;
  std::int64_t row_;    // values that one position gives: taps · O/groups
  std::int64_t block_;  // positions
  std::vector<float> packed_, packed_gradient_;
};

}  // namespace

std::unique_ptr<Kernel> make_conv_transpose2d_fast(const ConvTransposeSizes& sizes) {
  return std::make_unique<ConvTransposeFast>(sizes);
}

}  // namespace fishermask
