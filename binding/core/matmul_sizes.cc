#include "core/matmul_sizes.h"

#include <algorithm>

#include "core/moved_shape.h"
#include "core/window.h"

namespace fishermask {
namespace {

const Shape& second_shape(const NodeSpec& node) {
  const bool slot = node.has_parameter("other");
  node.check(slot == (node.inputs.size() == 1),
             "expected two inputs, or one and the parameter 'other', but received ",
             node.inputs.size(), slot ? " and 'other'" : " without 'other'");
  return slot ? node.parameters.at("other") : node.inputs[1].shape;
}

Shape leading(const Shape& shape) { return {shape.begin(), shape.end() - 2}; }

// Rows and columns after the transpose that was asked for.
std::pair<std::int64_t, std::int64_t> rows_and_columns(const Shape& shape, bool transpose) {
  const std::int64_t rows = shape[shape.size() - 2];
  const std::int64_t columns = shape.back();
  return transpose ? std::pair(columns, rows) : std::pair(rows, columns);
}

std::int64_t size_from_end(const Shape& shape, std::size_t back) {
  return back < shape.size() ? shape[shape.size() - 1 - back] : 1;
}

Shape broadcast_leading(const NodeSpec& node, const Shape& a, const Shape& b) {
  Shape lead(std::max(a.size(), b.size()));
  for (std::size_t back = 0; back < lead.size(); ++back) {
    const std::int64_t left = size_from_end(a, back);
    const std::int64_t right = size_from_end(b, back);
    node.check(left == right || left == 1 || right == 1,
               "expected leading sizes that are equal or ", "1 but received ", shape_text(a),
               " and ", shape_text(b));
    lead[lead.size() - 1 - back] = std::max(left, right);
  }
  return lead;
}

// For each position of `lead`, the matrix of an operand with these leading sizes.
std::vector<std::int64_t> matrices_of(const Shape& lead, const Shape& own) {
  std::vector<std::int64_t> matrices(static_cast<std::size_t>(element_count(lead)));
  for (std::size_t l = 0; l < matrices.size(); ++l) {
    auto rest = static_cast<std::int64_t>(l);
    std::int64_t stride = 1;
    for (std::size_t back = 0; back < lead.size(); ++back) {
      const std::int64_t size = size_from_end(own, back);
      if (size > 1) matrices[l] += rest % size_from_end(lead, back) * stride;
      stride *= size;
      rest /= size_from_end(lead, back);
    }
  }
  return matrices;
}

struct Operands {
  Shape a;
  Shape b;
};

Operands operands_of(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  Operands shapes = {node.inputs[0].shape, second_shape(node)};
  node.check(shapes.a.size() >= 2 && shapes.b.size() >= 2 && element_count(shapes.b) > 0,
             "expected matrices or stacks of them but received ", shape_text(shapes.a), " and ",
             shape_text(shapes.b));
  return shapes;
}

}  // namespace

void MatmulSizes::join_rows() {
  if (transpose_a || b_count != 1 || a_count != lead) return;
  m *= lead;
  lead = a_count = 1;
  a_of = b_of = {0};
}

Shape matmul_shape(const NodeSpec& node) {
  const Operands shapes = operands_of(node);
  const auto [m, k] = rows_and_columns(shapes.a, node.attributes.boolean("transpose_a", false));
  const auto [inner, n] = rows_and_columns(shapes.b, node.attributes.boolean("transpose_b", false));
  node.check(k == inner, "expected one inner size but multiplies ", m, "x", k, " by ", inner, "x",
             n, " from ", shape_text(shapes.a), " and ", shape_text(shapes.b));
  Shape output = broadcast_leading(node, leading(shapes.a), leading(shapes.b));
  output.push_back(m);
  output.push_back(n);
  (void)element_count(output);
  return output;
}

MatmulSizes matmul_sizes(const NodeSpec& node) {
  const Operands shapes = operands_of(node);
  const Shape output = matmul_shape(node);
  const Shape lead = leading(output);
  MatmulSizes sizes;
  sizes.transpose_a = node.attributes.boolean("transpose_a", false);
  sizes.transpose_b = node.attributes.boolean("transpose_b", false);
  sizes.slot = node.has_parameter("other");
  sizes.m = output[output.size() - 2];
  sizes.n = output.back();
  sizes.k = rows_and_columns(shapes.a, sizes.transpose_a).second;
  sizes.lead = element_count(lead);
  sizes.a_count = element_count(leading(shapes.a));
  sizes.b_count = element_count(leading(shapes.b));
  sizes.a_of = matrices_of(lead, leading(shapes.a));
  sizes.b_of = matrices_of(lead, leading(shapes.b));
  return sizes;
}

}  // namespace fishermask
