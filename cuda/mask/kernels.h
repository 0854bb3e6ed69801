// The steps of a masking on the device, in the order of top_k.cu, and what they share. All but
// launchers is in device memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "common/launch.cuh"
#include "core/score_key.h"
#include "mask/strips.cuh"

namespace fishermask::cuda {

// A place in the order (score, place), largest score first: after it come smaller scores, and
// equal ones of a larger place.
struct MaskMark {
  std::uint32_t key = 0;
  std::int64_t place = 0;

  // The least score that comes before the mark, for the units of the strip at `first`. Rounding
  // the place to a strip leaves what comes before a mark a prefix of the order.
  [[nodiscard]] __device__ __forceinline__ float score_at(std::int64_t first) const {
    return score_of_key(first < place ? key : key + 1U);
  }
};
inline constexpr std::int64_t kEverywhere = std::numeric_limits<std::int64_t>::max();
inline constexpr MaskMark kBeforeAll{0xFFFFFFFFU, kEverywhere};  // a NaN: no score reaches it
inline constexpr MaskMark kAfterAll{kNotEligibleKey + 1U, kEverywhere};  // every eligible one does

// What comes before `high` is masked for certain, what lies between is a candidate.
struct MaskMarks {
  MaskMark high = kBeforeAll;
  MaskMark low = kAfterAll;
};

using Counter = unsigned long long;  // what 64-bit atomics take

struct MaskState {
  MaskMarks marks;
  Counter asked = 0;     // k
  Counter eligible = 0;  // these four: of the last pass
  Counter nan_count = 0;
  Counter certain = 0;
  Counter inside = 0;
  Counter masked = 0;  // min(k, eligible)
  // Of the last unit that is masked: counted from 0, among the keys that begin with `prefix`, in
  // the end among those that equal it.
  Counter rank = 0;
  Counter last_strip = 0;                 // the strip that holds it
  Counter last_tie = 0;                   // and its rank among that strip's ties
  std::uint32_t prefix = 0;               // of ~key: so that the largest key comes first
  std::uint32_t threshold = 0xFFFFFFFFU;  // key of the last unit; no key reaches the first value
  std::uint32_t decided = 0;              // the candidates hold the last unit
  std::uint32_t searching = 0;            // and there is one
};

// Per tensor.
struct MaskCounts {
  Counter nan_count = 0;
  Counter masked = 0;
};

// Everything on the device that a masking needs beside the tensors.
struct MaskWorkspace {
  StripTable table;
  MaskState* state = nullptr;
  MaskCounts* counts = nullptr;          // (tensors,)
  std::uint32_t* keep = nullptr;         // (words,); until the end: the units masked for certain
  std::uint32_t* inside = nullptr;       // (words,): the candidates
  std::uint32_t* candidates = nullptr;   // (capacity,): their keys, a strip's in flat order
  std::uint32_t* strip_first = nullptr;  // (strips,): a strip's first candidate
  std::uint32_t* strip_count = nullptr;  // (strips,)
  std::uint32_t* strip_ties = nullptr;   // (strips,): candidates that equal the threshold
  Counter* histogram = nullptr;          // (kDigitBuckets,), zero between uses
  std::uint64_t* sample = nullptr;       // (kMostStrata · 32,)
  std::int64_t capacity = 0;
  std::int64_t words = 0;
};

// The digits of a key, from the high ones down.
struct KeyDigit {
  int shift, bits;
};
inline constexpr KeyDigit kKeyDigits[] = {{21, 11}, {10, 11}, {0, 10}};
inline constexpr int kDigitBuckets = 1 << 11;
[[nodiscard]] __device__ __forceinline__ bool has_prefix(std::uint32_t inverted, KeyDigit digit,
                                                         std::uint32_t prefix) {
  return std::uint64_t{inverted} >> (digit.shift + digit.bits) == prefix;
}
[[nodiscard]] __device__ __forceinline__ int digit_of(std::uint32_t inverted, KeyDigit digit) {
  return static_cast<int>(inverted >> digit.shift & ((1U << digit.bits) - 1U));
}

// scored.cu: what reads the tensors. Launchers for one score program.
struct ScoredKernels {
  // Fills workspace.sample.
  void (*draw_sample)(cudaStream_t stream, const ScoreArguments& arguments,
                      const MaskWorkspace& workspace, int strata) = nullptr;
  // Keep bits, candidates and counts by state->marks. collect: the candidates' keys, too.
  void (*scan)(cudaStream_t stream, const ScoreArguments& arguments, const MaskWorkspace& workspace,
               bool collect) = nullptr;
  // Adds the digit of every eligible key that begins with state->prefix to the histogram.
  void (*count_keys)(cudaStream_t stream, const ScoreArguments& arguments,
                     const MaskWorkspace& workspace, KeyDigit digit, int processors) = nullptr;
  bool fused = false;
};
[[nodiscard]] ScoredKernels scored_kernels(const std::vector<ScoreInstruction>& program);
[[nodiscard]] LaunchShape over_strips(std::int64_t strips);

// marks.cu: state->marks around rank share · units, from workspace.sample.
void place_marks(cudaStream_t stream, const MaskWorkspace& workspace, int strata, double share);

// decide.cu: state->threshold and the ties to mask.
// Whether the candidates hold the last unit, and its rank among them.
void judge_candidates(cudaStream_t stream, const MaskWorkspace& workspace);
void count_candidates(cudaStream_t stream, const MaskWorkspace& workspace, KeyDigit digit);
// Extends state->prefix by the bucket of the histogram that holds state->rank; clears the
// histogram. After the last digit: the threshold.
void take_digit(cudaStream_t stream, const MaskWorkspace& workspace, KeyDigit digit);
void count_ties(cudaStream_t stream, const MaskWorkspace& workspace);
// Where state->rank lies among the ties, given how many each strip has.
void find_last_strip(cudaStream_t stream, const MaskWorkspace& workspace,
                     const std::uint32_t* strip_ties);
// The rank of the last unit among all eligible keys.
void begin_exact(cudaStream_t stream, const MaskWorkspace& workspace);
// Marks that leave the ties alone between them; counts of a pass at 0.
void mark_threshold(cudaStream_t stream, const MaskWorkspace& workspace);

// apply.cu: final keep bits, and zeros into the masked weights. Nothing where the state is not
// decided or has NaNs. collected: as the last scan was.
void apply_mask(cudaStream_t stream, const MaskWorkspace& workspace, bool collected);

}  // namespace fishermask::cuda
