// embedding and pad_mask: padding, and ids that no row has.
#include <doctest/doctest.h>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Values = std::vector<float>;
const std::vector<InputDraw> kIds = {{.low = 0, .high = 2, .integer = true}};

Values values(const Tensor& tensor) {
  const auto span = tensor.span<float>();
  return {span.begin(), span.end()};
}

void set_ids(OpRun<float>& run, const std::vector<std::int32_t>& ids) {
  REQUIRE(static_cast<std::int64_t>(ids.size()) == run.inputs[0].count());
  std::copy(ids.begin(), ids.end(), run.inputs[0].as<std::int32_t>());
}

SampleCase table(std::int64_t batch) {
  return {.name = "values",
          .inputs = {{3}},
          .parameters = {{"weight", {4, 2}}},
          .batch = batch,
          .draws = kIds};
}

}  // namespace

TEST_CASE("embedding: rows are copied, padding gives zeros, gradients of one row are added") {
  const SampleCase sample_case = table(2);
  OpRun<float> run(find_op("embedding"), sample_case, true);
  const Values weight = {0, 1, 10, 11, 20, 21, 30, 31};
  std::copy(weight.begin(), weight.end(), run.parameters.at("weight").as<float>());
  set_ids(run, {3, -1, 0, 3, 3, 2});
  run.forward();
  CHECK(values(run.outputs[0]) == Values{30, 31, 0, 0, 0, 1, 30, 31, 30, 31, 20, 21});
  const Values grad = {1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 6, 60};
  std::copy(grad.begin(), grad.end(), run.grad_outputs[0].as<float>());
  run.backward();
  CHECK(values(run.grad_parameters.at("weight")) == Values{3, 30, 0, 0, 6, 60, 10, 100});
}

TEST_CASE("embedding: an id that no row has is refused, by name, and nothing is read") {
  const SampleCase sample_case = table(2);
  for (const std::int32_t id : {4, -2, 2'000'000'000}) {
    OpRun<float> run(find_op("embedding"), sample_case, true);
    set_ids(run, {0, 1, 2, 3, id, 0});
    std::string message;
    try {
      run.forward();
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kARGUMENT);
      message = error.what();
    }
    CAPTURE(message);
    CHECK(message.find("'node' (embedding)") != std::string::npos);
    CHECK(message.find("below its 4 rows") != std::string::npos);
    CHECK(message.find("received " + std::to_string(id)) != std::string::npos);
    CHECK(message.find("sample 1") != std::string::npos);
  }
}

TEST_CASE("embedding and pad_mask: real numbers are no ids, and a weight has two sizes") {
  SampleCase real = table(1);
  real.draws = {};
  CHECK_THROWS_WITH_AS(node_of(find_op("embedding"), real),
                       doctest::Contains("whole numbers (i32)"), Error);
  CHECK_THROWS_WITH_AS(node_of(find_op("pad_mask"), {.name = "refused", .inputs = {{3}}}),
                       doctest::Contains("whole numbers (i32)"), Error);
  SampleCase flat = table(1);
  flat.parameters = {{"weight", {4}}};
  CHECK_THROWS_WITH_AS(node_of(find_op("embedding"), flat),
                       doctest::Contains("a weight of shape (rows, width)"), Error);
}

TEST_CASE("pad_mask: 0 where there is an id, -1e9 where there is padding") {
  const SampleCase sample_case = {.name = "values", .inputs = {{3}}, .batch = 1, .draws = kIds};
  OpRun<float> run(find_op("pad_mask"), sample_case, true);
  set_ids(run, {0, -1, 7});
  run.forward();
  CHECK(values(run.outputs[0]) == Values{0, -1e9F, 0});
}
