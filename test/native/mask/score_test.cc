#include "mask/score.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/score_key.h"
#include "mask_test_support.h"

using namespace fishermask;
using namespace fishermask::mask_test;

namespace {

using Op = ScoreOp;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ScoreInstruction constant(float value) { return {Op::kConstant, value}; }

ScoreProgram ratio_program() {
  return ScoreProgram(
      {{Op::kForgetFisher}, {Op::kRemainFisher}, constant(1e-12F), {Op::kAdd}, {Op::kDiv}});
}

// max(0, -weight * gradient) / (|weight| * sqrt(remain) + 1e-6)
ScoreProgram directional_program() {
  return ScoreProgram({constant(0.0F),
                       {Op::kWeight},
                       {Op::kNeg},
                       {Op::kForgetGradient},
                       {Op::kMul},
                       {Op::kMax},
                       {Op::kWeight},
                       {Op::kAbs},
                       {Op::kRemainFisher},
                       {Op::kSqrt},
                       {Op::kMul},
                       constant(1e-6F),
                       {Op::kAdd},
                       {Op::kDiv}});
}

struct Data {
  std::vector<float> weight;
  std::vector<float> forget;
  std::vector<float> remain;
  std::vector<float> gradient;

  Data(std::int64_t count, std::uint64_t seed) {
    Random random(seed);
    for (std::int64_t i = 0; i < count; ++i) {
      weight.push_back(random.below(12) == 0 ? 0.0F : random.uniform() - 0.5F);
      forget.push_back(random.uniform() * random.uniform());
      remain.push_back(random.uniform());
      gradient.push_back(random.uniform() - 0.5F);
    }
  }

  [[nodiscard]] ScoreTensor tensor(std::string name, Shape shape) const {
    ScoreTensor view;
    view.name = std::move(name);
    view.shape = std::move(shape);
    view.weight = weight.data();
    view.forget_sums = forget.data();
    view.remain_sums = remain.data();
    view.forget_gradient_sums = gradient.data();
    return view;
  }
};

std::vector<float> score_one(const ScoreProgram& program, const ScoreSettings& settings,
                             const ScoreTensor& tensor) {
  std::vector<float> scores(static_cast<std::size_t>(unit_count(tensor.shape, settings.unit)));
  const std::span<float> view = scores;
  compute_scores(program, settings, {&tensor, 1}, {&view, 1});
  return scores;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::string program_error(std::vector<ScoreInstruction> instructions) {
  return error_of([&] { const ScoreProgram program(std::move(instructions)); });
}

// One element through a program of constants; volatile keeps the compiler's own folding out.
float run_constants(std::vector<ScoreInstruction> instructions) {
  float out = kNan;
  ScoreProgram(std::move(instructions)).evaluate({}, 1, &out);
  return out;
}

}  // namespace

TEST_CASE("score program: malformed programs are refused") {
  CHECK(contains(program_error({}), "received 0"));
  CHECK(contains(program_error({constant(1), {Op::kAdd}}), "instruction 1 (add)"));
  CHECK(contains(program_error({{Op::kSqrt}}), "ERR_FM_ARGUMENT"));
  CHECK(contains(program_error({constant(1), constant(2)}), "received 2"));
  CHECK(contains(program_error({constant(kNan)}), "finite"));
  CHECK(contains(program_error({constant(kInf)}), "finite"));
  CHECK(contains(program_error(std::vector<ScoreInstruction>(17, constant(1))), "at most 16"));
  CHECK(contains(program_error({{static_cast<Op>(99)}}), "99"));
  CHECK(contains(error_of([] { (void)score_op_from_number(-1); }), "ERR_FM_ARGUMENT"));
  std::vector<ScoreInstruction> deepest(16, constant(1));
  deepest.insert(deepest.end(), 15, {Op::kAdd});
  CHECK(run_constants(deepest) == 16.0F);
}

TEST_CASE("score program: needs") {
  const ScoreNeeds needs = ratio_program().needs();
  CHECK(needs.forget_fisher);
  CHECK(needs.remain_fisher);
  CHECK_FALSE(needs.weight);
  CHECK_FALSE(needs.forget_gradient);
  CHECK_FALSE(needs.uniform);
  CHECK(ScoreProgram({{Op::kUniform}}).needs().uniform);
  CHECK(directional_program().needs().forget_gradient);
  float out = 0;
  CHECK(contains(error_of([&] { ratio_program().evaluate({}, 1, &out); }), "forgetFisher"));
  CHECK(contains(error_of([&] { ScoreProgram({constant(1)}).evaluate({}, 1025, &out); }), "1025"));
}

TEST_CASE("score program: operand order and every operation") {
  const auto binary = [](float a, Op op, float b) {
    return run_constants({constant(a), constant(b), {op}});
  };
  CHECK(binary(5, Op::kAdd, 2) == 7.0F);
  CHECK(binary(5, Op::kSub, 2) == 3.0F);
  CHECK(binary(5, Op::kMul, 2) == 10.0F);
  CHECK(binary(5, Op::kDiv, 2) == 2.5F);
  CHECK(binary(5, Op::kMax, 2) == 5.0F);
  CHECK(binary(5, Op::kMin, 2) == 2.0F);
  CHECK(run_constants({constant(9), {Op::kSqrt}}) == 3.0F);
  CHECK(run_constants({constant(-9), {Op::kAbs}}) == 9.0F);
  CHECK(run_constants({constant(9), {Op::kNeg}}) == -9.0F);
  CHECK(std::isnan(run_constants({constant(-1), {Op::kSqrt}})));
}

TEST_CASE("score program: max and min keep NaN and order the zeros") {
  const std::vector<ScoreInstruction> nan = {constant(0), constant(0), {Op::kDiv}};
  for (const Op op : {Op::kMax, Op::kMin}) {
    std::vector<ScoreInstruction> first = nan;
    first.insert(first.end(), {constant(1), {op}});
    CHECK(std::isnan(run_constants(first)));
    std::vector<ScoreInstruction> second = {constant(1)};
    second.insert(second.end(), nan.begin(), nan.end());
    second.push_back({op});
    CHECK(std::isnan(run_constants(second)));
  }
  CHECK_FALSE(std::signbit(run_constants({constant(-0.0F), constant(0.0F), {Op::kMax}})));
  CHECK_FALSE(std::signbit(run_constants({constant(0.0F), constant(-0.0F), {Op::kMax}})));
  CHECK(std::signbit(run_constants({constant(-0.0F), constant(0.0F), {Op::kMin}})));
  CHECK(std::signbit(run_constants({constant(0.0F), constant(-0.0F), {Op::kMin}})));
}

TEST_CASE("score program: no step is fused, also at the end of a block") {
  // 1 + 2^-12 squared needs more than 24 bits: a fused multiply-add would keep the lost ones.
  const float a = 1.0F + 0x1p-12F;
  CHECK(run_constants(
            {constant(a), constant(a), {Op::kMul}, constant(1.0F + 0x1p-11F), {Op::kSub}}) == 0.0F);
  const std::int64_t count = 1024 * 3 + 5;
  const Data data(count, 31);
  ScoreSettings settings;
  settings.forget_count = 3;
  settings.remain_count = 7;
  const std::vector<float> scores =
      score_one(directional_program(), settings, data.tensor("w", {count}));
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const volatile float mean_gradient = data.gradient[i] / 3.0F;
    const volatile float mean_remain = data.remain[i] / 7.0F;
    const volatile float gain = -data.weight[i] * mean_gradient;
    const volatile float root = std::sqrt(mean_remain);
    const volatile float damage = std::fabs(data.weight[i]) * root;
    const volatile float floor = damage + 1e-6F;
    const float expected = (gain > 0.0F ? gain : 0.0F) / floor;
    CHECK(scores[i] == (data.weight[i] == 0.0F ? kNotEligible : expected));
  }
}

TEST_CASE("scores: a kernel or filter is the mean over its elements") {
  const Shape shape = {37, 29, 3, 3};
  const std::int64_t count = element_count(shape);
  Data data(count, 32);
  for (std::size_t i = 9; i < 18; ++i) data.weight[i] = i % 2 == 0 ? 0.0F : -0.0F;
  ScoreSettings settings;
  settings.forget_count = 50;
  settings.remain_count = 450;
  for (const Unit unit : {Unit::kKernel, Unit::kFilter}) {
    settings.unit = unit;
    const auto n = static_cast<std::size_t>(elements_per_unit(shape, unit));
    const std::vector<float> scores = score_one(ratio_program(), settings, data.tensor("w", shape));
    for (std::size_t u = 0; u < scores.size(); ++u) {
      double sum = 0.0;
      bool any = false;
      for (std::size_t i = u * n; i < (u + 1) * n; ++i) {
        const volatile float forget = data.forget[i] / 50.0F;
        const volatile float remain = data.remain[i] / 450.0F;
        const volatile float below = remain + 1e-12F;
        sum += static_cast<double>(forget / below);
        any = any || data.weight[i] != 0.0F;
      }
      CHECK(scores[u] == (any ? static_cast<float>(sum / static_cast<double>(n)) : kNotEligible));
    }
    if (unit == Unit::kKernel) CHECK(scores[1] == kNotEligible);
  }
}

TEST_CASE("scores: bit-identical on 1 to 4 threads") {
  const Shape shape = {256, 64, 3, 3};
  const Data data(element_count(shape), 33);
  for (const Unit unit : {Unit::kWeight, Unit::kKernel, Unit::kFilter}) {
    ScoreSettings settings{unit, 10, 90, {5, 6}};
    const ScoreTensor tensor = data.tensor("w", shape);
    const std::vector<float> one = [&] {
      const ThreadCount team(1);
      return score_one(directional_program(), settings, tensor);
    }();
    for (int threads = 2; threads <= 4; ++threads) {
      const ThreadCount team(threads);
      CHECK(same_bits(score_one(directional_program(), settings, tensor), one));
    }
  }
}

TEST_CASE("scores: uniform draws one number per unit, by flat unit index") {
  const Shape shape = {40, 30, 3, 3};
  const Data data(element_count(shape), 34);
  ScoreTensor tensor = data.tensor("w", shape);
  tensor.first_unit = 1'000'000'007'000ULL;
  ScoreSettings settings;
  settings.key = {42, 9};
  const ScoreProgram program({{Op::kUniform}});
  for (const Unit unit : {Unit::kWeight, Unit::kKernel, Unit::kFilter}) {
    settings.unit = unit;
    const std::vector<float> scores = score_one(program, settings, tensor);
    for (std::size_t u = 0; u < scores.size(); ++u) {
      if (scores[u] == kNotEligible) continue;
      CHECK(scores[u] == philox_uniform(settings.key, tensor.first_unit + u));
    }
  }
}

TEST_CASE("scores: zero weights and earlier masked units are not candidates") {
  Data data(6, 35);
  data.weight = {1.0F, 0.0F, -0.0F, 2.0F, std::numeric_limits<float>::denorm_min(), 3.0F};
  KeepMask previous(6);
  previous.set_masked(3);
  ScoreTensor tensor = data.tensor("w", {6});
  tensor.previous_keep = &previous;
  const ScoreProgram program({{Op::kWeight}, {Op::kAbs}});
  const std::vector<float> scores = score_one(program, {}, tensor);
  CHECK(scores == std::vector<float>{1.0F, -kInf, -kInf, -kInf, data.weight[4], 3.0F});
  ScoreTensor kernels = data.tensor("w", {3, 1, 2});
  KeepMask kernel_keep(3);
  kernel_keep.set_masked(2);
  kernels.previous_keep = &kernel_keep;
  ScoreSettings settings;
  settings.unit = Unit::kKernel;
  CHECK(score_one(program, settings, kernels) == std::vector<float>{0.5F, 1.0F, -kInf});
}

TEST_CASE("scores: NaN names every tensor and counts eligible units only") {
  Data a(4000, 36);
  Data b(10, 37);
  Data c(10, 38);
  for (auto* data : {&a, &b, &c}) {
    for (float& weight : data->weight) weight = 1.0F;
  }
  a.forget[3999] = kNan;
  c.forget[2] = kNan;
  c.forget[5] = kNan;
  c.forget[6] = kNan;
  c.weight[6] = 0.0F;
  b.remain[1] = kNan;  // not read by the program
  const ScoreProgram program({{Op::kForgetFisher}});
  const std::vector<ScoreTensor> tensors = {a.tensor("conv1.weight", {4000}),
                                            b.tensor("conv2.weight", {10}),
                                            c.tensor("fc.weight", {10})};
  std::vector<float> memory(4020);
  const std::span<float> all = memory;
  const std::vector<std::span<float>> scores = {all.subspan(0, 4000), all.subspan(4000, 10),
                                                all.subspan(4010, 10)};
  const std::string error =
      error_of([&] { compute_scores(program, {Unit::kWeight, 1, 0, {}}, tensors, scores); });
  CHECK(contains(error, "ERR_FM_NON_FINITE"));
  CHECK(contains(error, "conv1.weight (1), fc.weight (2)"));
  CHECK_FALSE(contains(error, "conv2"));
}

TEST_CASE("scores: missing inputs, counts and sizes") {
  const Data data(8, 39);
  ScoreTensor tensor = data.tensor("fc.weight", {8});
  ScoreSettings settings{Unit::kWeight, 1, 1, {}};
  const auto error = [&] {
    return error_of([&] { (void)score_one(ratio_program(), settings, tensor); });
  };
  CHECK(error().empty());
  tensor.remain_sums = nullptr;
  CHECK(contains(error(), "remainFisher for tensor fc.weight"));
  tensor.remain_sums = data.remain.data();
  tensor.weight = nullptr;
  CHECK(contains(error(), "ERR_FM_ARGUMENT: Expected weight"));
  tensor.weight = data.weight.data();
  settings.forget_count = 0;
  CHECK(contains(error(), "forget_count"));
  settings.forget_count = 1;
  settings.remain_count = -3;
  CHECK(contains(error(), "remain_count but received -3"));
  settings.remain_count = 1;
  const KeepMask short_mask(7);
  tensor.previous_keep = &short_mask;
  CHECK(contains(error(), "ERR_FM_MISMATCH"));
  tensor.previous_keep = nullptr;
  std::vector<float> small(7);
  const std::span<float> view = small;
  CHECK(contains(
      error_of([&] { compute_scores(ratio_program(), settings, {&tensor, 1}, {&view, 1}); }),
      "room for 8"));
  CHECK(contains(error_of([&] { compute_scores(ratio_program(), settings, {&tensor, 1}, {}); }),
                 "score arrays"));
}

TEST_CASE("score key: orders as numbers do, and comes back") {
  const std::vector<float> rising = {-kInf, std::numeric_limits<float>::lowest(),
                                     -1.0F, -std::numeric_limits<float>::denorm_min(),
                                     0.0F,  std::numeric_limits<float>::denorm_min(),
                                     1.0F,  std::numeric_limits<float>::max(),
                                     kInf};
  for (std::size_t i = 0; i < rising.size(); ++i) {
    CHECK(score_of_key(score_key(rising[i])) == rising[i]);
    if (i > 0) CHECK(score_key(rising[i - 1]) < score_key(rising[i]));
  }
  CHECK(score_key(-0.0F) == score_key(0.0F));
  CHECK(score_key(-kInf) == kNotEligibleKey);
}
