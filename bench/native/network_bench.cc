// A network's passes side by side: what a plain framework does for a batch, and the exact
// per-sample Fisher.
#include "bench_network.h"
#include "benchmarks.h"
#include "ceilings.h"
#include "document.h"
#include "evaluation_backward.h"
#include "fisher/fisher_pass.h"
#include "memory.h"
#include "optim/trainer.h"
#include "timing.h"
#include "work.h"

namespace fishermask::bench {
namespace {

constexpr int kDefaultRounds = 9;
// The second step finds every buffer that a first one leaves.
constexpr int kMemorySteps = 2;

struct Peaks {
  std::optional<std::int64_t> start, forward_backward, fisher;
};

void run_forward_backward(const Arguments& arguments) {
  BenchNetwork bench(arguments);
  EvaluationBackward backward(bench);
  for (int i = 0; i < kMemorySteps; ++i) backward();
}

void run_fisher(const Arguments& arguments) {
  BenchNetwork bench(arguments);
  FisherPass fisher(bench.network, {});
  for (int i = 0; i < kMemorySteps; ++i) fisher.step(bench.batch, bench.labels, 0);
}

// Each with its own network, weights and batch. The plain pass goes first: what it leaves behind
// (threads' stacks, oneDNN's compiled kernels) counts against the Fisher.
Peaks measure_peaks(const Arguments& arguments) {
  Peaks peaks;
  throw_if_stopped();
  trim_memory();
  peaks.start = resident_bytes();
  peaks.forward_backward = peak_during([&] { run_forward_backward(arguments); });
  throw_if_stopped();
  peaks.fisher = peak_during([&] { run_fisher(arguments); });
  trim_memory();
  return peaks;
}

Json optional_json(const std::optional<std::int64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}

void add_peak(Json& pass, const std::optional<std::int64_t>& peak,
              const std::optional<std::int64_t>& start) {
  pass["peakRssBytes"] = optional_json(peak);
  pass["peakRssAboveStartBytes"] =
      peak && start ? Json(std::max<std::int64_t>(*peak - *start, 0)) : Json(nullptr);
}

Json describe_pass(const Timed& piece, std::int64_t samples) {
  Json pass = {{"samplesPerSecond", static_cast<double>(samples) / piece.median()}};
  pass.update(describe(piece));
  return pass;
}

Json describe_pass(const Timed& piece, std::int64_t samples, const Work& work,
                   double gemm_seconds) {
  Json pass = describe_pass(piece, samples);
  const double gflops = 1e-9 * work.operations / piece.median();
  pass["gflops"] = gflops;
  pass["ofGemmCeiling"] = gflops / Ceilings::gemm_gflops(gemm_seconds);
  pass["operations"] = work.operations;
  pass["bytes"] = work.bytes;
  pass["intensity"] = work.intensity();
  return pass;
}

// Of the round's own times, so that a machine whose speed drifts slows both; `seconds` is by round.
double median_ratio(const std::vector<double>& seconds, const std::vector<double>& of) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < seconds.size(); ++i) ratios.push_back(seconds[i] / of[i]);
  std::sort(ratios.begin(), ratios.end());
  return ratios[ratios.size() / 2];
}

Json definitions() {
  return {
      {"operations",
       "2 for each product of a convolution (without those with padding), linear layer or "
       "attention: forward 1x; gradient of the inputs 1x (attention 2x; none where no parameter "
       "lies before); gradients of the parameters or their per-sample squares 1x. For a network "
       "of convolutions and linear layers that is 3x forward, less the first layer's input "
       "gradient."},
      {"bytes",
       "the operands of each node of the graph once: values and weights read, values and gradients "
       "written, f32; sums of squares read and written, f64"},
      {"intensity", "operations / bytes"},
      {"milliseconds", "median over the rounds; every round runs each piece once"},
      {"spread", "(third quartile - first quartile) / median"},
      {"forwardBackward",
       "evaluation mode, gradients of all weights summed over the batch (what a plain framework "
       "does)"},
      {"fisher", "exact: squares of each sample's own gradients, summed in f64; the data's labels"},
      {"peakRssBytes", "VmHWM of the process while the pass ran alone with its own network, twice"},
      {"peakRssAboveStartBytes",
       "peakRssBytes less what the process held before either pass was set up"}};
}

}  // namespace

Json network_benchmark(const Arguments& arguments) {
  arguments.check_known({"graph", "graph-json", "batch", "seed"});
  const int rounds = rounds_of(arguments, kDefaultRounds);
  const Clock clock = clock_of(arguments);
  const Peaks peaks = measure_peaks(arguments);

  BenchNetwork bench(arguments);
  EvaluationBackward backward(bench);
  FisherPass fisher(bench.network, {});
  OptimizerOptions sgd;
  sgd.momentum = 0.9;
  Trainer trainer(bench.network, sgd, 1);
  Ceilings ceilings;
  std::vector<Timed> pieces = {
      {"forward", [&] { (void)evaluate_batch(bench.network, bench.batch, bench.labels, 1.0, {}); }},
      {"forwardBackward", [&] { backward(); }},
      {"fisher", [&] { fisher.step(bench.batch, bench.labels, 0); }},
      // A rate of 0: the same work, and the weights stay what they are.
      {"trainingStep", [&] { (void)trainer.step(bench.batch, bench.labels, 0.0); }},
      ceilings.gemm(),
      ceilings.copy()};
  const std::vector<std::vector<double>> by_round = run_rounds(pieces, rounds, clock);

  const NetworkWork work = work_of(bench.network.graph(), bench.samples);
  const double gemm = pieces[4].median();
  Json document = {{"network", bench.network.graph().name()},
                   {"parameters", bench.parameter_count()},
                   {"batch", bench.samples}};
  document.update(settings_of(arguments, rounds));
  document["forward"] = describe_pass(pieces[0], bench.samples, work.forward, gemm);
  document["forwardBackward"] =
      describe_pass(pieces[1], bench.samples, work.forward_backward(), gemm);
  add_peak(document["forwardBackward"], peaks.forward_backward, peaks.start);
  document["fisher"] = describe_pass(pieces[2], bench.samples, work.fisher(), gemm);
  add_peak(document["fisher"], peaks.fisher, peaks.start);
  document["trainingStep"] = describe_pass(pieces[3], bench.samples);
  document["ceilings"] = describe_ceilings(pieces[4], pieces[5]);
  document["startRssBytes"] = optional_json(peaks.start);
  Json ratio = {{"time", median_ratio(by_round[2], by_round[1])}};
  const bool known = peaks.start && peaks.fisher && peaks.forward_backward &&
                     *peaks.forward_backward > *peaks.start;
  ratio["peakRssAboveStart"] =
      known ? Json(static_cast<double>(*peaks.fisher - *peaks.start) /
                   static_cast<double>(*peaks.forward_backward - *peaks.start))
            : Json(nullptr);
  document["fisherOverForwardBackward"] = ratio;
  document["definitions"] = definitions();
  return document;
}

}  // namespace fishermask::bench
