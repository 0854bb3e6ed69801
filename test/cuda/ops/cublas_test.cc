// Matrix products by cuBLASLt. On the emulation a stand-in that checks what it is told
// (tools/fake_cublaslt.cc) is loaded in its place: results against f64, and every way in which the
// library can refuse.
#include <optional>

#include "cuda/ops/gemm_cases.h"
#include "cuda/tools/fake_library.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr const char* kVariable = "FISHERMASK_CUBLASLT";

// The stand-in; none, with a word about it, where it cannot be used.
std::optional<FakeLibrary> fake_cublaslt() {
  const std::string path = fake_library_path("fake_cublaslt");
  if (!device().info().emulated) {
    std::puts("SKIPPED: the stand-in for cuBLASLt works on emulated memory alone");
    return std::nullopt;
  }
  if (path.empty()) {
    std::puts("SKIPPED: there is no libfake_cublaslt.so beside the tests");
    return std::nullopt;
  }
  FakeLibrary fake(path, "fake_cublaslt");
  fake.behave("plain");
  return fake;
}

std::shared_ptr<Device> fake_device(Precision precision = Precision::kF32) {
  return device_with(kVariable, fake_library_path("fake_cublaslt"), precision);
}

// Every combination of transpositions, strides, alignments, scales, bias and batch.
std::vector<Problem> problems() {
  std::vector<Problem> all;
  for (int turn = 0; turn < 48; ++turn) {
    Problem p = {.m = 34, .n = 20, .k = 13};
    p.transpose_a = turn % 2 == 1;
    p.transpose_b = turn / 2 % 2 == 1;
    p.padding = turn / 4 % 3;
    p.shift = turn % 5 % 3;
    p.alpha = turn % 7 == 0 ? 1.0F : -0.5F;
    p.beta = turn % 3 == 0 ? 1.5F : 0.0F;
    p.bias = turn / 8 % 2 == 1;
    p.batch = turn / 16 + 1;
    all.push_back(p);
  }
  return all;
}

}  // namespace

TEST_CASE("matrix products by cuBLASLt's stand-in against f64") {
  const std::optional<FakeLibrary> fake = fake_cublaslt();
  if (!fake) return;
  TestGemm const gemm = find_gemm();
  for (const Precision precision : {Precision::kF32, Precision::kTf32, Precision::kBf16}) {
    CAPTURE(precision_name(precision));
    fake->behave("plain");
    const std::int64_t live = fake->count("live");
    double worst = 0;
    {
      const std::shared_ptr<Device> on = fake_device(precision);
      CHECK(on->info().matmul_library == "cuBLASLt 13.2.3");
      for (const Problem& p : problems()) {
        CAPTURE(p.transpose_a);
        CAPTURE(p.transpose_b);
        CAPTURE(p.batch);
        const double distance = run(gemm, p, *on).distance;
        CHECK(distance <= tolerance_of(precision));
        worst = std::max(worst, distance);
      }
    }
    CHECK(fake->count("cublasLtMatmul") == 48);
    CHECK(fake->count("cublasLtCreate") == 1);
    CHECK(fake->count("complaints") == 0);
    CHECK(fake->count("live") == live);
    // The rounded operands were used: f32 would be nearer.
    if (precision != Precision::kF32) CHECK(worst > 1e-5);
  }
}

TEST_CASE("what cuBLASLt does not take or fails at is done by own kernels") {
  const std::optional<FakeLibrary> fake = fake_cublaslt();
  if (!fake) return;
  TestGemm const gemm = find_gemm();
  const Problem plain = {.m = 19, .n = 66, .k = 21, .beta = 1.0F, .bias = true, .batch = 2};
  for (const char* const behaviour : {"no-algorithm", "large", "fail-run"}) {
    CAPTURE(behaviour);
    fake->behave(behaviour);
    CHECK(run(gemm, plain, *fake_device()).distance <= 1e-5);
    CHECK(fake->count("cublasLtMatmul") == (std::string(behaviour) == "fail-run" ? 1 : 0));
    CHECK(fake->count("complaints") == 0);
  }
  fake->behave("plain");
  const std::shared_ptr<Device> on = fake_device();
  Problem terms = plain;
  terms.terms = 3;
  Problem lists = plain;
  lists.lists = true;
  Problem tiles = plain;
  tiles.tile = GemmTile::kLarge;
  Problem empty = plain;
  empty.k = 0;
  for (const Problem& p : {terms, lists, tiles, empty}) {
    CHECK(run(gemm, p, *on).distance <= 1e-5);
  }
  CHECK(fake->count("cublasLtMatmul") == 0);
}

TEST_CASE("a device says which library its matrix products use") {
  const std::optional<FakeLibrary> fake = fake_cublaslt();
  if (!fake) return;
  TestGemm const gemm = find_gemm();
  fake->behave("fail-create");
  const std::shared_ptr<Device> on = fake_device();
  CHECK(run(gemm, {.m = 5, .n = 6, .k = 7}, *on).distance <= 1e-5);
  CHECK(on->info().matmul_library == "own kernels");
  fake->behave("plain");
  for (const char* const library : {"off", "/nowhere/libcublasLt.so"}) {
    CHECK(device_with(kVariable, library, Precision::kF32)->info().matmul_library == "own kernels");
  }
}
