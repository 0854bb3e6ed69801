// Masking the top share on the device, beside its own copy bandwidth.
#include "bench_run.h"
#include "mask_work.h"

namespace fishermask::cuda_bench {
namespace {

// What has to move: weights and both sums read, masked weights written, one bit a unit written.
double least_bytes(std::int64_t params, std::int64_t masked) {
  return 12.0 * static_cast<double>(params) + 4.0 * static_cast<double>(masked) +
         static_cast<double>(params) / 8;
}

void measure(BenchRun& run, std::int64_t params, const std::string& distribution) {
  const std::shared_ptr<Device> device = BenchRun::open(Precision::kF32);
  MaskWork work(*device, mask_settings(params, distribution));
  const std::int64_t before = device->allocated_bytes();
  const auto time_masking = [&](bool read_keep) {
    return time_work(
        *device, run.settings().plan, [&] { work.mask(read_keep); }, [&] { work.restore(); });
  };
  const Timing alone = time_masking(false);
  const Timing timing = time_masking(true);
  const std::int64_t workspace = device->allocated_bytes() - before;
  const double bytes = least_bytes(params, work.result.total_masked);
  const Json& copy = run.document()["ceilings"]["copy"];
  const double ceiling = copy.is_null() ? 0 : copy["gbPerSecond"].get<double>();
  const auto share = [&](double seconds) {
    return ceiling > 0 ? Json(1e-9 * bytes / seconds / ceiling) : Json(nullptr);
  };
  Json row = {{"params", params},
              {"distribution", distribution},
              {"masked", work.result.total_masked},
              {"passes", work.result.passes},
              {"bytes", bytes},
              {"gbPerSecond", 1e-9 * bytes / timing.median()},
              {"ofCopy", share(timing.median())},
              {"millisecondsWithoutDownload", 1e3 * alone.median()},
              {"ofCopyWithoutDownload", share(alone.median())},
              {"workspaceBytes", workspace}};
  row.update(describe(timing));
  run.document()["topK"].push_back(row);
}

}  // namespace

void run_top_k(BenchRun& run) {
  run.document()["topK"] = Json::array();
  const std::int64_t memory = BenchRun::open(Precision::kF32)->info().memory_bytes;
  const auto one = [&](std::int64_t params, const std::string& distribution) {
    const std::string name = "top-k, " + std::to_string(params) + ", " + distribution;
    // A quarter more for the masking itself, and for what the driver keeps.
    if (MaskWork::bytes(params) > memory / 5 * 4) {
      run.skip(name, "the device has too little memory");
      return;
    }
    run.step(name, [&] { measure(run, params, distribution); });
  };
  for (const std::int64_t params : run.settings().params) one(params, "lognormal");
  // Ties: every score the same, and two scores.
  const std::int64_t tied = run.settings().smoke ? 5000 : 100'000'000;
  for (const char* const distribution : {"equal", "two-values"}) one(tied, distribution);
}

}  // namespace fishermask::cuda_bench
