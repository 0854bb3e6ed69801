// Values that are known without computing a gradient: PyTorch's conventions on ties, padding,
// orders and running statistics.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "core/parallel.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Integers = std::vector<std::int64_t>;
using Values = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

OpRun<float> run_on(const char* name, const SampleCase& sample_case,
                    const std::vector<Values>& inputs) {
  OpRun<float> run(find_op(name), sample_case, true);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    REQUIRE(static_cast<std::int64_t>(inputs[k].size()) == run.inputs[k].count());
    std::copy(inputs[k].begin(), inputs[k].end(), run.inputs[k].as<float>());
  }
  run.forward();
  return run;
}

Values values(const Tensor& tensor) {
  const auto span = tensor.span<float>();
  return {span.begin(), span.end()};
}

// A pool's definition, window by window, from the attributes as PyTorch reads them.
std::vector<double> pooled(const OpRun<double>& run, bool largest) {
  const Attributes& attributes = run.node().attributes;
  const Integers kernel = attributes.integers("kernel", 2);
  const Integers stride = attributes.integers("stride", 2, kernel);
  const Integers padding = attributes.integers("padding", 4, {{0, 0, 0, 0}});
  const Integers dilation = attributes.integers("dilation", 2, {{1, 1}});
  const bool all_count = attributes.boolean("count_include_pad", true);
  const Shape& in = run.node().inputs[0].shape;
  const Shape& out = run.node().outputs[0].shape;
  const double* x = run.inputs[0].as<double>();
  std::vector<double> y;
  for (std::int64_t i = 0; i < run.outputs[0].count(); ++i) {
    const std::int64_t c = i % out[2];
    const std::int64_t ox = i / out[2] % out[1];
    const std::int64_t oy = i / out[2] / out[1] % out[0];
    const std::int64_t n = i / element_count(out);
    std::vector<double> seen;
    for (std::int64_t k = 0; k < kernel[0] * kernel[1]; ++k) {
      const std::int64_t iy = oy * stride[0] - padding[0] + k / kernel[1] * dilation[0];
      const std::int64_t ix = ox * stride[1] - padding[1] + k % kernel[1] * dilation[1];
      if (iy < 0 || iy >= in[0] || ix < 0 || ix >= in[1]) continue;
      seen.push_back(x[((n * in[0] + iy) * in[1] + ix) * in[2] + c]);
    }
    double sum = 0;
    for (const double value : seen) sum += value;
    const double count =
        all_count ? static_cast<double>(kernel[0] * kernel[1]) : static_cast<double>(seen.size());
    y.push_back(largest ? *std::max_element(seen.begin(), seen.end()) : sum / count);
  }
  return y;
}

}  // namespace

TEST_CASE("max_pool2d: the first of equals takes the gradient, NaN wins, -inf is a value") {
  const SampleCase pool = {.name = "values",
                           .inputs = {{2, 2, 1}},
                           .attributes = {{"kernel", Integers{2, 2}}},
                           .batch = 1};
  const auto gradient = [&](const Values& input) {
    OpRun<float> run = run_on("max_pool2d", pool, {input});
    run.grad_outputs[0].as<float>()[0] = 1;
    run.backward();
    return values(run.grad_inputs[0]);
  };
  CHECK(gradient({1, 3, 3, 2}) == Values{0, 1, 0, 0});
  CHECK(gradient({-kInfinity, -kInfinity, -kInfinity, -kInfinity}) == Values{1, 0, 0, 0});
  CHECK(gradient({5, kNan, 7, 1}) == Values{0, 1, 0, 0});
  CHECK(std::isnan(run_on("max_pool2d", pool, {{kNan, 9, 7, 1}}).outputs[0].as<float>()[0]));
}

TEST_CASE("max_pool2d: padding takes no part, even where all values are negative") {
  const SampleCase pool = {
      .name = "values",
      .inputs = {{1, 1, 1}},
      .attributes = {{"kernel", Integers{3, 3}}, {"padding", Integers{1, 1, 1, 1}}},
      .batch = 1};
  CHECK(values(run_on("max_pool2d", pool, {{-4}}).outputs[0]) == Values{-4});
}

TEST_CASE("pools equal the definition at every case of the table") {
  for (const char* name : {"max_pool2d", "avg_pool2d"}) {
    const OpDefinition& op = find_op(name);
    for (const SampleCase& sample_case : op.cases) {
      CAPTURE(name);
      CAPTURE(sample_case.name);
      OpRun<double> run(op, sample_case, false);
      run.forward();
      const std::vector<double> expected = pooled(run, op.nonlinear);
      REQUIRE(relative_distance<double, double>(run.outputs[0].span<double>(), expected) < 1e-14);
    }
  }
}

TEST_CASE("avg_pool2d: padding counts unless told otherwise") {
  SampleCase pool = {.name = "values",
                     .inputs = {{1, 2, 1}},
                     .attributes = {{"kernel", Integers{1, 2}}, {"padding", Integers{0, 1, 0, 1}}},
                     .batch = 1};
  CHECK(values(run_on("avg_pool2d", pool, {{4, 6}}).outputs[0]) == Values{2, 3});
  pool.attributes["count_include_pad"] = false;
  CHECK(values(run_on("avg_pool2d", pool, {{4, 6}}).outputs[0]) == Values{4, 6});
}

TEST_CASE("flatten: an image is read channel by channel, as PyTorch does") {
  const SampleCase image = {.name = "values", .inputs = {{2, 2, 2}}, .batch = 1};
  CHECK(values(run_on("flatten", image, {{0, 10, 1, 11, 2, 12, 3, 13}}).outputs[0]) ==
        Values{0, 1, 2, 3, 10, 11, 12, 13});
  const SampleCase sequence = {.name = "values", .inputs = {{2, 2}}, .batch = 1};
  CHECK(values(run_on("flatten", sequence, {{0, 1, 2, 3}}).outputs[0]) == Values{0, 1, 2, 3});
}

TEST_CASE("global_avg_pool: the mean over positions, per channel") {
  const SampleCase image = {.name = "values", .inputs = {{2, 1, 2}}, .batch = 1};
  CHECK(values(run_on("global_avg_pool", image, {{1, 10, 3, 30}}).outputs[0]) == Values{2, 20});
}

TEST_CASE("concat and pad2d: values land where they belong") {
  const SampleCase channels = {.name = "values", .inputs = {{1, 2, 1}, {1, 2, 2}}, .batch = 1};
  CHECK(values(run_on("concat", channels, {{1, 2}, {3, 4, 5, 6}}).outputs[0]) ==
        Values{1, 3, 4, 2, 5, 6});
  const SampleCase shortcut = {
      .name = "values",
      .inputs = {{3, 2, 1}},
      .attributes = {{"step", Integers{2, 2}}, {"channels", Integers{1, 0}}, {"value", 9.0}},
      .batch = 1};
  CHECK(values(run_on("pad2d", shortcut, {{1, 2, 3, 4, 5, 6}}).outputs[0]) == Values{9, 1, 9, 5});
  const SampleCase frame = {.name = "values",
                            .inputs = {{1, 2, 1}},
                            .attributes = {{"padding", Integers{1, 0, 0, 1}}},
                            .batch = 1};
  CHECK(values(run_on("pad2d", frame, {{1, 2}}).outputs[0]) == Values{0, 0, 0, 1, 2, 0});
  const SampleCase frame_left = {.name = "values",
                                 .inputs = {{1, 1, 1}},
                                 .attributes = {{"padding", Integers{0, 2, 1, 0}}},
                                 .batch = 1};
  CHECK(values(run_on("pad2d", frame_left, {{1}}).outputs[0]) == Values{0, 0, 1, 0, 0, 0});
  const SampleCase rows = {.name = "values",
                           .inputs = {{2, 1}, {1, 1}},
                           .attributes = {{"axis", std::int64_t{0}}},
                           .batch = 2};
  CHECK(values(run_on("concat", rows, {{1, 2, 3, 4}, {5, 6}}).outputs[0]) ==
        Values{1, 2, 5, 3, 4, 6});
}

TEST_CASE("add: an input that appears twice, in place, and gradients into the same memory") {
  OpRun<float> run(find_op("add"), {.name = "values", .inputs = {{2}, {2}, {2}}, .batch = 1}, true);
  const Values first = {1, 2};
  const Values second = {10, 20};
  std::copy(first.begin(), first.end(), run.inputs[0].as<float>());
  std::copy(second.begin(), second.end(), run.inputs[1].as<float>());
  run.io.inputs[2] = run.io.outputs[0] = run.io.inputs[0];
  run.forward();
  CHECK(values(run.inputs[0]) == Values{12, 24});
  std::copy(first.begin(), first.end(), run.grad_outputs[0].as<float>());
  run.io.grad_inputs[2] = run.io.grad_inputs[0];
  run.io.accumulate = {false, false, true};
  run.backward();
  CHECK(values(run.grad_inputs[0]) == Values{2, 4});
  CHECK(values(run.grad_inputs[1]) == Values{1, 2});
}

TEST_CASE(
    "batch_norm: running statistics move once per training forward, towards the unbiased "
    "variance") {
  const SampleCase training = {.name = "values",
                               .inputs = {{1}},
                               .parameters = {{"running_mean", {1}}, {"running_var", {1}}},
                               .batch = 2,
                               .training = true};
  for (const bool fast : {false, true}) {
    OpRun<float> run(find_op("batch_norm"), training, fast);
    run.parameters["running_mean"].as<float>()[0] = 1;
    run.parameters["running_var"].as<float>()[0] = 1;
    run.inputs[0].as<float>()[0] = 2;
    run.inputs[0].as<float>()[1] = 6;
    run.forward();
    run.backward();
    // mean 4, unbiased variance 8; momentum 0.1
    CHECK(run.parameters["running_mean"].as<float>()[0] == doctest::Approx(1.3));
    CHECK(run.parameters["running_var"].as<float>()[0] == doctest::Approx(1.7));
    run.io.training = false;
    run.forward();
    CHECK(run.parameters["running_mean"].as<float>()[0] == doctest::Approx(1.3));
    CHECK(run.outputs[0].as<float>()[0] == doctest::Approx(0.7 / std::sqrt(1.7 + 1e-5)));
  }
}

TEST_CASE("batch_norm: a mean far from 0 costs no digits of the variance") {
  const SampleCase training = {.name = "values",
                               .inputs = {{64, 64, 17}},
                               .parameters = {{"running_mean", {17}}, {"running_var", {17}}},
                               .training = true};
  OpRun<float> run(find_op("batch_norm"), training, true);
  OpRun<double> reference(find_op("batch_norm"), training, false);
  const auto fast_values = run.inputs[0].span<float>();
  for (std::size_t i = 0; i < fast_values.size(); ++i) {
    fast_values[i] += 1000;
    reference.inputs[0].as<double>()[i] = fast_values[i];
  }
  run.forward();
  reference.forward();
  CHECK(relative_distance<float, double>(run.parameters["running_var"],
                                         reference.parameters["running_var"]) < 1e-6);
  CHECK(relative_distance<float, double>(run.outputs[0], reference.outputs[0]) < 1e-5);
}

TEST_CASE("dropout: keeps about 1 - rate, scales what it keeps, and a stream decides which") {
  // 5 threads and an odd size: ranges start in the middle of a Philox block.
  const int before = thread_count();
  set_thread_count(5);
  const SampleCase training = {.name = "values",
                               .inputs = {{10001}},
                               .attributes = {{"rate", 0.25}},
                               .batch = 2,
                               .training = true};
  OpRun<float> run = run_on("dropout", training, {Values(20002, 3.0F)});
  const Values first = values(run.outputs[0]);
  const auto kept = std::count(first.begin(), first.end(), 4.0F);
  CHECK(static_cast<double>(kept) == doctest::Approx(15000).epsilon(0.02));
  for (std::size_t i = 0; i < first.size(); ++i) {
    REQUIRE(first[i] == (philox_uniform(run.io.rng, i) >= 0.25F ? 4.0F : 0.0F));
  }
  run.io.rng.stream += 1;
  run.forward();
  CHECK(values(run.outputs[0]) != first);
  set_thread_count(before);
}
