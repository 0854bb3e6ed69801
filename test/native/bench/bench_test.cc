// What the benchmarks share: options, rounds, memory, and the documents' shape.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "bench/native/benchmarks.h"
#include "bench/native/memory.h"
#include "bench/native/timing.h"

using namespace fishermask;
using namespace fishermask::bench;

namespace {

const std::string kGraph =
    R"({"version":1,"name":"tiny","inputs":[{"name":"x","shape":[6],"dtype":"f32"}],
"parameters":[{"name":"w","shape":[3,6],"role":"weight","init":{"kind":"zeros"}}],
"nodes":[{"name":"n","op":"linear","inputs":["x"],"outputs":["y"],"parameters":{"weight":"w"},
"attributes":{}}],"outputs":["y"]})";

Arguments only(const std::string& name, const std::string& value) {
  return Arguments(std::map<std::string, std::string>{{name, value}});
}

// One thread and two rounds, where nothing else is said.
Arguments arguments(std::map<std::string, std::string> more) {
  more.emplace("threads", "1");
  more.emplace("rounds", "2");
  return Arguments(std::move(more));
}

// The message of the ARGUMENT error that the work throws.
template <typename Work>
std::string refusal(const Work& work) {
  try {
    (void)work();
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kARGUMENT);
    return error.what();
  }
  return "";
}

bool has(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("options are read or refused by name") {
  const Arguments given({{"params", "1e8"}, {"ratio", "0.01"}, {"bad", "1e8x"}, {"half", "0.5"}});
  CHECK(given.integer("params", 0) == 100'000'000);
  CHECK(given.number("ratio", 0) == doctest::Approx(0.01));
  CHECK(given.integer("absent", 7) == 7);
  CHECK(refusal([&] { return given.number("bad", 0); }) ==
        "Expected a number for --bad but received 1e8x");
  CHECK(has(refusal([&] { return given.integer("half", 0); }), "whole number for --half"));
  CHECK(has(refusal([&] { return only("n", "0").count("n", 1); }), "from 1 for --n"));
  CHECK(has(refusal([&] { return only("n", "c").choice("n", "a", {"a", "b"}); }),
            "one of a, b for --n but received c"));
  CHECK(has(refusal([] { return Arguments::of_words({"--lonely"}); }), "--lonely"));
  CHECK(has(refusal([] { return run_benchmark("nothing", arguments({})); }), "nothing"));
  CHECK(
      has(refusal([] { return run_benchmark("fisher", arguments({{"bacth", "1"}})); }), "--bacth"));
  CHECK(has(refusal([] { return run_benchmark("kernels", arguments({{"only", "zzz"}})); }),
            "--only but received zzz"));
  CHECK(has(refusal([] { return run_benchmark("mask", only("rounds", "0")); }), "--rounds"));
}

TEST_CASE("rounds run every piece in turn after one warm-up, and sort its times") {
  std::string order;
  std::vector<Timed> pieces = {{"a", [&] { order += 'a'; }}, {"b", [&] { order += 'b'; }}};
  const auto by_round = run_rounds(pieces, 3, Clock::kWall);
  CHECK(order == "abababab");
  REQUIRE(by_round.size() == 2);
  CHECK(by_round[1].size() == 3);
  CHECK(std::is_sorted(pieces[0].seconds.begin(), pieces[0].seconds.end()));
  const Timed times{"t", [] {}, {1, 2, 3, 4, 10}};
  CHECK(times.best() == 1);
  CHECK(times.median() == 3);
  CHECK(times.spread() == doctest::Approx(2.0 / 3));
}

TEST_CASE("a benchmark stops at its flag, and the next one is not held by it") {
  const std::atomic<bool> stop{true};
  try {
    (void)run_benchmark("fisher", arguments({{"graph-json", kGraph}}), &stop);
    FAIL("the flag was not seen");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kABORTED);
  }
  CHECK(run_benchmark("fisher", arguments({{"graph-json", kGraph}, {"batch", "2"}}))["batch"] == 2);
}

TEST_CASE("the peak is that of the work alone") {
  constexpr std::int64_t kLarge = std::int64_t{64} << 20U;
  constexpr std::int64_t kSlack = std::int64_t{8} << 20U;
  char seen = 0;
  const auto touch = [&](std::int64_t bytes) {
    const auto memory = std::make_unique<char[]>(static_cast<std::size_t>(bytes));
    // Volatile: a compiler that sees what becomes of the bytes does without them.
    volatile char* const at = memory.get();
    for (std::int64_t i = 0; i < bytes; i += 1024) at[i] = 1;
    seen = at[0];
  };
  trim_memory();  // what earlier cases freed would go while `before` is counted
  const auto before = resident_bytes();
  const auto large = peak_during([&] { touch(kLarge); });
  const auto between = resident_bytes();
  const auto small = peak_during([&] { touch(1); });
  CHECK(seen == 1);
  if (!before || !large || !between || !small) {
    MESSAGE("SKIPPED: this system does not let a process reset its peak memory");
    return;
  }
  CHECK(*large >= *before + kLarge - kSlack);
  CHECK(*small <= *between + kSlack);
}

TEST_CASE("documents say what was measured, and of what") {
  const Json fisher = run_benchmark("fisher", arguments({{"graph-json", kGraph}, {"batch", "4"}}));
  CHECK(fisher["network"] == "tiny");
  CHECK(fisher["parameters"] == 18);
  CHECK(fisher["rounds"] == 2);
  CHECK(fisher["threads"] == 1);
  for (const char* pass : {"forward", "forwardBackward", "fisher", "trainingStep"}) {
    CAPTURE(pass);
    CHECK(fisher[pass]["samplesPerSecond"].get<double>() ==
          doctest::Approx(4e3 / fisher[pass]["milliseconds"].get<double>()));
    CHECK(fisher[pass]["bestMilliseconds"] <= fisher[pass]["milliseconds"]);
  }
  CHECK(fisher["fisher"]["operations"] == 2 * 2 * 4 * 18);
  CHECK(fisher["ceilings"]["gemmGflops"].get<double>() > 0);
  CHECK(fisher["ceilings"]["copyGBps"].get<double>() > 0);
  CHECK(fisher["forwardBackward"].contains("peakRssBytes"));

  const Json growth = run_benchmark(
      "doubling", arguments({{"graph-json", kGraph}, {"batch", "4"}, {"steps", "3"}}));
  REQUIRE(growth["series"].size() == 3);
  CHECK(growth["series"][2]["samples"] == 16);
  CHECK(growth["logSlope"].is_number());
  const Json sizes = run_benchmark(
      "doubling", arguments({{"axis", "parameters"}, {"graphs-json", "[" + kGraph + "]"}}));
  CHECK(sizes["series"][0]["parameters"] == 18);
  CHECK(sizes["logSlope"].is_null());
  CHECK(has(refusal([] { return run_benchmark("doubling", arguments({{"axis", "parameters"}})); }),
            "--graphs-json"));

  const Json ops = run_benchmark("ops", arguments({{"graph-json", kGraph}, {"batch", "4"}}));
  CHECK(ops["evaluationMode"]["linear"]["nodes"] == 1);
  CHECK(ops["evaluationMode"]["linear"].contains("squaresMilliseconds"));

  const Json kernels = run_benchmark("kernels", arguments({{"only", "vectors"}, {"batch", "2"}}));
  REQUIRE(kernels["kernels"].size() == 1);
  CHECK(kernels["kernels"][0]["operations"] == 2.0 * 2 * 512 * 512);
}
