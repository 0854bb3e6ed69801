// gemm of the emulated library (cuda/ops/gemm.h) against plain sums in f64: sizes that no tile
// divides, all transpositions, row strides beyond the rows, batches and terms, every precision.
#include "cuda/ops/gemm_cases.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

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
