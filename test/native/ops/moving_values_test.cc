// The ops that move values, against places counted by hand and by a plain walk over all indices.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Integers = std::vector<std::int64_t>;
using Values = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

struct Result {
  Values y;
  std::vector<Values> grad_inputs;
};

Values values(const Tensor& tensor) {
  const auto span = tensor.span<float>();
  return {span.begin(), span.end()};
}

// Forward on `inputs` and backward from `grad_output`, on a batch of one; grad inputs start at 100.
Result result_of(const char* name, SampleCase sample_case, const std::vector<Values>& inputs,
                 const Values& grad_output, bool accumulate = false) {
  sample_case.batch = 1;
  const OpDefinition& op = find_op(name);
  OpRun<float> run(op, sample_case, true);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    REQUIRE(static_cast<std::int64_t>(inputs[k].size()) == run.inputs[k].count());
    if (run.inputs[k].dtype() == DType::kI32) {
      std::transform(inputs[k].begin(), inputs[k].end(), run.inputs[k].as<std::int32_t>(),
                     [](float id) { return static_cast<std::int32_t>(id); });
    } else {
      std::copy(inputs[k].begin(), inputs[k].end(), run.inputs[k].as<float>());
    }
    const auto gradient = run.grad_inputs[k].span<float>();
    std::fill(gradient.begin(), gradient.end(), 100.0F);
  }
  run.io.accumulate.assign(inputs.size(), accumulate);
  run.forward();
  REQUIRE(static_cast<std::int64_t>(grad_output.size()) == run.grad_outputs[0].count());
  std::copy(grad_output.begin(), grad_output.end(), run.grad_outputs[0].as<float>());
  run.backward();
  Result result = {values(run.outputs[0]), {}};
  for (const Tensor& gradient : run.grad_inputs) result.grad_inputs.push_back(values(gradient));
  return result;
}

// 1, 2, 3, …
Values counting(std::int64_t count) {
  Values all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 1.0F);
  return all;
}

std::string refusal_of(const char* name, const SampleCase& sample_case) {
  try {
    static_cast<void>(node_of(find_op(name), sample_case));
    return "accepted";
  } catch (const Error& error) {
    return error.what();
  }
}

// y[i] = x[…], index by index.
Values transposed(const Values& x, const Shape& shape, const Integers& perm) {
  Shape out;
  Integers strides;
  for (const std::int64_t axis : perm) {
    const auto at = shape.begin() + axis;
    out.push_back(*at);
    strides.push_back(element_count({at + 1, shape.end()}));
  }
  Values y;
  for (std::int64_t i = 0; i < element_count(shape); ++i) {
    std::int64_t rest = i;
    std::int64_t from = 0;
    for (std::size_t d = out.size(); d > 0; --d) {
      from += rest % out[d - 1] * strides[d - 1];
      rest /= out[d - 1];
    }
    y.push_back(x[static_cast<std::size_t>(from)]);
  }
  return y;
}

}  // namespace

TEST_CASE("transpose: every order of four sizes equals a walk by index") {
  const Shape shape = {3, 18, 2, 5};
  const Values x = counting(element_count(shape));
  Integers perm = {0, 1, 2, 3};
  int orders = 0;
  do {
    CAPTURE(shape_text(perm));
    const Values y = transposed(x, shape, perm);
    // The gradient of counting values put in y's order is counting again.
    const Result result = result_of(
        "transpose", {.name = "order", .inputs = {shape}, .attributes = {{"perm", perm}}}, {x}, y);
    REQUIRE(result.y == y);
    REQUIRE(result.grad_inputs[0] == x);
    ++orders;
  } while (std::next_permutation(perm.begin(), perm.end()));
  REQUIRE(orders == 24);
}

TEST_CASE("slice: backwards and in steps; what is not taken has no gradient") {
  const SampleCase cut = {
      .name = "cut",
      .inputs = {{3, 5}},
      .attributes = {
          {"starts", Integers{2, 1}}, {"steps", Integers{-2, 3}}, {"sizes", Integers{2, 2}}}};
  const Result result = result_of("slice", cut, {counting(15)}, {1, 2, 3, 4});
  CHECK(result.y == Values{12, 15, 2, 5});
  CHECK(result.grad_inputs[0] == Values{0, 3, 0, 0, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2});
  const Result added = result_of("slice", cut, {counting(15)}, {1, 2, 3, 4}, true);
  CHECK(added.grad_inputs[0][1] == 103);
  CHECK(added.grad_inputs[0][0] == 100);
}

TEST_CASE("pad: the value surrounds, also where only one side is padded") {
  const SampleCase padded = {
      .name = "padded",
      .inputs = {{2, 2}},
      .attributes = {{"before", Integers{1, 0}}, {"after", Integers{0, 2}}, {"value", -7.0}}};
  const Result result = result_of("pad", padded, {counting(4)}, counting(12));
  CHECK(result.y == Values{-7, -7, -7, -7, 1, 2, -7, -7, 3, 4, -7, -7});
  CHECK(result.grad_inputs[0] == Values{5, 6, 9, 10});
}

TEST_CASE("expand: repeats, and sums back what was repeated") {
  const SampleCase expanded = {
      .name = "expanded", .inputs = {{2, 1}}, .attributes = {{"shape", Integers{2, 2, 3}}}};
  const Result result = result_of("expand", expanded, {{4, 5}}, counting(12));
  CHECK(result.y == Values{4, 4, 4, 5, 5, 5, 4, 4, 4, 5, 5, 5});
  CHECK(result.grad_inputs[0] == Values{1 + 2 + 3 + 7 + 8 + 9, 4 + 5 + 6 + 10 + 11 + 12});
}

TEST_CASE("expand: a sum in f32 goes on where adding one by one would stand still") {
  const SampleCase expanded = {
      .name = "expanded", .inputs = {{1}}, .attributes = {{"shape", Integers{1001}}}};
  Values grad_output(1001, 1.0F);
  grad_output[0] = 16'777'216.0F;
  const Result result = result_of("expand", expanded, {{2}}, grad_output);
  CHECK(result.grad_inputs[0] == Values{16'778'216.0F});
}

TEST_CASE("resample: weighted taps, and none where the index is -1") {
  const SampleCase two_taps = {
      .name = "two taps",
      .inputs = {{2, 3}},
      .attributes = {{"axis", std::int64_t{1}},
                     {"taps", std::int64_t{2}},
                     {"index", Integers{2, 0, -1, 1, -1, -1, 1, 1}},
                     {"weight", std::vector<double>{0.5, 0.25, 9, 2, 9, 9, 1, 1}}}};
  const Result result = result_of("resample", two_taps, {counting(6)}, counting(8));
  CHECK(result.y == Values{1.75F, 4, 0, 4, 4, 10, 0, 10});
  CHECK(result.grad_inputs[0] == Values{0.25F, 12, 0.5F, 1.25F, 28, 2.5F});
}

TEST_CASE("gather: negative ids count from the end, and repeats are added") {
  const SampleCase rows = {.name = "rows",
                           .inputs = {{3, 2}, {2, 2}},
                           .attributes = {{"axis", std::int64_t{0}}},
                           .draws = {{}, {0, 3, true}}};
  const Result result = result_of("gather", rows, {counting(6), {-1, 0, 2, -3}}, counting(8));
  CHECK(result.y == Values{5, 6, 1, 2, 5, 6, 1, 2});
  CHECK(result.grad_inputs[0] == Values{3 + 7, 4 + 8, 0, 0, 1 + 5, 2 + 6});
}

TEST_CASE("gather refuses ids beyond the axis, naming node, id and sample") {
  const SampleCase rows = {.name = "rows",
                           .inputs = {{3, 2}, {2}},
                           .attributes = {{"axis", std::int64_t{0}}},
                           .batch = 2,
                           .draws = {{}, {0, 3, true}}};
  for (const std::int32_t id : {3, -4, std::numeric_limits<std::int32_t>::min()}) {
    OpRun<float> run(find_op("gather"), rows, true);
    run.inputs[1].as<std::int32_t>()[3] = id;
    try {
      run.forward();
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kARGUMENT);
      CHECK(std::string(error.what()) ==
            text("node 'node' (gather): expected ids in [-3, 3) but received ", id,
                 " in sample 1 of the batch"));
    }
  }
}

TEST_CASE("take: by value and by block, with nothing at -1") {
  const SampleCase single = {
      .name = "single",
      .inputs = {{2, 2}},
      .attributes = {{"shape", Integers{5}}, {"index", Integers{3, -1, 0, 3, 3}}}};
  const Result one = result_of("take", single, {counting(4)}, counting(5));
  CHECK(one.y == Values{4, 0, 1, 4, 4});
  CHECK(one.grad_inputs[0] == Values{3, 0, 0, 1 + 4 + 5});
  const SampleCase pairs = {
      .name = "pairs",
      .inputs = {{6}},
      .attributes = {{"shape", Integers{4, 2}}, {"index", Integers{4, 5, 0, 1, -1, -1, 4, 5}}}};
  const Result two = result_of("take", pairs, {counting(6)}, counting(8));
  CHECK(two.y == Values{5, 6, 1, 2, 0, 0, 5, 6});
  CHECK(two.grad_inputs[0] == Values{3, 4, 0, 0, 1 + 7, 2 + 8});
  // Runs that do not begin at a multiple of their length.
  const SampleCase shifted = {
      .name = "shifted",
      .inputs = {{6}},
      .attributes = {{"shape", Integers{2, 2}}, {"index", Integers{1, 2, 3, 4}}}};
  CHECK(result_of("take", shifted, {counting(6)}, counting(4)).y == Values{2, 3, 4, 5});
}

TEST_CASE("scatter: the last update of a place wins and alone has a gradient") {
  const SampleCase replaced = {
      .name = "replaced", .inputs = {{4}, {3}}, .attributes = {{"index", Integers{2, 0, 2}}}};
  const Result result = result_of("scatter", replaced, {counting(4), {7, 8, 9}}, counting(4));
  CHECK(result.y == Values{8, 2, 9, 4});
  CHECK(result.grad_inputs[0] == Values{0, 2, 0, 4});
  CHECK(result.grad_inputs[1] == Values{0, 1, 3});
}

TEST_CASE("scatter: products with zeros, and the first of equals") {
  const auto scatter = [](const char* reduction, const Values& x, const Values& updates) {
    const SampleCase one_place = {.name = "one place",
                                  .inputs = {{1}, {static_cast<std::int64_t>(updates.size())}},
                                  .attributes = {{"index", Integers(updates.size(), 0)},
                                                 {"reduction", std::string(reduction)}}};
    return result_of("scatter", one_place, {x, updates}, {10});
  };
  const Result product = scatter("mul", {3}, {0, 2, 5});
  CHECK(product.y == Values{0});
  CHECK(product.grad_inputs[0] == Values{0});
  CHECK(product.grad_inputs[1] == Values{300, 0, 0});
  const Result two_zeros = scatter("mul", {0}, {0, 2});
  CHECK(two_zeros.grad_inputs[0] == Values{0});
  CHECK(two_zeros.grad_inputs[1] == Values{0, 0});
  const Result largest = scatter("max", {1}, {4, 4, 2});
  CHECK(largest.y == Values{4});
  CHECK(largest.grad_inputs[0] == Values{0});
  CHECK(largest.grad_inputs[1] == Values{10, 0, 0});
  CHECK(scatter("max", {4}, {4, 4}).grad_inputs[0] == Values{10});
  const Result smallest = scatter("min", {1}, {4, -2, -2});
  CHECK(smallest.y == Values{-2});
  CHECK(smallest.grad_inputs[1] == Values{0, 10, 0});
  const Result nan = scatter("max", {1}, {kNan, 9});
  CHECK(std::isnan(nan.y[0]));
  CHECK(nan.grad_inputs[1] == Values{10, 0});
  const Result sum = scatter("add", {1}, {2, 3});
  CHECK(sum.y == Values{6});
  CHECK(sum.grad_inputs[1] == Values{10, 10});
}

TEST_CASE("scatter: x and updates may be one value, whose gradients add up") {
  const SampleCase same = {
      .name = "same",
      .inputs = {{2}, {2}},
      .attributes = {{"index", Integers{1, 1}}, {"reduction", std::string("add")}},
      .batch = 1};
  OpRun<float> run(find_op("scatter"), same, true);
  run.io.grad_inputs[1] = run.io.grad_inputs[0];
  run.io.accumulate = {false, true};
  run.forward();
  run.grad_outputs[0].as<float>()[0] = 3;
  run.grad_outputs[0].as<float>()[1] = 5;
  run.backward();
  CHECK(values(run.grad_inputs[0]) == Values{3 + 5, 5 + 5});
}

TEST_CASE("ops that move values refuse what lies outside, and say why") {
  const auto refused = [](const char* name, const std::vector<Shape>& inputs,
                          const std::map<std::string, Attribute>& attributes, const char* message) {
    const std::string text =
        refusal_of(name, {.name = "refused", .inputs = inputs, .attributes = attributes});
    CAPTURE(name);
    CAPTURE(text);
    CHECK(text.find(message) != std::string::npos);
  };
  const std::int64_t zero = 0;
  const std::int64_t one = 1;
  refused("reshape", {{4}}, {{"shape", Integers{3}}}, "a shape of 4 values");
  refused("reshape", {{4}}, {{"shape", Integers{-1}}}, "sizes of at least 1");
  refused("reshape", {{4}}, {{"shape", Integers{kHuge, kHuge}}}, "more than 2^63");
  refused("transpose", {{4, 2}}, {{"perm", Integers{0, 0}}}, "each axis once");
  refused("transpose", {{4, 2}}, {{"perm", Integers{0, 2}}}, "axes in [-2, 2)");
  refused("transpose", {{4, 2}}, {{"perm", Integers{0}}}, "2 axes");
  refused("transpose", {{0, 2}}, {{"perm", Integers{1, 0}}}, "input 0 is (0, 2)");
  const auto cut = [&](std::int64_t start, std::int64_t step, std::int64_t size,
                       const char* message) {
    refused("slice", {{5}},
            {{"starts", Integers{start}}, {"steps", Integers{step}}, {"sizes", Integers{size}}},
            message);
  };
  cut(5, 1, 1, "a slice inside");
  cut(-1, 1, 1, "a slice inside");
  cut(1, 1, 5, "a slice inside");
  cut(1, -1, 3, "a slice inside");
  cut(1, kHuge, 3, "a slice inside");
  cut(1, 2, kHuge, "a slice inside");
  cut(1, 0, 1, "steps other than 0");
  cut(1, 1, 0, "sizes of at least 1");
  refused("pad", {{3}}, {{"before", Integers{-1}}, {"after", Integers{0}}}, "padding of 0 or more");
  refused("pad", {{3}}, {{"before", Integers{1}}, {"after", Integers{kHuge}}}, "fits 63 bits");
  refused("pad", {{3}}, {{"before", Integers{1, 1}}, {"after", Integers{0}}}, "1 integers");
  refused("expand", {{3}}, {{"shape", Integers{4}}}, "can be repeated");
  refused("expand", {{2, 3}}, {{"shape", Integers{3}}}, "can be repeated");
  refused("expand", {{1}}, {{"shape", Integers{kHuge, 4}}}, "more than 2^63");
  const auto taps = [&](std::int64_t axis, std::int64_t count, const Integers& index,
                        const std::vector<double>& weight, const char* message) {
    refused("resample", {{4}},
            {{"axis", axis}, {"taps", count}, {"index", index}, {"weight", weight}}, message);
  };
  taps(1, 1, {0}, {1}, "an axis in [-1, 1)");
  taps(0, 1, {4}, {1}, "places in [-1, 4)");
  taps(0, 1, {-2}, {1}, "places in [-1, 4)");
  taps(0, 2, {0, 1, 2}, {1, 1, 1}, "rows of 2 taps");
  taps(0, 0, {0}, {1}, "rows of 0 taps");
  taps(0, 1, {}, {}, "1 or more rows");
  taps(0, 1, {0, 1}, {1}, "2 numbers");
  taps(0, 1, {0}, {std::numeric_limits<double>::infinity()}, "finite weights");
  refused("gather", {{4}, {2}}, {{"axis", zero}}, "i32 ids");
  refused("take", {{4}}, {{"shape", Integers{2}}, {"index", Integers{0}}}, "2 places");
  refused("take", {{4}}, {{"shape", Integers{1}}, {"index", Integers{4}}}, "places in [-1, 4)");
  refused("scatter", {{4}, {1}}, {{"index", Integers{-1}}}, "places in [0, 4)");
  refused("scatter", {{4}, {2}}, {{"index", Integers{0}}}, "2 places");
  refused("scatter", {{4}, {1}}, {{"index", Integers{0}}, {"reduction", std::string("mean")}},
          "none, add, mul, max or min");
  const SampleCase ids = {.name = "refused",
                          .inputs = {{4}, {2}},
                          .attributes = {{"axis", one}},
                          .draws = {{}, {0, 4, true}}};
  CHECK(refusal_of("gather", ids).find("an axis in [-1, 1)") != std::string::npos);
}
