// A language model of one block, and ids for it with padding.
#pragma once

#include "native/graph/random_graph.h"

namespace fishermask::test {

constexpr std::int64_t kSequences = 3;
constexpr std::int64_t kTokens = 5;
constexpr std::int64_t kWords = 7;
inline const std::vector<std::int32_t> kIds = {0, 6, 2, 2, 0, 5, 1, 1, -1, -1, 3, 4, 3, 3, -1};

// One block with rotary positions and grouped heads that see neither the future nor padding.
inline std::string transformer_block() {
  Json parameters = {parameter_json("words", {kWords, kWidth}, "embedding"),
                     parameter_json("rms", {kWidth}, "norm"),
                     parameter_json("q", {kWidth, kWidth}, "weight"),
                     parameter_json("k", {kWidth / 3, kWidth}, "weight"),
                     parameter_json("v", {kWidth / 3, kWidth}, "weight"),
                     parameter_json("o", {kWidth, kWidth}, "weight"),
                     parameter_json("scale", {kWidth}, "norm"),
                     parameter_json("shift", {kWidth}, "norm"),
                     parameter_json("head", {kWords, kWidth}, "weight")};
  const Json turn = {{"heads", 3}, {"frequencies", {0.7}}};
  const Json turn_keys = {{"heads", 1}, {"frequencies", {0.7}}, {"interleaved", true}};
  Json nodes = {node_json("hidden", "embedding", {"ids"}, {{"weight", "words"}}),
                node_json("mask", "pad_mask", {"ids"}),
                node_json("normed", "rms_norm", {"hidden"}, {{"weight", "rms"}}),
                node_json("queries", "linear", {"normed"}, {{"weight", "q"}}),
                node_json("keys", "linear", {"normed"}, {{"weight", "k"}}),
                node_json("values", "linear", {"normed"}, {{"weight", "v"}}),
                node_json("turned", "rope", {"queries"}, Json::object(), turn),
                node_json("turned_keys", "rope", {"keys"}, Json::object(), turn_keys),
                node_json("seen", "attention", {"turned", "turned_keys", "values", "mask"},
                          Json::object(), {{"heads", 3}, {"kv_heads", 1}, {"causal", true}}),
                node_json("mixed", "linear", {"seen"}, {{"weight", "o"}}),
                node_json("sum", "add", {"hidden", "mixed"}),
                node_json("last", "layer_norm", {"sum"}, {{"weight", "scale"}, {"bias", "shift"}}),
                node_json("logits", "linear", {"last"}, {{"weight", "head"}})};
  Json graph = graph_json(parameters, nodes, "logits", {kTokens});
  graph["inputs"][0]["name"] = "ids";
  graph["inputs"][0]["dtype"] = "i32";
  return graph.dump();
}

}  // namespace fishermask::test
