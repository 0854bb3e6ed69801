// The benchmarks. Each returns one JSON document. All take --threads, --rounds and --clock
// wall|cpu.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>

#include "arguments.h"

namespace fishermask::bench {

using Json = nlohmann::ordered_json;

// A network's passes: samples a second, GFLOP/s, peak memory. Its network: --graph FILE or
// --graph-json TEXT. --batch, --seed.
[[nodiscard]] Json network_benchmark(const Arguments& arguments);
// How the Fisher's time grows: --axis samples (batches of one network) or parameters (the networks
// of --graphs-json, a JSON list). --batch, --seed, --steps (how often the samples double).
[[nodiscard]] Json doubling_benchmark(const Arguments& arguments);
// Where a network's passes spend their time, by op. --graph FILE, --graph-json TEXT, --batch,
// --seed.
[[nodiscard]] Json op_benchmark(const Arguments& arguments);
// The squared-gradient kernels alone, shape by shape. --batch, --seed, --only PART-OF-A-NAME.
[[nodiscard]] Json kernel_benchmark(const Arguments& arguments);
// Scores and exact selection. `fishermask bench mask` hands on --params, --ratio, --distribution,
// --unit, --dump PREFIX, --stream DIR and a --seed that is not 0.
[[nodiscard]] Json mask_benchmark(const Arguments& arguments);

// Runs the benchmark of that name on the calling thread, with --threads threads. `stop` ends it
// between two timed pieces once it is set. Errors: ARGUMENT, ABORTED, and those of what is
// measured.
[[nodiscard]] Json run_benchmark(const std::string& name, const Arguments& arguments,
                                 const std::atomic<bool>* stop = nullptr);

}  // namespace fishermask::bench
