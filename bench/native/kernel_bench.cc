// The fused squared-gradient kernels on the shapes that real networks have, beside the GEMM ceiling
// of the same run. Operations: two per product that exists (products with padding do not), squares
// not counted.
#include <algorithm>

#include "bench_network.h"
#include "benchmarks.h"
#include "ceilings.h"
#include "document.h"
#include "fisher/contraction.h"
#include "timing.h"

namespace fishermask::bench {
namespace {

struct KernelShape {
  std::string name;
  std::int64_t in, out;  // channels
  std::int64_t rows, columns, kernel;
  std::int64_t groups = 1;
};

std::vector<KernelShape> shapes() {
  return {
      {"conv 3x3, 3 -> 16 at 32x32", 3, 16, 32, 32, 3},
      {"conv 3x3, 16 -> 16 at 32x32", 16, 16, 32, 32, 3},
      {"conv 3x3, 32 -> 32 at 16x16", 32, 32, 16, 16, 3},
      {"conv 3x3, 64 -> 64 at 32x32", 64, 64, 32, 32, 3},
      {"conv 3x3, 64 -> 64 at 8x8", 64, 64, 8, 8, 3},
      {"conv 3x3, 128 -> 128 at 16x16", 128, 128, 16, 16, 3},
      {"conv 3x3, 256 -> 256 at 8x8", 256, 256, 8, 8, 3},
      {"conv 3x3, 512 -> 512 at 4x4", 512, 512, 4, 4, 3},
      {"conv 3x3, 512 -> 512 at 2x2", 512, 512, 2, 2, 3},
      {"conv 1x1, 64 -> 128 at 16x16", 64, 128, 16, 16, 1},
      {"depthwise 3x3, 128 at 16x16", 128, 128, 16, 16, 3, 128},
      {"linear, 192 -> 576, 65 tokens", 192, 576, 1, 65, 1},
      {"linear, 768 -> 192, 65 tokens", 768, 192, 1, 65, 1},
      {"linear, 384 -> 1536, 128 tokens", 384, 1536, 1, 128, 1},
      {"linear, 384 -> 384, 16 tokens", 384, 384, 1, 16, 1},
      {"linear, 384 -> 8192, 128 tokens", 384, 8192, 1, 128, 1},
      {"linear, 512 -> 512, vectors", 512, 512, 1, 1, 1},
  };
}

class KernelBench {
 public:
  KernelBench(const KernelShape& shape, std::int64_t batch, std::uint64_t seed)
      : grad_output_(DType::kF32, {batch, shape.rows, shape.columns, shape.out}),
        input_(DType::kF32, {batch, shape.rows, shape.columns, shape.in}),
        sums_(static_cast<std::size_t>(shape.out * shape.in / shape.groups * shape.kernel *
                                       shape.kernel)) {
    fill_uniform(grad_output_.view(), -1, 1, (seed << 20U) + 1);
    fill_uniform(input_.view(), -1, 1, (seed << 20U) + 2);
    form_.grad_output = grad_output_.as<float>();
    form_.input = input_.as<float>();
    form_.batch = batch;
    form_.in_height = form_.out_height = shape.rows;
    form_.in_width = form_.out_width = shape.columns;
    form_.in_channels = shape.in;
    form_.out_channels = shape.out;
    form_.kernel_height = form_.kernel_width = shape.kernel;
    form_.pad_top = form_.pad_left = shape.kernel / 2;
    form_.groups = shape.groups;
  }
  void run() { accumulate_contraction(form_, sums_.data()); }

  [[nodiscard]] double operations() const {
    const auto taps = [](std::int64_t size, std::int64_t kernel) {
      return size * kernel - 2 * (kernel / 2) * (kernel / 2 + 1) / 2;
    };
    return 2.0 * static_cast<double>(form_.batch * form_.out_channels * form_.in_channels /
                                     form_.groups * taps(form_.out_height, form_.kernel_height) *
                                     taps(form_.out_width, form_.kernel_width));
  }
  // Gradients and inputs once, f32; sums read and written, f64.
  [[nodiscard]] double bytes() const {
    return 4.0 * static_cast<double>(grad_output_.count() + input_.count()) +
           16.0 * static_cast<double>(sums_.size());
  }

 private:
  Tensor grad_output_, input_;
  std::vector<double> sums_;
  ContractionForm form_;
};

// Adds the pieces' seconds to those of the same place in `all`.
void join_seconds(std::vector<Timed>& all, const std::vector<Timed>& pieces) {
  if (all.empty()) {
    all = pieces;
    return;
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    std::vector<double>& seconds = all[i].seconds;
    seconds.insert(seconds.end(), pieces[i].seconds.begin(), pieces[i].seconds.end());
    std::sort(seconds.begin(), seconds.end());
  }
}

}  // namespace

Json kernel_benchmark(const Arguments& arguments) {
  arguments.check_known({"batch", "only", "seed"});
  const int rounds = rounds_of(arguments, 9);
  const std::int64_t batch = arguments.count("batch", 64);
  const std::string only = arguments.string("only", "");
  const auto seed = static_cast<std::uint64_t>(arguments.integer("seed", 0));
  Ceilings ceilings;
  Json kernels = Json::array();
  std::vector<Timed> all_ceilings;
  for (const KernelShape& shape : shapes()) {
    if (shape.name.find(only) == std::string::npos) continue;
    KernelBench kernel(shape, batch, seed);
    std::vector<Timed> pieces = {
        {"kernel", [&] { kernel.run(); }}, ceilings.gemm(), ceilings.copy()};
    run_rounds(pieces, rounds, clock_of(arguments));
    const double rate = 1e-9 * kernel.operations() / pieces[0].median();
    const double peak = Ceilings::gemm_gflops(pieces[1].median());
    Json row = {{"kernel", shape.name}};
    row.update(describe(pieces[0]));
    row.update(Json{{"gflops", rate},
                    {"gemmGflops", peak},
                    {"ofGemmCeiling", rate / peak},
                    {"operations", kernel.operations()},
                    {"bytes", kernel.bytes()},
                    {"intensity", kernel.operations() / kernel.bytes()}});
    kernels.push_back(row);
    join_seconds(all_ceilings, pieces);
  }
  FM_CHECK(!kernels.empty(), ARGUMENT,
           "Expected a part of a kernel's name for --only but received ", only);
  Json document = {{"batch", batch}};
  document.update(settings_of(arguments, rounds));
  document["kernels"] = kernels;
  document["ceilings"] = describe_ceilings(all_ceilings[1], all_ceilings[2]);
  document["definitions"] = {
      {"operations",
       "2 for each product of the per-sample gradients (without those with padding); the squares "
       "do not count"},
      {"bytes", "gradients and inputs once, f32; sums of squares read and written, f64"},
      {"intensity", "operations / bytes"},
      {"gemmGflops", "of the same rounds as the kernel; ceilings: over all rounds"},
      {"milliseconds", "median over the rounds; every round runs kernel and ceilings once"},
      {"spread", "(third quartile - first quartile) / median"}};
  return document;
}

}  // namespace fishermask::bench
