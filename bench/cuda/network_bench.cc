// Whole networks on the device: forward, plain forward + backward (evaluation mode, gradients of
// all weights), and the exact per-sample Fisher; each replayed from a recording, and launch by
// launch for comparison.
#include <algorithm>
#include <cstdlib>

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

// The setting is read when a device is opened.
std::shared_ptr<Device> open_with(Precision precision, bool recordings) {
  constexpr const char* kSetting = "FISHERMASK_CUDA_GRAPHS";
  const char* const before = std::getenv(kSetting);
  const std::string kept = before == nullptr ? "" : before;
  if (!recordings) setenv(kSetting, "off", 1);
  std::shared_ptr<Device> device = BenchRun::open(precision);
  if (before == nullptr) {
    unsetenv(kSetting);
  } else {
    setenv(kSetting, kept.c_str(), 1);
  }
  return device;
}

class NetworkBench {
 public:
  NetworkBench(BenchRun& run, const std::string& name, Precision precision, bool recordings)
      : plan_(run.settings().plan),
        device_(open_with(precision, recordings)),
        network_(bench::read_text(run.settings().graphs + "/" + name + ".json"),
                 batch_of(name, run.settings().smoke), 0, options()),
        work_(bench::work_of(network_.network.graph(), network_.samples)),
        ceiling_(matmul_gflops(run, precision_name(precision))) {
    plan_.most_repeats = 20;
    // What is only compared with takes less of the run's time.
    if (!recordings) plan_.rounds = std::min(plan_.rounds, 3);
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
    const RecordingCounts counts = device_->recording_counts();
    row["recordings"] = {{"on", device_->records()},
                         {"made", counts.made},
                         {"refused", counts.refused},
                         {"replays", counts.replays},
                         {"outdated", counts.outdated}};
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

Json measure_network(BenchRun& run, const std::string& name, Precision precision, bool recordings) {
  Json row = {{"network", name}, {"precision", precision_name(precision)}};
  row.update(NetworkBench(run, name, precision, recordings).measure());
  return row;
}

// Beside each pass: its milliseconds launch by launch, and how many times as long that is.
void compare_passes(Json& row, const Json& direct) {
  for (const char* const pass : {"forward", "forwardBackward", "fisher"}) {
    const Json& milliseconds = direct[pass]["milliseconds"];
    row[pass]["millisecondsWithoutRecording"] = milliseconds;
    row[pass]["recordingGain"] =
        milliseconds.get<double>() / row[pass]["milliseconds"].get<double>();
  }
}

void for_each_network(BenchRun& run, const std::string& suffix,
                      const std::function<void(const std::string&, Precision)>& work) {
  for (const std::string& name : run.settings().networks) {
    for (const Precision precision : run.settings().precisions) {
      run.step("network " + name + ", " + std::string(precision_name(precision)) + suffix,
               [&] { work(name, precision); });
    }
  }
}

}  // namespace

// What is only compared with comes last: a run that gets late leaves it out first.
void run_networks(BenchRun& run) {
  Json& rows = run.document()["networks"] = Json::array();
  for_each_network(run, "", [&](const std::string& name, Precision precision) {
    rows.push_back(measure_network(run, name, precision, true));
  });
  for_each_network(run, ", launch by launch", [&](const std::string& name, Precision precision) {
    for (Json& row : rows) {
      if (row["network"] != name || row["precision"] != precision_name(precision)) continue;
      compare_passes(row, measure_network(run, name, precision, false));
    }
  });
}

}  // namespace fishermask::cuda_bench
