// The model graph: what TypeScript describes as JSON (src/model/graph.ts), parsed, shape-checked,
// immutable.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace fishermask {

struct ParameterUse {
  int node = 0;
  std::string slot;
};

struct Parameter {
  std::string name;
  Shape shape;
  std::string role;  // weight, bias, norm, embedding, buffer
  std::vector<ParameterUse> uses;
  [[nodiscard]] bool trainable() const { return role != "buffer"; }
};

struct Value {
  std::string name;
  ValueSpec spec;
  int producer = -1;           // node index; -1: a graph input
  std::vector<int> consumers;  // node indices, one entry per use
  bool needs_grad = false;     // a trainable parameter lies upstream
};

struct Node {
  NodeSpec spec;
  const OpDefinition* op = nullptr;
  std::vector<int> inputs;                // value indices
  std::vector<int> outputs;               // value indices
  std::map<std::string, int> parameters;  // slot -> parameter index
  bool has_trainable_parameter = false;
};

class Graph {
 public:
  // Errors: GRAPH (malformed JSON, unknown op, slot, value or attribute, cycle, duplicate name),
  // SHAPE; the message names the node.
  static Graph parse(std::string_view json);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  // In an order in which every node follows its inputs.
  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] const std::vector<Value>& values() const noexcept { return values_; }
  [[nodiscard]] const std::vector<Parameter>& parameters() const noexcept { return parameters_; }
  [[nodiscard]] const std::vector<int>& inputs() const noexcept { return inputs_; }
  [[nodiscard]] const std::vector<int>& outputs() const noexcept { return outputs_; }
  [[nodiscard]] int value_index(const std::string& name) const;      // Errors: ARGUMENT
  [[nodiscard]] int parameter_index(const std::string& name) const;  // Errors: ARGUMENT

 private:
  friend class GraphReader;
  std::string name_;
  std::vector<Node> nodes_;
  std::vector<Value> values_;
  std::vector<Parameter> parameters_;
  std::vector<int> inputs_;
  std::vector<int> outputs_;
  std::map<std::string, int> value_names_;
  std::map<std::string, int> parameter_names_;
};

}  // namespace fishermask
