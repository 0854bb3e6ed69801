// Included before Highway: what its targets may be here. Kernels keep arrays of vectors in
// registers, which vectors of a size unknown at compile time (SVE, RISC-V) cannot be in: such
// machines take NEON, or Highway's portable code.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
