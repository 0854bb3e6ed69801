#include "graph/graph.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace fishermask {
namespace {

using Json = nlohmann::json;
constexpr int kGraphVersion = 1;
constexpr int kMaxJsonDepth = 64;

const Json& field(const Json& object, const char* key, const std::string& where) {
  FM_CHECK(object.is_object() && object.contains(key), GRAPH, "expected '", key, "' in ", where);
  return object.at(key);
}

std::string string_field(const Json& object, const char* key, const std::string& where) {
  const Json& value = field(object, key, where);
  FM_CHECK(value.is_string(), GRAPH, "expected a string for '", key, "' in ", where);
  return value.get<std::string>();
}

std::vector<std::string> strings(const Json& list, const std::string& where) {
  FM_CHECK(list.is_array(), GRAPH, "expected a list of names in ", where);
  std::vector<std::string> out;
  for (const Json& item : list) {
    FM_CHECK(item.is_string(), GRAPH, "expected a list of names in ", where);
    out.push_back(item.get<std::string>());
  }
  return out;
}

Shape shape_field(const Json& object, const std::string& where) {
  const Json& list = field(object, "shape", where);
  FM_CHECK(list.is_array(), GRAPH, "expected a list of sizes for 'shape' in ", where);
  Shape shape;
  for (const Json& size : list) {
    FM_CHECK(size.is_number_integer() && size.get<std::int64_t>() > 0, GRAPH,
             "expected positive sizes for 'shape' in ", where);
    shape.push_back(size.get<std::int64_t>());
  }
  (void)element_count(shape);
  return shape;
}

Attribute attribute(const Json& value, const std::string& where) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  FM_CHECK(value.is_array(), GRAPH, "unsupported attribute type in ", where);
  const bool integers = std::all_of(value.begin(), value.end(),
                                    [](const Json& item) { return item.is_number_integer(); });
  if (integers) return value.get<std::vector<std::int64_t>>();
  FM_CHECK(
      std::all_of(value.begin(), value.end(), [](const Json& item) { return item.is_number(); }),
      GRAPH, "expected numbers in a list attribute of ", where);
  return value.get<std::vector<double>>();
}

// The slots that hold an operand (op `parameter`'s value, the other side of arithmetic or of a
// product) rather than weights: an imported model has constants there.
bool may_be_constant(const std::string& slot) { return slot == "value" || slot == "other"; }

Json parse_json(std::string_view text) {
  const Json::parser_callback_t shallow = [](int depth, Json::parse_event_t, Json&) {
    FM_CHECK(depth <= kMaxJsonDepth, GRAPH, "the graph's JSON is nested too deeply");
    return true;
  };
  try {
    return Json::parse(text, shallow);
  } catch (const Json::exception& e) {
    fail(ErrorCode::kGRAPH, "the graph is not valid JSON: ", e.what());
  }
}

}  // namespace

class GraphReader {
 public:
  Graph read(std::string_view text) {
    const Json json = parse_json(text);
    graph_.name_ = string_field(json, "name", "the graph");
    const Json& version = field(json, "version", "the graph");
    FM_CHECK(version.is_number_integer() && version.get<int>() == kGraphVersion, GRAPH,
             "expected graph version ", kGraphVersion, " but received ", version.dump());
    for (const Json& item : list(json, "parameters")) read_parameter(item);
    for (const Json& item : list(json, "inputs")) read_input(item);
    for (const Json& item : list(json, "nodes")) read_node(item);
    for (const std::string& name : strings(field(json, "outputs", "the graph"), "'outputs'")) {
      graph_.outputs_.push_back(find_value(name, "the graph's outputs"));
    }
    FM_CHECK(!graph_.inputs_.empty(), GRAPH, "graph '", graph_.name_, "' has no input");
    FM_CHECK(!graph_.outputs_.empty(), GRAPH, "graph '", graph_.name_, "' has no output");
    for (const Parameter& parameter : graph_.parameters_) {
      FM_CHECK(!parameter.uses.empty(), GRAPH, "parameter '", parameter.name,
               "' is used by no node");
    }
    return std::move(graph_);
  }

 private:
  static const Json& list(const Json& json, const char* key) {
    const Json& value = field(json, key, "the graph");
    FM_CHECK(value.is_array(), GRAPH, "expected a list for '", key, "' in the graph");
    return value;
  }

  [[nodiscard]] int find_value(const std::string& name, const std::string& where) const {
    const auto found = graph_.value_names_.find(name);
    FM_CHECK(found != graph_.value_names_.end(), GRAPH, "no value named '", name, "' before ",
             where, "; nodes must follow their inputs");
    return found->second;
  }

  int add_value(Value value) {
    const int index = static_cast<int>(graph_.values_.size());
    FM_CHECK(graph_.value_names_.emplace(value.name, index).second, GRAPH, "the value '",
             value.name, "' is made twice");
    graph_.values_.push_back(std::move(value));
    return index;
  }

  void read_parameter(const Json& json) {
    Parameter parameter;
    parameter.name = string_field(json, "name", "a parameter");
    const std::string where = "parameter '" + parameter.name + "'";
    parameter.shape = shape_field(json, where);
    parameter.role = string_field(json, "role", where);
    static const std::set<std::string> kRoles = {"weight", "bias", "norm", "embedding", "buffer"};
    FM_CHECK(kRoles.contains(parameter.role), GRAPH,
             "expected a role of weight, bias, norm, embedding or buffer for ", where,
             " but received '", parameter.role, "'");
    const int index = static_cast<int>(graph_.parameters_.size());
    FM_CHECK(graph_.parameter_names_.emplace(parameter.name, index).second, GRAPH, where,
             " is declared twice");
    graph_.parameters_.push_back(std::move(parameter));
  }

  void read_input(const Json& json) {
    Value value;
    value.name = string_field(json, "name", "an input");
    value.spec.shape = shape_field(json, "input '" + value.name + "'");
    value.spec.dtype = parse_dtype(string_field(json, "dtype", "input '" + value.name + "'"));
    graph_.inputs_.push_back(add_value(std::move(value)));
  }

  void read_node(const Json& json) {
    Node node;
    node.spec.name = string_field(json, "name", "a node");
    const std::string where = "node '" + node.spec.name + "'";
    FM_CHECK(node_names_.insert(node.spec.name).second, GRAPH, where, " appears twice");
    node.spec.op = string_field(json, "op", where);
    node.op = &find_op(node.spec.op);
    const int index = static_cast<int>(graph_.nodes_.size());
    read_node_inputs(json, node, index, where);
    read_node_parameters(json, node, index, where);
    read_node_attributes(json, node, where);
    node.spec.outputs = infer(node);
    const std::vector<std::string> outputs = strings(field(json, "outputs", where), where);
    FM_CHECK(outputs.size() == node.spec.outputs.size(), GRAPH, where, " makes ",
             node.spec.outputs.size(), " values but names ", outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      Value value;
      value.name = outputs[i];
      value.spec = node.spec.outputs[i];
      value.producer = index;
      value.needs_grad = node.has_trainable_parameter ||
                         std::any_of(node.inputs.begin(), node.inputs.end(), [&](int input) {
                           return graph_.values_[static_cast<std::size_t>(input)].needs_grad;
                         });
      node.outputs.push_back(add_value(std::move(value)));
    }
    graph_.nodes_.push_back(std::move(node));
  }

  void read_node_inputs(const Json& json, Node& node, int index, const std::string& where) {
    for (const std::string& name : strings(field(json, "inputs", where), where)) {
      const int value = find_value(name, where);
      node.inputs.push_back(value);
      graph_.values_[static_cast<std::size_t>(value)].consumers.push_back(index);
      node.spec.inputs.push_back(graph_.values_[static_cast<std::size_t>(value)].spec);
    }
    const auto count = static_cast<int>(node.inputs.size());
    FM_CHECK(count >= node.op->min_inputs && count <= node.op->max_inputs, GRAPH, where, " (",
             node.spec.op, "): expected ", node.op->min_inputs, " to ", node.op->max_inputs,
             " inputs but received ", count);
  }

  void read_node_parameters(const Json& json, Node& node, int index, const std::string& where) {
    const Json& slots = field(json, "parameters", where);
    FM_CHECK(slots.is_object(), GRAPH, "expected an object for 'parameters' in ", where);
    for (const auto& [slot, name] : slots.items()) {
      const auto known = std::find_if(node.op->slots.begin(), node.op->slots.end(),
                                      [&](const ParameterSlot& s) { return s.name == slot; });
      FM_CHECK(known != node.op->slots.end(), GRAPH, where, " (", node.spec.op,
               ") has no parameter slot '", slot, "'");
      FM_CHECK(name.is_string(), GRAPH, "expected a parameter name for '", slot, "' in ", where);
      const auto found = graph_.parameter_names_.find(name.get<std::string>());
      FM_CHECK(found != graph_.parameter_names_.end(), GRAPH, where, " uses parameter '",
               name.get<std::string>(), "', which is not declared");
      Parameter& parameter = graph_.parameters_[static_cast<std::size_t>(found->second)];
      const bool constant = !parameter.trainable() && may_be_constant(slot);
      FM_CHECK(constant || parameter.trainable() != known->buffer, GRAPH, where, ": slot '", slot,
               "' takes a ", known->buffer ? "buffer" : "trainable parameter", " but '",
               parameter.name, "' has role ", parameter.role);
      parameter.uses.push_back({index, slot});
      node.parameters[slot] = found->second;
      node.spec.parameters[slot] = parameter.shape;
      node.has_trainable_parameter = node.has_trainable_parameter || parameter.trainable();
    }
    for (const ParameterSlot& slot : node.op->slots) {
      FM_CHECK(!slot.required || node.parameters.contains(slot.name), GRAPH, where, " (",
               node.spec.op, ") lacks its parameter '", slot.name, "'");
    }
  }

  static void read_node_attributes(const Json& json, Node& node, const std::string& where) {
    const Json& attributes = field(json, "attributes", where);
    FM_CHECK(attributes.is_object(), GRAPH, "expected an object for 'attributes' in ", where);
    std::map<std::string, Attribute> values;
    for (const auto& [key, value] : attributes.items()) values[key] = attribute(value, where);
    node.spec.attributes = Attributes(std::move(values));
  }

  // The op's own shape rule; getters of attributes do not know the node, so its name is added here.
  static std::vector<ValueSpec> infer(const Node& node) {
    try {
      node.spec.attributes.check_known(node.op->attributes);
      return node.op->infer(node.spec);
    } catch (const Error& e) {
      const std::string message = e.what();
      if (message.find("'" + node.spec.name + "'") != std::string::npos) throw;
      throw Error(e.code(), text("node '", node.spec.name, "' (", node.spec.op, "): ", message));
    }
  }

  Graph graph_;
  std::set<std::string> node_names_;
};

Graph Graph::parse(std::string_view json) { return GraphReader().read(json); }

int Graph::value_index(const std::string& name) const {
  const auto found = value_names_.find(name);
  FM_CHECK(found != value_names_.end(), ARGUMENT, "graph '", name_, "' has no value '", name, "'");
  return found->second;
}

int Graph::parameter_index(const std::string& name) const {
  const auto found = parameter_names_.find(name);
  FM_CHECK(found != parameter_names_.end(), ARGUMENT, "graph '", name_, "' has no parameter '",
           name, "'");
  return found->second;
}

}  // namespace fishermask
