// Random graphs of vectors: values with no, one or several consumers, inputs that repeat, shared
// parameters, dead ends. As JSON, and filled with seeded weights.
#pragma once

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "graph/network.h"
#include "native/ops/op_harness.h"

namespace fishermask::test {

using Json = nlohmann::json;
constexpr std::int64_t kWidth = 6;

inline Json node_json(const std::string& name, const std::string& op,
                      std::vector<std::string> inputs, Json parameters = Json::object(),
                      Json attributes = Json::object()) {
  return {{"name", name},
          {"op", op},
          {"inputs", std::move(inputs)},
          {"outputs", {name}},
          {"parameters", std::move(parameters)},
          {"attributes", std::move(attributes)}};
}

inline Json parameter_json(const std::string& name, const Shape& shape, const std::string& role) {
  return {{"name", name}, {"shape", shape}, {"role", role}};
}

inline Json graph_json(Json parameters, Json nodes, const std::string& output,
                       Shape input = {kWidth}) {
  return {{"version", 1},
          {"name", "test"},
          {"inputs", {{{"name", "x"}, {"shape", std::move(input)}, {"dtype", "f32"}}}},
          {"parameters", std::move(parameters)},
          {"nodes", std::move(nodes)},
          {"outputs", {output}}};
}

class RandomGraph {
 public:
  RandomGraph(unsigned seed, int nodes, bool dropout) : random_(seed) {
    values_ = {"x"};
    for (int n = 0; n < nodes; ++n) add_node(fishermask::text("v", n), dropout);
    // The last value is the output, with a parameter right below it and at least one in all.
    add_linear("logits", values_.back());
  }

  [[nodiscard]] std::string text() const {
    return graph_json(parameters_, nodes_, "logits").dump();
  }
  [[nodiscard]] std::vector<std::string> values() const { return values_; }

 private:
  std::int64_t draw(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(random_);
  }

  // A recent value more often than an old one: deep graphs with a few long skips.
  std::string any_value() {
    const auto last = static_cast<std::int64_t>(values_.size()) - 1;
    const std::int64_t back = std::min(draw(0, last), draw(0, last));
    return values_[static_cast<std::size_t>(last - back)];
  }

  void add_node(const std::string& name, bool dropout) {
    switch (draw(0, dropout ? 6 : 5)) {
      case 0:
      case 1:
        return add_linear(name, any_value());
      case 2:
      case 3:
        return add(node_json(name, "relu", {any_value()}));
      case 4: {
        std::vector<std::string> inputs = {any_value(), any_value()};
        if (draw(0, 1) == 1) inputs.push_back(any_value());
        return add(node_json(name, "add", inputs));
      }
      case 5:
        return add_norm(name);
      default:
        return add(node_json(name, "dropout", {any_value()}, Json::object(), {{"rate", 0.3}}));
    }
  }

  void add(Json node) {
    values_.push_back(node.at("name"));
    nodes_.push_back(std::move(node));
  }

  void add_linear(const std::string& name, const std::string& input) {
    if (weights_.empty() || draw(0, 3) != 0) {
      weights_.push_back(name + ".weight");
      parameters_.push_back(parameter_json(weights_.back(), {kWidth, kWidth}, "weight"));
    }
    const std::string weight =
        weights_[static_cast<std::size_t>(draw(0, static_cast<std::int64_t>(weights_.size()) - 1))];
    // A weight that was declared is used here if nowhere else.
    const bool fresh = weights_.back() == name + ".weight";
    parameters_.push_back(parameter_json(name + ".bias", {kWidth}, "bias"));
    add(node_json(name, "linear", {input},
                  {{"weight", fresh ? weights_.back() : weight}, {"bias", name + ".bias"}}));
  }

  void add_norm(const std::string& name) {
    Json slots;
    for (const char* slot : {"weight", "bias", "running_mean", "running_var"}) {
      slots[slot] = name + "." + slot;
      const bool buffer = std::string(slot).starts_with("running");
      parameters_.push_back(parameter_json(slots[slot], {kWidth}, buffer ? "buffer" : "norm"));
    }
    add(node_json(name, "batch_norm", {any_value()}, slots));
  }

  std::mt19937 random_;
  Json parameters_ = Json::array();
  Json nodes_ = Json::array();
  std::vector<std::string> values_;
  std::vector<std::string> weights_;
};

// Normal weights; variances of 1.
inline void fill(Network& network) {
  std::uint64_t stream = 100;
  for (const Parameter& parameter : network.graph().parameters()) {
    std::vector<float> values = normals(element_count(parameter.shape), stream++);
    for (float& value : values) value *= parameter.shape.size() > 1 ? 0.4F : 1.0F;
    if (parameter.name.ends_with("running_var")) std::fill(values.begin(), values.end(), 1.0F);
    network.set_parameter(parameter.name, tensor_of<float>(parameter.shape, values).view());
  }
}

inline void fill(const TensorView& view, std::uint64_t stream) {
  const std::vector<float> values = normals(view.count(), stream);
  if (view.dtype == DType::kF64) {
    std::copy(values.begin(), values.end(), view.as<double>());
  } else {
    std::copy(values.begin(), values.end(), view.as<float>());
  }
}

inline std::vector<double> doubles(const TensorView& view) {
  if (!view) return {};
  if (view.dtype == DType::kF64) return {view.as<double>(), view.as<double>() + view.count()};
  return {view.as<float>(), view.as<float>() + view.count()};
}

// Room for every parameter's gradient and squares.
struct Gradients {
  explicit Gradients(const Network& network, bool with_squares = false) {
    for (const Parameter& parameter : network.graph().parameters()) {
      tensors.push_back(parameter.trainable() ? Tensor(network.real(), parameter.shape) : Tensor());
      request.grad_parameters.push_back(tensors.back().view());
      const std::int64_t count = parameter.trainable() ? element_count(parameter.shape) : 0;
      squares.emplace_back(static_cast<std::size_t>(count));
    }
    if (!with_squares) return;
    for (std::vector<double>& sums : squares) {
      request.square_sums.push_back(sums.empty() ? nullptr : sums.data());
    }
  }
  [[nodiscard]] std::vector<std::vector<double>> values() const {
    std::vector<std::vector<double>> out;
    for (const Tensor& tensor : tensors) out.push_back(doubles(tensor.view()));
    return out;
  }
  std::vector<Tensor> tensors;
  std::vector<std::vector<double>> squares;
  BackwardRequest request;
};

}  // namespace fishermask::test
