// rope's two orders of pairs, its positions and what passes through, on quarter turns.
#include <doctest/doctest.h>

#include <numbers>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Numbers = std::vector<double>;

void check_rotated(const SampleCase& sample_case, const std::vector<float>& x,
                   const std::vector<float>& expected) {
  OpRun<float> run(find_op("rope"), sample_case, true);
  REQUIRE(static_cast<std::int64_t>(x.size()) == run.inputs[0].count());
  std::copy(x.begin(), x.end(), run.inputs[0].as<float>());
  run.forward();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(std::abs(run.outputs[0].as<float>()[i] - expected[i]) < 1e-5F);
  }
}

SampleCase quarter_turns(Shape input, bool interleaved) {
  return {.name = "values",
          .inputs = {std::move(input)},
          .attributes = {{"heads", std::int64_t{1}},
                         {"frequencies", Numbers{std::numbers::pi / 2, 0.0}},
                         {"interleaved", interleaved}},
          .batch = 1};
}

}  // namespace

TEST_CASE("rope: halves pair i with i + r/2, interleaved 2i with 2i + 1; row t turns t times") {
  const std::vector<float> x = {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4};
  check_rotated(quarter_turns({3, 4}, false), x, {1, 2, 3, 4, -3, 2, 1, 4, -1, 2, -3, 4});
  check_rotated(quarter_turns({3, 4}, true), x, {1, 2, 3, 4, -2, 1, 3, 4, -1, -2, 3, 4});
}

TEST_CASE("rope: what lies beyond the frequencies passes through, unscaled") {
  SampleCase sample_case = quarter_turns({2, 5}, false);
  sample_case.attributes["scale"] = 2.0;
  check_rotated(sample_case, {1, 2, 3, 4, 5, 1, 2, 3, 4, 5}, {2, 4, 6, 8, 5, -6, 4, 2, 8, 5});
}

TEST_CASE("rope: refuses heads and frequencies that do not fit") {
  const auto refuse = [](const SampleCase& sample_case, const char* message) {
    CHECK_THROWS_WITH_AS(node_of(find_op("rope"), sample_case), doctest::Contains(message), Error);
  };
  refuse(quarter_turns({2, 3}, false), "two values of a head each");
  refuse(quarter_turns({4}, false), "an input (T, H·d)");
  SampleCase heads = quarter_turns({2, 8}, false);
  heads.attributes["heads"] = std::int64_t{3};
  refuse(heads, "heads that divide 8");
}
