// Attention's conventions on values known by hand: what a row sees, what it does when it sees
// nothing, which key-value head a query head uses; and one value as all three inputs.
#include <doctest/doctest.h>

#include <limits>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Values = std::vector<float>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
std::unique_ptr<OpRun<T>> run_on(const SampleCase& sample_case, const std::vector<Values>& inputs,
                                 bool fast) {
  auto run = std::make_unique<OpRun<T>>(find_op("attention"), sample_case, fast);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    REQUIRE(static_cast<std::int64_t>(inputs[k].size()) == run->inputs[k].count());
    std::copy(inputs[k].begin(), inputs[k].end(), run->inputs[k].template as<T>());
  }
  run->forward();
  return run;
}

// The fast kernel's output, once the reference has given the same.
Values outputs(const SampleCase& sample_case, const std::vector<Values>& inputs) {
  const auto fast = run_on<float>(sample_case, inputs, true);
  const auto reference = run_on<double>(sample_case, inputs, false);
  CHECK(relative_distance<float, double>(fast->outputs[0], reference->outputs[0]) < 1e-6);
  const auto span = fast->outputs[0].span<float>();
  return {span.begin(), span.end()};
}

SampleCase one_head(const std::vector<Shape>& inputs, bool causal) {
  return {.name = "values",
          .inputs = inputs,
          .attributes = {{"heads", std::int64_t{1}}, {"causal", causal}},
          .batch = 1};
}

void check_near(const Values& actual, const Values& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  }
}

}  // namespace

TEST_CASE("attention: equal scores give the mean of what a causal row sees, the last row all") {
  const Shape one = {3, 1};
  check_near(outputs(one_head({one, one, one}, true), {{0, 0, 0}, {1, 2, 3}, {6, 12, 30}}),
             {6, 9, 16});
  // Two rows at the end of four columns: they see three and four.
  check_near(
      outputs(one_head({{2, 1}, {4, 1}, {4, 1}}, true), {{0, 0}, {1, 2, 3, 4}, {3, 6, 9, 22}}),
      {6, 10});
  // Three rows at the end of two columns: the first sees nothing.
  check_near(outputs(one_head({one, {2, 1}, {2, 1}}, true), {{0, 0, 0}, {1, 2}, {4, 8}}),
             {0, 4, 6});
}

TEST_CASE("attention: scores are scaled by 1/sqrt(d), and the mask is added after") {
  const SampleCase plain = one_head({{1, 4}, {2, 4}, {2, 1}}, false);
  const float ratio = std::exp(1.0F);  // of 2·1/√4
  check_near(outputs(plain, {{1, 0, 0, 0}, {2, 0, 0, 0, 0, 9, 9, 9}, {1, 0}}),
             {ratio / (ratio + 1)});
  SampleCase masked = one_head({{1, 4}, {2, 4}, {2, 1}, {2}}, false);
  check_near(outputs(masked, {{1, 0, 0, 0}, {2, 0, 0, 0, 0, 9, 9, 9}, {1, 0}, {-1, 0}}), {0.5F});
  masked.attributes["scale"] = 2.0;
  check_near(outputs(masked, {{1, 0, 0, 0}, {2, 0, 0, 0, 0, 9, 9, 9}, {1, 0}, {-4, 0}}), {0.5F});
}

TEST_CASE("attention: a row whose mask hides every column gives zeros and passes no gradient") {
  const SampleCase by_row = one_head({{2, 1}, {2, 1}, {2, 1}, {2, 2}}, false);
  for (const float hidden : {-1e9F, -kInfinity}) {
    const std::vector<Values> inputs = {{1, 1}, {1, 2}, {3, 5}, {hidden, hidden, 0, hidden}};
    check_near(outputs(by_row, inputs), {0, 3});
    for (const bool fast : {true, false}) {
      const auto run = run_on<float>(by_row, inputs, fast);
      run->grad_outputs[0].as<float>()[0] = 7;
      run->grad_outputs[0].as<float>()[1] = 2;
      run->backward();
      const auto grads = [&](std::size_t k) {
        const auto span = run->grad_inputs[k].span<float>();
        return Values(span.begin(), span.end());
      };
      CHECK(grads(0) == Values{0, 0});
      CHECK(grads(1) == Values{0, 0});
      CHECK(grads(2) == Values{2, 0});
      CHECK(grads(3) == Values{0, 0, 0, 0});
    }
  }
}

TEST_CASE("attention: query heads share key-value heads in order") {
  SampleCase grouped = one_head({{1, 4}, {1, 2}, {1, 2}}, false);
  grouped.attributes["heads"] = std::int64_t{4};
  grouped.attributes["kv_heads"] = std::int64_t{2};
  CHECK(outputs(grouped, {{1, 2, 3, 4}, {1, 1}, {10, 20}}) == Values{10, 10, 20, 20});
}

TEST_CASE("attention: NaN is not hidden, and large scores do not overflow") {
  const SampleCase plain = one_head({{1, 1}, {2, 1}, {2, 1}}, false);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool fast : {true, false}) {
    for (const Values& keys : {Values{nan, 1}, Values{1, nan}, Values{nan, nan}}) {
      const auto run = run_on<float>(plain, {{1}, keys, {1, 1}}, fast);
      CHECK(std::isnan(run->outputs[0].as<float>()[0]));
    }
  }
  check_near(outputs(plain, {{1e4F}, {1e4F, -1e4F}, {5, 7}}), {5});
}

TEST_CASE("attention: one value as queries, keys, values and mask gets the sum of the gradients") {
  const SampleCase square = {.name = "values",
                             .inputs = {{4, 4}, {4, 4}, {4, 4}, {4, 4}},
                             .attributes = {{"heads", std::int64_t{2}}},
                             .batch = 3};
  for (const bool fast : {true, false}) {
    OpRun<float> run(find_op("attention"), square, fast);
    for (std::size_t k = 1; k < 4; ++k) {
      std::copy_n(run.inputs[0].as<float>(), run.inputs[0].count(), run.inputs[k].as<float>());
    }
    run.forward();
    run.backward();
    Values sum(static_cast<std::size_t>(run.inputs[0].count()));
    for (const Tensor& grad : run.grad_inputs) {
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += grad.as<float>()[i];
    }
    // As the executor gives it: the first writes, the others add.
    for (std::size_t k = 1; k < 4; ++k) {
      run.io.inputs[k] = run.io.inputs[0];
      run.io.grad_inputs[k] = run.io.grad_inputs[0];
      run.io.accumulate[k] = true;
    }
    run.kernel().backward(run.io);
    const double distance = relative_distance<float, float>(run.grad_inputs[0].span<float>(), sum);
    CHECK(distance < 1e-6);
  }
}

TEST_CASE("attention: refuses heads, keys, values and masks that do not fit") {
  const auto refuse = [](const SampleCase& sample_case, const char* message) {
    CHECK_THROWS_WITH_AS(node_of(find_op("attention"), sample_case), doctest::Contains(message),
                         Error);
  };
  refuse(one_head({{3}, {3, 2}, {3, 2}}, false), "queries (T, H·d)");
  refuse(one_head({{3, 2}, {3, 3}, {3, 2}}, false), "keys of 1 heads of 2 values");
  refuse(one_head({{3, 2}, {3, 2}, {4, 2}}, false), "as many values as keys");
  refuse(one_head({{3, 2}, {4, 2}, {4, 2}, {3}}, false), "a mask of shape (4) or (3, 4)");
  SampleCase heads = one_head({{3, 6}, {3, 6}, {3, 6}}, false);
  heads.attributes["heads"] = std::int64_t{4};
  refuse(heads, "queries (T, H·d) of 4 heads");
  heads.attributes["heads"] = std::int64_t{6};
  heads.attributes["kv_heads"] = std::int64_t{4};
  refuse(heads, "kv_heads that divide 6");
  heads.attributes["kv_heads"] = std::int64_t{0};
  refuse(heads, "kv_heads that divide 6");
}
