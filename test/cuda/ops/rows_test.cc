// The ops over rows on a device, at lengths around the sizes of a warp and a block, and what the op
// tables do not ask: bits, in-place memory, one sample's backward, squares, refusals.
#include <algorithm>
#include <cmath>
#include <functional>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr double kTolerance = 1e-5;
const std::vector<std::int64_t> kLengths = {1, 31, 33, 1025, 5000};

Attribute integer(std::int64_t value) { return value; }

// A node and its tensors on the device, as `host` holds them when it is made.
struct OnDevice {
  explicit OnDevice(const OpRun<float>& host) : io(host.io) {
    const auto send = [this](std::vector<TensorView>& views) {
      for (TensorView& view : views) {
        if (view) view = sent(view);
      }
    };
    send(io.inputs);
    send(io.outputs);
    send(io.grad_outputs);
    send(io.grad_inputs);
    for (auto& [slot, view] : io.parameters) view = sent(view);
    for (auto& [slot, view] : io.grad_parameters) view = sent(view);
    saved_bytes = host.saved_spec().bytes_per_sample;
    saved = device().allocate(saved_bytes * io.batch + 1, "saved");
    io.saved_per_sample = saved.get();
    kernel = device().make_kernel(host.node(), io.batch);
    REQUIRE(kernel != nullptr);
  }

  TensorView sent(const TensorView& view) {
    memory.push_back(device().allocate(view.bytes() + 1, "a test's tensor"));
    device().upload(memory.back().get(), view.data, view.bytes());
    TensorView there = view;
    there.data = memory.back().get();
    return there;
  }

  NodeIo io;
  std::int64_t saved_bytes = 0;
  std::shared_ptr<std::byte> saved;
  std::vector<std::shared_ptr<std::byte>> memory;
  std::unique_ptr<Kernel> kernel;
};

std::vector<float> values(const TensorView& view) {
  std::vector<float> all(static_cast<std::size_t>(view.count()));
  device().download(reinterpret_cast<std::byte*>(all.data()), view.data, view.bytes());
  return all;
}

std::vector<float> values_at(const float* from, std::int64_t count) {
  std::vector<float> all(static_cast<std::size_t>(count));
  device().download(reinterpret_cast<std::byte*>(all.data()),
                    reinterpret_cast<const std::byte*>(from),
                    count * static_cast<std::int64_t>(sizeof(float)));
  return all;
}

template <typename T>
std::vector<float> host_values(const Tensor& tensor) {
  const auto span = tensor.span<T>();
  std::vector<float> all(span.size());
  std::transform(span.begin(), span.end(), all.begin(), [](T v) { return static_cast<float>(v); });
  return all;
}

double distance(const std::vector<float>& found, const std::vector<float>& expected) {
  REQUIRE(found.size() == expected.size());
  return relative_distance<float, float>(found, expected);
}

// Forward and backward against the f64 reference, and the largest distance.
double against_reference(const std::string& op, const SampleCase& sample_case,
                         const std::function<float(std::int64_t)>& input = nullptr) {
  OpRun<float> run(find_op(op), sample_case, false);
  OpRun<double> reference(find_op(op), sample_case, false);
  for (std::int64_t i = 0; input && i < run.inputs[0].count(); ++i) {
    run.inputs[0].as<float>()[i] = input(i);
    reference.inputs[0].as<double>()[i] = static_cast<double>(input(i));
  }
  OnDevice there(run);
  there.kernel->forward(there.io);
  there.kernel->backward(there.io);
  reference.forward();
  reference.backward();
  double worst = distance(values(there.io.outputs[0]), host_values<double>(reference.outputs[0]));
  worst = std::max(worst, distance(values(there.io.grad_inputs[0]),
                                   host_values<double>(reference.grad_inputs[0])));
  for (const auto& [slot, view] : there.io.grad_parameters) {
    worst = std::max(
        worst, distance(values(view), host_values<double>(reference.grad_parameters.at(slot))));
  }
  return worst;
}

SampleCase rows_of(const std::string& op, std::int64_t length) {
  SampleCase one = {.name = "rows", .inputs = {{3, length}}, .batch = 2};
  if (op == "layer_norm" || op == "rms_norm") one.parameters["weight"] = {length};
  if (op == "layer_norm") one.parameters["bias"] = {length};
  if (op == "cumsum") one.attributes["axis"] = integer(-1);
  if (op == "softmax" || op == "log_softmax") one.draws = {{-6, 6}};
  return one;
}

}  // namespace

TEST_CASE("rows of every length on a device against the CPU's f64 reference") {
  for (const std::string op : {"softmax", "log_softmax", "layer_norm", "rms_norm", "cumsum"}) {
    for (const std::int64_t length : kLengths) {
      CAPTURE(op);
      CAPTURE(length);
      CHECK(against_reference(op, rows_of(op, length)) <= kTolerance);
    }
  }
  // Blocks of 1024 threads.
  CHECK(against_reference("softmax", rows_of("softmax", 9001)) <= kTolerance);
  CHECK(against_reference("rms_norm", rows_of("rms_norm", 9001)) <= kTolerance);
}

TEST_CASE("layer_norm on a device keeps its digits around a large mean") {
  for (const std::int64_t length : {33, 1025}) {
    CAPTURE(length);
    const auto input = [](std::int64_t i) {
      return 1000.0F + static_cast<float>(i * 37 % 101) * 0x1p-10F;
    };
    CHECK(against_reference("layer_norm", rows_of("layer_norm", length), input) <= kTolerance);
  }
}

TEST_CASE("layer_norm's parameter gradients on a device over many stretches of rows") {
  const SampleCase many = {.name = "many rows",
                           .inputs = {{700, 35}},
                           .parameters = {{"weight", {35}}, {"bias", {35}}},
                           .batch = 4};
  CHECK(against_reference("layer_norm", many) <= kTolerance);
}

TEST_CASE("ops that may write over their input do so on a device") {
  for (const std::string op : {"softmax", "log_softmax", "cumsum"}) {
    for (const std::int64_t length : {33, 1025}) {
      CAPTURE(op);
      CAPTURE(length);
      const SampleCase sample_case = rows_of(op, length);
      OpRun<float> run(find_op(op), sample_case, false);
      OnDevice there(run);
      there.kernel->forward(there.io);
      const std::vector<float> expected = values(there.io.outputs[0]);
      there.io.outputs[0] = there.io.inputs[0];
      there.kernel->forward(there.io);
      CHECK(values(there.io.inputs[0]) == expected);
    }
  }
  SampleCase turned = {
      .name = "rope",
      .inputs = {{5, 26}},
      .attributes = {{"heads", integer(2)}, {"frequencies", std::vector<double>{0.7, 0.1, 0.01}}}};
  for (const bool interleaved : {false, true}) {
    turned.attributes["interleaved"] = interleaved;
    OpRun<float> run(find_op("rope"), turned, false);
    OnDevice there(run);
    there.kernel->forward(there.io);
    const std::vector<float> expected = values(there.io.outputs[0]);
    there.io.outputs[0] = there.io.inputs[0];
    there.kernel->forward(there.io);
    CHECK(values(there.io.inputs[0]) == expected);
  }
}

TEST_CASE("dropout on a device draws the CPU's numbers: the same bits") {
  for (const std::int64_t length : kLengths) {
    for (const bool add : {false, true}) {
      CAPTURE(length);
      CAPTURE(add);
      const SampleCase sample_case = {.name = "dropout",
                                      .inputs = {{length}},
                                      .attributes = {{"rate", 0.3}},
                                      .batch = 2,
                                      .training = true};
      OpRun<float> run(find_op("dropout"), sample_case, false);
      run.io.rng = {.seed = 0x123456789ABCDEFU, .stream = 0xFEDCBA987654321U};
      run.io.accumulate = {add};
      const std::vector<float> held = normals(run.grad_inputs[0].count(), 90);
      std::copy(held.begin(), held.end(), run.grad_inputs[0].as<float>());
      OnDevice there(run);
      there.kernel->forward(there.io);
      there.kernel->backward(there.io);
      run.forward();
      run.backward();
      CHECK(values(there.io.outputs[0]) == host_values<float>(run.outputs[0]));
      // The CPU's compiler may join a product and a sum (not on x86-64): to be added to, to a
      // rounding.
      CHECK(distance(values(there.io.grad_inputs[0]), host_values<float>(run.grad_inputs[0])) <=
            (add ? 1e-7 : 0.0));
    }
  }
}

TEST_CASE("embedding's gradient on a device has the CPU's bits") {
  for (const std::int64_t width : {1, 33, 1025}) {
    for (const double rows : {1.0, 3.0, 300.0}) {
      CAPTURE(width);
      CAPTURE(rows);
      const SampleCase sample_case = {
          .name = "embedding",
          .inputs = {{131}},
          .parameters = {{"weight", {static_cast<std::int64_t>(rows), width}}},
          .batch = 3,
          .draws = {{.low = -1, .high = rows, .integer = true}}};
      OpRun<float> run(find_op("embedding"), sample_case, false);
      const Tensor& sums = run.grad_parameters.at("weight");
      const std::vector<float> held = normals(sums.count(), 91);
      std::copy(held.begin(), held.end(), sums.as<float>());
      OnDevice there(run);
      there.kernel->forward(there.io);
      there.kernel->backward(there.io);
      run.forward();
      run.kernel().backward(run.io);
      CHECK(values(there.io.outputs[0]) == host_values<float>(run.outputs[0]));
      CHECK(values(there.io.grad_parameters.at("weight")) == host_values<float>(sums));
    }
  }
}

TEST_CASE("embedding's gradient on a device of few rows and many positions") {
  for (const double rows : {1.0, 2.0, 16.0, 17.0}) {
    for (const std::int64_t width : {1, 40}) {
      CAPTURE(rows);
      CAPTURE(width);
      const SampleCase sample_case = {
          .name = "token types",
          .inputs = {{601}},
          .parameters = {{"weight", {static_cast<std::int64_t>(rows), width}}},
          .batch = 2,
          .draws = {{.low = -1, .high = rows, .integer = true}}};
      OpRun<float> run(find_op("embedding"), sample_case, false);
      OpRun<double> reference(find_op("embedding"), sample_case, false);
      const Tensor& expected = reference.grad_parameters.at("weight");
      const std::vector<float> held = normals(expected.count(), 92);
      std::copy(held.begin(), held.end(), expected.as<double>());
      std::copy(held.begin(), held.end(), run.grad_parameters.at("weight").as<float>());
      OnDevice there(run);
      there.kernel->backward(there.io);
      reference.kernel().backward(reference.io);
      CHECK(distance(values(there.io.grad_parameters.at("weight")),
                     host_values<double>(expected)) <= kTolerance);
    }
  }
}

TEST_CASE("embedding on a device refuses an id that no row has, in the CPU's words") {
  const SampleCase sample_case = {.name = "embedding",
                                  .inputs = {{3}},
                                  .parameters = {{"weight", {4, 2}}},
                                  .batch = 2,
                                  .draws = {{.low = 0, .high = 4, .integer = true}}};
  for (const std::int32_t id : {4, -2, 2'000'000'000}) {
    OpRun<float> run(find_op("embedding"), sample_case, false);
    run.inputs[0].as<std::int32_t>()[4] = id;
    run.inputs[0].as<std::int32_t>()[5] = 99;  // only the first is named
    OnDevice there(run);
    std::string expected = "nothing was thrown here";
    std::string found = "nothing was thrown there";
    try {
      run.forward();
    } catch (const Error& e) {
      expected = e.what();
    }
    try {
      there.kernel->forward(there.io);
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::kARGUMENT);
      found = e.what();
    }
    CHECK(found == expected);
  }
}

namespace {

// One sample's gradients from a kernel for one sample that never ran forward.
std::map<std::string, std::vector<float>> gradients_of_sample(const OpRun<float>& run,
                                                              OnDevice& there, std::int64_t n) {
  NodeIo one = there.io;
  one.batch = 1;
  for (auto* const views : {&one.inputs, &one.outputs, &one.grad_outputs}) {
    for (TensorView& view : *views) view = view.sample(n);
  }
  for (TensorView& view : one.grad_inputs) view = {};
  one.saved_per_sample += n * there.saved_bytes;
  for (auto& [slot, view] : one.grad_parameters) {
    device().zero(view.data, view.bytes());
  }
  const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), 1);
  kernel->backward(one);
  std::map<std::string, std::vector<float>> found;
  for (const auto& [slot, view] : one.grad_parameters) found[slot] = values(view);
  return found;
}

// G_n of a reduction form, as square_rule.h defines it, from what lies on the device.
std::vector<float> gradient_of(const ReductionForm& form, std::int64_t n) {
  const std::int64_t size = form.positions * form.channels;
  const std::vector<float> delta = values_at(form.grad_output + n * size, size);
  std::vector<float> x, mean, inv_std;
  if (form.input != nullptr) {
    x = values_at(form.input + n * size, size);
    mean = values_at(form.mean, form.channels);
    inv_std = values_at(form.inv_std, form.channels);
  }
  std::vector<float> found;
  for (std::int64_t c = 0; c < form.channels; ++c) {
    double sum = 0;
    for (std::int64_t p = 0; p < form.positions; ++p) {
      const auto at = static_cast<std::size_t>(p * form.channels + c);
      const auto column = static_cast<std::size_t>(c);
      const float factor = x.empty() ? 1.0F : (x[at] - mean[column]) * inv_std[column];
      sum += static_cast<double>(delta[at]) * static_cast<double>(factor);
    }
    found.push_back(static_cast<float>(sum));
  }
  return found;
}

}  // namespace

TEST_CASE("the squares' forms on a device describe the gradient of one sample") {
  const std::vector<std::pair<std::string, SampleCase>> cases = {
      {"layer_norm", rows_of("layer_norm", 33)},
      {"layer_norm", rows_of("layer_norm", 1025)},
      {"rms_norm", rows_of("rms_norm", 65)},
      {"parameter", {.name = "value", .inputs = {}, .parameters = {{"value", {5, 7}}}}}};
  for (const auto& [op, sample_case] : cases) {
    CAPTURE(op);
    OpRun<float> run(find_op(op), sample_case, false);
    OnDevice there(run);
    there.kernel->forward(there.io);
    const std::vector<SquareProblem> problems = there.kernel->square_rule(there.io);
    CHECK(problems.size() == sample_case.parameters.size());
    for (std::int64_t n = 0; n < sample_case.batch; ++n) {
      const auto gradients = gradients_of_sample(run, there, n);
      for (const SquareProblem& problem : problems) {
        const auto& form = std::get<ReductionForm>(problem.form);
        CHECK(form.batch == sample_case.batch);
        CHECK(distance(gradient_of(form, n), gradients.at(problem.slot)) <= kTolerance);
      }
    }
  }
}

TEST_CASE("embedding's squares on a device are a scatter of its own memory") {
  const SampleCase sample_case = {.name = "embedding",
                                  .inputs = {{9}},
                                  .parameters = {{"weight", {5, 3}}},
                                  .draws = {{.low = -1, .high = 5, .integer = true}}};
  OpRun<float> run(find_op("embedding"), sample_case, false);
  OnDevice there(run);
  const std::vector<SquareProblem> problems = there.kernel->square_rule(there.io);
  REQUIRE(problems.size() == 1);
  const auto& form = std::get<ScatterForm>(problems[0].form);
  CHECK(form.grad_output == there.io.grad_outputs[0].as<float>());
  CHECK(form.ids == there.io.inputs[0].as<std::int32_t>());
  CHECK(form.batch == sample_case.batch);
  CHECK(form.positions == 9);
  CHECK(form.channels == 3);
  CHECK(form.rows == 5);
  const auto one = gradients_of_sample(run, there, 1);
  std::vector<float> expected(15);
  for (std::int64_t p = 9; p < 18; ++p) {
    const std::int32_t id = run.inputs[0].as<std::int32_t>()[p];
    for (std::int64_t c = 0; id >= 0 && c < 3; ++c) {
      expected[static_cast<std::size_t>(id * 3 + c)] += run.grad_outputs[0].as<float>()[p * 3 + c];
    }
  }
  CHECK(one.at("weight") == expected);
}
