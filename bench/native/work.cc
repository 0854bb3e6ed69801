#include "work.h"

#include <algorithm>

#include "core/window.h"

namespace fishermask::bench {
namespace {

// Pairs of an output position and a tap that meet the input and not the padding.
std::int64_t taps_inside(const WindowAxis& axis) {
  std::int64_t count = 0;
  for (std::int64_t o = 0; o < axis.out; ++o) {
    for (std::int64_t k = 0; k < axis.kernel; ++k) count += axis.inside(axis.at(o, k)) ? 1 : 0;
  }
  return count;
}

std::int64_t conv_products(const NodeSpec& spec) {
  const Shape& weight = spec.parameters.at("weight");
  const Window window = window_of(spec, weight[2], weight[3], {1, 1});
  return weight[0] * weight[1] * taps_inside(window.rows) * taps_inside(window.columns);
}

std::int64_t linear_products(const NodeSpec& spec) {
  const Shape& weight = spec.parameters.at("weight");
  return element_count(spec.inputs[0].shape) * weight[0];
}

// Query (T, heads·d), key (S, …), value (S, kv_heads·e): scores and the mix of the values.
std::int64_t attention_products(const NodeSpec& spec) {
  const std::int64_t rows = spec.inputs[0].shape[0];
  const std::int64_t columns = spec.inputs[1].shape[0];
  std::int64_t seen = rows * columns;
  if (spec.attributes.boolean("causal", false)) {
    seen = 0;
    for (std::int64_t t = 0; t < rows; ++t) {
      seen += std::clamp<std::int64_t>(t + 1 + columns - rows, 0, columns);
    }
  }
  return seen * (spec.inputs[0].shape[1] + spec.outputs[0].shape[1]);
}

// Products of one sample.
std::int64_t products(const NodeSpec& spec) {
  if (spec.op == "conv2d") return conv_products(spec);
  if (spec.op == "linear") return linear_products(spec);
  if (spec.op == "attention") return attention_products(spec);
  return 0;
}

double bytes_of(const std::vector<ValueSpec>& values, std::int64_t batch) {
  double bytes = 0;
  for (const ValueSpec& value : values) {
    bytes += static_cast<double>(byte_count(with_batch(batch, value.shape), value.dtype));
  }
  return bytes;
}

struct NodeBytes {
  double inputs = 0, outputs = 0;
  double parameters = 0;  // all that the node reads
  double trainable = 0;   // numbers, not bytes
};

NodeBytes bytes_of(const Graph& graph, const Node& node, std::int64_t batch) {
  NodeBytes bytes{bytes_of(node.spec.inputs, batch), bytes_of(node.spec.outputs, batch), 0, 0};
  for (const auto& [slot, index] : node.parameters) {
    const Parameter& parameter = graph.parameters()[static_cast<std::size_t>(index)];
    const auto count = static_cast<double>(element_count(parameter.shape));
    bytes.parameters += 4 * count;
    if (parameter.trainable()) bytes.trainable += count;
  }
  return bytes;
}

}  // namespace

Work NetworkWork::forward_backward() const {
  Work work = forward;
  work += backward_input;
  work += backward_parameters;
  return work;
}

Work NetworkWork::fisher() const {
  Work work = forward;
  work += backward_input;
  work += squares;
  return work;
}

NetworkWork work_of(const Graph& graph, std::int64_t batch) {
  NetworkWork work;
  for (const Node& node : graph.nodes()) {
    const NodeBytes bytes = bytes_of(graph, node, batch);
    const double operations = 2.0 * static_cast<double>(products(node.spec) * batch);
    const bool needs_input_gradient = std::any_of(
        node.inputs.begin(), node.inputs.end(),
        [&](int value) { return graph.values()[static_cast<std::size_t>(value)].needs_grad; });
    // Attention has no parameters, and two gradients for each of its products.
    const double input_operations = node.spec.op == "attention" ? 2 * operations : operations;
    work.forward += {operations, bytes.inputs + bytes.outputs + bytes.parameters};
    if (needs_input_gradient) {
      work.backward_input += {input_operations, bytes.inputs + bytes.outputs + bytes.parameters};
    }
    if (node.has_trainable_parameter) {
      const double read = bytes.inputs + bytes.outputs;
      work.backward_parameters += {operations, read + 8 * bytes.trainable};
      work.squares += {operations, read + 16 * bytes.trainable};
    }
  }
  return work;
}

}  // namespace fishermask::bench
