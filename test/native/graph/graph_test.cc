// The graph reader's refusals name what is wrong and where; a network's weights are checked.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "native/graph/random_graph.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

Json good() {
  Json parameters = {parameter_json("fc.weight", {4, kWidth}, "weight"),
                     parameter_json("fc.bias", {4}, "bias")};
  Json nodes = {node_json("fc", "linear", {"x"}, {{"weight", "fc.weight"}, {"bias", "fc.bias"}}),
                node_json("act", "relu", {"fc"})};
  return graph_json(parameters, nodes, "act");
}

struct Refusal {
  ErrorCode code;
  std::string message;
};

Refusal refusal(const std::string& json) {
  try {
    (void)Graph::parse(json);
  } catch (const Error& e) {
    return {e.code(), e.what()};
  }
  return {ErrorCode::kINTERNAL, "accepted"};
}

void refused(const char* what, const std::function<void(Json&)>& damage,
             const std::vector<std::string>& words) {
  Json json = good();
  damage(json);
  const Refusal result = refusal(json.dump());
  CHECK_MESSAGE((result.code == ErrorCode::kGRAPH || result.code == ErrorCode::kSHAPE ||
                 result.code == ErrorCode::kDTYPE),
                what, ": ", result.message);
  for (const std::string& word : words) {
    CHECK_MESSAGE(result.message.find(word) != std::string::npos, what, ": '", result.message,
                  "' lacks '", word, "'");
  }
}

}  // namespace

TEST_CASE("graph: a good graph is read") {
  const Graph graph = Graph::parse(good().dump());
  CHECK(graph.nodes().size() == 2);
  CHECK(graph.values().size() == 3);
  CHECK(graph.parameters().size() == 2);
  CHECK(graph.values()[1].spec.shape == Shape{4});
  CHECK(graph.values()[1].consumers == std::vector<int>{1});
  CHECK(graph.parameters()[0].uses[0].slot == "weight");
  CHECK(!graph.values()[0].needs_grad);
  CHECK(graph.values()[2].needs_grad);
}

TEST_CASE("graph: refusals name the node, parameter or key") {
  using Damage = Json&;
  refused("no name", [](Damage j) { j.erase("name"); }, {"'name'"});
  refused("version", [](Damage j) { j["version"] = 2; }, {"version", "2"});
  refused("version text", [](Damage j) { j["version"] = "1"; }, {"version"});
  refused("nodes", [](Damage j) { j["nodes"] = 3; }, {"'nodes'"});
  refused("no input", [](Damage j) { j["inputs"] = Json::array(); }, {"fc", "'x'"});
  refused("no output", [](Damage j) { j["outputs"] = Json::array(); }, {"no output"});
  refused("output", [](Damage j) { j["outputs"] = {"nowhere"}; }, {"nowhere", "outputs"});
  refused("unknown op", [](Damage j) { j["nodes"][1]["op"] = "gelu2"; }, {"gelu2", "relu"});
  refused("unknown value", [](Damage j) { j["nodes"][1]["inputs"] = {"fd"}; }, {"'fd'", "'act'"});
  refused("cycle", [](Damage j) { j["nodes"][0]["inputs"] = {"act"}; }, {"'act'", "'fc'"});
  refused("two inputs", [](Damage j) { j["nodes"][1]["inputs"] = {"fc", "fc"}; }, {"'act'", "2"});
  refused("two outputs", [](Damage j) { j["nodes"][1]["outputs"] = {"a", "b"}; }, {"'act'", "2"});
  refused("value twice", [](Damage j) { j["nodes"][1]["outputs"] = {"fc"}; }, {"'fc'", "twice"});
  refused("node twice", [](Damage j) { j["nodes"][1]["name"] = "fc"; }, {"'fc'", "twice"});
  refused("slot", [](Damage j) { j["nodes"][0]["parameters"]["wait"] = "fc.bias"; },
          {"'fc'", "'wait'"});
  refused("lacks its weight", [](Damage j) { j["nodes"][0]["parameters"].erase("weight"); },
          {"'fc'", "'weight'"});
  refused("undeclared", [](Damage j) { j["nodes"][0]["parameters"]["bias"] = "fc.b"; },
          {"'fc'", "'fc.b'"});
  refused("a number for a name", [](Damage j) { j["nodes"][0]["parameters"]["bias"] = 7; },
          {"'fc'", "'bias'"});
  refused("attribute", [](Damage j) { j["nodes"][1]["attributes"]["slope"] = 0.1; },
          {"'act'", "slope"});
  refused("attribute null", [](Damage j) { j["nodes"][1]["attributes"]["slope"] = nullptr; },
          {"'act'"});
  refused("role", [](Damage j) { j["parameters"][1]["role"] = "biass"; }, {"'fc.bias'", "biass"});
  refused("buffer as a bias", [](Damage j) { j["parameters"][1]["role"] = "buffer"; },
          {"'fc'", "'fc.bias'", "buffer"});
  refused("parameter twice", [](Damage j) { j["parameters"][1]["name"] = "fc.weight"; },
          {"'fc.weight'", "twice"});
  refused("unused", [](Damage j) { j["nodes"][0]["parameters"].erase("bias"); },
          {"'fc.bias'", "no node"});
  refused("weight shape", [](Damage j) { j["parameters"][0]["shape"] = {4, 5}; }, {"'fc'", "5"});
  refused("zero size", [](Damage j) { j["parameters"][0]["shape"] = {4, 0}; }, {"'fc.weight'"});
  refused("fraction", [](Damage j) { j["parameters"][0]["shape"] = {4, 1.5}; }, {"'fc.weight'"});
  refused("too large", [](Damage j) { j["parameters"][0]["shape"] = {1LL << 40, 1LL << 40}; },
          {"2^63"});
  refused("dtype", [](Damage j) { j["inputs"][0]["dtype"] = "f16"; }, {"f16"});
}

TEST_CASE("graph: text that is no JSON, and JSON without an end") {
  CHECK(refusal("").code == ErrorCode::kGRAPH);
  CHECK(refusal("{\"name\":").code == ErrorCode::kGRAPH);
  CHECK(refusal("[1, 2]").code == ErrorCode::kGRAPH);
  const Refusal deep = refusal(std::string(100'000, '['));
  CHECK(deep.code == ErrorCode::kGRAPH);
  CHECK(deep.message.find("deeply") != std::string::npos);
}

TEST_CASE("network: a bad weight is named and leaves the tensor as it was") {
  for (const DType real : {DType::kF32, DType::kF64}) {
    Network network(good().dump(), {.real = real});
    fill(network);
    const std::vector<float> before = network.parameter_f32(0);
    const auto set = [&](std::vector<float> values) -> Refusal {
      const Shape shape = {static_cast<std::int64_t>(values.size())};
      try {
        network.set_parameter("fc.weight", tensor_of<float>(shape, values).view());
      } catch (const Error& e) {
        return {e.code(), e.what()};
      }
      return {ErrorCode::kINTERNAL, "accepted"};
    };
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      std::vector<float> values(24, 1.0F);
      values[13] = bad;
      const Refusal result = set(values);
      CHECK(result.code == ErrorCode::kNON_FINITE);
      CHECK(result.message.find("'fc.weight'") != std::string::npos);
      CHECK(result.message.find("element 13") != std::string::npos);
      CHECK(network.parameter_f32(0) == before);
    }
    const Refusal few = set(std::vector<float>(23, 1.0F));
    CHECK(few.code == ErrorCode::kSHAPE);
    CHECK(few.message.find("'fc.weight'") != std::string::npos);
    CHECK(set(std::vector<float>(24, 2.0F)).message == "accepted");
    CHECK(network.parameter_f32(0) == std::vector<float>(24, 2.0F));
    CHECK_THROWS_AS(network.set_parameter("fc.wait", network.parameters()[0].view()), Error);
  }
}

TEST_CASE("network: an executor is found again, and sees new weights") {
  Network network(good().dump(), {});
  fill(network);
  ExecutorOptions options;
  options.batch = 2;
  Executor& first = network.executor(options);
  fill(first.input(), 1);
  first.forward();
  const std::vector<double> before = doubles(first.output());
  CHECK(&network.executor(options) == &first);
  network.set_parameter("fc.bias", tensor_of<float>({4}, {9, 9, 9, 9}).view());
  Executor& again = network.executor(options);
  CHECK(&again == &first);
  again.forward();
  CHECK(doubles(again.output()) != before);
}
