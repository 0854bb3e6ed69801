// The optimisers against five steps of PyTorch's in f64, and held weights, which nothing may bring
// back.
#include "optim/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

using namespace fishermask;

namespace {

using Json = nlohmann::json;
// f32 arithmetic over five steps.
constexpr double kTolerance = 1e-6;

Json read_fixture() {
  const auto tests = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
  const auto path = tests / "fixtures/parity/optim/steps.json";
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.is_open(), "cannot open ", path.string());
  return Json::parse(file);
}

OptimizerOptions options_of(const Json& json) {
  OptimizerOptions options;
  options.kind =
      json.at("kind") == "sgd" ? OptimizerOptions::Kind::kSgd : OptimizerOptions::Kind::kAdamW;
  options.momentum = json.value("momentum", 0.0);
  options.dampening = json.value("dampening", 0.0);
  options.nesterov = json.value("nesterov", false);
  options.weight_decay = json.value("weight_decay", 0.0);
  if (json.contains("betas")) {
    options.beta1 = json.at("betas")[0];
    options.beta2 = json.at("betas")[1];
  }
  options.epsilon = json.value("eps", 1e-8);
  return options;
}

std::vector<float> floats(const Json& json) { return json.get<std::vector<float>>(); }

double relative_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  double difference = 0;
  double scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    scale += expected[i] * expected[i];
  }
  return std::sqrt(difference / scale);
}

void step(Optimizer& optimizer, std::vector<float>& value, std::vector<float> gradient, double rate,
          const std::vector<std::int64_t>* held = nullptr) {
  optimizer.step({{value.data(), gradient.data(), static_cast<std::int64_t>(value.size()),
                   held == nullptr ? nullptr : held->data(),
                   held == nullptr ? 0 : static_cast<std::int64_t>(held->size())}},
                 rate);
}

ErrorCode code_of(const OptimizerOptions& options) {
  try {
    check_options(options);
  } catch (const Error& e) {
    return e.code();
  }
  return ErrorCode::kINTERNAL;
}

}  // namespace

TEST_CASE("the optimisers take PyTorch's steps") {
  const Json fixture = read_fixture();
  REQUIRE(fixture.at("cases").size() == 9);
  for (const Json& item : fixture.at("cases")) {
    const std::string name = item.at("name");
    Optimizer optimizer(options_of(item.at("options")));
    std::vector<float> value = floats(item.at("value"));
    for (const Json& want : item.at("steps")) {
      step(optimizer, value, floats(want.at("gradient")), want.at("learning_rate"));
      const double error = relative_error(value, want.at("value").get<std::vector<double>>());
      CHECK_MESSAGE(error <= kTolerance, name, " step ", optimizer.steps(), ": ", error);
    }
    CHECK(optimizer.steps() == 5);
  }
}

TEST_CASE("held weights stay at 0 and leave the others as they would be") {
  const Json fixture = read_fixture();
  const std::vector<std::int64_t> held = {0, 3, 6};
  for (const Json& item : fixture.at("cases")) {
    CAPTURE(item.at("name").get<std::string>());
    Optimizer optimizer(options_of(item.at("options")));
    Optimizer free_optimizer(options_of(item.at("options")));
    std::vector<float> value = floats(item.at("value"));
    std::vector<float> free_value = value;
    for (const Json& want : item.at("steps")) {
      step(optimizer, value, floats(want.at("gradient")), want.at("learning_rate"), &held);
      step(free_optimizer, free_value, floats(want.at("gradient")), want.at("learning_rate"));
      for (std::size_t i = 0; i < value.size(); ++i) {
        const bool is_held = i % 3 == 0;
        // Bits, not values: −0 is not what was promised.
        if (is_held) CHECK((value[i] == 0.0F && !std::signbit(value[i])));
        if (!is_held) CHECK(value[i] == free_value[i]);
      }
    }
  }
}

TEST_CASE("a weight that is held from the middle on loses its momentum and its averages") {
  for (const auto kind : {OptimizerOptions::Kind::kSgd, OptimizerOptions::Kind::kAdamW}) {
    OptimizerOptions options;
    options.kind = kind;
    options.momentum = 0.9;
    options.weight_decay = 0.1;
    Optimizer optimizer(options);
    std::vector<float> value = {1.0F, 2.0F};
    for (int i = 0; i < 3; ++i) step(optimizer, value, {0.5F, -0.5F}, 0.1);
    CHECK(value[0] != 0.0F);
    const std::vector<std::int64_t> held = {0};
    for (int i = 0; i < 3; ++i) {
      step(optimizer, value, {0.5F, -0.5F}, 0.1, &held);
      CHECK(value[0] == 0.0F);
    }
    // Let go: with no gradient there is no state left that would move it.
    step(optimizer, value, {0.0F, 0.0F}, 0.1);
    CHECK(value[0] == 0.0F);
    CHECK(value[1] != 0.0F);
  }
}

TEST_CASE("a held weight is unmoved by a gradient of infinity") {
  OptimizerOptions options;
  options.kind = OptimizerOptions::Kind::kAdamW;
  Optimizer optimizer(options);
  const std::vector<std::int64_t> held = {1};
  std::vector<float> value = {1.0F, 5.0F};
  step(optimizer, value, {0.1F, std::numeric_limits<float>::infinity()}, 0.1, &held);
  CHECK(value[1] == 0.0F);
  CHECK(std::isfinite(value[0]));
}

TEST_CASE("large parameters take the same steps on any number of threads") {
  std::vector<float> value(50'000);
  std::vector<float> gradient(value.size());
  for (std::size_t i = 0; i < value.size(); ++i) {
    value[i] = std::sin(static_cast<float>(i));
    gradient[i] = std::cos(static_cast<float>(3 * i));
  }
  OptimizerOptions options;
  options.kind = OptimizerOptions::Kind::kAdamW;
  Optimizer whole(options);
  std::vector<float> together = value;
  step(whole, together, gradient, 0.1);
  // One element at a time has nothing to share out.
  for (const std::size_t i : {std::size_t{0}, std::size_t{16'384}, value.size() - 1}) {
    Optimizer alone(options);
    std::vector<float> one = {value[i]};
    step(alone, one, {gradient[i]}, 0.1);
    CHECK(together[i] == one[0]);
  }
}

TEST_CASE("options out of range are refused by name") {
  const auto with = [](auto change) {
    OptimizerOptions options;
    change(options);
    return code_of(options);
  };
  using Options = OptimizerOptions;
  CHECK(with([](Options& o) { o.momentum = 1.0; }) == ErrorCode::kCONFIG);
  CHECK(with([](Options& o) { o.momentum = std::nan(""); }) == ErrorCode::kCONFIG);
  CHECK(with([](Options& o) { o.dampening = -0.1; }) == ErrorCode::kCONFIG);
  CHECK(with([](Options& o) { o.nesterov = true; }) == ErrorCode::kCONFIG);
  CHECK(with([](Options& o) { o.weight_decay = -1e-3; }) == ErrorCode::kCONFIG);
  CHECK(with([](Options& o) { o.beta2 = 1.0; }) == ErrorCode::kCONFIG);
  CHECK(with([](Options& o) { o.epsilon = 0.0; }) == ErrorCode::kCONFIG);
  Optimizer optimizer({});
  std::vector<float> value = {1.0F};
  CHECK_THROWS_AS(step(optimizer, value, {1.0F}, -0.1), Error);
  CHECK_THROWS_AS(step(optimizer, value, {1.0F}, std::nan("")), Error);
  CHECK(value[0] == 1.0F);
}

TEST_CASE("parameters that change in number or size are refused") {
  OptimizerOptions options;
  options.momentum = 0.9;
  Optimizer optimizer(options);
  std::vector<float> value = {1.0F, 2.0F};
  step(optimizer, value, {0.1F, 0.1F}, 0.1);
  std::vector<float> other = {1.0F};
  CHECK_THROWS_AS(step(optimizer, other, {0.1F}, 0.1), Error);
  CHECK_THROWS_AS(optimizer.step({}, 0.1), Error);
}
