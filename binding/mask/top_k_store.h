// TopKStore: where the ranker of mask_top_k gets segments of inputs from, and
// where masked weights go: arrays in memory (top_k.cc) or ranges of files
// (top_k_disk.cc).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mask/unit_scores.h"

namespace fishermask {

// Units [begin, end) of one tensor. Segments begin at a multiple of 8 units, so
// that each has bytes of the keep-mask of its own.
struct UnitRange {
  std::int64_t tensor = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// A unit that the pass left on the wrong side.
struct TopKCorrection {
  std::uint32_t unit = 0;  // inside the segment
  bool masked = false;     // what it shall be
};

// One thread's view of the store.
class TopKWindow {
 public:
  TopKWindow() = default;
  TopKWindow(const TopKWindow&) = delete;
  TopKWindow& operator=(const TopKWindow&) = delete;
  virtual ~TopKWindow() = default;

  // The inputs of a range, valid until the next call.
  virtual UnitData read(const UnitRange& range) = 0;
  // Says that a range will be read soon.
  virtual void prefetch(const UnitRange& range) = 0;
  // Masks units of the segment just read: `units`, counted from its begin, ascending. Called once
  // for every segment of a masking pass, also where nothing is masked.
  virtual void mask(const UnitRange& segment, std::span<const std::uint32_t> units) = 0;
};

class TopKStore {
 public:
  TopKStore() = default;
  TopKStore(const TopKStore&) = delete;
  TopKStore& operator=(const TopKStore&) = delete;
  virtual ~TopKStore() = default;

  [[nodiscard]] virtual std::unique_ptr<TopKWindow> window() = 0;
  // After mask(): `kept` as it was then; corrections by ascending unit.
  // Segments are called from several threads.
  virtual void correct(const UnitRange& segment, const std::uint8_t* kept,
                       std::span<const TopKCorrection> corrections) = 0;
  // Puts the segment's weights back as they were before mask(), `kept` being as
  // mask() or the last correction left it. A segment that was never masked
  // stays as it is.
  virtual void undo(const UnitRange& segment, const std::uint8_t* kept) = 0;
};

}  // namespace fishermask
