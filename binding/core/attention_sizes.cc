#include "core/attention_sizes.h"

#include <cmath>

namespace fishermask {
namespace {

void check_heads(const NodeSpec& node, const AttentionSizes& sizes) {
  node.check(sizes.heads >= 1, "expected heads of at least 1 but received ", sizes.heads);
  node.check(sizes.kv_heads >= 1 && sizes.heads % sizes.kv_heads == 0,
             "expected kv_heads that divide ", sizes.heads, " heads but received ", sizes.kv_heads);
  const char* names[] = {"queries (T, H·d)", "keys (S, G·d)", "values (S, G·e)"};
  for (std::size_t i = 0; i < 3; ++i) {
    const Shape& shape = node.inputs[i].shape;
    const std::int64_t heads = i == 0 ? sizes.heads : sizes.kv_heads;
    node.check(shape.size() == 2 && shape[0] >= 1 && shape[1] >= 1 && shape[1] % heads == 0,
               "expected ", names[i], " of ", heads, " heads but received ", shape_text(shape));
  }
}

std::int64_t mask_rows(const NodeSpec& node) {
  if (node.inputs.size() < 4) return 0;
  const std::int64_t rows = node.inputs[0].shape[0];
  const std::int64_t columns = node.inputs[1].shape[0];
  const Shape& mask = node.inputs[3].shape;
  node.check(mask == Shape{columns} || mask == Shape{rows, columns}, "expected a mask of shape (",
             columns, ") or (", rows, ", ", columns, ") but received ", shape_text(mask));
  return mask.size() == 1 ? 1 : rows;
}

}  // namespace

AttentionSizes attention_sizes(const NodeSpec& node) {
  AttentionSizes sizes;
  sizes.heads = node.attributes.integer("heads");
  sizes.kv_heads = node.attributes.integer("kv_heads", sizes.heads);
  check_heads(node, sizes);
  const Shape& q = node.inputs[0].shape;
  const Shape& k = node.inputs[1].shape;
  const Shape& v = node.inputs[2].shape;
  sizes.rows = q[0];
  sizes.columns = k[0];
  sizes.key = q[1] / sizes.heads;
  sizes.value = v[1] / sizes.kv_heads;
  node.check(k[1] == sizes.kv_heads * sizes.key, "expected keys of ", sizes.kv_heads, " heads of ",
             sizes.key, " values, as the queries' are, but received ", shape_text(k));
  node.check(v[0] == sizes.columns, "expected as many values as keys but received ", shape_text(k),
             " and ", shape_text(v));
  sizes.mask_rows = mask_rows(node);
  sizes.causal = node.attributes.boolean("causal", false);
  sizes.scale = node.attributes.number("scale", 1 / std::sqrt(static_cast<double>(sizes.key)));
  return sizes;
}

}  // namespace fishermask
