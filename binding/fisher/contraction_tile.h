// The tile of contraction_tiles.cc and how it steps through a sample. Lengths and steps in
// elements.
#pragma once

#include <cstdint>

namespace fishermask {

struct Tile {
  std::int64_t group = 0;
  std::int64_t kernel_row = 0;
  std::int64_t kernel_col = 0;
  std::int64_t lane = 0;        // first channel of the lane operand, inside its group
  std::int64_t lanes = 0;       // channels used; the last vector may be partly masked
  std::int64_t vectors = 1;     // 1 or 2
  std::int64_t broadcast = 0;   // first channel of the broadcast operand, inside its group
  std::int64_t broadcasts = 0;  // 1, 2, 3, 4 or 8
};

struct TilePass {
  std::int64_t rows = 0, cols = 0;  // valid positions
  std::int64_t lane_start = 0, lane_row = 0, lane_col = 0;
  std::int64_t bcast_start = 0, bcast_row = 0, bcast_col = 0;
};

}  // namespace fishermask
