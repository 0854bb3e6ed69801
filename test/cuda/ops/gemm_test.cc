// gemm of the emulated library (cuda/ops/gemm.h) against plain sums in f64: sizes that no tile
// divides, all transpositions, row strides beyond the rows, batches and terms, every precision. The
// real library does not export it: there the ops' own tests stand in.
#include "cuda/ops/gemm.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;
using cuda::GemmCall;
using cuda::GemmTile;

namespace {

using TestGemm = void (*)(Device&, const GemmCall&);

TestGemm find_gemm() {
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

Tensor tensor_of_floats(const std::vector<float>& values) {
  return tensor_of<float>({static_cast<std::int64_t>(values.size())}, values);
}

// `count` matrices one after the other, padded rows; what is not theirs is NaN.
Matrices draw(const Problem& p, std::int64_t count, std::int64_t rows, std::int64_t columns,
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
std::int64_t matrix_of(const Problem& p, std::int64_t z, std::int64_t t) {
  const std::int64_t i = z * p.terms + t;
  return p.lists ? p.batch * p.terms - 1 - i : i;
}

struct Outcome {
  double distance = 0;  // ‖C − reference‖ / ‖reference‖
  std::vector<float> c;
};

Outcome run(TestGemm gemm, const Problem& p, Device& on) {
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

double tolerance_of(Precision precision) {
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

double check(TestGemm gemm, const Problem& p, Precision precision = Precision::kF32) {
  CAPTURE(p.m);
  CAPTURE(p.n);
  CAPTURE(p.k);
  CAPTURE(p.transpose_a);
  CAPTURE(p.transpose_b);
  CAPTURE(static_cast<int>(p.tile));
  CAPTURE(p.splits);
  const double distance = run(gemm, p, device(precision)).distance;
  CHECK(distance <= tolerance_of(precision));  // false for NaN
  return distance;
}

constexpr std::int64_t kUgly[] = {1, 3, 17, 33, 65, 127, 129};

}  // namespace

TEST_CASE("gemm: every ugly size in each place") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  double worst = 0;
  int turn = 0;
  for (const std::int64_t size : kUgly) {
    for (int place = 0; place < 3; ++place) {
      for (const std::int64_t other : {std::int64_t{33}, size}) {
        Problem p;
        p.m = place == 0 ? size : other;
        p.n = place == 1 ? size : other;
        p.k = place == 2 ? size : other;
        p.transpose_a = turn % 2 == 1;
        p.transpose_b = turn / 2 % 2 == 1;
        p.tile = turn / 4 % 2 == 1 ? GemmTile::kLarge : GemmTile::kSmall;
        p.splits = turn / 8 % 3;
        ++turn;
        worst = std::max(worst, check(gemm, p));
      }
    }
  }
  std::printf("gemm f32: worst relative distance %.2g\n", worst);
}

TEST_CASE("gemm: transpositions, tiles and precisions") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  for (const Precision precision : {Precision::kF32, Precision::kTf32, Precision::kBf16}) {
    CAPTURE(static_cast<int>(precision));
    double worst = 0;
    for (int turn = 0; turn < 8; ++turn) {
      Problem p = {.m = 129, .n = 70, .k = 37};
      p.transpose_a = turn % 2 == 1;
      p.transpose_b = turn / 2 % 2 == 1;
      p.tile = turn < 4 ? GemmTile::kLarge : GemmTile::kSmall;
      worst = std::max(worst, check(gemm, p, precision));
      // Aligned rows: copies of 16 bytes, with a part of one at the end of each row.
      p.m = 68;
      p.n = 132;
      p.k = 44;
      worst = std::max(worst, check(gemm, p, precision));
    }
    std::printf("gemm %s: worst relative distance %.2g\n",
                std::string(precision_name(precision)).c_str(), worst);
    // The rounded operands were used: f32 would be nearer.
    if (precision != Precision::kF32) CHECK(worst > 1e-5);
  }
}

TEST_CASE("gemm: row strides, misalignment, alpha, beta and bias") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  for (int turn = 0; turn < 16; ++turn) {
    Problem p = {.m = 34, .n = 68, .k = 20};
    p.transpose_a = turn % 2 == 1;
    p.transpose_b = turn / 2 % 2 == 1;
    p.padding = turn / 4 % 2 == 0 ? 3 : 4;
    p.shift = turn / 8;
    p.alpha = -0.5F;
    p.beta = turn % 3 == 0 ? 0.0F : 1.5F;
    p.bias = turn % 2 == 0;
    p.splits = turn % 5 == 0 ? 2 : 0;
    check(gemm, p, turn % 4 == 3 ? Precision::kTf32 : Precision::kF32);
  }
}

TEST_CASE("gemm: batches, terms and lists of offsets") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  for (int turn = 0; turn < 8; ++turn) {
    Problem p = {.m = 19, .n = 66, .k = 21};
    p.transpose_a = turn % 2 == 1;
    p.batch = turn < 4 ? 3 : 1;
    p.terms = turn % 4 < 2 ? 1 : 4;
    p.lists = turn / 2 % 2 == 1;
    p.padding = turn % 3;
    p.beta = turn % 2 == 0 ? 1.0F : 0.0F;
    p.splits = turn % 3;
    check(gemm, p);
  }
}

TEST_CASE("gemm: an empty inner sum writes beta C + bias") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  check(gemm, {.m = 5, .n = 9, .k = 0, .beta = 2, .bias = true});
  check(gemm, {.m = 5, .n = 9, .k = 0, .bias = true});
  run(gemm, {.m = 0, .n = 9, .k = 4}, device());
}

TEST_CASE("gemm: twice the same bits, also with a split inner sum") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  for (const Precision precision : {Precision::kF32, Precision::kTf32, Precision::kBf16}) {
    const Problem p = {.m = 33, .n = 17, .k = 700, .transpose_a = true};
    CHECK(run(gemm, p, device(precision)).c == run(gemm, p, device(precision)).c);
    CHECK(run(gemm, p, device(precision)).distance <= tolerance_of(precision));
  }
}

TEST_CASE("gemm: sizes out of range are refused") {
  TestGemm const gemm = find_gemm();
  if (gemm == nullptr) return;
  GemmCall call;
  call.m = std::int64_t{1} << 31;
  call.n = call.k = 1;
  CHECK_THROWS_WITH_AS(gemm(device(), call),
                       doctest::Contains("expected sizes of a matrix product below"), Error);
}
