#include "fisher/contraction.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "ops/onednn.h"

namespace fishermask {

namespace {
FM_VECTOR_CLONES void add_to(const float* terms, std::int64_t count, double* sums) {
  for (std::int64_t i = 0; i < count; ++i) sums[i] += static_cast<double>(terms[i]);
}
}  // namespace

void accumulate_contraction(const ContractionForm& form, double* sums) {
  const bool vectors = form.in_height * form.in_width * form.out_height * form.out_width == 1 &&
                       form.kernel_height * form.kernel_width == 1 && form.groups == 1 &&
                       form.pad_top == 0 && form.pad_left == 0;
  const bool depthwise =
      form.groups > 1 && form.groups == form.in_channels && form.groups == form.out_channels;
  if (vectors) {
    accumulate_contraction_vectors(form, sums);
  } else if (depthwise) {
    accumulate_contraction_depthwise(form, sums);
  } else {
    accumulate_contraction_tiles(form, sums);
  }
}

void accumulate_contraction_vectors(const ContractionForm& form, double* sums) {
  // f32 sums of 64 squares keep the error of a sum over many batches near one ulp.
  constexpr std::int64_t kChunk = 64;
  // A block of products stays in the second-level cache until it is added to the sums.
  constexpr std::int64_t kBlockFloats = 64 << 10;
  const std::int64_t out = form.out_channels;
  const std::int64_t in = form.in_channels;
  const std::int64_t block = std::clamp<std::int64_t>(kBlockFloats / in, 1, out);
  const auto square = [](const float* from, std::int64_t count, std::vector<float>& to) {
    to.resize(static_cast<std::size_t>(count));
    std::transform(from, from + count, to.begin(), [](float v) { return v * v; });
  };
  std::vector<float> delta_squares;
  std::vector<float> input_squares;
  std::vector<float> partial(static_cast<std::size_t>(block * in));
  for (std::int64_t n = 0; n < form.batch; n += kChunk) {
    const std::int64_t rows = std::min(kChunk, form.batch - n);
    square(form.grad_output + n * out, rows * out, delta_squares);
    square(form.input + n * in, rows * in, input_squares);
    for (std::int64_t o = 0; o < out; o += block) {
      const std::int64_t outputs = std::min(block, out - o);
      gemm(true, false, outputs, in, rows, delta_squares.data() + o, out, input_squares.data(), in,
           0.0F, partial.data(), in);
      parallel_for(outputs * in, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
        add_to(partial.data() + begin, end - begin, sums + o * in + begin);
      });
    }
  }
}

namespace {
// Σ over positions of δ[n, y, x, o] · a[n, …, i]; the definition of square_rule.h word for word.
double sample_gradient(const ContractionForm& f, std::int64_t n, std::int64_t o, std::int64_t i,
                       std::int64_t kh, std::int64_t kw) {
  const std::int64_t group = o / (f.out_channels / f.groups);
  const std::int64_t channel = group * (f.in_channels / f.groups) + i;
  double gradient = 0.0;
  for (std::int64_t y = 0; y < f.out_height; ++y) {
    for (std::int64_t x = 0; x < f.out_width; ++x) {
      const std::int64_t row = y * f.stride_height - f.pad_top + kh * f.dilation_height;
      const std::int64_t col = x * f.stride_width - f.pad_left + kw * f.dilation_width;
      if (row < 0 || row >= f.in_height || col < 0 || col >= f.in_width) continue;
      const std::int64_t out_pixel = (n * f.out_height + y) * f.out_width + x;
      const std::int64_t in_pixel = (n * f.in_height + row) * f.in_width + col;
      gradient += static_cast<double>(f.grad_output[out_pixel * f.out_channels + o]) *
                  static_cast<double>(f.input[in_pixel * f.in_channels + channel]);
    }
  }
  return gradient;
}
}  // namespace

void accumulate_contraction_reference(const ContractionForm& form, double* sums) {
  const std::int64_t in = form.in_channels / form.groups;
  std::int64_t index = 0;
  for (std::int64_t o = 0; o < form.out_channels; ++o) {
    for (std::int64_t i = 0; i < in; ++i) {
      for (std::int64_t kh = 0; kh < form.kernel_height; ++kh) {
        for (std::int64_t kw = 0; kw < form.kernel_width; ++kw, ++index) {
          for (std::int64_t n = 0; n < form.batch; ++n) {
            const double gradient = sample_gradient(form, n, o, i, kh, kw);
            sums[index] += gradient * gradient;
          }
        }
      }
    }
  }
}

}  // namespace fishermask
