// A contraction or reduction with operands of its own, drawn from a seeded normal distribution.
#pragma once

#include <cmath>
#include <vector>

#include "core/square_rule.h"
#include "native/ops/op_harness.h"

namespace fishermask::test {

struct ContractionCase {
  std::int64_t batch = 2, in = 3, out = 4, height = 5, width = 5, kernel_height = 3,
               kernel_width = 3;
  std::int64_t stride_height = 1, stride_width = 1, dilation_height = 1, dilation_width = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0, groups = 1;
};

inline std::string describe(const ContractionCase& c) {
  return text("batch ", c.batch, ", ", c.in, " -> ", c.out, " channels, ", c.height, "x", c.width,
              ", kernel ", c.kernel_height, "x", c.kernel_width, ", stride ", c.stride_height, "x",
              c.stride_width, ", dilation ", c.dilation_height, "x", c.dilation_width, ", pad ",
              c.pad_top, ",", c.pad_left, ",", c.pad_bottom, ",", c.pad_right, ", groups ",
              c.groups);
}

class RandomContraction {
 public:
  explicit RandomContraction(const ContractionCase& c) {
    const auto positions = [](std::int64_t size, std::int64_t pads, std::int64_t kernel,
                              std::int64_t stride, std::int64_t dilation) {
      return (size + pads - dilation * (kernel - 1) - 1) / stride + 1;
    };
    form.batch = c.batch;
    form.in_height = c.height, form.in_width = c.width, form.in_channels = c.in;
    form.kernel_height = c.kernel_height, form.kernel_width = c.kernel_width;
    form.stride_height = c.stride_height, form.stride_width = c.stride_width;
    form.dilation_height = c.dilation_height, form.dilation_width = c.dilation_width;
    form.pad_top = c.pad_top, form.pad_left = c.pad_left, form.groups = c.groups;
    form.out_channels = c.out;
    form.out_height = positions(c.height, c.pad_top + c.pad_bottom, c.kernel_height,
                                c.stride_height, c.dilation_height);
    form.out_width = positions(c.width, c.pad_left + c.pad_right, c.kernel_width, c.stride_width,
                               c.dilation_width);
    delta_ = normals(c.batch * form.out_height * form.out_width * c.out, 1);
    input_ = normals(c.batch * c.height * c.width * c.in, 2);
    form.grad_output = delta_.data();
    form.input = input_.data();
    weights = c.out * (c.in / c.groups) * c.kernel_height * c.kernel_width;
  }
  RandomContraction(const RandomContraction&) = delete;
  RandomContraction& operator=(const RandomContraction&) = delete;

  template <typename Accumulate>
  [[nodiscard]] std::vector<double> run(const Accumulate& accumulate, double start = 0.0) const {
    std::vector<double> sums(static_cast<std::size_t>(weights), start);
    accumulate(form, sums.data());
    return sums;
  }

  ContractionForm form;
  std::int64_t weights = 0;

 private:
  std::vector<float> delta_;
  std::vector<float> input_;
};

inline double relative_error(const std::vector<double>& actual,
                             const std::vector<double>& expected) {
  double difference = 0;
  double scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    scale += expected[i] * expected[i];
  }
  return std::sqrt(difference / (scale > 0 ? scale : 1.0));
}

}  // namespace fishermask::test
