// Convolutions by cuDNN. On the emulation a stand-in that checks what it is told
// (tools/fake_cudnn.cc) is loaded in its place: results against the CPU's f64 reference, every way
// in which the library can refuse, and what a call costs after the first. On a GPU, whose other
// tests meet cuDNN where it is installed, own kernels are tried beside it.
#include <algorithm>
#include <cstdio>
#include <set>

#include "cuda/ops/image_cases.h"
#include "cuda/tools/fake_library.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr const char* kVariable = "FISHERMASK_CUDNN";
constexpr const char* kOwn = "own kernels";
const std::vector<std::string> kProducts = {
    "cudnnConvolutionForward", "cudnnConvolutionBackwardData", "cudnnConvolutionBackwardFilter"};

// The stand-in; none, with a word about it, where it cannot be used.
std::optional<FakeLibrary> fake_cudnn() {
  const std::string path = fake_library_path("fake_cudnn");
  if (!device().info().emulated) {
    std::puts("SKIPPED: the stand-in for cuDNN works on emulated memory alone");
    return std::nullopt;
  }
  if (path.empty()) {
    std::puts("SKIPPED: there is no libfake_cudnn.so beside the tests");
    return std::nullopt;
  }
  FakeLibrary fake(path, "fake_cudnn");
  fake.behave("plain");
  return fake;
}

std::shared_ptr<Device> fake_device(Precision precision = Precision::kF32,
                                    const char* name = "fake_cudnn") {
  return device_with(kVariable, fake_library_path(name), precision);
}

std::int64_t products_run(const FakeLibrary& fake) {
  std::int64_t sum = 0;
  for (const std::string& product : kProducts) sum += fake.count(product);
  return sum;
}

// Whether cuDNN can be told the case: own kernels take groups of few channels and padding that
// differs.
bool for_cudnn(const ImageCase& one) {
  const std::set<std::string> own = {"stride, dilation, asymmetric padding", "depthwise 5x5",
                                     "groups of 2 and 4 channels"};
  return !own.contains(one.sample.name);
}

std::vector<ImageCase> cases() {
  std::vector<ImageCase> all = convolutions();
  // Weights whose order is the engine's own.
  all.push_back(conv("1x1", {5, 7, 24}, {40, 24, 1, 1}, true, {}, 2));
  all.push_back(
      conv("1x1 in groups", {5, 4, 24}, {48, 8, 1, 1}, true, {{"groups", std::int64_t{3}}}, 2));
  all.push_back(conv("1x1 transposed", {5, 4, 24}, {24, 8, 1, 1}, true,
                     {{"stride", Integers{2, 1}}, {"output_padding", Integers{1, 0}}}, 2,
                     "conv_transpose2d"));
  return all;
}

ImageCase small_case() {
  return conv("small", {5, 6, 12}, {20, 12, 3, 3}, true, {{"padding", Integers{1, 1, 1, 1}}}, 2);
}

template <typename T>
void prefill(OpRun<T>& run) {
  std::uint64_t stream = 700;
  const auto fill = [&](const Tensor& tensor) {
    const std::vector<float> values = normals(tensor.count(), stream++);
    std::copy(values.begin(), values.end(), tensor.template as<T>());
  };
  for (const Tensor& gradient : run.grad_inputs) fill(gradient);
  for (const auto& [slot, gradient] : run.grad_parameters) fill(gradient);
  run.io.accumulate.assign(run.inputs.size(), true);
}

// Gradients added to what is there.
void check_accumulating(const ImageCase& one, Device& on, double tolerance) {
  OpRun<float> run(find_op(one.op), one.sample, false);
  OpRun<double> reference(find_op(one.op), one.sample, false);
  prefill(run);
  prefill(reference);
  DeviceRun there(run, on);
  const std::unique_ptr<Kernel> kernel = on.make_kernel(run.node(), one.sample.batch);
  kernel->forward(there.io);
  kernel->backward(there.io);
  there.read_back();
  reference.forward();
  reference.kernel().backward(reference.io);
  check_close(results_of(run), results_of(reference), tolerance);
}

// Two passes of one kernel against one of the reference: its output, and twice its gradients of
// parameters.
void check_twice(const ImageCase& one, Device& on) {
  OpRun<float> run(find_op(one.op), one.sample, false);
  OpRun<double> reference(find_op(one.op), one.sample, false);
  DeviceRun there(run, on);
  const std::unique_ptr<Kernel> kernel = on.make_kernel(run.node(), one.sample.batch);
  for (int pass = 0; pass < 2; ++pass) {
    kernel->forward(there.io);
    kernel->backward(there.io);
    reference.forward();
    reference.kernel().backward(reference.io);
  }
  there.read_back();
  check_close(results_of(run), results_of(reference), 1e-5);
}

}  // namespace

TEST_CASE("convolutions by cuDNN's stand-in against f64") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  for (const Bound& bound : kBounds) {
    if (bound.precision == Precision::kBf16) continue;
    CAPTURE(precision_name(bound.precision));
    const std::shared_ptr<Device> on = fake_device(bound.precision);
    CHECK(on->info().convolution_library == "cuDNN 9.12.34");
    for (const ImageCase& one : cases()) {
      CAPTURE(one.sample.name);
      fake->behave("plain");
      check_close(on_device(one, *on), on_host(one), bound.tolerance);
      for (const std::string& product : kProducts) {
        CAPTURE(product);
        CHECK(fake->count(product) == (for_cudnn(one) ? 1 : 0));
      }
      check_accumulating(one, *on, bound.tolerance);
      CHECK(fake->count("complaints") == 0);
    }
  }
}

TEST_CASE("convolutions by cuDNN's stand-in: f32 reads all bits, TF32 ten of the fraction") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  const Results expected = on_host(small_case());
  const auto away = [&](Precision precision) {
    const Results found = on_device(small_case(), *fake_device(precision));
    return relative_distance<float, double>(found.at("output 0"), expected.at("output 0"));
  };
  CHECK(away(Precision::kF32) < 1e-6);
  CHECK(away(Precision::kTf32) > 1e-5);
}

TEST_CASE("convolutions by cuDNN's stand-in are the same bits from run to run") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  for (const Precision precision : {Precision::kF32, Precision::kTf32}) {
    for (const ImageCase& one : cases()) {
      CAPTURE(one.sample.name);
      const Results first = on_device(one, *fake_device(precision));
      for (const auto& [name, tensor] : on_device(one, *fake_device(precision))) {
        CAPTURE(name);
        CHECK(same_bits(first.at(name), tensor));
      }
    }
  }
}

TEST_CASE("the residual sum and ReLU after a convolution by cuDNN's stand-in") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  const std::shared_ptr<Device> on = fake_device();
  const std::vector<ImageCase> fused = {
      small_case(), conv("no bias, odd channels", {4, 5, 8}, {7, 8, 3, 3}, false, {}, 2),
      conv("1x1", {4, 5, 8}, {12, 8, 1, 1}, true, {}, 3)};
  for (const ImageCase& one : fused) {
    CAPTURE(one.sample.name);
    for (const bool add : {false, true}) {
      CAPTURE(add);
      OpRun<float> run(find_op(one.op), one.sample, false);
      OpRun<double> reference(find_op(one.op), one.sample, false);
      DeviceRun there(run, *on);
      const Tensor residual =
          tensor_of<float>(run.outputs[0].shape(), normals(run.outputs[0].count(), 800));
      const DeviceTensor residual_there(residual, *on);
      const std::unique_ptr<Kernel> kernel = on->make_kernel(run.node(), one.sample.batch);
      REQUIRE(kernel->fuse({.add = add, .relu = true}));
      there.io.residual = residual_there.view();
      kernel->forward(there.io);
      there.read_back();
      reference.forward();
      double* const y = reference.outputs[0].as<double>();
      for (std::int64_t i = 0; i < residual.count(); ++i) {
        y[i] = std::max(y[i] + (add ? static_cast<double>(residual.as<float>()[i]) : 0.0), 0.0);
      }
      CHECK(relative_distance<float, double>(run.outputs[0], reference.outputs[0]) <= 1e-5);
    }
  }
  CHECK(fake->count("cudnnConvolutionForward") == 6);
}

TEST_CASE("a convolution by cuDNN's stand-in sees weights that changed between its calls") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  const std::shared_ptr<Device> on = fake_device();
  for (const ImageCase& one : {small_case(), conv("1x1", {4, 5, 8}, {12, 8, 1, 1}, true, {}, 3)}) {
    CAPTURE(one.sample.name);
    OpRun<float> run(find_op(one.op), one.sample, false);
    OpRun<double> reference(find_op(one.op), one.sample, false);
    DeviceRun there(run, *on);
    const std::unique_ptr<Kernel> kernel = on->make_kernel(run.node(), one.sample.batch);
    const Tensor& weight = run.parameters.at("weight");
    const auto change = [&](float by) {
      for (std::int64_t i = 0; i < weight.count(); ++i) {
        weight.as<float>()[i] *= by;
        reference.parameters.at("weight").as<double>()[i] *= static_cast<double>(by);
      }
      on->upload(there.io.parameter("weight").data, weight.view().data, weight.view().bytes());
    };
    const auto check_gradient = [&] {
      there.read_back();
      CHECK(relative_distance<float, double>(run.grad_inputs[0], reference.grad_inputs[0]) <= 1e-5);
    };
    kernel->backward(there.io);  // before any forward
    change(-2.0F);
    kernel->backward(there.io);
    reference.backward();
    check_gradient();
    change(0.5F);
    kernel->forward(there.io);
    kernel->backward(there.io);
    reference.forward();
    reference.backward();
    check_gradient();
    CHECK(relative_distance<float, double>(run.outputs[0], reference.outputs[0]) <= 1e-5);
  }
}

TEST_CASE("after its first pass a convolution by cuDNN takes no memory and asks nothing") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  const std::int64_t live = fake->count("live");
  {
    const std::shared_ptr<Device> on = fake_device();
    const ImageCase one = small_case();
    OpRun<float> run(find_op(one.op), one.sample, false);
    DeviceRun there(run, *on);
    const std::unique_ptr<Kernel> kernel = on->make_kernel(run.node(), one.sample.batch);
    const auto pass = [&] {
      kernel->forward(there.io);
      kernel->backward(there.io);
    };
    pass();
    CHECK(fake->count("cudnnCreate") == 1);
    CHECK(fake->count("cudnnCreateConvolutionDescriptor") == 3);
    CHECK(fake->count("cudnnGetConvolutionForwardAlgorithm_v7") == 1);
    CHECK(fake->count("cudnnGetConvolutionBackwardDataAlgorithm_v7") == 1);
    CHECK(fake->count("cudnnGetConvolutionBackwardFilterAlgorithm_v7") == 1);
    const std::int64_t bytes = on->allocated_bytes();
    fake->behave("plain");  // counts from 0
    pass();
    CHECK(products_run(*fake) == 3);
    CHECK(fake->count("calls") == 3);
    CHECK(on->allocated_bytes() == bytes);
    // A second problem shares the handle.
    const std::unique_ptr<Kernel> second = on->make_kernel(run.node(), one.sample.batch);
    second->forward(there.io);
    CHECK(fake->count("cudnnCreate") == 0);
    CHECK(fake->count("cudnnSetStream") == 0);
  }
  CHECK(fake->count("live") == live);
  CHECK(fake->count("complaints") == 0);
}

TEST_CASE("where cuDNN has no algorithm that may be taken, or fails, own kernels take over") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  for (const char* const behaviour : {"nondeterministic", "converting", "huge", "fail-offers"}) {
    for (const Precision precision : {Precision::kF32, Precision::kTf32}) {
      CAPTURE(behaviour);
      CAPTURE(precision_name(precision));
      fake->behave(behaviour);
      const ImageCase one = small_case();
      const std::shared_ptr<Device> on = fake_device(precision);
      check_close(on_device(one, *on), on_host(one), precision == Precision::kF32 ? 1e-5 : 2e-3);
      CHECK(products_run(*fake) == 0);
      CHECK(fake->count("complaints") == 0);
    }
  }
  {
    // An algorithm that may be taken, and no room for it.
    fake->behave("large");
    const WithEnvironment with("FISHERMASK_EMULATED_MEMORY", "100000000");
    check_twice(small_case(), *fake_device());
    CHECK(products_run(*fake) == 0);
  }
  // Each product is tried once and not again.
  fake->behave("fail-run");
  const std::shared_ptr<Device> on = fake_device();
  check_twice(small_case(), *on);
  check_accumulating(conv("1x1", {4, 5, 8}, {12, 8, 1, 1}, true, {}, 3), *on, 1e-5);
  for (const std::string& product : kProducts) CHECK(fake->count(product) == 2);
  fake->behave("plain");
  CHECK(fake->count("complaints") == 0);
}

TEST_CASE("a device says which library its convolutions use") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  const ImageCase one = small_case();
  const auto check_own = [&](const std::shared_ptr<Device>& on, double tolerance) {
    check_close(on_device(one, *on), on_host(one), tolerance);
    CHECK(on->info().convolution_library == kOwn);
    CHECK(products_run(*fake) == 0);
  };
  SUBCASE("turned off") { check_own(device_with(kVariable, "off", Precision::kF32), 1e-5); }
  SUBCASE("no such file") {
    check_own(device_with(kVariable, "/nowhere/libcudnn.so", Precision::kF32), 1e-5);
  }
  SUBCASE("a library without all functions") {
    REQUIRE_FALSE(fake_library_path("fake_cudnn_short").empty());
    check_own(fake_device(Precision::kF32, "fake_cudnn_short"), 1e-5);
  }
  SUBCASE("bf16, which cuDNN does not offer for f32 tensors") {
    check_own(fake_device(Precision::kBf16), 2e-2);
  }
  SUBCASE("no handle") {
    fake->behave("fail-create");
    check_own(fake_device(), 1e-5);
    fake->behave("plain");
  }
  SUBCASE("without opening one") {
    const WithEnvironment with(kVariable, fake_library_path("fake_cudnn"));
    REQUIRE(cuda_availability().infos.size() == 1);
    CHECK(cuda_availability().infos[0].convolution_library == "cuDNN 9.12.34");
  }
}

TEST_CASE("tensors that are not aligned to 16 bytes are left to own kernels") {
  const std::optional<FakeLibrary> fake = fake_cudnn();
  if (!fake) return;
  const std::shared_ptr<Device> on = fake_device();
  const ImageCase one = small_case();
  OpRun<float> run(find_op(one.op), one.sample, false);
  OpRun<double> reference(find_op(one.op), one.sample, false);
  DeviceRun there(run, *on);
  const TensorView x = there.io.inputs[0];
  const std::shared_ptr<std::byte> moved =
      on->allocate(x.bytes() + static_cast<std::int64_t>(sizeof(float)), "a test's tensor");
  there.io.inputs[0].data = moved.get() + sizeof(float);
  on->copy(there.io.inputs[0].data, x.data, x.bytes());
  const std::unique_ptr<Kernel> kernel = on->make_kernel(run.node(), one.sample.batch);
  kernel->forward(there.io);
  kernel->backward(there.io);
  there.read_back();
  reference.forward();
  reference.backward();
  check_close(results_of(run), results_of(reference), 1e-5);
  CHECK(fake->count("cudnnConvolutionForward") == 0);
  CHECK(fake->count("cudnnConvolutionBackwardData") == 1);
  CHECK(fake->count("complaints") == 0);
}

TEST_CASE("own convolution kernels where cuDNN is installed, against f64") {
  if (device().info().convolution_library == kOwn) {
    std::puts("SKIPPED: this device's convolutions are by own kernels anyway");
    return;
  }
  for (const Bound& bound : kBounds) {
    CAPTURE(precision_name(bound.precision));
    const std::shared_ptr<Device> on = device_with(kVariable, "off", bound.precision);
    CHECK(on->info().convolution_library == kOwn);
    for (const ImageCase& one : convolutions()) {
      CAPTURE(one.sample.name);
      check_close(on_device(one, *on), on_host(one), bound.tolerance);
    }
  }
}
