// Copies between two layouts of the same sizes: to[Σ i_k·to_k] = from[Σ i_k·from_k], sample by
// sample. Transpose, slice, pad and expand are such copies, and so are most of their gradients.
// Axes that lie together in both layouts are walked as one; where the two disagree on which axis is
// contiguous, the walk goes in tiles that use every cache line whole.
// Deterministic: yes, every element of `to` is written once.
#pragma once

#include <cstdint>
#include <vector>

namespace fishermask {

// Strides in elements; 0 repeats, a negative one walks backwards.
struct StridedAxis {
  std::int64_t size = 1;
  std::int64_t from = 0;
  std::int64_t to = 0;
};

// Without axes of size 1, and with neighbours joined that are one walk in both layouts.
[[nodiscard]] std::vector<StridedAxis> joined_axes(const std::vector<StridedAxis>& axes);

class StridedMap {
 public:
  StridedMap() = default;
  // Axes of one sample, outermost first; no two positions may share a place in `to`. The offsets
  // are those of position (0, 0, …), the counts the elements of a whole sample on either side.
  StridedMap(std::vector<StridedAxis> axes, std::int64_t from_offset, std::int64_t from_count,
             std::int64_t to_offset, std::int64_t to_count);

  // The same map the other way. Only where no place of `from` is used twice.
  [[nodiscard]] StridedMap reversed() const;

  // Writes, or adds, `batch` samples. The rest of `to` stays as it is.
  template <typename T>
  void copy(std::int64_t batch, const T* from, T* to, bool add) const;

  [[nodiscard]] const std::vector<StridedAxis>& axes() const noexcept { return axes_; }
  [[nodiscard]] std::int64_t from_count() const noexcept { return from_count_; }
  [[nodiscard]] std::int64_t to_count() const noexcept { return to_count_; }

 private:
  std::vector<StridedAxis> axes_;
  std::int64_t from_offset_ = 0;
  std::int64_t from_count_ = 1;
  std::int64_t to_offset_ = 0;
  std::int64_t to_count_ = 1;
};

}  // namespace fishermask
