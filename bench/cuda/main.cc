// fishermask_cuda_bench [--smoke] [--name value]...: the CUDA backend checked and timed on the
// device at hand, without Node. The library is the one beside the program, or
// FISHERMASK_CUDA_LIBRARY. Writes one JSON document (--json FILE) and prints short tables. Exit
// code: 1 when a check or a step failed, 2 when it could not begin.
//   --info                        the device alone, as JSON
//   --sections  correctness,ceilings,squares,topK,networks,convolutions
//   --precisions f32,tf32,bf16
//   --params    1e6,1e7,1e8,1e9   sizes of the masking
//   --networks  resnet20,resnet18,vit_b16,gpt2_124m
//   --graphs    bench/graphs      where their graphs are
//   --rounds N, --threads N (of the host), --time-limit SECONDS (nothing new is begun after it)
//   --smoke                       tiny sizes, one round: for the emulation
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>

#include "bench_run.h"

namespace {

using namespace fishermask;
using namespace fishermask::cuda_bench;

// Takes a word that stands alone out of the pairs.
bool take_flag(std::vector<std::string>& words, const std::string& flag) {
  return std::erase(words, flag) > 0;
}

void print_info() {
  std::cout << describe(BenchRun::open(Precision::kF32)->info()).dump(1) << "\n";
}

Json definitions() {
  return {
      {"milliseconds", "median over the rounds of the time of one repeat, by the host's clock"},
      {"spread", "(third quartile - first quartile) / median"},
      {"copy", "device to device; bytes read and bytes written both counted"},
      {"matmul", "the backend's linear op, f32 operands in memory, 2 for each product"},
      {"squares.operations",
       "2 for each product of the per-sample gradients (without those with padding); squares do "
       "not "
       "count"},
      {"ofMatmul", "gflops over the fastest linear op of the same precision and run"},
      {"topK.bytes",
       "weights and both Fishers read, masked weights and one bit a unit written: the least that "
       "has to move"},
      {"ofCopy", "gbPerSecond over that of the copy; the time has the keep-mask's download in it"},
      {"ofCopyWithoutDownload", "the same where the keep-mask is left on the device"},
      {"convolutions",
       "each product alone, with what its library needs around it: ordered weights"},
      {"networks.operations", "as bench/native: docs/performance.md"},
      {"forwardBackward", "evaluation mode, gradients of all weights summed over the batch"},
      {"fisher", "exact: squares of each sample's own gradients, summed in f64; the data's labels"},
      {"recordingGain", "millisecondsWithoutRecording / milliseconds: FISHERMASK_CUDA_GRAPHS=off"},
      {"recordings", "of CUDA graphs, on the device that the network's row was measured on"},
      {"deviceBytes", "memory that the pool holds after the pass"}};
}

int run_all(const Settings& settings) {
  BenchRun run(settings);
  run.document()["definitions"] = definitions();
  run.section("correctness", [&] { run_correctness(run); });
  run.section("ceilings", [&] { run_ceilings(run); });
  run.section("squares", [&] { run_squares(run); });
  run.section("topK", [&] { run_top_k(run); });
  run.section("networks", [&] { run_networks(run); });
  run.section("convolutions", [&] { run_convolutions(run); });
  run.save();
  print_tables(run.document());
  std::printf("\n%s\n", run.failed() ? "FAILED" : "ok");
  return run.failed() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  try {
    if (take_flag(words, "--info")) {
      print_info();
      return 0;
    }
    const bool smoke = take_flag(words, "--smoke");
    return run_all(settings_of(bench::Arguments::of_words(words), smoke));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
