// What this machine can do at most, measured in the same run as what is held against it.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "timing.h"

namespace fishermask::bench {

// The memory of the ceilings' operands; pieces are valid while it lives.
class Ceilings {
 public:
  Ceilings();

  // oneDNN's sgemm, 1024 x 1024 x 1024, a few times.
  [[nodiscard]] Timed gemm();
  // Reads 256 MiB and writes them elsewhere.
  [[nodiscard]] Timed copy();

  // Of the seconds that gemm() takes.
  [[nodiscard]] static double gemm_gflops(double seconds);
  // Bytes read and bytes written both count.
  [[nodiscard]] static double copy_gb_per_second(double seconds);

 private:
  Tensor a_, b_, c_;
  Tensor from_, to_;
};

}  // namespace fishermask::bench
