// Whole networks on the device: forward, plain forward + backward (evaluation mode, gradients of
// all weights), and the exact per-sample Fisher.
#include "bench/native/bench_network.h"
#include "bench/native/evaluation_backward.h"
#include "bench/native/work.h"
#include "bench_run.h"
#include "fisher/fisher_pass.h"

namespace fishermask::cuda_bench {
namespace {

// The same batches as bench/cuda/compare.py.
std::int64_t batch_of(const std::string& network, bool smoke) {
  if (smoke) return 2;
  if (network == "vit_b16") return 64;
  return network == "gpt2_124m" ? 8 : 512;
}

class NetworkBench {
 public:
  NetworkBench(BenchRun& run, const std::string& name, Precision precision)
      : plan_(run.settings().plan),
        device_(BenchRun::open(precision)),
        network_(bench::read_text(run.settings().graphs + "/" + name + ".json"),
                 batch_of(name, run.settings().smoke), 0, options()),
        work_(bench::work_of(network_.network.graph(), network_.samples)),
        ceiling_(matmul_gflops(run, precision_name(precision))) {
    plan_.most_repeats = 20;
  }

  // Passes one after the other: each has the device's memory for itself.
  Json measure() {
    Json row = {{"batch", network_.samples}, {"parameters", network_.parameter_count()}};
    row["forward"] = describe_pass(
        [&] { (void)evaluate_batch(network_.network, network_.batch, network_.labels, 1.0, {}); },
        work_.forward.operations);
    {
      bench::EvaluationBackward backward(network_);
      row["forwardBackward"] =
          describe_pass([&] { backward(); }, work_.forward_backward().operations);
    }
    FisherPass fisher(network_.network, {});
    row["fisher"] = describe_pass([&] { fisher.step(network_.batch, network_.labels, 0); },
                                  work_.fisher().operations);
    row["fisherOverForwardBackward"] = row["fisher"]["milliseconds"].get<double>() /
                                       row["forwardBackward"]["milliseconds"].get<double>();
    return row;
  }

 private:
  [[nodiscard]] NetworkOptions options() const {
    NetworkOptions options;
    options.device = device_;
    return options;
  }
  Json describe_pass(const std::function<void()>& pass, double operations) {
    const Timing timing = time_work(*device_, plan_, pass);
    const double gflops = 1e-9 * operations / timing.median();
    Json row = {{"samplesPerSecond", static_cast<double>(network_.samples) / timing.median()},
                {"gflops", gflops},
                {"ofMatmul", ceiling_ > 0 ? Json(gflops / ceiling_) : Json(nullptr)},
                {"deviceBytes", device_->allocated_bytes()}};
    row.update(describe(timing));
    return row;
  }

  TimingPlan plan_;
  std::shared_ptr<Device> device_;
  bench::BenchNetwork network_;
  bench::NetworkWork work_;
  double ceiling_;
};

}  // namespace

void run_networks(BenchRun& run) {
  run.document()["networks"] = Json::array();
  for (const std::string& name : run.settings().networks) {
    for (const Precision precision : run.settings().precisions) {
      run.step("network " + name + ", " + std::string(precision_name(precision)), [&] {
        NetworkBench bench(run, name, precision);
        Json row = {{"network", name}, {"precision", precision_name(precision)}};
        row.update(bench.measure());
        run.document()["networks"].push_back(row);
      });
    }
  }
}

}  // namespace fishermask::cuda_bench
