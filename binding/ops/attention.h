// What attention's reference and fast kernels share (ops/attention.cc says what the op computes).
#pragma once

#include <memory>

#include "core/attention_sizes.h"
#include "core/kernel.h"

namespace fishermask {

[[nodiscard]] std::unique_ptr<Kernel> make_attention_fast(const AttentionSizes& sizes);

}  // namespace fishermask
