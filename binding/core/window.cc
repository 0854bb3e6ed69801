#include "core/window.h"

namespace fishermask {
namespace {

WindowAxis axis_of(const NodeSpec& node, const char* name, const WindowAxis& wanted) {
  WindowAxis axis = wanted;
  node.check(axis.kernel >= 1 && axis.stride >= 1 && axis.dilation >= 1,
             "expected kernel, stride and dilation of at least 1 along ", name, " but received ",
             axis.kernel, ", ", axis.stride, ", ", axis.dilation);
  node.check(axis.pad_before >= 0 && axis.pad_after >= 0, "expected no negative padding along ",
             name, " but received ", axis.pad_before, ", ", axis.pad_after);
  const std::int64_t padded = axis.in + axis.pad_before + axis.pad_after;
  // Compared by division, so that a hostile dilation cannot overflow the product.
  node.check(axis.kernel <= padded && axis.kernel - 1 <= (padded - 1) / axis.dilation,
             "expected a window that fits into ", padded, " padded positions along ", name,
             " but received kernel ", axis.kernel, " with dilation ", axis.dilation);
  axis.out = (padded - axis.dilation * (axis.kernel - 1) - 1) / axis.stride + 1;
  return axis;
}

void check_sees_input(const NodeSpec& node, const char* name, const WindowAxis& axis) {
  for (std::int64_t o = 0; o < axis.out; ++o) {
    bool sees = false;
    for (std::int64_t k = 0; k < axis.kernel && !sees; ++k) sees = axis.inside(axis.at(o, k));
    node.check(sees, "expected every window to see the input but along ", name, " window ", o,
               " sees only padding");
  }
}

}  // namespace

void check_real_inputs(const NodeSpec& node) {
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    node.check(node.inputs[i].dtype == DType::kF32, "expected real numbers for input ", i,
               " but received ", dtype_name(node.inputs[i].dtype));
  }
}

Window window_of(const NodeSpec& node, std::int64_t height, std::int64_t width,
                 const std::vector<std::int64_t>& default_stride) {
  check_real_inputs(node);
  const Shape& input = node.inputs[0].shape;
  node.check(input.size() == 3, "expected an image (H, W, C) but received ", shape_text(input));
  const auto stride = node.attributes.integers("stride", 2, default_stride);
  const auto padding = node.attributes.integers("padding", 4, {{0, 0, 0, 0}});
  const auto dilation = node.attributes.integers("dilation", 2, {{1, 1}});
  // Sizes beyond this cannot be real and would overflow the sums below.
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  for (const std::int64_t pad : padding) {
    node.check(pad < kMost, "expected a padding below ", kMost, " but received ", pad);
  }
  WindowAxis rows{.in = input[0],
                  .kernel = height,
                  .stride = stride[0],
                  .pad_before = padding[0],
                  .pad_after = padding[2],
                  .dilation = dilation[0]};
  WindowAxis columns{.in = input[1],
                     .kernel = width,
                     .stride = stride[1],
                     .pad_before = padding[1],
                     .pad_after = padding[3],
                     .dilation = dilation[1]};
  return {axis_of(node, "the height", rows), axis_of(node, "the width", columns)};
}

Window pool_window_of(const NodeSpec& node) {
  const auto kernel = node.attributes.integers("kernel", 2);
  const Window window = window_of(node, kernel[0], kernel[1], kernel);
  check_sees_input(node, "the height", window.rows);
  check_sees_input(node, "the width", window.columns);
  return window;
}

}  // namespace fishermask
