// conv_transpose2d: y[n, oy, ox, o] = b[o] + Σ x[n, iy, ix, i] · W[i, o − g·O/groups, ky, kx] over
// the taps with oy = iy·stride − pad_top + ky·dilation (ox alike) and the i of o's group g.
// Shapes:     x (N, H, W, I), W (I, O/groups, K_h, K_w), b (O,) optional, y (N, H', W', O) with
// H' = (H − 1)·stride − top − bottom + dilation·(K_h − 1) + 1 + output_padding (W' alike).
// Attributes: stride [2], padding [top, left, bottom, right], output_padding [2] (below stride or
// dilation), dilation [2], groups.
// Accumulate: grad W and grad b use +=; grad x as asked.
// Workspace:  W in another order; on each thread a block of positions by taps, 256 KiB or one
// position's.
// Squares:    contraction form (weight) with the roles of x and grad y exchanged, reduction form
// (bias).
// Deterministic: yes, for any thread count: threads take samples and groups, for grad W taps, and
// each runs its GEMMs alone.
#include "ops/conv_transpose2d.h"

#include <algorithm>

#include "graph/op.h"
#include "ops/conv_reference.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const ConvTransposeSizes sizes = conv_transpose_sizes(node);
  check_conv_bias(node, sizes.out);
  return {{{sizes.window.rows.in, sizes.window.columns.in, sizes.out}, node.inputs[0].dtype}};
}

// Every product of the op, for TapReference.
class ConvTransposeTaps {
 public:
  explicit ConvTransposeTaps(const ConvTransposeSizes& sizes) : sizes_(sizes) {}
  [[nodiscard]] std::int64_t out() const { return sizes_.out; }

  template <typename Body>
  void for_each(std::int64_t batch, const Body& body) const {
    const WindowAxis& rows = sizes_.window.rows;
    const WindowAxis& columns = sizes_.window.columns;
    for (std::int64_t p = 0; p < batch * sizes_.in_positions(); ++p) {
      const std::int64_t n = p / sizes_.in_positions();
      const std::int64_t iy = p / columns.out % rows.out;
      const std::int64_t ix = p % columns.out;
      for (std::int64_t tap = 0; tap < sizes_.taps(); ++tap) {
        const std::int64_t oy = rows.at(iy, tap / columns.kernel);
        const std::int64_t ox = columns.at(ix, tap % columns.kernel);
        if (!rows.inside(oy) || !columns.inside(ox)) continue;
        const std::int64_t y_base = ((n * rows.in + oy) * columns.in + ox) * sizes_.out;
        for_each_channel(p * sizes_.in, y_base, tap, body);
      }
    }
  }

 private:
  template <typename Body>
  void for_each_channel(std::int64_t x_base, std::int64_t y_base, std::int64_t tap,
                        const Body& body) const {
    const std::int64_t out = sizes_.out_per_group();
    for (std::int64_t i = 0; i < sizes_.in; ++i) {
      const std::int64_t first = i / sizes_.in_per_group() * out;
      for (std::int64_t o = 0; o < out; ++o) {
        body(x_base + i, (i * out + o) * sizes_.taps() + tap, y_base + first + o);
      }
    }
  }

  ConvTransposeSizes sizes_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64)
    return std::make_unique<TapReference<double, ConvTransposeTaps>>(
        ConvTransposeTaps(conv_transpose_sizes(node)));
  return std::make_unique<TapReference<float, ConvTransposeTaps>>(
      ConvTransposeTaps(conv_transpose_sizes(node)));
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return make_conv_transpose2d_fast(conv_transpose_sizes(node));
}

using Integers = std::vector<std::int64_t>;

std::vector<SampleCase> cases() {
  return {
      {.name = "2x2 stride 2",
       .inputs = {{4, 5, 3}},
       .parameters = {{"weight", {3, 4, 2, 2}}, {"bias", {4}}},
       .attributes = {{"stride", Integers{2, 2}}}},
      {.name = "3x3 stride 1",
       .inputs = {{5, 6, 3}},
       .parameters = {{"weight", {3, 5, 3, 3}}},
       .attributes = {{"padding", Integers{1, 1, 1, 1}}}},
      {.name = "4x4 stride 2, batch of one",
       .inputs = {{5, 4, 17}},
       .parameters = {{"weight", {17, 9, 4, 4}}, {"bias", {9}}},
       .attributes = {{"stride", Integers{2, 2}}, {"padding", Integers{1, 1, 1, 1}}},
       .batch = 1},
      {.name = "output padding, asymmetric",
       .inputs = {{3, 4, 2}},
       .parameters = {{"weight", {2, 3, 3, 2}}, {"bias", {3}}},
       .attributes = {{"stride", Integers{3, 2}},
                      {"padding", Integers{0, 1, 2, 0}},
                      {"output_padding", Integers{2, 1}}}},
      {.name = "dilation 2x3, groups 2",
       .inputs = {{4, 3, 6}},
       .parameters = {{"weight", {6, 4, 2, 3}}, {"bias", {8}}},
       .attributes = {{"dilation", Integers{2, 3}},
                      {"padding", Integers{1, 2, 0, 3}},
                      {"output_padding", Integers{1, 2}},
                      {"groups", std::int64_t{2}}},
       .batch = 2},
      {.name = "depthwise",
       .inputs = {{4, 4, 5}},
       .parameters = {{"weight", {5, 1, 3, 3}}},
       .attributes = {{"stride", Integers{2, 1}}, {"groups", std::int64_t{5}}}},
      {.name = "padding wider than the kernel",
       .inputs = {{4, 5, 2}},
       .parameters = {{"weight", {2, 3, 1, 2}}, {"bias", {3}}},
       .attributes = {{"padding", Integers{1, 2, 1, 0}}}},
      {.name = "several blocks of positions",
       .inputs = {{12, 20, 7}},
       .parameters = {{"weight", {7, 40, 3, 3}}, {"bias", {40}}},
       .attributes = {{"stride", Integers{2, 2}}, {"padding", Integers{1, 1, 0, 0}}},
       .batch = 2},
  };
}

OpDefinition conv_transpose2d() {
  OpDefinition op;
  op.name = "conv_transpose2d";
  op.slots = {{.name = "weight"}, {.name = "bias", .required = false}};
  op.attributes = {"stride", "padding", "output_padding", "dilation", "groups"};
  op.backward_needs_inputs = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(conv_transpose2d())

}  // namespace
}  // namespace fishermask
