// Squared-gradient accumulation, shape by shape and at every precision, beside the rate of a linear
// layer.
#include "bench_run.h"
#include "square_cases.h"

namespace fishermask::cuda_bench {
namespace {

void measure(BenchRun& run, Precision precision, const SquareCase& one) {
  const std::shared_ptr<Device> device = BenchRun::open(precision);
  SquareWork work(*device, one);
  const Timing timing = time_work(*device, run.settings().plan, [&] { work.run(); });
  const double gflops = 1e-9 * one.operations() / timing.median();
  const double ceiling = matmul_gflops(run, precision_name(precision));
  Json row = {{"shape", one.name},
              {"precision", precision_name(precision)},
              {"batch", one.batch},
              {"k", one.positions()},
              {"operations", one.operations()},
              {"gflops", gflops},
              {"ofMatmul", ceiling > 0 ? Json(gflops / ceiling) : Json(nullptr)}};
  row.update(describe(timing));
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
