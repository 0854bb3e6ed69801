// The benchmarks of this program. Each prints one JSON document. All take --threads and --clock
// wall|cpu.
#pragma once

#include "arguments.h"

namespace fishermask::bench {

// Samples a second of a network's passes. --graph FILE, --batch, --rounds.
void network_benchmark(const Arguments& arguments);
// Where a network's passes spend their time, by op. --graph FILE, --batch, --rounds.
void op_benchmark(const Arguments& arguments);
// The squared-gradient kernels alone, shape by shape. --batch, --rounds, --only PART-OF-A-NAME.
void kernel_benchmark(const Arguments& arguments);
// Scores and exact selection over --weights weights. --rounds.
void mask_benchmark(const Arguments& arguments);

}  // namespace fishermask::bench
