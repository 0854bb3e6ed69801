// The ops on images on a device, at sizes beyond one tile and no multiple of any: against the CPU's
// f64 reference in every precision, bit for bit from run to run, fused with what follows, and their
// square rules against the CPU's.
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <variant>

#include "cuda/ops/image_cases.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

Tensor copy_of(const Tensor& from) {
  Tensor to(from.dtype(), from.shape());
  std::memcpy(to.view().data, from.view().data, static_cast<std::size_t>(from.view().bytes()));
  return to;
}

std::map<std::string, Shape> norm_slots(std::int64_t channels) {
  return {{"weight", {channels}},
          {"bias", {channels}},
          {"running_mean", {channels}},
          {"running_var", {channels}}};
}

std::vector<ImageCase> others() {
  const auto pool = [](const Integers& kernel, const Integers& stride, const Integers& padding) {
    return std::map<std::string, Attribute>{
        {"kernel", kernel}, {"stride", stride}, {"padding", padding}};
  };
  return {
      {"batch_norm",
       {.name = "130 channels",
        .inputs = {{7, 9, 130}},
        .parameters = norm_slots(130),
        .batch = 3,
        .training = true}},
      {"batch_norm",
       {.name = "65 channels, several chunks",
        .inputs = {{17, 19, 65}},
        .parameters = norm_slots(65),
        .batch = 3,
        .training = true}},
      {"batch_norm",
       {.name = "evaluation, 65 channels",
        .inputs = {{17, 19, 65}},
        .parameters = norm_slots(65),
        .batch = 3}},
      {"batch_norm",
       {.name = "evaluation, 68 channels",
        .inputs = {{5, 7, 68}},
        .parameters = norm_slots(68),
        .batch = 2}},
      {"max_pool2d",
       {.name = "3x3 stride 2",
        .inputs = {{17, 19, 65}},
        .attributes = pool({3, 3}, {2, 2}, {1, 1, 1, 1}),
        .batch = 3}},
      {"max_pool2d",
       {.name = "5x3, overlapping",
        .inputs = {{9, 13, 33}},
        .attributes = pool({5, 3}, {1, 2}, {2, 1, 2, 0}),
        .batch = 2}},
      {"avg_pool2d",
       {.name = "3x3 stride 2",
        .inputs = {{17, 19, 65}},
        .attributes = pool({3, 3}, {2, 2}, {1, 1, 1, 1}),
        .batch = 3}},
      {"global_avg_pool", {.name = "17x19", .inputs = {{17, 19, 65}}, .batch = 3}},
      {"global_avg_pool", {.name = "several chunks", .inputs = {{33, 65, 3}}, .batch = 2}},
      {"pad2d",
       {.name = "step 2, channels on both sides",
        .inputs = {{17, 19, 33}},
        .attributes = {{"step", Integers{2, 3}},
                       {"channels", Integers{16, 17}},
                       {"padding", Integers{1, 0, 2, 5}},
                       {"value", -0.5}},
        .batch = 3}},
      {"group_norm",
       {.name = "13 groups of 5",
        .inputs = {{17, 19, 65}},
        .parameters = {{"weight", {65}}, {"bias", {65}}},
        .attributes = {{"groups", std::int64_t{13}}},
        .batch = 3}},
      {"group_norm",
       {.name = "2 groups of 34",
        .inputs = {{7, 5, 68}},
        .parameters = {{"weight", {68}}, {"bias", {68}}},
        .attributes = {{"groups", std::int64_t{2}}},
        .batch = 3}},
      {"lrn",
       {.name = "65 channels",
        .inputs = {{7, 9, 65}},
        .attributes = {{"size", std::int64_t{5}}, {"alpha", 0.5}},
        .batch = 3}},
      {"resample",
       {.name = "33 channels, two taps",
        .inputs = {{17, 5, 33}},
        .attributes = {{"axis", std::int64_t{0}},
                       {"taps", std::int64_t{2}},
                       {"index", Integers{0, 16, 3, 4, -1, 5, 3, 3}},
                       {"weight", std::vector<double>{0.5, 0.25, -1, 2, 7, 0.75, 0.125, 1}}},
        .batch = 3}},
  };
}

}  // namespace

TEST_CASE("convolutions beyond one tile, in every precision, against f64") {
  for (const ImageCase& one : convolutions()) {
    CAPTURE(one.sample.name);
    const Results expected = on_host(one);
    for (const Bound& bound : kBounds) {
      CAPTURE(precision_name(bound.precision));
      check_close(on_device(one, device(bound.precision)), expected, bound.tolerance);
    }
  }
}

TEST_CASE("norms, pools and moves beyond one block, against f64") {
  for (const ImageCase& one : others()) {
    CAPTURE(one.op);
    CAPTURE(one.sample.name);
    check_close(on_device(one, device()), on_host(one), 1e-5);
  }
}

TEST_CASE("images on a device are the same bits from run to run") {
  std::vector<ImageCase> cases = others();
  for (const ImageCase& one : convolutions()) cases.push_back(one);
  for (std::size_t i = 0; i < cases.size(); i += 2) {
    CAPTURE(cases[i].op);
    CAPTURE(cases[i].sample.name);
    const Precision precision = i % 4 == 0 ? Precision::kF32 : Precision::kBf16;
    const Results first = on_device(cases[i], device(precision));
    for (const auto& [name, tensor] : on_device(cases[i], device(precision))) {
      CAPTURE(name);
      CHECK(same_bits(first.at(name), tensor));
    }
  }
}

TEST_CASE("a kernel sees weights that changed between its calls") {
  const ImageCase one =
      conv("weights", {6, 5, 9}, {18, 9, 3, 3}, true, {{"stride", Integers{2, 1}}}, 2);
  OpRun<float> run(find_op(one.op), one.sample, false);
  OpRun<double> reference(find_op(one.op), one.sample, false);
  DeviceRun there(run, device());
  const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), one.sample.batch);
  const auto change = [&](float by) {
    const Tensor& host = run.parameters.at("weight");
    for (std::int64_t i = 0; i < host.count(); ++i) {
      host.as<float>()[i] *= by;
      reference.parameters.at("weight").as<double>()[i] *= static_cast<double>(by);
    }
    device().upload(there.io.parameter("weight").data, host.view().data, host.view().bytes());
  };
  kernel->backward(there.io);  // before any forward, as the CPU's kernels allow
  change(-2.0F);
  kernel->backward(there.io);
  there.read_back();
  reference.backward();
  CHECK(relative_distance<float, double>(run.grad_inputs[0], reference.grad_inputs[0]) <= 1e-5);
  for (const float by : {0.5F, 4.0F}) {
    change(by);
    kernel->forward(there.io);
    kernel->backward(there.io);
    there.read_back();
    reference.forward();
    reference.backward();
    CHECK(relative_distance<float, double>(run.outputs[0], reference.outputs[0]) <= 1e-5);
    CHECK(relative_distance<float, double>(run.grad_inputs[0], reference.grad_inputs[0]) <= 1e-5);
  }
}

TEST_CASE("the residual sum and ReLU in one pass with a convolution or a batch norm") {
  std::vector<ImageCase> cases = {
      conv("tiles", {5, 6, 12}, {20, 12, 3, 3}, true, {}, 3),
      conv("split depth", {3, 3, 128}, {20, 128, 3, 3}, true, {}, 3),
      conv("depthwise", {6, 5, 7}, {7, 1, 3, 3}, true, {{"groups", std::int64_t{7}}}, 2),
      {"batch_norm",
       {.name = "training",
        .inputs = {{5, 3, 36}},
        .parameters = norm_slots(36),
        .training = true}},
      {"batch_norm", {.name = "evaluation", .inputs = {{4, 4, 7}}, .parameters = norm_slots(7)}},
  };
  for (const ImageCase& one : cases) {
    CAPTURE(one.sample.name);
    for (const bool add : {false, true}) {
      CAPTURE(add);
      OpRun<float> run(find_op(one.op), one.sample, false);
      OpRun<double> reference(find_op(one.op), one.sample, false);
      DeviceRun there(run, device());
      const Tensor residual =
          tensor_of<float>(run.outputs[0].shape(), normals(run.outputs[0].count(), 800));
      const DeviceTensor residual_there(residual);
      const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), one.sample.batch);
      REQUIRE(kernel->fuse({.add = add, .relu = true}));
      there.io.residual = residual_there.view();
      kernel->forward(there.io);
      there.read_back();
      reference.forward();
      double* const y = reference.outputs[0].as<double>();
      std::int64_t cut = 0;
      for (std::int64_t i = 0; i < residual.count(); ++i) {
        const double sum = y[i] + (add ? static_cast<double>(residual.as<float>()[i]) : 0.0);
        cut += sum < 0 ? 1 : 0;
        y[i] = std::max(sum, 0.0);
      }
      CHECK(cut > 0);
      CHECK(relative_distance<float, double>(run.outputs[0], reference.outputs[0]) <= 1e-5);
    }
  }
}

TEST_CASE("max_pool2d on a device: ties, NaN and winners as on the CPU") {
  ImageCase one{"max_pool2d", {.name = "ties", .inputs = {{9, 7, 5}}, .batch = 2}};
  one.sample.attributes = {
      {"kernel", Integers{3, 2}}, {"stride", Integers{2, 1}}, {"padding", Integers{1, 1, 1, 0}}};
  OpRun<float> run(find_op(one.op), one.sample, false);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float* const x = run.inputs[0].as<float>();
  for (std::int64_t i = 0; i < run.inputs[0].count(); ++i) {
    x[i] = i % 41 == 7 ? nan : i % 13 == 0 ? -HUGE_VALF : std::round(x[i]);
  }
  DeviceRun there(run, device());
  const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), one.sample.batch);
  run.forward();
  run.backward();
  const Tensor y = copy_of(run.outputs[0]);
  const Tensor grad = copy_of(run.grad_inputs[0]);
  const std::int64_t bytes = run.saved_spec().bytes_per_sample * one.sample.batch;
  Tensor winners(DType::kU8, {bytes});
  kernel->forward(there.io);
  kernel->backward(there.io);
  there.read_back();
  device().download(winners.view().data, there.io.saved_per_sample, bytes);
  CHECK(same_bits(run.outputs[0], y));
  CHECK(relative_distance<float, float>(run.grad_inputs[0], grad) <= 1e-6);
  CHECK(std::memcmp(winners.view().data, run.io.saved_per_sample,
                    static_cast<std::size_t>(bytes)) == 0);
}

TEST_CASE("training a batch norm far from 0: statistics keep their digits, twice in a row") {
  const ImageCase one{"batch_norm",
                      {.name = "mean 1000",
                       .inputs = {{9, 11, 36}},
                       .parameters = norm_slots(36),
                       .batch = 3,
                       .training = true}};
  OpRun<float> run(find_op(one.op), one.sample, false);
  OpRun<double> reference(find_op(one.op), one.sample, false);
  for (std::int64_t i = 0; i < run.inputs[0].count(); ++i) {
    run.inputs[0].as<float>()[i] += 1000.0F;
    reference.inputs[0].as<double>()[i] = static_cast<double>(run.inputs[0].as<float>()[i]);
  }
  DeviceRun there(run, device());
  const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), one.sample.batch);
  for (int step = 0; step < 2; ++step) {
    kernel->forward(there.io);
    reference.forward();
  }
  kernel->backward(there.io);
  reference.backward();
  there.read_back();
  check_close(results_of(run), results_of(reference), 1e-5);
}

TEST_CASE("training a batch norm on one value per channel is refused") {
  ImageCase one{
      "batch_norm",
      {.name = "one row", .inputs = {{5}}, .parameters = norm_slots(5), .training = true}};
  one.sample.batch = 1;
  OpRun<float> run(find_op(one.op), one.sample, false);
  DeviceRun there(run, device());
  const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), 1);
  CHECK_THROWS_WITH_AS(kernel->forward(there.io),
                       doctest::Contains("expected more than 1 value per channel"), Error);
}

namespace {

std::vector<float> read_floats(const float* from, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  device().download(reinterpret_cast<std::byte*>(values.data()),
                    reinterpret_cast<const std::byte*>(from),
                    count * static_cast<std::int64_t>(sizeof(float)));
  return values;
}

// Whether a form's tensor on the device holds what the CPU's does.
void check_values(const float* found, const float* expected, std::int64_t count) {
  REQUIRE((found == nullptr) == (expected == nullptr));
  if (found == nullptr) return;
  const std::vector<float> values = read_floats(found, count);
  CHECK(relative_distance<float, float>(
            std::span<const float>(values),
            std::span<const float>(expected, static_cast<std::size_t>(count))) <= 1e-6);
}

void check_form(const ContractionForm& found, const ContractionForm& expected) {
  const auto sizes = [](const ContractionForm& f) {
    return std::array{f.batch,        f.in_height,       f.in_width,       f.in_channels,
                      f.out_height,   f.out_width,       f.out_channels,   f.kernel_height,
                      f.kernel_width, f.stride_height,   f.stride_width,   f.pad_top,
                      f.pad_left,     f.dilation_height, f.dilation_width, f.groups};
  };
  CHECK(sizes(found) == sizes(expected));
  check_values(found.grad_output, expected.grad_output,
               expected.batch * expected.out_height * expected.out_width * expected.out_channels);
  check_values(found.input, expected.input,
               expected.batch * expected.in_height * expected.in_width * expected.in_channels);
}

void check_form(const ReductionForm& found, const ReductionForm& expected) {
  CHECK(found.batch == expected.batch);
  CHECK(found.positions == expected.positions);
  CHECK(found.channels == expected.channels);
  const std::int64_t count = expected.batch * expected.positions * expected.channels;
  check_values(found.grad_output, expected.grad_output, count);
  check_values(found.input, expected.input, count);
  check_values(found.mean, expected.mean, expected.channels);
  check_values(found.inv_std, expected.inv_std, expected.channels);
}

void check_form(const ScatterForm& /*found*/, const ScatterForm& /*expected*/) {
  FAIL("no op on images has a scatter form");
}

}  // namespace

TEST_CASE("square rules on a device describe what the CPU's do") {
  std::vector<ImageCase> cases = convolutions();
  for (const ImageCase& one : others()) {
    if (one.op == "group_norm" || one.op == "batch_norm") cases.push_back(one);
  }
  int forms = 0;
  for (const ImageCase& one : cases) {
    CAPTURE(one.op);
    CAPTURE(one.sample.name);
    OpRun<float> run(find_op(one.op), one.sample, true);
    DeviceRun there(run, device());
    const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), one.sample.batch);
    run.forward();
    kernel->forward(there.io);
    const std::vector<SquareProblem> expected = run.kernel().square_rule(run.io);
    const std::vector<SquareProblem> found = kernel->square_rule(there.io);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CAPTURE(expected[i].slot);
      CHECK(found[i].slot == expected[i].slot);
      REQUIRE(found[i].form.index() == expected[i].form.index());
      std::visit(
          [&](const auto& form) {
            check_form(form, std::get<std::decay_t<decltype(form)>>(expected[i].form));
          },
          found[i].form);
      ++forms;
    }
  }
  CHECK(forms > 30);
}
