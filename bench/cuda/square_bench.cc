// Squared-gradient accumulation, shape by shape and at every precision, beside the rate of a linear
// layer; what wgmma takes, by the tiles too.
#include <cstdlib>

#include "bench_run.h"
#include "square_cases.h"

namespace fishermask::cuda_bench {
namespace {

constexpr const char* kSwitch = "FISHERMASK_CUDA_WGMMA";

// The same with wgmma switched off, beside the row that it took.
void measure_tiles(BenchRun& run, Device& device, SquareWork& work, double operations, Json& row) {
  const char* const found = std::getenv(kSwitch);
  const std::string before = found == nullptr ? "checked" : found;
  FM_CHECK(setenv(kSwitch, "off", 1) == 0, INTERNAL, "could not set ", kSwitch);
  const Timing timing = time_work(device, run.settings().plan, [&] { work.run(); });
  FM_CHECK(setenv(kSwitch, before.c_str(), 1) == 0, INTERNAL, "could not set ", kSwitch);
  row["tiles"] = describe(timing);
  row["tiles"]["gflops"] = 1e-9 * operations / timing.median();
}

void measure(BenchRun& run, Precision precision, const SquareCase& one) {
  const std::shared_ptr<Device> device = BenchRun::open(precision);
  SquareWork work(*device, one);
  const Timing timing = time_work(*device, run.settings().plan, [&] { work.run(); });
  const SquareReport report = device->square_report();
  const double gflops = 1e-9 * one.operations() / timing.median();
  const double ceiling = matmul_gflops(run, precision_name(precision));
  Json row = {{"shape", one.name},
              {"precision", precision_name(precision)},
              {"batch", one.batch},
              {"k", one.positions()},
              {"operations", one.operations()},
              {"kernel", report.kernel},
              {"wgmma", report.wgmma},
              {"gflops", gflops},
              {"ofMatmul", ceiling > 0 ? Json(gflops / ceiling) : Json(nullptr)}};
  row.update(describe(timing));
  if (report.kernel == "wgmma") measure_tiles(run, *device, work, one.operations(), row);
  run.document()["squares"].push_back(row);
}

}  // namespace

void run_squares(BenchRun& run) {
  run.document()["squares"] = Json::array();
  for (const SquareCase& one : timed_square_cases(run.settings().smoke)) {
    for (const Precision precision : run.settings().precisions) {
      run.step("squares, " + one.name + ", " + std::string(precision_name(precision)),
               [&] { measure(run, precision, one); });
    }
  }
}

}  // namespace fishermask::cuda_bench
