// conv_transpose2d: sizes and values known by hand, as PyTorch's ConvTranspose2d gives them, and
// that it is the transpose of conv2d.
#include <doctest/doctest.h>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Integers = std::vector<std::int64_t>;
using Values = std::vector<float>;

SampleCase one_channel(Shape input, Shape weight, std::map<std::string, Attribute> attributes) {
  return {.name = "values",
          .inputs = {std::move(input)},
          .parameters = {{"weight", std::move(weight)}},
          .attributes = std::move(attributes),
          .batch = 1};
}

Values outputs(const SampleCase& sample_case, const Values& x, const Values& weight, bool fast) {
  OpRun<float> run(find_op("conv_transpose2d"), sample_case, fast);
  std::copy(x.begin(), x.end(), run.inputs[0].as<float>());
  std::copy(weight.begin(), weight.end(), run.parameters.at("weight").as<float>());
  run.forward();
  const auto span = run.outputs[0].span<float>();
  return {span.begin(), span.end()};
}

}  // namespace

TEST_CASE("conv_transpose2d: every input value lays the kernel over the output") {
  for (const bool fast : {true, false}) {
    const SampleCase overlap = one_channel({1, 2, 1}, {1, 1, 1, 3}, {{"stride", Integers{1, 2}}});
    CHECK(outputs(overlap, {1, 10}, {1, 2, 3}, fast) == Values{1, 2, 13, 20, 30});
    const SampleCase cut = one_channel(
        {1, 2, 1}, {1, 1, 1, 3}, {{"stride", Integers{1, 2}}, {"padding", Integers{0, 1, 0, 1}}});
    CHECK(outputs(cut, {1, 10}, {1, 2, 3}, fast) == Values{2, 13, 20});
    const SampleCase longer = one_channel(
        {1, 2, 1}, {1, 1, 1, 1}, {{"stride", Integers{1, 3}}, {"output_padding", Integers{0, 2}}});
    CHECK(outputs(longer, {1, 10}, {7}, fast) == Values{7, 0, 0, 70, 0, 0});
    // W (in, out): channel o of y takes Σ_i x[i] · W[i, o].
    const SampleCase mixed = one_channel({1, 1, 2}, {2, 3, 1, 1}, {});
    CHECK(outputs(mixed, {1, 10}, {1, 2, 3, 4, 5, 6}, fast) == Values{41, 52, 63});
  }
}

TEST_CASE("conv_transpose2d: forward is conv2d's backward for its input") {
  const std::map<std::string, Attribute> window = {{"stride", Integers{2, 3}},
                                                   {"padding", Integers{1, 0, 2, 1}},
                                                   {"dilation", Integers{2, 1}},
                                                   {"groups", std::int64_t{2}}};
  const SampleCase conv = {.name = "values",
                           .inputs = {{9, 10, 6}},
                           .parameters = {{"weight", {4, 3, 3, 3}}},
                           .attributes = window};
  OpRun<double> forward(find_op("conv2d"), conv, false);
  const Shape out = forward.node().outputs[0].shape;
  // What the strides leave over at the end.
  std::map<std::string, Attribute> attributes = window;
  const auto left = [](std::int64_t in, std::int64_t pads, std::int64_t span, std::int64_t stride) {
    return (in + pads - span) % stride;
  };
  attributes["output_padding"] = Integers{left(9, 3, 5, 2), left(10, 1, 3, 3)};
  const SampleCase transpose = {.name = "values",
                                .inputs = {out},
                                .parameters = {{"weight", {4, 3, 3, 3}}},
                                .attributes = attributes};
  OpRun<double> back(find_op("conv_transpose2d"), transpose, false);
  REQUIRE(back.outputs[0].shape() == forward.inputs[0].shape());
  std::copy_n(forward.grad_outputs[0].as<double>(), forward.grad_outputs[0].count(),
              back.inputs[0].as<double>());
  std::copy_n(forward.parameters.at("weight").as<double>(), forward.parameters.at("weight").count(),
              back.parameters.at("weight").as<double>());
  forward.forward();
  forward.backward();
  back.forward();
  CHECK(relative_distance<double, double>(back.outputs[0], forward.grad_inputs[0]) < 1e-14);
}

TEST_CASE("conv_transpose2d: refuses what does not fit") {
  const auto refuse = [](const SampleCase& sample_case, const char* message) {
    CHECK_THROWS_WITH_AS(node_of(find_op("conv_transpose2d"), sample_case),
                         doctest::Contains(message), Error);
  };
  refuse(one_channel({4, 4}, {4, 1, 1, 1}, {}), "an image");
  refuse(one_channel({4, 4, 3}, {3, 1, 1}, {}), "a weight of shape (in, out/groups");
  refuse(one_channel({4, 4, 3}, {2, 1, 1, 1}, {}), "a weight with 3 input channels");
  refuse(one_channel({4, 4, 3}, {3, 1, 1, 1}, {{"groups", std::int64_t{2}}}), "groups that divide");
  refuse(one_channel({4, 4, 3}, {3, 1, 1, 1}, {{"output_padding", Integers{0, 1}}}),
         "an output_padding");
  refuse(one_channel({1, 4, 3}, {3, 1, 2, 1}, {{"padding", Integers{1, 0, 1, 0}}}),
         "an output of at least 1");
  refuse(one_channel({4, 4, 3}, {3, 1, 1, 1},
                     {{"stride", Integers{std::int64_t{1} << 40, std::int64_t{1} << 40}}}),
         "expected size, kernel, stride");
  SampleCase bias = one_channel({4, 4, 3}, {3, 2, 1, 1}, {});
  bias.parameters["bias"] = {3};
  refuse(bias, "a bias of shape (2)");
}
