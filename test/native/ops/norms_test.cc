// layer_norm, rms_norm, group_norm and lrn on values known by hand, and where f32 is short of
// digits.
#include <doctest/doctest.h>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Values = std::vector<float>;

void check_values(const char* op, const SampleCase& sample_case, const Values& x,
                  const Values& expected) {
  for (const bool fast : {true, false}) {
    OpRun<float> run(find_op(op), sample_case, fast);
    REQUIRE(static_cast<std::int64_t>(x.size()) == run.inputs[0].count());
    std::copy(x.begin(), x.end(), run.inputs[0].as<float>());
    for (const auto& [slot, tensor] : run.parameters) {
      for (std::int64_t i = 0; i < tensor.count(); ++i) {
        tensor.as<float>()[i] = static_cast<float>(i + 1) * (slot == "bias" ? 100.0F : 1.0F);
      }
    }
    run.forward();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK(run.outputs[0].as<float>()[i] == doctest::Approx(expected[i]).epsilon(1e-6));
    }
  }
}

SampleCase values_case(Shape input, std::map<std::string, Attribute> attributes,
                       std::map<std::string, Shape> parameters = {}) {
  return {.name = "values",
          .inputs = {std::move(input)},
          .parameters = std::move(parameters),
          .attributes = std::move(attributes),
          .batch = 1};
}

const Attribute kNoEpsilon = 0.0;
const Attribute kTwo = std::int64_t{2};

}  // namespace

TEST_CASE("layer_norm: each row alone, the biased variance, weight then bias") {
  check_values("layer_norm", values_case({2, 2}, {{"epsilon", kNoEpsilon}}), {1, 3, 10, 30},
               {-1, 1, -1, 1});
  check_values("layer_norm",
               values_case({2, 2}, {{"epsilon", kNoEpsilon}}, {{"weight", {2}}, {"bias", {2}}}),
               {1, 3, 30, 10}, {99, 202, 101, 198});
  // (0, 0, 4, 4) together: mean 2, deviation 2.
  check_values("layer_norm", values_case({2, 2}, {{"epsilon", kNoEpsilon}, {"dims", kTwo}}),
               {0, 0, 4, 4}, {-1, -1, 1, 1});
}

TEST_CASE("layer_norm: epsilon is added to the variance") {
  check_values("layer_norm", values_case({1, 2}, {{"epsilon", 3.0}}), {1, 3}, {-0.5F, 0.5F});
}

TEST_CASE("rms_norm: the mean stays") {
  check_values("rms_norm", values_case({1, 2}, {{"epsilon", kNoEpsilon}}, {{"weight", {2}}}),
               {1, 7}, {0.2F, 2.8F});
}

TEST_CASE("layer_norm: a small spread on a large mean keeps its digits") {
  SampleCase sample_case = values_case({3, 1500}, {}, {{"weight", {1500}}, {"bias", {1500}}});
  OpRun<float> run(find_op("layer_norm"), sample_case, true);
  OpRun<double> reference(find_op("layer_norm"), sample_case, false);
  for (std::int64_t i = 0; i < run.inputs[0].count(); ++i) {
    run.inputs[0].as<float>()[i] += 1000.0F;
    reference.inputs[0].as<double>()[i] = static_cast<double>(run.inputs[0].as<float>()[i]);
  }
  run.forward();
  reference.forward();
  const double error = relative_distance<float, double>(run.outputs[0], reference.outputs[0]);
  CHECK_MESSAGE(error < 1e-4, error);
}

TEST_CASE("group_norm: channels of a group over all positions") {
  const SampleCase two = values_case({2, 4}, {{"groups", kTwo}, {"epsilon", kNoEpsilon}},
                                     {{"weight", {4}}, {"bias", {4}}});
  // Groups (1, 1, 3, 3) and (0, 20, 20, 0).
  check_values("group_norm", two, {1, 1, 0, 20, 3, 3, 20, 0},
               {99, 198, 297, 404, 101, 202, 303, 396});
  check_values("group_norm", values_case({2, 2}, {{"groups", kTwo}, {"epsilon", kNoEpsilon}}),
               {1, 10, 3, 30}, {-1, -1, 1, 1});
}

TEST_CASE("lrn: an even window has its longer side after the channel") {
  const SampleCase even =
      values_case({3}, {{"size", kTwo}, {"alpha", 2.0}, {"beta", 1.0}, {"bias", 1.0}});
  // s = 1 + x[c]² + x[c + 1]²
  check_values("lrn", even, {1, 2, 3}, {1.0F / 6, 2.0F / 14, 3.0F / 10});
}

TEST_CASE("norms: refuse shapes and attributes that do not fit") {
  const auto refuse = [](const char* op, const SampleCase& sample_case, const char* message) {
    CHECK_THROWS_WITH_AS(node_of(find_op(op), sample_case), doctest::Contains(message), Error);
  };
  refuse("layer_norm", values_case({2, 3}, {}, {{"weight", {2}}}), "a weight of shape (3)");
  refuse("layer_norm", values_case({2, 3}, {{"dims", std::int64_t{3}}}), "dims in [1, 2]");
  refuse("layer_norm", values_case({2, 3}, {{"epsilon", -1.0}}), "an epsilon of at least 0");
  refuse("rms_norm", values_case({}, {}), "dims");
  refuse("group_norm", values_case({2, 3}, {{"groups", kTwo}}), "groups that divide 3");
  refuse("group_norm", values_case({2, 4}, {{"groups", kTwo}}, {{"bias", {2}}}),
         "a bias of shape (4)");
  refuse("lrn", values_case({2, 4}, {{"size", std::int64_t{0}}}), "a size of at least 1");
}
