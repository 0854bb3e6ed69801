#include "core/conv_sizes.h"

#include <algorithm>

namespace fishermask {
namespace {

// Sizes beyond this cannot be real and would overflow the sums below.
constexpr std::int64_t kMost = std::int64_t{1} << 24;

// `output_padding` is added at the end; in, out: of our own input and output.
WindowAxis axis_of(const NodeSpec& node, const char* name, WindowAxis axis,
                   std::int64_t output_padding) {
  for (const std::int64_t value : {axis.out, axis.kernel, axis.stride, axis.dilation}) {
    node.check(value >= 1 && value < kMost, "expected size, kernel, stride and dilation in [1, ",
               kMost, ") along ", name, " but received ", value);
  }
  for (const std::int64_t value : {axis.pad_before, axis.pad_after}) {
    node.check(value >= 0 && value < kMost, "expected a padding in [0, ", kMost, ") along ", name,
               " but received ", value);
  }
  node.check(output_padding >= 0 && output_padding < std::max(axis.stride, axis.dilation),
             "expected an output_padding of at least 0 and below stride ", axis.stride,
             " or dilation ", axis.dilation, " along ", name, " but received ", output_padding);
  axis.in = (axis.out - 1) * axis.stride - axis.pad_before - axis.pad_after +
            axis.dilation * (axis.kernel - 1) + 1 + output_padding;
  node.check(axis.in >= 1, "expected an output of at least 1 along ", name, " but it would be ",
             axis.in);
  return axis;
}

Window window_of_transpose(const NodeSpec& node, const Shape& weight) {
  const Shape& input = node.inputs[0].shape;
  node.check(input.size() == 3, "expected an image (H, W, C) but received ", shape_text(input));
  const auto stride = node.attributes.integers("stride", 2, {{1, 1}});
  const auto padding = node.attributes.integers("padding", 4, {{0, 0, 0, 0}});
  const auto output_padding = node.attributes.integers("output_padding", 2, {{0, 0}});
  const auto dilation = node.attributes.integers("dilation", 2, {{1, 1}});
  const WindowAxis rows{.out = input[0],
                        .kernel = weight[2],
                        .stride = stride[0],
                        .pad_before = padding[0],
                        .pad_after = padding[2],
                        .dilation = dilation[0]};
  const WindowAxis columns{.out = input[1],
                           .kernel = weight[3],
                           .stride = stride[1],
                           .pad_before = padding[1],
                           .pad_after = padding[3],
                           .dilation = dilation[1]};
  return {axis_of(node, "the height", rows, output_padding[0]),
          axis_of(node, "the width", columns, output_padding[1])};
}

}  // namespace

ConvSizes conv_sizes(const NodeSpec& node) {
  const Shape& weight = node.parameters.at("weight");
  node.check(weight.size() == 4,
             "expected a weight of shape (out, in/groups, height, width) but "
             "received ",
             shape_text(weight));
  ConvSizes sizes;
  sizes.window = window_of(node, weight[2], weight[3], {1, 1});
  sizes.in = node.inputs[0].shape[2];
  sizes.out = weight[0];
  sizes.groups = node.attributes.integer("groups", 1);
  node.check(sizes.groups >= 1 && sizes.in % sizes.groups == 0 && sizes.out % sizes.groups == 0,
             "expected groups that divide ", sizes.in, " input and ", sizes.out,
             " output channels but received ", sizes.groups);
  node.check(sizes.in_per_group() == weight[1], "expected a weight with ", sizes.in_per_group(),
             " input channels per group but received ", shape_text(weight));
  return sizes;
}

ConvTransposeSizes conv_transpose_sizes(const NodeSpec& node) {
  const Shape& weight = node.parameters.at("weight");
  node.check(weight.size() == 4,
             "expected a weight of shape (in, out/groups, height, width) but received ",
             shape_text(weight));
  ConvTransposeSizes sizes;
  sizes.window = window_of_transpose(node, weight);
  sizes.in = node.inputs[0].shape[2];
  sizes.groups = node.attributes.integer("groups", 1);
  node.check(sizes.groups >= 1 && sizes.in % sizes.groups == 0, "expected groups that divide ",
             sizes.in, " input channels but received ", sizes.groups);
  node.check(weight[0] == sizes.in, "expected a weight with ", sizes.in,
             " input channels but received ", shape_text(weight));
  sizes.out = weight[1] * sizes.groups;
  return sizes;
}

}  // namespace fishermask
