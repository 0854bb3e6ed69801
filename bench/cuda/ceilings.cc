// What the device can do at most, measured in the same run: bandwidth of a copy, rate of a large
// linear layer.
#include "bench_run.h"
#include "device_array.h"

namespace fishermask::cuda_bench {
namespace {

void measure_copy(BenchRun& run) {
  const std::int64_t bytes = std::int64_t{1} << (run.settings().smoke ? 16 : 30);
  const std::shared_ptr<Device> device = BenchRun::open(Precision::kF32);
  const DeviceArray<std::uint8_t> from(*device, bytes);
  const DeviceArray<std::uint8_t> to(*device, bytes);
  from.zero();
  const Timing timing =
      time_work(*device, run.settings().plan, [&] { device->copy(to.raw(), from.raw(), bytes); });
  Json copy = {{"bytes", bytes},
               {"gbPerSecond", 2e-9 * static_cast<double>(bytes) / timing.median()}};
  copy.update(describe(timing));
  run.document()["ceilings"]["copy"] = copy;
}

// y (size, size) = x (size, size) · Wᵀ by the backend's own linear op.
void measure_matmul(BenchRun& run, Device& device, std::int64_t size) {
  NodeSpec node;
  node.name = "ceiling";
  node.op = "linear";
  node.inputs = {{{size}}};
  node.outputs = {{{size}}};
  node.parameters = {{"weight", {size, size}}};
  const std::unique_ptr<Kernel> kernel = device.make_kernel(node, size);
  FM_CHECK(kernel != nullptr, UNSUPPORTED, "the backend has no linear op");
  const DeviceArray<float> x = random_array(device, size * size, 2);
  const DeviceArray<float> weight = random_array(device, size * size, 3);
  const DeviceArray<float> y(device, size * size);
  NodeIo io;
  io.batch = size;
  io.inputs = {x.view({size, size})};
  io.outputs = {y.view({size, size})};
  io.parameters = {{"weight", weight.view({size, size})}};
  const Timing timing = time_work(device, run.settings().plan, [&] { kernel->forward(io); });
  const auto edge = static_cast<double>(size);
  Json row = {{"precision", precision_name(device.precision())},
              {"size", size},
              {"gflops", 2e-9 * edge * edge * edge / timing.median()}};
  row.update(describe(timing));
  run.document()["ceilings"]["matmul"].push_back(row);
}

}  // namespace

void run_ceilings(BenchRun& run) {
  run.document()["ceilings"] = {{"copy", nullptr}, {"matmul", Json::array()}};
  run.step("copy bandwidth", [&] { measure_copy(run); });
  for (const Precision precision : run.settings().precisions) {
    run.step("matmul rate, " + std::string(precision_name(precision)), [&] {
      const std::shared_ptr<Device> device = BenchRun::open(precision);
      // The larger one is the ceiling, unless its operands leave the caches too often.
      const std::vector<std::int64_t> sizes = run.settings().smoke
                                                  ? std::vector<std::int64_t>{65}
                                                  : std::vector<std::int64_t>{4096, 8192};
      for (const std::int64_t size : sizes) measure_matmul(run, *device, size);
    });
  }
}

double matmul_gflops(const BenchRun& run, std::string_view precision) {
  const Json& document = run.document();
  double best = 0;
  if (!document.contains("ceilings")) return best;
  for (const Json& row : document["ceilings"]["matmul"]) {
    if (row["precision"] == precision) best = std::max(best, row["gflops"].get<double>());
  }
  return best;
}

}  // namespace fishermask::cuda_bench
