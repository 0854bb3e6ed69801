#include "core/rope_sizes.h"

namespace fishermask {

RopeSizes rope_sizes(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  node.check(input.size() == 2, "expected an input (T, H·d) but received ", shape_text(input));
  RopeSizes sizes;
  sizes.rows = input[0];
  sizes.heads = node.attributes.integer("heads");
  node.check(sizes.heads >= 1 && input[1] % sizes.heads == 0, "expected heads that divide ",
             input[1], " values of a row but received ", sizes.heads);
  sizes.size = input[1] / sizes.heads;
  sizes.pairs = static_cast<std::int64_t>(node.attributes.numbers("frequencies", -1).size());
  node.check(sizes.pairs >= 1 && 2 * sizes.pairs <= sizes.size,
             "expected 1 or more frequencies, two values of a head each, but received ",
             sizes.pairs, " for heads of ", sizes.size);
  sizes.interleaved = node.attributes.boolean("interleaved", false);
  return sizes;
}

}  // namespace fishermask
