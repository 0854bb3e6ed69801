#include "ceilings.h"

#include <cstring>

#include "bench_network.h"
#include "core/parallel.h"
#include "ops/onednn.h"

namespace fishermask::bench {
namespace {

constexpr std::int64_t kGemmSize = 1024;
// The first product of a round finds cold caches and threads that sleep: alone it would lie below
// what long passes reach.
constexpr int kGemmRepeats = 4;
constexpr std::int64_t kCopyBytes = std::int64_t{256} << 20;

}  // namespace

Ceilings::Ceilings()
    : a_(DType::kF32, {kGemmSize, kGemmSize}),
      b_(DType::kF32, {kGemmSize, kGemmSize}),
      c_(DType::kF32, {kGemmSize, kGemmSize}) {
  fill_uniform(a_.view(), -1, 1, 2);
  fill_uniform(b_.view(), -1, 1, 3);
}

Timed Ceilings::gemm() {
  return {"GEMM ceiling (oneDNN sgemm, 1024 x 1024 x 1024)", [this] {
            for (int i = 0; i < kGemmRepeats; ++i) {
              fishermask::gemm(false, false, kGemmSize, kGemmSize, kGemmSize, a_.as<float>(),
                               kGemmSize, b_.as<float>(), kGemmSize, 0.0F, c_.as<float>(),
                               kGemmSize);
            }
          }};
}

Timed Ceilings::copy() {
  if (!from_.view()) {
    from_ = Tensor(DType::kU8, {kCopyBytes});
    to_ = Tensor(DType::kU8, {kCopyBytes});
  }
  return {"copy bandwidth (256 MiB)", [this] {
            parallel_for(kCopyBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
              std::memcpy(to_.view().data + begin, from_.view().data + begin,
                          static_cast<std::size_t>(end - begin));
            });
          }};
}

double Ceilings::gemm_gflops(double seconds) {
  return 2e-9 * kGemmRepeats * kGemmSize * kGemmSize * kGemmSize / seconds;
}

double Ceilings::copy_gb_per_second(double seconds) {
  return 2e-9 * static_cast<double>(kCopyBytes) / seconds;
}

}  // namespace fishermask::bench
