// The three products of convolutions, by own kernels and by cuDNN where it is installed: which of
// the two a device should use.
#include <cstdlib>

#include "bench_run.h"
#include "device_array.h"

namespace fishermask::cuda_bench {
namespace {

// conv2d of (batch, size, size, in) to `out` channels, padded so that stride 1 keeps the size.
struct ConvCase {
  std::int64_t batch = 1, size = 1, in = 1, out = 1, kernel = 1, stride = 1;

  [[nodiscard]] std::string name() const {
    const auto number = [](std::int64_t value) { return std::to_string(value); };
    return number(kernel) + "x" + number(kernel) + (stride > 1 ? "/" + number(stride) : "") + ", " +
           number(in) + " -> " + number(out) + " at " + number(size) + "x" + number(size);
  }
  [[nodiscard]] std::int64_t out_size() const {
    return (size + 2 * (kernel / 2) - kernel) / stride + 1;
  }
  // 2 for each product, those with padding too.
  [[nodiscard]] double operations() const {
    return 2.0 * static_cast<double>(batch * out_size() * out_size() * out * in * kernel * kernel);
  }
  [[nodiscard]] NodeSpec node() const {
    const std::int64_t pad = kernel / 2;
    NodeSpec node;
    node.name = "conv";
    node.op = "conv2d";
    node.inputs = {{{size, size, in}}};
    node.outputs = {{{out_size(), out_size(), out}}};
    node.parameters = {{"weight", {out, in, kernel, kernel}}};
    node.attributes = Attributes({{"stride", std::vector<std::int64_t>{stride, stride}},
                                  {"padding", std::vector<std::int64_t>{pad, pad, pad, pad}}});
    return node;
  }
};

// Of ResNet-18 and ResNet-50 on 224 x 224.
std::vector<ConvCase> conv_cases(bool smoke) {
  if (smoke) return {{2, 5, 8, 12, 3, 1}};
  return {{64, 224, 3, 64, 7, 2},
          {64, 56, 64, 64, 3, 1},
          {64, 56, 64, 256, 1, 1},
          {64, 28, 128, 256, 3, 2},
          {64, 14, 256, 256, 3, 1}};
}

// A case with random operands, and its products one at a time.
class ConvWork {
 public:
  ConvWork(Device& device, const ConvCase& of)
      : x_(random_array(device, of.batch * of.size * of.size * of.in, 6)),
        y_(device, of.batch * of.out_size() * of.out_size() * of.out),
        grad_x_(device, x_.count()),
        grad_y_(random_array(device, y_.count(), 7)),
        weight_(random_array(device, of.out * of.in * of.kernel * of.kernel, 8)),
        grad_weight_(device, weight_.count()),
        kernel_(device.make_kernel(of.node(), of.batch)) {
    FM_CHECK(kernel_ != nullptr, UNSUPPORTED, "the backend has no conv2d");
    grad_weight_.zero();
    const Shape x_shape = {of.batch, of.size, of.size, of.in};
    const Shape y_shape = {of.batch, of.out_size(), of.out_size(), of.out};
    const Shape weight_shape = {of.out, of.in, of.kernel, of.kernel};
    io_.batch = of.batch;
    io_.inputs = {x_.view(x_shape)};
    io_.outputs = {y_.view(y_shape)};
    io_.grad_outputs = {grad_y_.view(y_shape)};
    io_.grad_inputs = {TensorView{}};
    io_.accumulate = {false};
    io_.parameters = {{"weight", weight_.view(weight_shape)}};
    for_input_ = for_weight_ = io_;
    for_input_.grad_inputs = {grad_x_.view(x_shape)};
    for_weight_.grad_parameters = {{"weight", grad_weight_.view(weight_shape)}};
    kernel_->forward(io_);
  }
  void forward() { kernel_->forward(io_); }
  void input_gradient() { kernel_->backward(for_input_); }
  void weight_gradient() { kernel_->backward(for_weight_); }

 private:
  DeviceArray<float> x_, y_, grad_x_, grad_y_, weight_, grad_weight_;
  std::unique_ptr<Kernel> kernel_;
  NodeIo io_, for_input_, for_weight_;
};

// A device whose convolutions are by own kernels, whatever is installed.
std::shared_ptr<Device> open_without_cudnn(Precision precision) {
  const char* const before = std::getenv("FISHERMASK_CUDNN");
  const std::string kept = before == nullptr ? "" : before;  // empty is as good as unset
  setenv("FISHERMASK_CUDNN", "off", 1);
  std::shared_ptr<Device> device = BenchRun::open(precision);
  setenv("FISHERMASK_CUDNN", kept.c_str(), 1);
  return device;
}

void measure(BenchRun& run, Device& device, const ConvCase& one) {
  ConvWork work(device, one);
  const auto timed = [&](const std::function<void()>& product) {
    const Timing timing = time_work(device, run.settings().plan, product);
    Json entry = {{"gflops", 1e-9 * one.operations() / timing.median()}};
    entry.update(describe(timing));
    return entry;
  };
  run.document()["convolutions"].push_back(
      {{"shape", one.name()},
       {"precision", precision_name(device.precision())},
       {"library", device.info().convolution_library},
       {"batch", one.batch},
       {"operations", one.operations()},
       {"forward", timed([&] { work.forward(); })},
       {"inputGradient", timed([&] { work.input_gradient(); })},
       {"weightGradient", timed([&] { work.weight_gradient(); })}});
}

}  // namespace

void run_convolutions(BenchRun& run) {
  run.document()["convolutions"] = Json::array();
  for (const ConvCase& one : conv_cases(run.settings().smoke)) {
    for (const Precision precision : run.settings().precisions) {
      const std::string name =
          "convolutions, " + one.name() + ", " + std::string(precision_name(precision));
      run.step(name + ", own kernels", [&] { measure(run, *open_without_cudnn(precision), one); });
      const std::shared_ptr<Device> device = BenchRun::open(precision);
      if (device->info().convolution_library == "own kernels") continue;
      run.step(name + ", cuDNN", [&] { measure(run, *device, one); });
    }
  }
}

}  // namespace fishermask::cuda_bench
