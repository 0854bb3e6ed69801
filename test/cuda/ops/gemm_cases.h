// gemm of the emulated library (cuda/ops/gemm.h) on drawn matrices, against plain sums in f64. The
// real library does not export it: there the ops' own tests stand in.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "cuda/device_support.h"
#include "cuda/ops/gemm.h"
#include "native/ops/op_harness.h"

namespace fishermask::test {

using cuda::GemmCall;
using cuda::GemmTile;

using TestGemm = void (*)(Device&, const GemmCall&);

inline TestGemm find_gemm() {
  (void)device();
  const char* const path = std::getenv("FISHERMASK_CUDA_LIBRARY");
  void* const library = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  auto* const found = library == nullptr ? nullptr : dlsym(library, "fishermask_test_gemm");
  if (found == nullptr) {
    REQUIRE(!device().info().emulated);
    std::printf("gemm's own tests not run: they need the emulated library\n");
  }
  return reinterpret_cast<TestGemm>(found);
}

// One call with everything that may vary.
struct Problem {
  std::int64_t m = 1, n = 1, k = 1;
  bool transpose_a = false, transpose_b = false;
  std::int64_t padding = 0;  // elements between a row's end and the next row
  std::int64_t shift = 0;    // elements before the first matrix: 1 makes all of them unaligned
  float alpha = 1, beta = 0;
  bool bias = false;
  std::int64_t batch = 1, terms = 1;
  bool lists = false;
  GemmTile tile = GemmTile::kChosen;
  int splits = 0;
};

struct Matrices {
  std::int64_t row_stride, size;
  std::vector<float> values;
  DeviceTensor on_device;
};

inline Tensor tensor_of_floats(const std::vector<float>& values) {
  return tensor_of<float>({static_cast<std::int64_t>(values.size())}, values);
}

// `count` matrices one after the other, padded rows; what is not theirs is NaN.
inline Matrices draw(const Problem& p, std::int64_t count, std::int64_t rows, std::int64_t columns,
                     std::uint64_t stream, Device& on) {
  Matrices made;
  made.row_stride = columns + p.padding;
  made.size = rows * made.row_stride + p.padding;
  made.values.assign(static_cast<std::size_t>(p.shift + count * made.size),
                     std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> drawn = normals(count * rows * columns, stream);
  std::size_t next = 0;
  for (std::int64_t z = 0; z < count; ++z) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        made.values[static_cast<std::size_t>(p.shift + z * made.size + r * made.row_stride + c)] =
            drawn[next++];
      }
    }
  }
  made.on_device = DeviceTensor(tensor_of_floats(made.values), on);
  return made;
}

// Matrix of (z, t): in order, or through a list that reverses them.
inline std::int64_t matrix_of(const Problem& p, std::int64_t z, std::int64_t t) {
  const std::int64_t i = z * p.terms + t;
  return p.lists ? p.batch * p.terms - 1 - i : i;
}

struct Outcome {
  double distance = 0;  // ‖C − reference‖ / ‖reference‖
  std::vector<float> c;
};

inline Outcome run(TestGemm gemm, const Problem& p, Device& on) {
  const std::int64_t count = p.batch * p.terms;
  const Matrices a = draw(p, count, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, 1, on);
  const Matrices b = draw(p, count, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, 2, on);
  Matrices c = draw(p, p.batch, p.m, p.n, 3, on);
  if (p.beta == 0) {
    std::fill(c.values.begin(), c.values.end(), std::numeric_limits<float>::quiet_NaN());
    c.on_device = DeviceTensor(tensor_of_floats(c.values), on);
  }
  const std::vector<float> bias_values = normals(p.n, 4);
  const DeviceTensor bias(tensor_of_floats(bias_values), on);
  Tensor list(DType::kU8, {count * 16});
  auto* const offsets = reinterpret_cast<std::int64_t*>(list.view().data);
  for (std::int64_t i = 0; i < count; ++i) {
    offsets[i] = matrix_of(p, i / p.terms, i % p.terms) * a.size;
    offsets[count + i] = matrix_of(p, i / p.terms, i % p.terms) * b.size;
  }
  const DeviceTensor lists(list, on);
  const auto* const device_lists = reinterpret_cast<const std::int64_t*>(lists.view().data);

  GemmCall call;
  call.m = p.m;
  call.n = p.n;
  call.k = p.k;
  call.a = {a.on_device.view().as<float>() + p.shift,
            a.row_stride,
            p.transpose_a,
            p.terms * a.size,
            a.size,
            p.lists ? device_lists : nullptr};
  call.b = {b.on_device.view().as<float>() + p.shift,
            b.row_stride,
            p.transpose_b,
            p.terms * b.size,
            b.size,
            p.lists ? device_lists + count : nullptr};
  call.c = c.on_device.view().as<float>() + p.shift;
  call.c_row_stride = c.row_stride;
  call.c_batch_stride = c.size;
  call.alpha = p.alpha;
  call.beta = p.beta;
  if (p.bias) call.bias = bias.view().as<float>();
  call.batch = p.batch;
  call.terms = p.terms;
  call.tile = p.tile;
  call.splits = p.splits;
  gemm(on, call);

  Outcome outcome;
  const Tensor got = c.on_device.host();
  outcome.c.assign(got.as<float>(), got.as<float>() + got.count());
  std::vector<bool> written(outcome.c.size());
  double error = 0;
  double norm = 0;
  const auto value = [&](const Matrices& x, bool transposed, std::int64_t matrix, std::int64_t r,
                         std::int64_t s) {
    const std::int64_t row = transposed ? s : r;
    const std::int64_t column = transposed ? r : s;
    return static_cast<double>(x.values[static_cast<std::size_t>(p.shift + matrix * x.size +
                                                                 row * x.row_stride + column)]);
  };
  for (std::int64_t z = 0; z < p.batch; ++z) {
    for (std::int64_t i = 0; i < p.m; ++i) {
      for (std::int64_t j = 0; j < p.n; ++j) {
        double sum = 0;
        for (std::int64_t t = 0; t < p.terms; ++t) {
          for (std::int64_t l = 0; l < p.k; ++l) {
            sum += value(a, p.transpose_a, matrix_of(p, z, t), i, l) *
                   value(b, p.transpose_b, matrix_of(p, z, t), l, j);
          }
        }
        const auto at = static_cast<std::size_t>(p.shift + z * c.size + i * c.row_stride + j);
        double expected = static_cast<double>(p.alpha) * sum;
        if (p.beta != 0) {
          expected += static_cast<double>(p.beta) * static_cast<double>(c.values[at]);
        }
        if (p.bias) expected += static_cast<double>(bias_values[static_cast<std::size_t>(j)]);
        const double difference = static_cast<double>(outcome.c[at]) - expected;
        error += difference * difference;
        norm += expected * expected;
        written[at] = true;
      }
    }
  }
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (!written[i]) CHECK(std::isnan(outcome.c[i]));  // padding was left alone
  }
  outcome.distance = std::sqrt(error / std::max(norm, 1e-30));
  return outcome;
}

inline double tolerance_of(Precision precision) {
  switch (precision) {
    case Precision::kTf32:
      return 2e-3;
    case Precision::kBf16:
      return 2e-2;
    case Precision::kF32:
      break;
  }
  return 1e-5;
}

}  // namespace fishermask::test
