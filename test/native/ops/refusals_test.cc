// What an op must refuse, and that the message says why.
#include <doctest/doctest.h>

#include <limits>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Integers = std::vector<std::int64_t>;

struct Refusal {
  std::string op;
  SampleCase sample_case;
  std::string message;  // a part of it
};

std::string refusal_of(const OpDefinition& op, const SampleCase& sample_case) {
  try {
    const NodeSpec node = node_of(op, sample_case);
    return "accepted";
  } catch (const Error& error) {
    REQUIRE(error.code() == ErrorCode::kGRAPH);
    return error.what();
  }
}

std::map<std::string, Shape> norm_slots(std::int64_t channels) {
  return {{"running_mean", {channels}}, {"running_var", {channels}}};
}

std::vector<Refusal> refusals() {
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  std::map<std::string, Shape> weight_only = norm_slots(3);
  weight_only["weight"] = {3};
  return {
      {"conv2d",
       {.name = "refused", .inputs = {{5, 5}}, .parameters = {{"weight", {4, 5, 3, 3}}}},
       "an image"},
      {"conv2d",
       {.name = "refused", .inputs = {{5, 5, 3}}, .parameters = {{"weight", {4, 3}}}},
       "a weight of shape"},
      {"conv2d",
       {.name = "refused", .inputs = {{5, 5, 3}}, .parameters = {{"weight", {4, 2, 3, 3}}}},
       "3 input channels"},
      {"conv2d",
       {.name = "refused", .inputs = {{5, 5, 3}}, .parameters = {{"weight", {4, 3, 6, 3}}}},
       "fits"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}, {"bias", {3}}}},
       "a bias of shape"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 1, 3, 3}}},
        .attributes = {{"groups", std::int64_t{3}}}},
       "groups"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}},
        .attributes = {{"groups", std::int64_t{0}}}},
       "groups"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}},
        .attributes = {{"stride", Integers{0, 1}}}},
       "stride"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}},
        .attributes = {{"stride", Integers{1}}}},
       "2 integers"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}},
        .attributes = {{"padding", Integers{1, -1, 1, 1}}}},
       "negative padding"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}},
        .attributes = {{"padding", Integers{huge, 0, huge, 0}}}},
       "padding below"},
      {"conv2d",
       {.name = "refused",
        .inputs = {{5, 5, 3}},
        .parameters = {{"weight", {4, 3, 3, 3}}},
        .attributes = {{"dilation", Integers{huge, 1}}}},
       "fits"},
      {"max_pool2d", {.name = "refused", .inputs = {{5, 5, 3}}}, "missing"},
      {"max_pool2d",
       {.name = "refused", .inputs = {{2, 2, 3}}, .attributes = {{"kernel", Integers{3, 2}}}},
       "fits"},
      {"max_pool2d",
       {.name = "refused",
        .inputs = {{4, 4, 3}},
        .attributes = {{"kernel", Integers{2, 2}}, {"padding", Integers{2, 0, 0, 0}}}},
       "only padding"},
      {"max_pool2d",
       {.name = "refused",
        .inputs = {{1, 1, 3}},
        .attributes = {{"kernel", Integers{2, 1}},
                       {"padding", Integers{1, 0, 1, 0}},
                       {"dilation", Integers{2, 1}}}},
       "only padding"},
      {"avg_pool2d",
       {.name = "refused", .inputs = {{2, 2, 3}}, .attributes = {{"kernel", Integers{2, 3}}}},
       "fits"},
      {"avg_pool2d",
       {.name = "refused", .inputs = {{2, 2, 3}}, .attributes = {{"kernel", Integers{0, 1}}}},
       "at least 1"},
      {"global_avg_pool", {.name = "refused", .inputs = {{7}}}, "an image"},
      {"global_avg_pool", {.name = "refused", .inputs = {{0, 4, 7}}}, "at least one position"},
      {"batch_norm",
       {.name = "refused", .inputs = {{4, 4, 3}}, .parameters = norm_slots(4)},
       "(3)"},
      {"batch_norm",
       {.name = "refused", .inputs = {{4, 4, 3}}, .parameters = weight_only},
       "together"},
      {"batch_norm",
       {.name = "refused",
        .inputs = {{3}},
        .parameters = norm_slots(3),
        .attributes = {{"momentum", 1.5}}},
       "momentum"},
      {"batch_norm",
       {.name = "refused",
        .inputs = {{3}},
        .parameters = norm_slots(3),
        .attributes = {{"epsilon", -1.0}}},
       "epsilon"},
      {"batch_norm", {.name = "refused", .inputs = {{}}, .parameters = norm_slots(1)}, "scalar"},
      {"add", {.name = "refused", .inputs = {{3}, {4}}}, "one shape"},
      {"concat", {.name = "refused", .inputs = {{3, 2}, {3}}}, "one rank"},
      {"concat", {.name = "refused", .inputs = {{3, 2}, {4, 2}}}, "along axis 1 alone"},
      {"concat",
       {.name = "refused", .inputs = {{3, 2}, {3, 2}}, .attributes = {{"axis", std::int64_t{2}}}},
       "an axis in [-2, 2)"},
      {"pad2d", {.name = "refused", .inputs = {{3, 2}}}, "an image"},
      {"pad2d",
       {.name = "refused",
        .inputs = {{3, 2, 1}},
        .attributes = {{"padding", Integers{0, 0, -1, 0}}}},
       "a padding in"},
      {"pad2d",
       {.name = "refused", .inputs = {{3, 2, 1}}, .attributes = {{"channels", Integers{0, -1}}}},
       "a padding in"},
      {"pad2d",
       {.name = "refused", .inputs = {{3, 2, 1}}, .attributes = {{"step", Integers{0, 1}}}},
       "steps"},
      {"dropout", {.name = "refused", .inputs = {{3}}, .attributes = {{"rate", 1.5}}}, "rate"},
      {"dropout",
       {.name = "refused",
        .inputs = {{3}},
        .attributes = {{"rate", std::numeric_limits<double>::quiet_NaN()}}},
       "rate"},
      {"dropout", {.name = "refused", .inputs = {{3}}}, "missing"},
  };
}

}  // namespace

TEST_CASE("ops refuse wrong shapes and attributes with GRAPH and the reason") {
  for (const Refusal& refusal : refusals()) {
    CAPTURE(refusal.op);
    const std::string message = refusal_of(find_op(refusal.op), refusal.sample_case);
    CAPTURE(message);
    CAPTURE(refusal.message);
    REQUIRE(message.find(refusal.message) != std::string::npos);
  }
}

TEST_CASE("a dilated window of 5 fits into 5 positions and not into 4") {
  const auto pool_on = [](std::int64_t size) {
    return SampleCase{.name = "dilated",
                      .inputs = {{size, size, 1}},
                      .attributes = {{"kernel", Integers{3, 3}}, {"dilation", Integers{2, 2}}}};
  };
  const OpDefinition& op = find_op("max_pool2d");
  CHECK(node_of(op, pool_on(5)).outputs[0].shape == Shape{1, 1, 1});
  CHECK(refusal_of(op, pool_on(4)).find("fits") != std::string::npos);
}

TEST_CASE("ops refuse indices where they compute with real numbers") {
  for (const char* name : {"conv2d", "batch_norm", "max_pool2d", "avg_pool2d", "global_avg_pool",
                           "add", "concat", "flatten", "pad2d", "dropout"}) {
    CAPTURE(name);
    const OpDefinition& op = find_op(name);
    NodeSpec node = node_of(op, op.cases[0]);
    node.inputs[0].dtype = DType::kI32;
    CHECK_THROWS_WITH_AS(static_cast<void>(op.infer(node)),
                         doctest::Contains("expected real numbers for input 0 but received i32"),
                         Error);
  }
}

TEST_CASE("every attribute of a case is among the op's known ones, and an unknown one is refused") {
  for (const std::string& name : op_names()) {
    const OpDefinition& op = find_op(name);
    CAPTURE(name);
    for (const SampleCase& sample_case : op.cases) {
      std::map<std::string, Attribute> attributes = sample_case.attributes;
      CHECK_NOTHROW(Attributes(attributes).check_known(op.attributes));
      attributes["paddings"] = std::int64_t{1};
      CHECK_THROWS_WITH_AS(Attributes(attributes).check_known(op.attributes),
                           doctest::Contains("unknown attribute 'paddings'"), Error);
    }
  }
}

TEST_CASE("batch norm refuses to train on one value per channel, fast and reference") {
  const OpDefinition& op = find_op("batch_norm");
  const SampleCase one = {.name = "refused",
                          .inputs = {{3}},
                          .parameters = norm_slots(3),
                          .batch = 1,
                          .training = true};
  for (const bool fast : {false, true}) {
    OpRun<float> run(op, one, fast);
    try {
      run.forward();
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kSTATE);
      CHECK(std::string(error.what()).find("more than 1 value per channel") != std::string::npos);
    }
  }
}

TEST_CASE("conv2d's fast kernel refuses another batch size than its own") {
  const OpDefinition& op = find_op("conv2d");
  OpRun<float> run(op, op.cases[0], true);
  run.io.batch = 2;
  CHECK_THROWS_WITH_AS(run.forward(), doctest::Contains("batch 3"), Error);
}
