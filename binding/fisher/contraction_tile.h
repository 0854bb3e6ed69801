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

// Asks for the cache lines of the next chunk while this one is computed, few at a time: the
// processor's own prefetcher does not foresee them (runs of a row, then a jump).
class Prefetcher {
 public:
  struct Rows {
    const float* first = nullptr;
    std::int64_t step = 0, rows = 0, lines = 0;  // lines: of one row
    [[nodiscard]] std::int64_t count() const { return rows * lines; }
  };
  static constexpr std::int64_t kLine = 64 / sizeof(float);

  // To be asked for in `calls` calls of advance.
  void begin(const Rows& now, const Rows& then, std::int64_t calls) {
    now_ = now;
    then_ = then;
    line_ = 0;
    per_call_ = (now.count() + then.count() + calls - 1) / calls;
  }
  void advance() {
    for (std::int64_t i = 0; i < per_call_ && now_.rows > 0; ++i) {
      __builtin_prefetch(now_.first + line_ * kLine, 0, 2);
      if (++line_ < now_.lines) continue;
      line_ = 0;
      now_.first += now_.step;
      if (--now_.rows > 0) continue;
      now_ = then_;
      then_ = {};
    }
  }

 private:
  Rows now_, then_;
  std::int64_t line_ = 0, per_call_ = 0;
};

// Positions from one call of Prefetcher::advance to the next.
inline constexpr std::int64_t kPrefetchPositions = 8;

}  // namespace fishermask
