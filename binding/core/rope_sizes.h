// What rope rotates: the sizes and the angles of a node, the same on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/kernel.h"

namespace fishermask {

struct RopeSizes {
  std::int64_t rows = 1;  // T
  std::int64_t heads = 1;
  std::int64_t size = 1;   // d
  std::int64_t pairs = 0;  // r/2
  bool interleaved = false;
};

// Errors: GRAPH.
[[nodiscard]] RopeSizes rope_sizes(const NodeSpec& node);

// scale · cos and scale · sin of t · frequencies[i], computed in f64.
template <typename T>
struct RopeTurns {
  std::vector<T> cosines, sines;  // (T, r/2)
};
template <typename T>
[[nodiscard]] RopeTurns<T> rope_turns(const NodeSpec& node) {
  const std::vector<double> frequencies = node.attributes.numbers("frequencies", -1);
  const double scale = node.attributes.number("scale", 1.0);
  const std::int64_t rows = rope_sizes(node).rows;
  RopeTurns<T> turns;
  for (std::int64_t t = 0; t < rows; ++t) {
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(t) * frequency;
      turns.cosines.push_back(static_cast<T>(scale * std::cos(angle)));
      turns.sines.push_back(static_cast<T>(scale * std::sin(angle)));
    }
  }
  return turns;
}

}  // namespace fishermask
