#include "mask/select.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "mask_test_support.h"

using namespace fishermask;
using namespace fishermask::mask_test;

namespace {

using Scores = std::vector<std::vector<float>>;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kDenormal = std::numeric_limits<float>::denorm_min();

std::vector<std::int64_t> masked_units(const KeepMask& mask) {
  std::vector<std::int64_t> units;
  for (std::int64_t u = 0; u < mask.units; ++u) {
    if (!mask.kept(u)) units.push_back(u);
  }
  return units;
}

std::vector<std::int64_t> top(const std::vector<float>& scores, std::int64_t k) {
  return masked_units(select_top_k(as_tensors({scores}), k).masks[0]);
}

// Everything that a Selection says must agree with the sorted reference.
void check_against_reference(const Scores& scores, std::int64_t k) {
  const Selection selection = select_top_k(as_tensors(scores), k);
  const std::vector<KeepMask> expected = reference_select(scores, k);
  REQUIRE(selection.masks.size() == expected.size());
  std::int64_t total = 0;
  float smallest = kInf;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    CHECK(selection.masks[t] == expected[t]);
    CHECK(selection.masked[t] == masked_count(expected[t]));
    total += masked_count(expected[t]);
    for (const std::int64_t u : masked_units(expected[t])) {
      smallest = std::min(smallest, scores[t][static_cast<std::size_t>(u)]);
    }
  }
  const Ranking& ranking = selection.rankings.at(0);
  CHECK(selection.total_masked == total);
  CHECK(ranking.masked == total);
  CHECK(ranking.asked == k);
  CHECK(ranking.threshold.has_value() == (total > 0));
  if (total > 0) CHECK(ranking.threshold.value_or(kNan) == smallest);
}

float heavy_tie(Random& random, std::int64_t variety) {
  static const std::vector<float> kValues = {0.0F,
                                             -0.0F,
                                             1.0F,
                                             -1.0F,
                                             kDenormal,
                                             -kDenormal,
                                             3.0F * kDenormal,
                                             kInf,
                                             -kInf,
                                             0.5F,
                                             1e30F,
                                             -1e30F,
                                             1.0F + 0x1p-23F,
                                             -1.0F - 0x1p-23F,
                                             std::numeric_limits<float>::max(),
                                             std::numeric_limits<float>::lowest()};
  const std::int64_t kind = random.below(3);
  if (kind == 0) return kValues[static_cast<std::size_t>(random.below(16))];
  if (kind == 1) return static_cast<float>(random.below(variety));
  return random.uniform() - 0.5F;
}

}  // namespace

TEST_CASE("select: the largest scores, ties by index") {
  CHECK(top({1.0F, 3.0F, 2.0F, 3.0F}, 1) == std::vector<std::int64_t>{1});
  CHECK(top({1.0F, 3.0F, 2.0F, 3.0F}, 2) == std::vector<std::int64_t>{1, 3});
  CHECK(top({1.0F, 3.0F, 2.0F, 3.0F}, 3) == std::vector<std::int64_t>{1, 2, 3});
  CHECK(top({2.0F, 2.0F, 2.0F, 2.0F, 2.0F}, 3) == std::vector<std::int64_t>{0, 1, 2});
}

TEST_CASE("select: minus zero equals plus zero") {
  CHECK(top({-0.0F, 0.0F, -0.0F, 0.0F}, 2) == std::vector<std::int64_t>{0, 1});
  CHECK(top({0.0F, -0.0F, 0.0F, -1.0F}, 2) == std::vector<std::int64_t>{0, 1});
  CHECK(top({-kDenormal, -0.0F, kDenormal}, 2) == std::vector<std::int64_t>{1, 2});
}

TEST_CASE("select: denormals and infinities are ordered as numbers") {
  CHECK(top({kDenormal, 0.0F, 2.0F * kDenormal, -kDenormal}, 2) == std::vector<std::int64_t>{0, 2});
  CHECK(top({-kDenormal, -2.0F * kDenormal, -1.0F}, 1) == std::vector<std::int64_t>{0});
  CHECK(top({1.0F, kInf, std::numeric_limits<float>::max(), kInf}, 2) ==
        std::vector<std::int64_t>{1, 3});
}

TEST_CASE("select: -infinity is never chosen, and the result says how many were") {
  const Selection selection = select_top_k(as_tensors({{-kInf, 1.0F, -kInf, 0.0F}}), 4);
  CHECK(masked_units(selection.masks[0]) == std::vector<std::int64_t>{1, 3});
  CHECK(selection.rankings[0].asked == 4);
  CHECK(selection.rankings[0].eligible == 2);
  CHECK(selection.rankings[0].masked == 2);
  CHECK(selection.total_masked == 2);
  CHECK(selection.total_units == 4);
  CHECK(top({-kInf, -kInf}, 1).empty());
}

TEST_CASE("select: sizes around powers of two, sorted, reversed and equal, k from none to all") {
  for (const std::int64_t size :
       {1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 1023, 1024, 1025, 65535, 65536, 65537}) {
    const auto count = static_cast<std::size_t>(size);
    std::vector<float> rising(count);
    for (std::size_t i = 0; i < count; ++i) rising[i] = static_cast<float>(i) - 100.0F;
    std::vector<float> falling(rising.rbegin(), rising.rend());
    const std::vector<float> equal(count, -2.5F);
    for (const std::int64_t k :
         {std::int64_t{0}, std::int64_t{1}, size / 2, size - 1, size, size + 1}) {
      CAPTURE(size);
      CAPTURE(k);
      check_against_reference({rising}, k);
      check_against_reference({falling}, k);
      check_against_reference({equal}, k);
      check_against_reference({equal, falling}, k);
    }
  }
}

TEST_CASE("select: equals a stable sort on random cases with heavy ties, on 1 to 4 threads") {
  Random random(11);
  for (int round = 0; round < 600; ++round) {
    Scores scores(static_cast<std::size_t>(1 + random.below(5)));
    std::int64_t total = 0;
    for (auto& tensor : scores) {
      tensor.resize(static_cast<std::size_t>(random.below(300)));
      for (float& score : tensor) score = heavy_tie(random, 1 + round % 7);
      total += static_cast<std::int64_t>(tensor.size());
    }
    const ThreadCount threads(1 + round % 4);
    CAPTURE(round);
    check_against_reference(scores, random.below(total + 2));
  }
}

TEST_CASE("select: many segments, the sampled bound and its failure, on every thread count") {
  Random random(12);
  Scores scores(3);
  const std::vector<std::size_t> sizes = {(1U << 20U) + 5U, 70001U, 65536U};
  for (std::size_t t = 0; t < 3; ++t) {
    scores[t].resize(sizes[t]);
    for (float& score : scores[t]) score = random.uniform() * random.uniform();
  }
  Scores ties = scores;
  for (auto& tensor : ties) {
    for (float& score : tensor) score = std::floor(score * 50.0F);
  }
  // The sample sees nothing but 100, so its bracket lies far too high.
  Scores misled = scores;
  const std::int64_t stride = ((1 << 20) + 5 + 70001 + 65536) / (1 << 16);
  for (std::size_t i = 0; i < misled[0].size(); ++i) {
    misled[0][i] = static_cast<std::int64_t>(i) % stride == 0 ? 100.0F : 0.5F * scores[0][i];
  }
  // Few units are eligible: the bracket reaches down to -infinity.
  Scores sparse = scores;
  for (auto& tensor : sparse) {
    for (float& score : tensor) score = random.below(20) == 0 ? score : kNotEligible;
  }
  for (const Scores& input : {scores, ties, misled, sparse}) {
    for (const std::int64_t k : {1, 1000, 25000, 100000, 700000}) {
      CAPTURE(k);
      check_against_reference(input, k);
      const Selection one = [&] {
        const ThreadCount threads(1);
        return select_top_k(as_tensors(input), k);
      }();
      for (const int threads : {2, 3, 4}) {
        const ThreadCount several(threads);
        const Selection other = select_top_k(as_tensors(input), k);
        CHECK(other.masks == one.masks);
        CHECK(other.masked == one.masked);
        CHECK(other.rankings[0].threshold == one.rankings[0].threshold);
      }
    }
  }
}

TEST_CASE("select: masks nest as k grows") {
  Random random(13);
  std::vector<float> scores(500);
  for (float& score : scores) score = heavy_tie(random, 4);
  std::vector<std::int64_t> before;
  for (std::int64_t k = 0; k <= 500; ++k) {
    const std::vector<std::int64_t> now = top(scores, k);
    CHECK(std::includes(now.begin(), now.end(), before.begin(), before.end()));
    before = now;
  }
}

TEST_CASE("select: NaN is an error that names the tensors, even where nothing is asked for") {
  const Scores scores = {{1.0F, kNan}, {2.0F, 3.0F}, {kNan, -kNan, 0.0F}};
  for (const std::int64_t k : {0, 1, 7}) {
    const std::string error = error_of([&] {
      const Selection selection = select_top_k(as_tensors(scores), k);
      CHECK(selection.total_masked < 0);
    });
    CHECK(contains(error, "ERR_FM_NON_FINITE"));
    CHECK(contains(error, "tensor0 (1), tensor2 (2)"));
    CHECK_FALSE(contains(error, "tensor1"));
  }
}

TEST_CASE("select: scopes rank the network, each layer or each tensor") {
  const Scores scores = {{9.0F, 8.0F, 7.0F, 6.0F}, {5.0F, 4.0F}, {3.0F, 2.0F, 1.0F, 0.0F}};
  std::vector<SelectTensor> tensors = as_tensors(scores);
  tensors[0].group = 7;
  tensors[1].group = 3;
  tensors[2].group = 7;
  CHECK(select_ratio(tensors, Scope::kGlobal, 0.5).masked == std::vector<std::int64_t>{4, 1, 0});
  CHECK(select_ratio(tensors, Scope::kTensor, 0.5).masked == std::vector<std::int64_t>{2, 1, 2});
  const Selection layers = select_ratio(tensors, Scope::kLayer, 0.5);
  CHECK(layers.masked == std::vector<std::int64_t>{4, 1, 0});
  REQUIRE(layers.rankings.size() == 2);
  CHECK(layers.rankings[0].tensors == std::vector<std::int64_t>{0, 2});
  CHECK(layers.rankings[0].units == 8);
  CHECK(layers.rankings[1].tensors == std::vector<std::int64_t>{1});
  CHECK(layers.rankings[1].threshold.value_or(kNan) == 5.0F);
  CHECK(layers.total_masked == 5);
  CHECK(layers.total_units == 10);
}

TEST_CASE("select: layer and tensor scope equal the reference of each group alone") {
  Random random(14);
  for (int round = 0; round < 60; ++round) {
    Scores scores(4);
    for (auto& tensor : scores) {
      tensor.resize(static_cast<std::size_t>(1 + random.below(90)));
      for (float& score : tensor) score = heavy_tie(random, 3);
    }
    const double ratio = random.uniform();
    const Selection by_tensor = select_ratio(as_tensors(scores), Scope::kTensor, ratio);
    for (std::size_t t = 0; t < 4; ++t) {
      const std::int64_t k = ratio_to_k(ratio, static_cast<std::int64_t>(scores[t].size()));
      CHECK(by_tensor.masks[t] == reference_select({scores[t]}, k)[0]);
    }
    std::vector<SelectTensor> tensors = as_tensors(scores);
    for (std::size_t t = 0; t < 4; ++t) tensors[t].group = static_cast<std::int64_t>(t % 2);
    const Selection by_layer = select_ratio(tensors, Scope::kLayer, ratio);
    for (std::size_t g = 0; g < 2; ++g) {
      const Scores pair = {scores[g], scores[g + 2]};
      const std::int64_t k =
          ratio_to_k(ratio, static_cast<std::int64_t>(pair[0].size() + pair[1].size()));
      const std::vector<KeepMask> expected = reference_select(pair, k);
      CHECK(by_layer.masks[g] == expected[0]);
      CHECK(by_layer.masks[g + 2] == expected[1]);
    }
  }
}

TEST_CASE("select: no tensors, empty tensors") {
  CHECK(select_top_k({}, 3).total_masked == 0);
  CHECK(select_ratio({}, Scope::kTensor, 0.5).rankings.empty());
  const Selection selection = select_top_k(as_tensors({{}, {1.0F}, {}}), 2);
  CHECK(selection.masked == std::vector<std::int64_t>{0, 1, 0});
  CHECK(selection.masks[0].bits.empty());
}

TEST_CASE("ratio_to_k: decimal fractions come out as meant") {
  CHECK(ratio_to_k(0.29, 100) == 29);
  CHECK(ratio_to_k(0.0, 100) == 0);
  CHECK(ratio_to_k(1.0, 100) == 100);
  CHECK(ratio_to_k(0.02, 49) == 0);
  CHECK(ratio_to_k(0.5, 0) == 0);
  CHECK(ratio_to_k(std::nextafter(0.29, 0.0), 100) == 28);
  CHECK(ratio_to_k(0.001, std::int64_t{5'000'000'000}) == 5'000'000);
  for (std::int64_t per_mille = 0; per_mille <= 1000; ++per_mille) {
    CHECK(ratio_to_k(static_cast<double>(per_mille) / 1000.0, 1000) == per_mille);
    CHECK(ratio_to_k(static_cast<double>(per_mille) / 1000.0, 270'000) == per_mille * 270);
  }
}

TEST_CASE("select: errors") {
  for (const double ratio : {-0.1, 1.1, std::nan(""), HUGE_VAL}) {
    CHECK(contains(error_of([&] { (void)ratio_to_k(ratio, 10); }), "ERR_FM_ARGUMENT"));
    CHECK(contains(error_of([&] { (void)select_ratio({}, Scope::kGlobal, ratio); }), "ratio"));
  }
  CHECK(contains(error_of([] { (void)ratio_to_k(0.5, -1); }), "ERR_FM_ARGUMENT"));
  CHECK(contains(error_of([] { (void)select_top_k({}, -1); }), "ERR_FM_ARGUMENT"));
  CHECK(parse_scope("layer") == Scope::kLayer);
  CHECK(scope_name(Scope::kTensor) == "tensor");
  CHECK(contains(error_of([] { (void)parse_scope("world"); }), "world"));
}
