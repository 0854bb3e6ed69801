// Before anything is timed: squares against their definition in f64, masks against the CPU's engine
// to the bit, whole networks' Fishers against the CPU's. The tests (fishermask_cuda_tests) check
// every op; these are the sizes that the tests' emulation cannot run.
#include <cmath>
#include <cstring>

#include "bench/native/bench_network.h"
#include "bench_run.h"
#include "fisher/contraction.h"
#include "fisher/fisher_pass.h"
#include "mask/top_k.h"
#include "mask_work.h"
#include "square_cases.h"

namespace fishermask::cuda_bench {
namespace {

// Operands are rounded to 24, 11 or 8 bits before the products; a sum's relative error is of that
// order.
double limit_of(Precision precision) {
  switch (precision) {
    case Precision::kF32:
      return 1e-5;
    case Precision::kTf32:
      return 2e-3;
    default:
      return 2e-2;
  }
}

// A whole network's Fisher: rounding meets kinks of ReLU and cancels in p − 1, layer after layer,
// the more so on random weights. The emulation found 8e-7 (f32), 0.06 and 0.08 (TF32), 0.14 (bf16)
// on ResNet-20 and -18.
double network_limit_of(Precision precision) {
  switch (precision) {
    case Precision::kF32:
      return 1e-3;
    case Precision::kTf32:
      return 2e-1;
    default:
      return 6e-1;
  }
}

// ‖a − b‖ / ‖b‖
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double away = 0;
  double size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    away += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(away) / (size > 0 ? std::sqrt(size) : 1.0);
}

void check_squares(BenchRun& run, Precision precision, const SquareCase& one) {
  const std::shared_ptr<Device> device = BenchRun::open(precision);
  SquareWork work(*device, one);
  work.run();
  const std::vector<double> found = work.sums.read();
  const std::vector<float> grad_output = work.grad_output.read();
  const std::vector<float> input = work.input.read();
  ContractionForm form = one.form();
  form.grad_output = grad_output.data();
  form.input = input.data();
  std::vector<double> expected(found.size());
  accumulate_contraction_reference(form, expected.data());
  run.check("squares, " + one.name, precision_name(precision), distance(found, expected),
            limit_of(precision));
  // Twice the same work adds twice the same bits.
  work.sums.zero();
  work.run();
  run.check_equal("squares again, " + one.name + ", " + std::string(precision_name(precision)),
                  work.sums.read() == found);
}

void check_mask(BenchRun& run, std::int64_t params, const std::string& distribution) {
  const bench::MaskBenchSettings settings = mask_settings(params, distribution);
  const std::shared_ptr<Device> device = BenchRun::open(Precision::kF32);
  MaskWork work(*device, settings);
  work.restore();
  work.mask();
  const auto size = static_cast<std::size_t>(params);
  std::vector<float> weight(size), forget(size), remain(size);
  bench::draw_weights(settings, 0, weight);
  bench::draw_forget(settings, 0, forget);
  bench::draw_remain(settings, 0, remain);
  TopKTensor tensor;
  tensor.name = "weights";
  tensor.shape = {params};
  tensor.weight = weight.data();
  tensor.forget_sums = forget.data();
  tensor.remain_sums = remain.data();
  ScoreSettings scoring;
  scoring.forget_count = bench::kForgetCount;
  scoring.remain_count = bench::kRemainCount;
  TopKAmount amount;
  amount.k = ratio_to_k(settings.share, params);
  const TopKResult expected = mask_top_k(bench::ratio_program(), scoring, {&tensor, 1}, amount);
  const std::string name = "masking, " + std::to_string(params) + ", " + distribution;
  const Selection& selection = expected.selection;
  run.check_equal(name + ": keep-mask", work.result.keep.at(0) == selection.masks[0].bits);
  run.check_equal(name + ": counts", work.result.total_masked == selection.total_masked &&
                                         work.result.eligible == selection.rankings[0].eligible);
  run.check_equal(name + ": threshold", work.result.threshold == selection.rankings[0].threshold);
  run.check_equal(name + ": weights",
                  std::memcmp(work.weights().data(), weight.data(), size * sizeof(float)) == 0);
}

// One step on a few samples. The labels count up from 0 in either.
std::vector<std::vector<double>> fisher_of(const std::string& graph, std::int64_t batch,
                                           std::shared_ptr<Device> device) {
  NetworkOptions options;
  options.device = std::move(device);
  bench::BenchNetwork network(graph, batch, 0, options);
  FisherPass pass(network.network, {});
  pass.step(network.batch, network.labels, 0);
  return pass.square_sums();
}

void check_network(BenchRun& run, const std::string& name) {
  const std::string graph = bench::read_text(run.settings().graphs + "/" + name + ".json");
  const std::int64_t batch = name == "gpt2_124m" ? 1 : 2;
  const std::vector<std::vector<double>> expected = fisher_of(graph, batch, nullptr);
  for (const Precision precision : run.settings().precisions) {
    const std::vector<std::vector<double>> found =
        fisher_of(graph, batch, BenchRun::open(precision));
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      worst = std::max(worst, distance(found[i], expected[i]));
    }
    run.check("Fisher of " + name + " against the CPU's, worst tensor", precision_name(precision),
              worst, network_limit_of(precision));
  }
}

}  // namespace

void run_correctness(BenchRun& run) {
  const bool smoke = run.settings().smoke;
  for (const SquareCase& one : checked_square_cases(smoke)) {
    for (const Precision precision : run.settings().precisions) {
      run.step("check: squares, " + one.name + ", " + std::string(precision_name(precision)),
               [&] { check_squares(run, precision, one); });
    }
  }
  const std::int64_t params = smoke ? 5000 : 10'000'000;
  for (const char* const distribution : {"lognormal", "equal", "two-values", "denormal"}) {
    run.step(std::string("check: masking, ") + distribution,
             [&] { check_mask(run, params, distribution); });
  }
  for (const std::string& name : run.settings().networks) {
    run.step("check: Fisher of " + name, [&] { check_network(run, name); });
  }
}

}  // namespace fishermask::cuda_bench
