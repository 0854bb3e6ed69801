// The tile of contraction_tiles.cc and how it steps through a sample. Steps in floats.
#pragma once

#include <cstdint>

namespace fishermask {

// Vectors and broadcast channels of one tile.
struct TileShape {
  std::int64_t vectors = 1;     // 1 or 2
  std::int64_t broadcasts = 1;  // 1 to kMostBroadcasts
};

inline constexpr std::int64_t kMostBroadcasts = 8;
// With two vectors, six broadcasts fill the 32 registers of AVX-512 with sums and their squares.
inline constexpr std::int64_t kMostBroadcastsOfShort = 6;

// Panels of one width: `count` channels each, in rows of `width` floats.
struct PanelRun {
  std::int64_t count = 0, width = 0;
  std::int64_t panels = 0, panel_step = 0;
};

struct TilePass {
  std::int64_t samples = 0;
  std::int64_t rows = 0, cols = 0;  // valid positions
  std::int64_t lane_row = 0, lane_col = 0, lane_sample = 0;
  std::int64_t bcast_row = 0, bcast_col = 0, bcast_sample = 0;
};

}  // namespace fishermask
