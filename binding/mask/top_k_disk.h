// mask_top_k_on_disk: mask_top_k (mask/top_k.h) over ranges of files, for models and Fisher stores
// larger than memory. Every input is read once, front to back in parallel segments of about 1 MiB;
// every weight is written once to the output's range, masked or with its exact bytes.
// Result:    the masks and rankings of mask_top_k on the same numbers, bit for bit.
// Formats:   F32, BF16 and F16 weights (widened exactly; a masked weight is +0 in its own type),
// F32
//            sums; row-major, little-endian.
// Workspace: as mask_top_k but for the old values, which stay in the source: 1 bit per unit and 8
//            bytes per candidate; per thread buffers of one segment (at least 8 units) of each
//            input: 4.5 MiB for ratio. Independent of the model's size but for the bits and the
//            candidates.
// Errors:    as mask_top_k; IO naming the file; BAD_FILE naming file and tensor where a sum of
//            squares is negative or not finite or a file ends early; NON_FINITE naming the tensor
//            of a weight that is not finite. The outputs are to be thrown away then: parts may be
//            written.
// Deterministic: yes; bit-identical on any thread count.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mask/top_k.h"

namespace fishermask {

enum class StoredType : std::uint8_t { kF32, kBF16, kF16 };

[[nodiscard]] StoredType parse_stored_type(std::string_view name);  // "BF16". Errors: DTYPE

// Where a tensor's elements begin in one of the files; file < 0: nowhere.
struct StoredRange {
  std::int64_t file = -1;
  std::int64_t offset = 0;  // bytes
};

struct TopKDiskTensor {
  std::string name;
  Shape shape;
  StoredType type = StoredType::kF32;  // of the weights
  StoredRange weight;
  StoredRange output;  // its file counts among the outputs
  StoredRange forget_sums;
  StoredRange remain_sums;
  StoredRange forget_gradient_sums;
  std::uint64_t first_unit = 0;
  std::int64_t group = 0;
};

struct TopKFiles {
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;  // exist already, as long as they will be
  // The remain sums are those of all samples: the forget sums are subtracted, clamped at 0.
  bool remain_includes_forget = false;
};

struct TopKDiskResult {
  TopKResult top_k;  // without old values
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;
};

// Segments of 1 MiB of weights and a sample of few, larger reads.
[[nodiscard]] TopKTuning disk_tuning();

[[nodiscard]] TopKDiskResult mask_top_k_on_disk(
    const ScoreProgram& program, const ScoreSettings& settings, const TopKFiles& files,
    std::span<const TopKDiskTensor> tensors, const TopKAmount& amount,
    const TopKControl& control = {}, const TopKTuning& tuning = disk_tuning());

}  // namespace fishermask
