// How warps walk over the units of all tensors: in strips, one warp a strip, 32 units (a word of
// the keep bits) a row. Words are numbered over all tensors, each tensor beginning with a word of
// its own; word · 32 + bit is a unit's place, in flat order.
//
// Units of one element: up to kStripWords rows, lanes side by side, kRows rows in flight.
// Larger units: their mean is summed in f64 in the order of the elements, as
// binding/mask/unit_scores.cc does it, so one lane sums one unit. The warp scores a tile of 32
// units by kTileElements elements with lanes side by side in memory, through shared memory. Bound
// by memory, except for the few and large units of filters: one warp sums 32 of them, and its f64
// additions wait for one another.
#pragma once

#include <cstdint>

#include "common/shared.cuh"
#include "mask/score.cuh"

namespace fishermask::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;

// Not measured on a GPU: chosen so that a block's staging is 32 KiB and that a strip of small
// units holds some thousand elements.
inline constexpr int kWarps = 8;  // of every kernel that walks over strips
inline constexpr int kThreads = kWarps * 32;
inline constexpr int kStripWords = 32;
inline constexpr int kUnitStripWords = 8;  // of units of more than one element, at most
inline constexpr int kTileElements = 16;
inline constexpr int kTileWords = 32 * kTileElements + kTileElements;  // a word's pad per 32
inline constexpr int kMeanScratch = kTileWords + kTileElements;        // words per warp

// One tensor of the masking, on the device.
struct MaskTensor {
  float* weight = nullptr;
  const float* forget = nullptr;
  const float* remain = nullptr;
  const float* gradient = nullptr;
  const std::uint8_t* previous = nullptr;
  std::int64_t units = 0;
  std::int64_t elements = 1;     // per unit
  std::uint64_t first_unit = 0;  // of the random stream
  std::int64_t first_word = 0;
  std::int64_t first_strip = 0;
  int words_per_strip = kStripWords;
};

[[nodiscard]] constexpr int words_per_strip(std::int64_t elements) {
  return elements == 1 ? kStripWords : elements <= 32 ? kUnitStripWords : elements <= 128 ? 2 : 1;
}

struct StripTable {
  const MaskTensor* tensors = nullptr;
  int tensor_count = 0;
  bool singles = false;  // all units are of one element
  std::int64_t strips = 0;
};

struct Strip {
  std::int64_t first_unit = 0;  // in its tensor
  std::int64_t first_word = 0;  // over all tensors
  int units = 0;
  int words = 0;
};

[[nodiscard]] __device__ __forceinline__ int lane_of() {
  return static_cast<int>(threadIdx.x % 32U);
}
[[nodiscard]] __device__ __forceinline__ int warp_of() {
  return static_cast<int>(threadIdx.x / 32U);
}
[[nodiscard]] __device__ __forceinline__ std::int64_t first_strip_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarps + warp_of();
}
[[nodiscard]] __device__ __forceinline__ std::int64_t strip_step() {
  return static_cast<std::int64_t>(gridDim.x) * kWarps;
}

// The last tensor that begins at or before `place`, by `first`: empty tensors are passed over.
template <typename First>
[[nodiscard]] __device__ __forceinline__ int tensor_at(const StripTable& table, std::int64_t place,
                                                       const First& first) {
  int low = 0;
  int high = table.tensor_count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (first(table.tensors[middle]) <= place) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}
[[nodiscard]] __device__ __forceinline__ int tensor_of_strip(const StripTable& table,
                                                             std::int64_t strip) {
  return tensor_at(table, strip, [](const MaskTensor& tensor) { return tensor.first_strip; });
}

// `words` from word `first` of the tensor on, or what is left of it.
[[nodiscard]] __device__ __forceinline__ Strip strip_from(const MaskTensor& tensor,
                                                          std::int64_t first, int words) {
  const std::int64_t left = tensor.units - first * 32;
  const int units = left < words * 32 ? static_cast<int>(left) : words * 32;
  return {first * 32, tensor.first_word + first, units, (units + 31) / 32};
}
[[nodiscard]] __device__ __forceinline__ Strip strip_of(const MaskTensor& tensor,
                                                        std::int64_t strip) {
  return strip_from(tensor, (strip - tensor.first_strip) * tensor.words_per_strip,
                    tensor.words_per_strip);
}

template <typename Score>
[[nodiscard]] __device__ __forceinline__ Element load_element(const MaskTensor& tensor,
                                                              std::int64_t i) {
  Element element;
  element.weight = __ldg(tensor.weight + i);
  if constexpr (Score::kReadsForget) {
    if (tensor.forget != nullptr) element.forget = __ldg(tensor.forget + i);
  }
  if constexpr (Score::kReadsRemain) {
    if (tensor.remain != nullptr) element.remain = __ldg(tensor.remain + i);
  }
  if constexpr (Score::kReadsGradient) {
    if (tensor.gradient != nullptr) element.gradient = __ldg(tensor.gradient + i);
  }
  return element;
}

[[nodiscard]] __device__ __forceinline__ bool was_kept(const MaskTensor& tensor,
                                                       std::int64_t unit) {
  return tensor.previous == nullptr || (__ldg(tensor.previous + unit / 8) >> (unit % 8) & 1) != 0;
}

// The mean score of unit first + lane; `first + units` is where the run ends. By all lanes.
template <typename Score>
[[nodiscard]] __device__ __forceinline__ float unit_mean(const ScoreArguments& arguments,
                                                         const MaskTensor& tensor,
                                                         std::int64_t first, int units,
                                                         SharedArray<std::uint32_t> scratch) {
  const int lane = lane_of();
  double sum = 0.0;
  bool any_weight = false;
  for (std::int64_t begin = 0; begin < tensor.elements; begin += kTileElements) {
    const std::int64_t left = tensor.elements - begin;
    const int width = left < kTileElements ? static_cast<int>(left) : kTileElements;
    const bool side_by_side = width == tensor.elements;  // units and all: nothing to divide
#pragma unroll 4
    for (int row = 0; row < width; ++row) {
      const int j = row * 32 + lane;
      Element element;
      float score = 0.0F;
      if (j < units * width) {
        const std::int64_t unit = first + j / width;
        const std::int64_t at =
            side_by_side ? first * tensor.elements + j : unit * tensor.elements + begin + j % width;
        element = load_element<Score>(tensor, at);
        score = Score::of(arguments, element, tensor.first_unit + static_cast<std::uint64_t>(unit));
      }
      scratch[j + row] = __float_as_uint(score);
      const unsigned non_zero = __ballot_sync(kAllLanes, element.weight != 0.0F);
      if (lane == 0) scratch[kTileWords + row] = non_zero;
    }
    __syncwarp();
    for (int e = 0; e < width; ++e) {
      const int j = lane * width + e;
      sum += static_cast<double>(__uint_as_float(scratch[j + j / 32]));
      const std::uint32_t non_zero = scratch[kTileWords + j / 32];
      any_weight |= (non_zero >> static_cast<unsigned>(j % 32) & 1U) != 0;
    }
    __syncwarp();
  }
  const auto mean = static_cast<float>(sum / static_cast<double>(tensor.elements));
  return any_weight ? mean : kNotEligibleScore;
}

// score_strip for units of one element: their inputs lie lane by lane.
template <typename Score, typename Visit>
__device__ __forceinline__ void score_singles(const ScoreArguments& arguments,
                                              const MaskTensor& tensor, const Strip& strip,
                                              const Visit& visit) {
  const int lane = lane_of();
  for (int first = 0; first < strip.words; first += Score::kRows) {
    Element elements[Score::kRows];
#pragma unroll
    for (int i = 0; i < Score::kRows; ++i) {
      const int local = (first + i) * 32 + lane;
      const std::int64_t unit = strip.first_unit + local;
      if (local < strip.units) elements[i] = load_element<Score>(tensor, unit);
      if (local < strip.units && !was_kept(tensor, unit)) elements[i].weight = 0.0F;
    }
#pragma unroll
    for (int i = 0; i < Score::kRows; ++i) {
      if (first + i >= strip.words) break;
      const std::int64_t unit = strip.first_unit + (first + i) * 32 + lane;
      float score = kNotEligibleScore;
      if (elements[i].weight != 0.0F) {
        score =
            Score::of(arguments, elements[i], tensor.first_unit + static_cast<std::uint64_t>(unit));
      }
      visit(first + i, score);
    }
  }
}

// visit(row, score) for every row of the strip, by all lanes: lane l's unit is row · 32 + l of the
// strip. Units beyond the strip, of zero weights, or masked before score kNotEligibleScore.
// scratch: kMeanScratch words of this warp. kSingles: no tensor has units of more than one element,
// which saves registers.
template <typename Score, bool kSingles, typename Visit>
__device__ __forceinline__ void score_strip(const ScoreArguments& arguments,
                                            const MaskTensor& tensor, const Strip& strip,
                                            SharedArray<std::uint32_t> scratch,
                                            const Visit& visit) {
  if constexpr (kSingles) {
    score_singles<Score>(arguments, tensor, strip, visit);
  } else if (tensor.elements == 1) {
    score_singles<Score>(arguments, tensor, strip, visit);
  } else {
    const int lane = lane_of();
    for (int row = 0; row < strip.words; ++row) {
      const std::int64_t first = strip.first_unit + row * 32;
      const int units = strip.units - row * 32;
      float score = unit_mean<Score>(arguments, tensor, first, units, scratch);
      if (lane >= units || !was_kept(tensor, first + lane)) score = kNotEligibleScore;
      visit(row, score);
    }
  }
}

}  // namespace fishermask::cuda
