// The loss on a device against the CPU's: ops/loss.h on the same logits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"
#include "ops/loss.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct LossCase {
  LogitsShape shape;
  double temperature = 1.0;
};

const std::vector<LossCase> kCases = {
    {{3, 1, 1}},    {{4, 1, 2}},          {{9, 1, 10}},   {{2, 7, 31}, 0.5},    {{5, 1, 33}, 3.0},
    {{2, 3, 1024}}, {{2, 2, 1025}, 0.25}, {{3, 1, 5000}}, {{1, 2, 20011}, 1.7},
};

// Multiples of 1/8, so that the largest logit is often there twice.
Tensor logits_of(const LogitsShape& shape) {
  Tensor logits(DType::kF32, {shape.batch, shape.positions, shape.classes});
  const std::vector<float> values = normals(logits.count(), 40);
  std::transform(values.begin(), values.end(), logits.as<float>(),
                 [](float v) { return std::round(v * 16) / 8; });
  return logits;
}

// Every fourth position is not counted.
std::vector<std::int32_t> labels_of(const LogitsShape& shape) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < shape.batch * shape.positions; ++i) {
    const bool counted = i % 4 != 2;
    labels.push_back(counted ? static_cast<std::int32_t>(i * 7919 % shape.classes) : kNotCounted);
  }
  return labels;
}

double relative(double a, double b) {
  return a == b ? 0.0 : std::abs(a - b) / std::max(std::abs(b), 1e-300);
}

template <typename Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("losses and predictions on a device are the CPU's") {
  for (const LossCase& one : kCases) {
    CAPTURE(one.shape.classes);
    CAPTURE(one.shape.positions);
    const Tensor logits = logits_of(one.shape);
    const std::vector<std::int32_t> labels = labels_of(one.shape);
    const DeviceTensor there(logits);
    const auto batch = static_cast<std::size_t>(one.shape.batch);
    std::vector<double> losses(batch), expected(batch);
    std::vector<std::int32_t> predictions(labels.size()), expected_predictions(labels.size());
    const PredictionCounts counts =
        device().cross_entropy(one.shape, there.view().as<float>(), labels, one.temperature,
                               losses.data(), predictions.data());
    const PredictionCounts expected_counts =
        cross_entropy_forward(one.shape, logits.as<float>(), labels.data(), one.temperature,
                              expected.data(), expected_predictions.data());
    CHECK(predictions == expected_predictions);
    CHECK(counts.counted == expected_counts.counted);
    CHECK(counts.correct == expected_counts.correct);
    for (std::size_t n = 0; n < batch; ++n) CHECK(relative(losses[n], expected[n]) <= 1e-12);
    // Again, without predictions: the same bits.
    std::vector<double> again(batch);
    (void)device().cross_entropy(one.shape, there.view().as<float>(), labels, one.temperature,
                                 again.data(), nullptr);
    CHECK(again == losses);
  }
}

TEST_CASE("seeds on a device are the CPU's") {
  for (const LossCase& one : kCases) {
    CAPTURE(one.shape.classes);
    CAPTURE(one.shape.positions);
    const Tensor logits = logits_of(one.shape);
    const std::vector<std::int32_t> labels = labels_of(one.shape);
    std::vector<double> scales;
    for (std::int64_t n = 0; n < one.shape.batch; ++n) {
      scales.push_back(0.3 * static_cast<double>(n) - 0.4);
    }
    Tensor expected(DType::kF32, logits.shape());
    cross_entropy_seed(one.shape, logits.as<float>(), labels.data(), one.temperature, scales.data(),
                       expected.as<float>());
    const DeviceTensor there(logits);
    const DeviceTensor grad(logits);  // what it held is overwritten
    device().cross_entropy_seed(one.shape, there.view().as<float>(), labels, one.temperature,
                                scales, grad.view().as<float>());
    const Tensor found = grad.host();
    double worst = 0;
    for (std::int64_t i = 0; i < found.count(); ++i) {
      worst = std::max(worst, relative(static_cast<double>(found.as<float>()[i]),
                                       static_cast<double>(expected.as<float>()[i])));
    }
    CHECK(worst <= 1e-6);
  }
}

TEST_CASE("probabilities on a device are the CPU's") {
  for (const LossCase& one : kCases) {
    CAPTURE(one.shape.classes);
    const Tensor logits = logits_of(one.shape);
    std::vector<double> found(static_cast<std::size_t>(logits.count())), expected(found.size());
    softmax_probabilities(one.shape, logits.as<float>(), one.temperature, expected.data());
    const DeviceTensor there(logits);
    device().softmax_probabilities(one.shape, there.view().as<float>(), one.temperature,
                                   found.data());
    double worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      worst = std::max(worst, relative(found[i], expected[i]));
    }
    CHECK(worst <= 1e-12);
  }
}

TEST_CASE("a saturated sample keeps its digits on a device") {
  const LogitsShape shape = {2, 1, 3};
  Tensor logits(DType::kF32, {2, 3});
  const std::vector<float> values = {0, 60, -3, 700, -90, 0};
  std::copy(values.begin(), values.end(), logits.as<float>());
  const std::vector<std::int32_t> labels = {1, 1};
  const std::vector<double> scales = {1, 1};
  const DeviceTensor there(logits);
  const DeviceTensor grad(logits);
  std::vector<double> losses(2);
  (void)device().cross_entropy(shape, there.view().as<float>(), labels, 1.0, losses.data(),
                               nullptr);
  CHECK(relative(losses[0], std::exp(-60.0) + std::exp(-63.0)) <= 1e-12);
  CHECK(losses[1] == 790.0);
  device().cross_entropy_seed(shape, there.view().as<float>(), labels, 1.0, scales,
                              grad.view().as<float>());
  const Tensor seeds = grad.host();
  CHECK(relative(seeds.as<float>()[1], -(std::exp(-60.0) + std::exp(-63.0))) <= 1e-6);
  CHECK(seeds.as<float>()[3] == 1.0F);
  CHECK(seeds.as<float>()[4] == -1.0F);
}

TEST_CASE("classes that a mask took out (logits of -infinity) have no part in the loss") {
  constexpr float kOut = -std::numeric_limits<float>::infinity();
  for (const std::int64_t classes : {40, 1100}) {
    CAPTURE(classes);
    const LogitsShape shape = {2, 1, classes};
    Tensor logits(DType::kF32, {2, classes});
    for (std::int64_t i = 0; i < logits.count(); ++i) {
      logits.as<float>()[i] = i % 13 == 0 ? static_cast<float>(i % 7) - 1000 : kOut;
    }
    const std::vector<std::int32_t> labels = {13, 0};
    logits.as<float>()[classes] = -999;
    const std::vector<double> scales = {1, 1};
    std::vector<double> losses(2), expected(2);
    const DeviceTensor there(logits);
    const DeviceTensor grad(logits);
    (void)device().cross_entropy(shape, there.view().as<float>(), labels, 1.0, losses.data(),
                                 nullptr);
    (void)cross_entropy_forward(shape, logits.as<float>(), labels.data(), 1.0, expected.data());
    for (const std::size_t n : {0U, 1U}) CHECK(relative(losses[n], expected[n]) <= 1e-12);
    Tensor seeds(DType::kF32, {2, classes});
    cross_entropy_seed(shape, logits.as<float>(), labels.data(), 1.0, scales.data(),
                       seeds.as<float>());
    device().cross_entropy_seed(shape, there.view().as<float>(), labels, 1.0, scales,
                                grad.view().as<float>());
    CHECK(relative_distance<float, float>(grad.host(), seeds) <= 1e-6);
  }
}

TEST_CASE("what the loss refuses on a device it names as on the CPU") {
  const LogitsShape shape = {3, 2, 4};
  Tensor logits(DType::kF32, {3, 2, 4});
  std::vector<std::int32_t> labels = {0, 1, -1, 3, 2, 2};
  std::vector<double> losses(3);
  const auto both_say = [&](double temperature) {
    const DeviceTensor there(logits);
    const std::string found = message_of([&] {
      (void)device().cross_entropy(shape, there.view().as<float>(), labels, temperature,
                                   losses.data(), nullptr);
    });
    const std::string expected = message_of([&] {
      (void)cross_entropy_forward(shape, logits.as<float>(), labels.data(), temperature,
                                  losses.data());
    });
    // Infinite or NaN, and a NaN's sign, differ with the order of the sums.
    const auto without_value = [](const std::string& message) {
      return message.substr(0, message.find(" of the batch but received"));
    };
    CHECK(without_value(found) == without_value(expected));
    return found;
  };
  CHECK(both_say(1.0) == "nothing was thrown");
  CHECK(both_say(0.0).find("temperature") != std::string::npos);
  CHECK(both_say(std::numeric_limits<double>::infinity()).find("temperature") != std::string::npos);
  labels[3] = 4;
  CHECK(both_say(1.0).find("for sample 1") != std::string::npos);
  labels[3] = -2;
  CHECK(both_say(1.0).find("for sample 1") != std::string::npos);
  labels[3] = 3;
  // Not counted: its NaN is nobody's.
  logits.as<float>()[2 * 4 + 1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(both_say(1.0) == "nothing was thrown");
  // Class 0 is predicted where its logit is NaN; another NaN is never the largest.
  for (const int at : {4 * 4, 4 * 4 + 2, 5 * 4 + 3}) {
    const float was = logits.as<float>()[at];
    logits.as<float>()[at] = std::numeric_limits<float>::quiet_NaN();
    CHECK(both_say(1.0).find("for sample 2") != std::string::npos);
    logits.as<float>()[at] = std::numeric_limits<float>::infinity();
    CHECK(both_say(1.0).find("for sample 2") != std::string::npos);
    logits.as<float>()[at] = was;
  }
}
