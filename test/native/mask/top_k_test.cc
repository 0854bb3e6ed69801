#include "mask/top_k.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "mask/fused_scan.h"
#include "mask/score_filter.h"
#include "mask/top_k_block.h"
#include "mask_test_support.h"

using namespace fishermask;
using namespace fishermask::mask_test;

namespace {

using Floats = std::vector<float>;
using enum ScoreOp;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const std::vector<std::vector<ScoreInstruction>>& programs() {
  static const std::vector<std::vector<ScoreInstruction>> all = {
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 1e-12F}, {kAdd}, {kDiv}},
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 0.75F}, {kMul}, {kSub}},
      {{kConstant, 0.5F},
       {kWeight},
       {kWeight},
       {kMul},
       {kMul},
       {kForgetFisher},
       {kRemainFisher},
       {kConstant, 1.0F},
       {kMul},
       {kSub},
       {kMul}},
      {{kForgetFisher}},
      {{kConstant, 0.0F},
       {kWeight},
       {kNeg},
       {kForgetGradient},
       {kMul},
       {kMax},
       {kWeight},
       {kAbs},
       {kRemainFisher},
       {kSqrt},
       {kMul},
       {kConstant, 1e-6F},
       {kAdd},
       {kDiv}},
      {{kWeight}, {kAbs}, {kNeg}},
      {{kForgetGradient}, {kAbs}},
      {{kUniform}},
      // No loop of its own: interpreted.
      {{kRemainFisher}, {kForgetFisher}, {kMin}, {kForgetFisher}, {kAdd}},
  };
  return all;
}

enum class Kind { kHeavyTail, kEqual, kTwoValues, kAscending, kDescending, kDenormal, kSparse };
constexpr Kind kKinds[] = {Kind::kHeavyTail,  Kind::kEqual,    Kind::kTwoValues, Kind::kAscending,
                           Kind::kDescending, Kind::kDenormal, Kind::kSparse};

struct Case {
  std::vector<Shape> shapes;
  std::vector<Floats> weight, forget, remain, gradient;
  std::vector<KeepMask> previous;

  [[nodiscard]] std::vector<TopKTensor> tensors(std::vector<Floats>& weights, Unit unit,
                                                bool with_previous) const {
    std::vector<TopKTensor> all;
    std::uint64_t first = 0;
    for (std::size_t t = 0; t < shapes.size(); ++t) {
      TopKTensor tensor;
      tensor.name = "tensor" + std::to_string(t);
      tensor.shape = shapes[t];
      tensor.weight = weights[t].data();
      tensor.forget_sums = forget[t].data();
      tensor.remain_sums = remain[t].data();
      tensor.forget_gradient_sums = gradient[t].data();
      tensor.first_unit = first;
      tensor.previous_keep = with_previous ? &previous[t] : nullptr;
      tensor.group = static_cast<std::int64_t>(t % 2);
      first += static_cast<std::uint64_t>(unit_count(shapes[t], unit));
      all.push_back(std::move(tensor));
    }
    return all;
  }
};

float denormal(std::uint32_t bits) { return std::bit_cast<float>(bits & 0x3FFFFU); }

Case make_case(Random& random, const std::vector<Shape>& shapes, Kind kind, Unit unit) {
  Case made;
  made.shapes = shapes;
  std::int64_t total = 0;
  for (const Shape& shape : shapes) total += element_count(shape);
  std::int64_t flat = 0;
  for (const Shape& shape : shapes) {
    const auto count = static_cast<std::size_t>(element_count(shape));
    Floats weight(count), forget(count), remain(count), gradient(count);
    for (std::size_t i = 0; i < count; ++i, ++flat) {
      weight[i] = random.below(50) == 0 ? 0.0F : random.uniform() - 0.5F;
      remain[i] = kind == Kind::kHeavyTail ? std::exp(8.0F * random.uniform() - 9.0F) : 1.0F;
      gradient[i] = random.uniform() - 0.5F;
      const auto place = static_cast<float>(flat) / static_cast<float>(total);
      switch (kind) {
        case Kind::kEqual:
          forget[i] = 3.0F;
          break;
        case Kind::kTwoValues:
          forget[i] = random.below(3) == 0 ? 2.0F : 1.0F;
          break;
        case Kind::kAscending:
          forget[i] = 1.0F + place;
          break;
        case Kind::kDescending:
          forget[i] = 2.0F - place;
          break;
        case Kind::kDenormal:
          forget[i] = denormal(random.next());
          break;
        case Kind::kSparse:
          weight[i] = random.below(20) == 0 ? 1.0F : 0.0F;
          forget[i] = random.uniform();
          break;
        default:
          forget[i] = std::exp(16.0F * random.uniform() - 20.0F);
      }
    }
    KeepMask previous(unit_count(shape, unit));
    for (std::int64_t u = 0; u < previous.units; ++u) {
      if (random.below(7) == 0) previous.set_masked(u);
    }
    made.weight.push_back(std::move(weight));
    made.forget.push_back(std::move(forget));
    made.remain.push_back(std::move(remain));
    made.gradient.push_back(std::move(gradient));
    made.previous.push_back(std::move(previous));
  }
  return made;
}

bool same_bits(const Floats& a, const Floats& b) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<Floats> scores_of(const ScoreProgram& program, const ScoreSettings& settings,
                              const std::vector<TopKTensor>& tensors) {
  std::vector<ScoreTensor> scored;
  std::vector<Floats> scores;
  for (const TopKTensor& t : tensors) {
    scored.push_back({t.name, t.shape, t.weight, t.forget_sums, t.remain_sums,
                      t.forget_gradient_sums, t.first_unit, t.previous_keep});
    scores.emplace_back(static_cast<std::size_t>(unit_count(t.shape, settings.unit)));
  }
  const std::vector<std::span<float>> views(scores.begin(), scores.end());
  compute_scores(program, settings, scored, views);
  return scores;
}

Selection two_step(const std::vector<Floats>& scores, const std::vector<TopKTensor>& tensors,
                   const TopKAmount& amount) {
  std::vector<SelectTensor> selected;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    selected.push_back({tensors[t].name, scores[t], tensors[t].group});
  }
  return amount.k ? select_top_k(selected, *amount.k)
                  : select_ratio(selected, amount.scope, amount.ratio);
}

// Masks equal the two-step path, weights its apply, old values the originals. Returns the result.
TopKResult check(const Case& made, const ScoreProgram& program, Unit unit, const TopKAmount& amount,
                 bool with_previous, const TopKTuning& tuning) {
  const ScoreSettings settings{unit, 50, 450, {7, 3}};
  std::vector<Floats> weights = made.weight;
  const std::vector<TopKTensor> tensors = made.tensors(weights, unit, with_previous);
  const std::vector<Floats> scores = scores_of(program, settings, tensors);
  const Selection expected = two_step(scores, tensors, amount);
  TopKResult result = mask_top_k(program, settings, tensors, amount, true, {}, tuning);
  CHECK(result.selection.masks == expected.masks);
  CHECK(result.selection.masked == expected.masked);
  CHECK(result.selection.total_masked == expected.total_masked);
  CHECK(result.selection.total_units == expected.total_units);
  REQUIRE(result.selection.rankings.size() == expected.rankings.size());
  for (std::size_t r = 0; r < expected.rankings.size(); ++r) {
    const Ranking& a = result.selection.rankings[r];
    const Ranking& b = expected.rankings[r];
    CHECK(a.tensors == b.tensors);
    CHECK(a.units == b.units);
    CHECK(a.eligible == b.eligible);
    CHECK(a.asked == b.asked);
    CHECK(a.masked == b.masked);
    CHECK(a.threshold == b.threshold);
  }
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t elements = elements_per_unit(made.shapes[t], unit);
    Floats applied = made.weight[t];
    Floats old(static_cast<std::size_t>(expected.masked[t] * elements));
    apply_keep_mask(expected.masks[t], elements, applied, old);
    CHECK(same_bits(weights[t], applied));
    CHECK(same_bits(result.old_values[t], old));
  }
  return result;
}

TopKTuning small_tuning() {
  TopKTuning tuning;
  tuning.segment_elements = 512;
  tuning.strata = 64;
  tuning.run = 2;
  tuning.least_sampled = 500;
  return tuning;
}

}  // namespace

TEST_CASE("top-k: equals score, select and apply for every program, unit, scope and threads") {
  Random random(71);
  const std::vector<Shape> shapes = {{16, 24, 3, 3}, {700}, {37, 91}, {5, 3, 5, 1}, {0, 4}};
  int sampled = 0;
  for (std::size_t p = 0; p < programs().size(); ++p) {
    const ScoreProgram program(programs()[p]);
    for (const Unit unit : {Unit::kWeight, Unit::kKernel, Unit::kFilter}) {
      for (const Kind kind : kKinds) {
        const Case made = make_case(random, shapes, kind, unit);
        const int round = random.below(1000) % 4;
        const ThreadCount threads(1 + round);
        CAPTURE(p);
        CAPTURE(static_cast<int>(unit));
        CAPTURE(static_cast<int>(kind));
        for (const Scope scope : {Scope::kGlobal, Scope::kLayer, Scope::kTensor}) {
          for (const double ratio : {0.01, 0.3, 1.0}) {
            const TopKResult result =
                check(made, program, unit, {{}, ratio, scope}, round % 2 == 0, small_tuning());
            for (const TopKWork& work : result.work) {
              sampled += !work.bracket_missed && work.candidates > 0 ? 1 : 0;
            }
          }
        }
        check(made, program, unit, {random.below(4000), 0.0, Scope::kGlobal}, false, TopKTuning{});
      }
    }
  }
  CHECK(sampled > 100);
}

TEST_CASE("top-k: one pass decides on every distribution at size; few candidates") {
  Random random(72);
  const ScoreProgram program(programs()[0]);
  for (const Kind kind : kKinds) {
    const Case made = make_case(random, {{1 << 18}, {70001}, {300, 301}}, kind, Unit::kWeight);
    for (const double ratio : {0.001, 0.01, 0.2, 0.99}) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(ratio);
      const TopKResult result =
          check(made, program, Unit::kWeight, {{}, ratio, Scope::kGlobal}, false, TopKTuning{});
      REQUIRE(result.work.size() == 1);
      CHECK_FALSE(result.work[0].bracket_missed);
      CHECK(result.work[0].passes == 1.0);
      CHECK(result.work[0].candidates < result.selection.total_units / 8 + (1 << 17));
    }
  }
}

TEST_CASE("top-k: a sample that misleads, and too many candidates, cost passes but no result") {
  Random random(73);
  const ScoreProgram program(programs()[0]);
  TopKTuning misled = small_tuning();
  misled.strata = 8;
  misled.sigmas = 0.0;  // the marks coincide: the k-th unit is hardly ever between them
  misled.slack = 0.0;
  TopKTuning no_room = small_tuning();
  no_room.candidate_divisor = 0;
  int missed = 0;
  for (const TopKTuning& tuning : {misled, no_room}) {
    for (const Kind kind : kKinds) {
      for (const Unit unit : {Unit::kWeight, Unit::kKernel}) {
        const Case made = make_case(random, {{40, 60, 3, 1}, {5000}, {61, 67}}, kind, unit);
        for (const Scope scope : {Scope::kGlobal, Scope::kTensor}) {
          const ThreadCount threads(1 + static_cast<int>(random.below(3)));
          const TopKResult result = check(made, program, unit, {{}, 0.07, scope}, false, tuning);
          for (const TopKWork& work : result.work) {
            missed += work.bracket_missed ? 1 : 0;
            if (work.bracket_missed) CHECK(work.passes >= 4.0);
          }
        }
      }
    }
  }
  CHECK(missed > 40);
}

TEST_CASE("top-k: the same bits on every thread count") {
  Random random(74);
  const ScoreProgram program(programs()[0]);
  const Case made = make_case(random, {{1 << 17}, {77777}}, Kind::kTwoValues, Unit::kWeight);
  for (int threads = 1; threads <= 4; ++threads) {
    const ThreadCount team(threads);
    check(made, program, Unit::kWeight, {{}, 0.4, Scope::kGlobal}, false, TopKTuning{});
  }
}

TEST_CASE("top-k: NaN names every tensor that has any and leaves the weights as they were") {
  Random random(75);
  const ScoreProgram program(programs()[0]);
  const ScoreSettings settings{Unit::kWeight, 50, 450, {}};
  Case made = make_case(random, {{3000}, {800}, {4000}}, Kind::kHeavyTail, Unit::kWeight);
  for (std::size_t i : {5U, 2999U}) {
    made.forget[0][i] = kNan;
    made.weight[0][i] = 1.0F;
  }
  made.forget[2][17] = kNan;
  made.weight[2][17] = 1.0F;
  for (const Scope scope : {Scope::kGlobal, Scope::kTensor}) {
    for (const bool gives_up : {false, true}) {
      TopKTuning tuning = small_tuning();
      if (gives_up) tuning.candidate_divisor = 0;
      std::vector<Floats> weights = made.weight;
      const auto tensors = made.tensors(weights, Unit::kWeight, false);
      const std::string error = error_of([&] {
        (void)mask_top_k(program, settings, tensors, {{}, 0.2, scope}, false, {}, tuning);
      });
      CHECK(contains(error, "ERR_FM_NON_FINITE"));
      CHECK(contains(error, "tensor0 (2), tensor2 (1)"));
      for (std::size_t t = 0; t < weights.size(); ++t) CHECK(same_bits(weights[t], made.weight[t]));
    }
  }
}

TEST_CASE("top-k: cancelled at once or half-way, the weights are as they were") {
  Random random(76);
  const ScoreProgram program(programs()[0]);
  const ScoreSettings settings{Unit::kWeight, 50, 450, {}};
  const Case made = make_case(random, {{4000}, {4000}}, Kind::kHeavyTail, Unit::kWeight);
  std::vector<Floats> weights = made.weight;
  const auto tensors = made.tensors(weights, Unit::kWeight, false);
  const std::int32_t cancel = 1;
  std::int32_t per_mille = 0;
  const std::string error = error_of([&] {
    (void)mask_top_k(program, settings, tensors, {{}, 0.2, Scope::kTensor}, false,
                     {&cancel, &per_mille}, small_tuning());
  });
  CHECK(contains(error, "ERR_FM_ABORTED"));
  for (std::size_t t = 0; t < weights.size(); ++t) CHECK(same_bits(weights[t], made.weight[t]));
  const std::int32_t go_on = 0;
  (void)mask_top_k(program, settings, tensors, {{}, 0.2, Scope::kTensor}, false,
                   {&go_on, &per_mille}, small_tuning());
  CHECK(per_mille == 1000);
}

TEST_CASE("top-k: errors of arguments") {
  Random random(77);
  const ScoreProgram program(programs()[0]);
  const Case made = make_case(random, {{40}}, Kind::kHeavyTail, Unit::kWeight);
  std::vector<Floats> weights = made.weight;
  auto tensors = made.tensors(weights, Unit::kWeight, false);
  const ScoreSettings settings{Unit::kWeight, 50, 450, {}};
  const auto error = [&](const TopKAmount& amount) {
    return error_of([&] { (void)mask_top_k(program, settings, tensors, amount); });
  };
  CHECK(contains(error({{}, 1.5, Scope::kGlobal}), "ratio"));
  CHECK(contains(error({-1, 0.0, Scope::kGlobal}), "for k but received -1"));
  tensors[0].remain_sums = nullptr;
  CHECK(contains(error({{}, 0.5, Scope::kGlobal}), "remainFisher for tensor tensor0"));
  CHECK(same_bits(weights[0], made.weight[0]));
  CHECK(mask_top_k(program, settings, {}, {3, 0.0, Scope::kGlobal}).selection.total_masked == 0);
}

TEST_CASE("top-k: the loops of every processor classify alike, and as one by one") {
  Random random(78);
  for (const std::int64_t count : {1, 15, 16, 17, 63, 64, 65, 100, 1000, 1023, 1024}) {
    Floats scores(static_cast<std::size_t>(count));
    for (float& score : scores) {
      score = static_cast<float>(random.below(9)) - 4.0F;
      if (random.below(11) == 0) score = kNan;
      if (random.below(11) == 0) score = kNotEligible;
    }
    for (const TopKMarks& marks : {TopKMarks{-1.0F, 1.0F, 3.0F}, TopKMarks{kNan, kNan, kNan},
                                   TopKMarks{2.0F, 2.0F, kNan}, TopKMarks{-9.0F, -9.0F, -9.0F}}) {
      for (const bool portable : {false, true}) {
        TopKBlock block;
        classify_block(scores.data(), count, marks.low, block, portable);
        TopKLists lists;
        lists.clear(count + 7);
        lists.add(block, 7, marks, portable);
        std::int64_t nan_count = 0, eligible = 0, certain = 0;
        std::size_t reached = 0, inside = 0, masked = 0;
        for (std::int64_t i = 0; i < count; ++i) {
          const float score = scores[static_cast<std::size_t>(i)];
          nan_count += std::isnan(score) ? 1 : 0;
          eligible += score > kNotEligible ? 1 : 0;
          if (!(score >= marks.low)) continue;
          REQUIRE(static_cast<std::int64_t>(reached) < block.reached);
          CHECK(block.units[reached] == i);
          CHECK(block.scores[reached++] == score);
          certain += score >= marks.high ? 1 : 0;
          if (score >= marks.guess) {
            REQUIRE(masked < lists.masked().size());
            CHECK(lists.masked()[masked++] == i + 7);
          }
          if (score >= marks.high) continue;
          REQUIRE(static_cast<std::int64_t>(inside) < lists.inside_count());
          const TopKLists::Inside found = lists.inside(inside++);
          CHECK(found.score == score);
          CHECK(found.unit == i + 7);
          CHECK(found.masked == (score >= marks.guess));
        }
        CHECK(block.nan_count == nan_count);
        CHECK(block.eligible == eligible);
        CHECK(block.reached == static_cast<std::int64_t>(reached));
        CHECK(lists.certain() == certain);
        CHECK(lists.masked().size() == masked);
        CHECK(lists.inside_count() == static_cast<std::int64_t>(inside));
      }
    }
  }
}

TEST_CASE("top-k: fused loops give the bits of an op at a time, odd values included") {
  Random random(79);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Floats odd = {0.0F, -0.0F, 1e-45F, -1e-45F, 1e-38F, 3e38F, -3e38F, kInf, -kInf, kNan, 1.0F};
  for (std::size_t p = 0; p + 2 < programs().size(); ++p) {
    const ScoreProgram fused(programs()[p]);
    REQUIRE(fused.fused_program() != FusedProgram::kNone);
    // Two sign changes change nothing, so that this is the same program without a loop.
    std::vector<ScoreInstruction> longer = programs()[p];
    longer.push_back({kNeg});
    longer.push_back({kNeg});
    const ScoreProgram plain(longer);
    REQUIRE(plain.fused_program() == FusedProgram::kNone);
    const std::int64_t count = 1000 + static_cast<std::int64_t>(p);
    const auto values = [&] {
      Floats made(static_cast<std::size_t>(count));
      for (float& value : made) {
        value = random.below(3) == 0 ? odd[static_cast<std::size_t>(random.below(11))]
                                     : std::exp(40.0F * random.uniform() - 30.0F) *
                                           (random.below(2) == 0 ? 1.0F : -1.0F);
      }
      return made;
    };
    const Floats forget = values(), remain = values(), weight = values(), gradient = values();
    ScoreInputs inputs;
    inputs.forget_sums = forget.data();
    inputs.remain_sums = remain.data();
    inputs.weight = weight.data();
    inputs.forget_gradient_sums = gradient.data();
    inputs.forget_count = 77.0F;
    inputs.remain_count = 450.0F;
    Floats a(forget.size()), b(forget.size()), c(forget.size());
    fused.evaluate_eligible(inputs, count, a.data());
    plain.evaluate_eligible(inputs, count, b.data());
    CAPTURE(p);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (std::isnan(b[i])) {
        CHECK(std::isnan(a[i]));
      } else {
        CHECK(std::bit_cast<std::uint32_t>(a[i]) == std::bit_cast<std::uint32_t>(b[i]));
      }
    }
    // One mark that everything reaches, ones that a filter rules much out for, and some of the
    // scores.
    Floats marks = {std::numeric_limits<float>::lowest(), -1.0F, 0.5F, 1e-20F, 1e20F, 0.0F, kNan};
    for (int i = 0; i < 20; ++i) {
      marks.push_back(b[random.below(static_cast<std::uint32_t>(b.size()))]);
    }
    for (const float low : marks) {
      TopKBlock block;
      score_and_classify(fused, inputs, count, low, c.data(), block);
      TopKBlock expected;
      classify_block(b.data(), count, low, expected, true);
      CAPTURE(low);
      CHECK(block.nan_count == expected.nan_count);
      CHECK(block.eligible == expected.eligible);
      REQUIRE(block.reached == expected.reached);
      for (std::size_t i = 0; i < static_cast<std::size_t>(block.reached); ++i) {
        CHECK(block.units[i] == expected.units[i]);
        CHECK(std::bit_cast<std::uint32_t>(block.scores[i]) ==
              std::bit_cast<std::uint32_t>(expected.scores[i]));
      }
    }
  }
}

// The filter's promise, where it is hardest to keep: inputs whose score is the mark or next to it,
// quotients that underflow, huge and odd values.
TEST_CASE("top-k: what the filter rules out is below the mark") {
  Random random(80);
  const std::vector<std::vector<ScoreInstruction>> filtered = {
      {{kForgetFisher}},
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 0.7F}, {kMul}, {kSub}},
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 0.0F}, {kMul}, {kSub}},
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 1e-12F}, {kAdd}, {kDiv}},
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 1e-44F}, {kAdd}, {kDiv}},
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 3.0F}, {kAdd}, {kDiv}}};
  for (const auto& instructions : filtered) {
    const ScoreProgram program(instructions);
    REQUIRE(program.fused_program() != FusedProgram::kNone);
    std::int64_t found = 0, ruled_out = 0, next_to = 0;
    for (int round = 0; round < 20000; ++round) {
      const auto size = [&] {
        const float log =
            round % 3 == 0 ? -103.0F + 20.0F * random.uniform() : 160.0F * random.uniform() - 90.0F;
        return std::exp(log);  // a third around the denormal numbers
      };
      const float near_forget = size(), near_remain = random.below(9) == 0 ? 0.0F : size();
      ScoreInputs inputs;
      inputs.forget_count =
          random.below(4) == 0 ? 1.0F : static_cast<float>(1 + random.below(60000));
      inputs.remain_count = static_cast<float>(1 + random.below(60000));
      const float weight = 1.0F;
      inputs.weight = &weight;
      const auto score_of = [&](float forget, float remain) {
        inputs.forget_sums = &forget;
        inputs.remain_sums = &remain;
        float score = 0.0F;
        program.evaluate(inputs, 1, &score);
        return score;
      };
      const float low = score_of(near_forget, near_remain);
      const auto filter = score_filter(program.fused_program(), program.constants(), inputs, low);
      if (!filter) continue;
      ++found;
      for (int i = 0; i < 12; ++i) {
        const float factor =
            i < 4 ? 1.0F
                  : 1.0F + (random.uniform() - 0.5F) * std::exp2(-2.0F * static_cast<float>(i));
        float forget = near_forget * factor;
        if (i < 4) forget = std::nextafter(forget, i % 2 == 0 ? 0.0F : 1e38F);
        const float remain = i % 4 == 1 ? std::nextafter(near_remain, 1e38F) : near_remain;
        if (!(forget < std::fma(filter->slope, remain, filter->offset))) continue;
        ++ruled_out;
        const float score = score_of(forget, remain);
        next_to += score > low * 0.999F ? 1 : 0;
        CAPTURE(forget);
        CAPTURE(remain);
        CHECK(score < low);
      }
    }
    CHECK(found > 5000);
    CHECK(ruled_out > 1000);
    CHECK(next_to > 100);
  }
}
