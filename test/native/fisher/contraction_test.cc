// The fused contraction kernels against their definition in f64, over shapes that meet every tile,
// edge and instruction set; and to the bit over thread counts.
#include "fisher/contraction.h"

#include <doctest/doctest.h>
#include <hwy/highway.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <limits>
#include <random>

#include "core/parallel.h"
#include "native/fisher/random_form.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

// f32 sums over at most some hundred positions and squares over 16 samples.
constexpr double kTolerance = 2e-6;

std::vector<ContractionCase> fixed_cases() {
  std::vector<ContractionCase> cases;
  // Lanes on either operand, whole and masked vectors, every count of broadcasts.
  const std::int64_t channels[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64};
  for (const std::int64_t in : channels) {
    for (const std::int64_t out : channels) {
      cases.push_back({.in = in,
                       .out = out,
                       .height = 3,
                       .width = 4,
                       .kernel_height = 2,
                       .pad_top = 1,
                       .pad_left = 1});
    }
  }
  for (const std::int64_t batch : {1, 15, 16, 17, 40}) {
    cases.push_back({.batch = batch,
                     .in = 5,
                     .out = 18,
                     .pad_top = 1,
                     .pad_left = 1,
                     .pad_bottom = 1,
                     .pad_right = 1});
  }
  // Strides, dilation, asymmetric padding.
  cases.push_back({.height = 9, .width = 8, .stride_height = 2, .stride_width = 3});
  cases.push_back({.height = 9,
                   .width = 11,
                   .kernel_width = 2,
                   .dilation_height = 2,
                   .dilation_width = 3,
                   .pad_top = 2,
                   .pad_right = 1});
  cases.push_back({.in = 17,
                   .out = 16,
                   .height = 7,
                   .width = 6,
                   .stride_height = 3,
                   .stride_width = 2,
                   .dilation_height = 2,
                   .pad_top = 1,
                   .pad_left = 2,
                   .pad_bottom = 3,
                   .pad_right = 0});
  // Groups and depthwise, with a multiplier.
  cases.push_back({.in = 6, .out = 4, .groups = 2});
  cases.push_back({.in = 34, .out = 68, .pad_top = 1, .pad_left = 1, .groups = 2});
  cases.push_back({.in = 17,
                   .out = 17,
                   .stride_height = 2,
                   .stride_width = 2,
                   .pad_top = 1,
                   .pad_left = 1,
                   .pad_bottom = 1,
                   .pad_right = 1,
                   .groups = 17});
  cases.push_back({.in = 5, .out = 15, .groups = 5});
  // A kernel element that only ever meets the padding: partly and wholly outside.
  cases.push_back(
      {.height = 1, .width = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1});
  cases.push_back({.height = 2,
                   .width = 2,
                   .kernel_height = 5,
                   .kernel_width = 5,
                   .pad_top = 4,
                   .pad_left = 4,
                   .pad_bottom = 4,
                   .pad_right = 4});
  cases.push_back({.height = 2,
                   .width = 3,
                   .stride_height = 4,
                   .stride_width = 4,
                   .pad_top = 7,
                   .pad_left = 6,
                   .pad_bottom = 7,
                   .pad_right = 6});
  cases.push_back({.height = 3,
                   .width = 3,
                   .dilation_height = 5,
                   .dilation_width = 5,
                   .pad_top = 5,
                   .pad_left = 5,
                   .pad_bottom = 5,
                   .pad_right = 5});
  // Several blocks and panels; chunks of several samples, of one, and of one with more positions
  // than a chunk; a stride over a copied panel.
  cases.push_back({.batch = 5, .in = 70, .out = 300, .height = 2, .width = 3, .kernel_width = 2});
  cases.push_back({.batch = 3,
                   .in = 290,
                   .out = 48,
                   .height = 1,
                   .width = 300,
                   .kernel_height = 1,
                   .kernel_width = 1});
  cases.push_back({.batch = 20,
                   .in = 48,
                   .out = 80,
                   .height = 6,
                   .width = 5,
                   .stride_height = 2,
                   .stride_width = 2,
                   .pad_top = 1,
                   .pad_left = 1});
  cases.push_back({.batch = 2, .in = 40, .out = 36, .height = 40, .width = 7, .pad_top = 1});
  cases.push_back({.batch = 18,
                   .in = 130,
                   .out = 130,
                   .height = 3,
                   .width = 3,
                   .pad_top = 1,
                   .pad_left = 1,
                   .groups = 130});
  cases.push_back({.batch = 2, .in = 64, .out = 64, .height = 5, .width = 4, .groups = 64});
  // Linear on sequences and on vectors.
  cases.push_back(
      {.in = 19, .out = 35, .height = 1, .width = 11, .kernel_height = 1, .kernel_width = 1});
  cases.push_back({.batch = 70,
                   .in = 33,
                   .out = 10,
                   .height = 1,
                   .width = 1,
                   .kernel_height = 1,
                   .kernel_width = 1});
  cases.push_back({.batch = 1,
                   .in = 1,
                   .out = 1,
                   .height = 1,
                   .width = 1,
                   .kernel_height = 1,
                   .kernel_width = 1});
  return cases;
}

// Shapes nobody would write down.
ContractionCase random_case(std::mt19937& random) {
  const auto draw = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(random);
  };
  ContractionCase c;
  c.groups = draw(0, 2) == 0 ? draw(2, 4) : 1;
  c.batch = draw(1, 20);
  c.in = c.groups * draw(1, 20);
  c.out = c.groups * draw(1, 20);
  c.kernel_height = draw(1, 4), c.kernel_width = draw(1, 4);
  c.stride_height = draw(1, 3), c.stride_width = draw(1, 3);
  c.dilation_height = draw(1, 3), c.dilation_width = draw(1, 3);
  c.pad_top = draw(0, 4), c.pad_left = draw(0, 4);
  c.pad_bottom = draw(0, 4), c.pad_right = draw(0, 4);
  const auto least = [](std::int64_t kernel, std::int64_t dilation, std::int64_t pads) {
    return std::max<std::int64_t>(dilation * (kernel - 1) + 1 - pads, 1);
  };
  c.height = least(c.kernel_height, c.dilation_height, c.pad_top + c.pad_bottom) + draw(0, 4);
  c.width = least(c.kernel_width, c.dilation_width, c.pad_left + c.pad_right) + draw(0, 4);
  return c;
}

void check_case(const ContractionCase& c) {
  const RandomContraction problem(c);
  const std::vector<double> expected = problem.run(accumulate_contraction_reference, 0.5);
  const double fused = relative_error(problem.run(accumulate_contraction, 0.5), expected);
  const double tiles = relative_error(problem.run(accumulate_contraction_tiles, 0.5), expected);
  CHECK_MESSAGE(fused <= kTolerance, describe(c), ": fused ", fused);
  CHECK_MESSAGE(tiles <= kTolerance, describe(c), ": tiles ", tiles);
}

// Floats that end where the readable memory ends, and begin where it begins.
class Fenced {
 public:
  explicit Fenced(std::int64_t count) {
    page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
    pages_ = (bytes + page_ - 1) / page_;
    void* mapped = mmap(nullptr, (pages_ + 2) * page_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mapped != MAP_FAILED);
    base_ = static_cast<std::byte*>(mapped);
    REQUIRE(mprotect(base_, page_, PROT_NONE) == 0);
    REQUIRE(mprotect(base_ + (pages_ + 1) * page_, page_, PROT_NONE) == 0);
    values_ = reinterpret_cast<float*>(base_ + (pages_ + 1) * page_ - bytes);
  }
  ~Fenced() { munmap(base_, (pages_ + 2) * page_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  [[nodiscard]] float* data() const { return values_; }

 private:
  std::size_t page_ = 0;
  std::size_t pages_ = 0;
  std::byte* base_ = nullptr;
  float* values_ = nullptr;
};

// Runs body once per instruction set that this machine and this build have.
template <typename Body>
int for_each_target(const Body& body) {
  int targets = 0;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(target);
    ++targets;
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  return targets;
}

}  // namespace

TEST_CASE("contractions: the fused kernels against the definition, ugly shapes") {
  const std::vector<ContractionCase> cases = fixed_cases();
  CHECK(cases.size() > 240);
  for (const ContractionCase& c : cases) check_case(c);
}

TEST_CASE("contractions: the fused kernels against the definition, random shapes") {
  std::mt19937 random(11);
  for (int i = 0; i < 150; ++i) check_case(random_case(random));
}

TEST_CASE("contractions: every instruction set, reading nothing outside its operands") {
  const ContractionCase shapes[] = {
      {.in = 3, .out = 5, .pad_top = 1, .pad_left = 1},
      {.in = 17, .out = 2, .height = 3, .width = 3, .kernel_height = 2, .kernel_width = 1},
      {.in = 19, .out = 35, .height = 1, .width = 7, .kernel_height = 1, .kernel_width = 1},
      {.in = 7, .out = 7, .pad_bottom = 1, .pad_right = 1, .groups = 7}};
  for (const ContractionCase& c : shapes) {
    const RandomContraction problem(c);
    const std::vector<double> expected = problem.run(accumulate_contraction_reference);
    const std::int64_t outs = c.batch * problem.form.out_height * problem.form.out_width * c.out;
    const std::int64_t ins = c.batch * c.height * c.width * c.in;
    const Fenced delta(outs);
    const Fenced input(ins);
    std::copy_n(problem.form.grad_output, outs, delta.data());
    std::copy_n(problem.form.input, ins, input.data());
    ContractionForm fenced = problem.form;
    fenced.grad_output = delta.data();
    fenced.input = input.data();
    const int targets = for_each_target([&](std::int64_t target) {
      // The one-lane fallback, which no x86-64 processor since 2006 is given: GCC 12 vectorises it
      // itself, with a load that runs past an odd row. It is held to the values alone.
      const bool is_fenced = target != HWY_SCALAR;
      std::vector<double> sums(expected.size());
      accumulate_contraction_tiles(is_fenced ? fenced : problem.form, sums.data());
      const double error = relative_error(sums, expected);
      CHECK_MESSAGE(error <= kTolerance, describe(c), " on ", hwy::TargetName(target), ": ", error);
    });
    CHECK(targets >= 1);
  }
}

TEST_CASE("contractions: the same bits on 1, 2, 3 and 5 threads") {
  const int before = thread_count();
  const ContractionCase shapes[] = {
      {.batch = 33, .in = 16, .out = 16, .height = 8, .width = 8, .pad_top = 1, .pad_left = 1},
      {.batch = 5, .in = 3, .out = 33, .height = 9, .width = 9, .stride_height = 2},
      {.batch = 4,
       .in = 40,
       .out = 70,
       .height = 1,
       .width = 6,
       .kernel_height = 1,
       .kernel_width = 1},
      {.batch = 128,
       .in = 64,
       .out = 10,
       .height = 1,
       .width = 1,
       .kernel_height = 1,
       .kernel_width = 1},
      {.batch = 100,
       .in = 300,
       .out = 200,
       .height = 1,
       .width = 1,
       .kernel_height = 1,
       .kernel_width = 1}};
  for (const ContractionCase& c : shapes) {
    const RandomContraction problem(c);
    set_thread_count(1);
    const std::vector<double> one = problem.run(accumulate_contraction);
    for (const int threads : {2, 3, 5}) {
      set_thread_count(threads);
      const std::vector<double> sums = problem.run(accumulate_contraction);
      const bool same = std::memcmp(one.data(), sums.data(), one.size() * sizeof(double)) == 0;
      CHECK_MESSAGE(same, describe(c), " on ", threads, " threads");
    }
  }
  set_thread_count(before);
}

TEST_CASE("contractions: samples are added one by one, whatever the batch") {
  const ContractionCase c = {.batch = 21, .in = 6, .out = 9, .pad_top = 1, .pad_left = 1};
  const RandomContraction problem(c);
  const std::vector<double> whole = problem.run(accumulate_contraction);
  std::vector<double> parts(whole.size());
  for (std::int64_t first = 0; first < c.batch; first += 4) {
    ContractionForm part = problem.form;
    part.batch = std::min<std::int64_t>(4, c.batch - first);
    part.grad_output += first * part.out_height * part.out_width * part.out_channels;
    part.input += first * part.in_height * part.in_width * part.in_channels;
    accumulate_contraction(part, parts.data());
  }
  CHECK(relative_error(parts, whole) <= 1e-6);
}

TEST_CASE("contractions: NaN reaches the sums, and only those that it touches") {
  RandomContraction problem({.in = 3, .out = 18, .height = 4, .width = 4});
  std::vector<float> delta(problem.form.grad_output,
                           problem.form.grad_output + 2 * 2 * 2 * problem.form.out_channels);
  delta[18 + 7] = std::numeric_limits<float>::quiet_NaN();
  problem.form.grad_output = delta.data();
  const std::vector<double> sums = problem.run(accumulate_contraction);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    CHECK(std::isnan(sums[i]) == (i / 27 == 7));
  }
}
