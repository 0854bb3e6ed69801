#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "core/parallel.h"
#include "native/ops/op_harness.h"
#include "ops/loss.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr LogitsShape kShape = {.batch = 4, .positions = 3, .classes = 5};
const std::vector<std::int32_t> kLabels = {0, 4, -1, 2, 2, 1, -1, -1, -1, 3, 0, -1};

std::vector<double> logits_f64() {
  const std::vector<float> draw = normals(kShape.batch * kShape.positions * kShape.classes, 50);
  return {draw.begin(), draw.end()};
}

std::vector<double> losses(const std::vector<double>& logits, double temperature) {
  std::vector<double> loss(static_cast<std::size_t>(kShape.batch));
  cross_entropy_forward(kShape, logits.data(), kLabels.data(), temperature, loss.data());
  return loss;
}

ErrorCode code_of(const std::function<void()>& call, std::string& message) {
  try {
    call();
  } catch (const Error& error) {
    message = error.what();
    return error.code();
  }
  FAIL("accepted");
  return ErrorCode::kINTERNAL;
}

}  // namespace

TEST_CASE("cross entropy: a value known by hand, and nothing counted is 0") {
  const std::vector<double> logits = {0, 0, 0, 0, std::log(3.0), 0};
  const std::vector<std::int32_t> labels = {2, 0};
  std::vector<double> loss(2);
  cross_entropy_forward({.batch = 2, .classes = 3}, logits.data(), labels.data(), 1.0, loss.data());
  CHECK(loss[0] == doctest::Approx(std::log(3.0)).epsilon(1e-14));
  CHECK(loss[1] == doctest::Approx(std::log(5.0)).epsilon(1e-14));
  CHECK(losses(logits_f64(), 1.0)[2] == 0.0);
}

TEST_CASE(
    "cross entropy: seeds are the scaled gradient of each sample's loss, at any temperature") {
  const std::vector<double> scales = {1.0, 0.25, 3.0, 2.0};
  for (const double temperature : {1.0, 4.0, 0.5}) {
    std::vector<double> logits = logits_f64();
    std::vector<double> seed(logits.size(), 1e9);
    cross_entropy_seed(kShape, logits.data(), kLabels.data(), temperature, scales.data(),
                       seed.data());
    constexpr double kStep = 1e-6;
    const std::size_t per_sample = logits.size() / scales.size();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double start = logits[i];
      logits[i] = start + kStep;
      const double up = losses(logits, temperature)[i / per_sample];
      logits[i] = start - kStep;
      const double down = losses(logits, temperature)[i / per_sample];
      logits[i] = start;
      CHECK(std::abs((up - down) / (2 * kStep) * scales[i / per_sample] - seed[i]) < 1e-8);
    }
  }
}

TEST_CASE("cross entropy: f32 equals f64, and a saturated sample keeps its digits") {
  const std::vector<double> logits = logits_f64();
  const std::vector<float> narrow(logits.begin(), logits.end());
  const std::vector<double> scales(static_cast<std::size_t>(kShape.batch), 1.0);
  std::vector<double> seed(logits.size());
  std::vector<float> narrow_seed(logits.size());
  cross_entropy_seed(kShape, logits.data(), kLabels.data(), 4.0, scales.data(), seed.data());
  cross_entropy_seed(kShape, narrow.data(), kLabels.data(), 4.0, scales.data(), narrow_seed.data());
  CHECK(relative_distance<float, double>(narrow_seed, seed) < 1e-7);

  const std::vector<float> saturated = {30, 0};
  const std::int32_t label = 0;
  double loss = 0;
  std::vector<float> gradient(2);
  cross_entropy_forward({.batch = 1, .classes = 2}, saturated.data(), &label, 1.0, &loss);
  cross_entropy_seed({.batch = 1, .classes = 2}, saturated.data(), &label, 1.0, scales.data(),
                     gradient.data());
  CHECK(loss == doctest::Approx(std::exp(-30.0)).epsilon(1e-12));
  CHECK(gradient[0] == doctest::Approx(-std::exp(-30.0)).epsilon(1e-6));
  CHECK(gradient[1] == doctest::Approx(std::exp(-30.0)).epsilon(1e-6));
}

TEST_CASE(
    "cross entropy: rows longer than a vector equal the plain sums, ties and NaN as in short "
    "ones") {
  constexpr std::int64_t kClasses = 75;
  std::vector<float> logits = normals(kClasses, 51);
  for (const std::size_t place : {std::size_t{3}, std::size_t{40}, std::size_t{74}}) {
    logits[place] = 9.0F;  // the first of them is the prediction
    long double sum = 0;
    for (const float z : logits) sum += std::exp(static_cast<long double>(z) / 3);
    const std::int32_t label = 20;
    double loss = 0;
    std::int32_t prediction = 0;
    std::vector<float> seed(logits.size());
    const double scale = 2;
    cross_entropy_forward({.batch = 1, .classes = kClasses}, logits.data(), &label, 3.0, &loss,
                          &prediction);
    cross_entropy_seed({.batch = 1, .classes = kClasses}, logits.data(), &label, 3.0, &scale,
                       seed.data());
    CHECK(prediction == 3);
    CHECK(loss ==
          doctest::Approx(static_cast<double>(3 * std::log(sum) - logits[20])).epsilon(1e-14));
    for (std::size_t c = 0; c < logits.size(); ++c) {
      const long double p = std::exp(static_cast<long double>(logits[c]) / 3) / sum;
      CHECK(seed[c] ==
            doctest::Approx(static_cast<double>(2 * (p - (c == 20 ? 1 : 0)))).epsilon(1e-6));
    }
  }
  for (const std::size_t place : {std::size_t{0}, std::size_t{33}, std::size_t{74}}) {
    std::vector<float> bad = normals(kClasses, 52);
    bad[place] = std::numeric_limits<float>::quiet_NaN();
    const std::int32_t label = 20;
    double loss = 0;
    std::string message;
    CHECK(code_of(
              [&] {
                cross_entropy_forward({.batch = 1, .classes = kClasses}, bad.data(), &label, 1.0,
                                      &loss);
              },
              message) == ErrorCode::kNON_FINITE);
  }
}

TEST_CASE("cross entropy: large logits do not overflow") {
  const std::vector<float> logits = {1e30F, -1e30F, 3e4F};
  const std::int32_t label = 2;
  double loss = 0;
  cross_entropy_forward({.batch = 1, .classes = 3}, logits.data(), &label, 1.0, &loss);
  CHECK(loss == doctest::Approx(1e30).epsilon(1e-6));
}

TEST_CASE("cross entropy: predictions take the first maximum; counts are over counted positions") {
  const std::vector<float> logits = {1, 2, 2, 5, 5, 0, 0, 0, 7};
  const std::vector<std::int32_t> labels = {1, 1, -1};
  std::vector<double> loss(3);
  std::vector<std::int32_t> predictions(3);
  const PredictionCounts counts =
      cross_entropy_forward({.batch = 3, .classes = 3}, logits.data(), labels.data(), 1.0,
                            loss.data(), predictions.data());
  CHECK(predictions == std::vector<std::int32_t>{1, 0, 2});
  CHECK(counts.counted == 2);
  CHECK(counts.correct == 1);
}

TEST_CASE("softmax: sums to 1, and the expected Fisher's seeds average to 0") {
  const std::vector<double> logits = logits_f64();
  const LogitsShape shape = {.batch = 12, .classes = 5};
  std::vector<double> p(logits.size());
  softmax_probabilities(shape, logits.data(), 4.0, p.data());
  std::vector<double> mean(logits.size());
  for (std::int32_t y = 0; y < 5; ++y) {
    const std::vector<std::int32_t> labels(12, y);
    const std::vector<double> ones(12, 1.0);
    std::vector<double> seed(logits.size());
    cross_entropy_seed(shape, logits.data(), labels.data(), 4.0, ones.data(), seed.data());
    for (std::size_t i = 0; i < seed.size(); ++i) {
      mean[i] += p[i / 5 * 5 + static_cast<std::size_t>(y)] * seed[i];
    }
  }
  for (std::size_t n = 0; n < 12; ++n) {
    double sum = 0;
    for (std::size_t c = 0; c < 5; ++c) {
      sum += p[n * 5 + c];
      CHECK(std::abs(mean[n * 5 + c]) < 1e-15);
    }
    CHECK(sum == doctest::Approx(1.0).epsilon(1e-14));
  }
}

TEST_CASE("cross entropy: the same bits for any thread count") {
  const LogitsShape shape = {.batch = 300, .positions = 7, .classes = 11};
  const std::vector<float> logits = normals(300 * 7 * 11, 60);
  std::vector<std::int32_t> labels(300 * 7);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int32_t>(i % 12) - 1;
  const std::vector<double> scales(300, 0.5);
  const int before = thread_count();
  std::vector<std::vector<double>> all_losses;
  std::vector<std::vector<float>> all_seeds;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    all_losses.emplace_back(300);
    all_seeds.emplace_back(logits.size());
    cross_entropy_forward(shape, logits.data(), labels.data(), 2.0, all_losses.back().data());
    cross_entropy_seed(shape, logits.data(), labels.data(), 2.0, scales.data(),
                       all_seeds.back().data());
  }
  set_thread_count(before);
  CHECK(all_losses[0] == all_losses[1]);
  CHECK(all_seeds[0] == all_seeds[1]);
}

TEST_CASE("cross entropy: refuses labels, temperatures and logits that make no sense") {
  std::vector<float> logits(6, 0.0F);
  std::vector<double> loss(2);
  std::string message;
  const auto forward = [&](const std::vector<std::int32_t>& labels, double temperature) {
    return code_of(
        [&] {
          cross_entropy_forward({.batch = 2, .classes = 3}, logits.data(), labels.data(),
                                temperature, loss.data());
        },
        message);
  };
  CHECK(forward({0, 3}, 1.0) == ErrorCode::kARGUMENT);
  CHECK(message == "Expected a label in [-1, 3) for sample 1 but received 3");
  CHECK(forward({-2, 0}, 1.0) == ErrorCode::kARGUMENT);
  CHECK(message == "Expected a label in [-1, 3) for sample 0 but received -2");
  CHECK(forward({0, 0}, 0.0) == ErrorCode::kARGUMENT);
  CHECK(forward({0, 0}, std::numeric_limits<double>::quiet_NaN()) == ErrorCode::kARGUMENT);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const std::size_t at : {3U, 4U, 5U}) {
      logits.assign(6, 0.0F);
      logits[at] = bad;
      CHECK(forward({0, 0}, 1.0) == ErrorCode::kNON_FINITE);
      CHECK(message.find("sample 1") != std::string::npos);
    }
  }
}
