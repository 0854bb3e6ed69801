// Whole networks on the device against the CPU's engine: losses, Fishers of every kind, training
// with held weights; what is refused, and that the device can be used afterwards.
#include <cstdio>

#include "cuda/device_support.h"
#include "cuda/network_tasks.h"
#include "fisher/fisher_pass.h"
#include "optim/trainer.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Lists = std::vector<std::vector<double>>;

constexpr double kTolerance = 1e-4;  // DESIGN §3: f32 squares against f64, relative, by tensor
constexpr int kGraphs = 12;

std::shared_ptr<Device> opened() {
  static const std::shared_ptr<Device> one = open_cuda_device({});
  return one;
}

NetworkOptions on_device() {
  NetworkOptions options;
  options.device = opened();
  return options;
}

NetworkOptions in_f64() {
  NetworkOptions options;
  options.real = DType::kF64;
  return options;
}

std::vector<Task> fisher_tasks() {
  std::vector<Task> tasks;
  for (unsigned seed = 0; seed < kGraphs; ++seed) tasks.push_back(vectors(seed, false));
  tasks.push_back(sequences());
  tasks.push_back(images("lenet", 3));
  tasks.push_back(images("resnet20", 2));
  return tasks;
}

struct Fishers {
  Lists squares, gradients;
  double loss = 0;
  std::int64_t correct = 0, terms = 0;
};

Fishers fishers(const Task& task, const NetworkOptions& where, const FisherOptions& options) {
  Network network(task.graph, where);
  fill_network(network);
  FisherPass pass(network, options);
  // Twice: the second batch is added to the first, through executors that were made for it.
  pass.step(task.batch(), task.labels, 0);
  pass.step(task.batch(), task.labels, static_cast<std::uint64_t>(task.inputs.shape()[0]));
  Fishers out;
  out.squares = pass.square_sums();
  if (options.gradient_sums) out.gradients = pass.gradient_sums();
  out.loss = pass.loss_sum();
  out.correct = pass.correct();
  out.terms = pass.terms();
  return out;
}

double worst_distance(const Lists& a, const Lists& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].size() == b[i].size());
    worst = std::max(worst, relative_distance<double, double>(a[i], b[i]));
  }
  return worst;
}

void compare_fishers(const Task& task, const FisherOptions& options) {
  const Fishers ours = fishers(task, on_device(), options);
  const Fishers reference = fishers(task, in_f64(), options);
  CHECK(worst_distance(ours.squares, reference.squares) < kTolerance);
  if (options.gradient_sums) {
    CHECK(worst_distance(ours.gradients, reference.gradients) < kTolerance);
  }
  CHECK(ours.loss == doctest::Approx(reference.loss).epsilon(1e-5));
  CHECK(ours.correct == reference.correct);
  CHECK(ours.terms == reference.terms);
}

// All trainable values after a few steps, by parameter.
struct Trained {
  Lists values;
  std::vector<double> losses;
};

Trained trained(const Task& task, const NetworkOptions& where, const OptimizerOptions& optimizer,
                const std::string& held) {
  Network network(task.graph, where);
  fill_network(network);
  Trainer trainer(network, optimizer, 11);
  if (!held.empty()) {
    const int index = network.graph().parameter_index(held);
    const auto count = static_cast<std::size_t>(
        element_count(network.graph().parameters()[static_cast<std::size_t>(index)].shape));
    trainer.hold(held, std::vector<std::uint8_t>((count + 7) / 8, 0x55));
  }
  Trained out;
  for (int step = 0; step < 3; ++step) {
    const LossResult loss = trainer.step(task.batch(), task.labels, 0.05, step == 2 ? -1.0 : 1.0);
    double sum = 0;
    for (const double one : loss.per_sample) sum += one;
    out.losses.push_back(sum);
  }
  for (std::size_t i = 0; i < network.graph().parameters().size(); ++i) {
    const std::vector<float> values = network.parameter_f32(static_cast<int>(i));
    out.values.emplace_back(values.begin(), values.end());
  }
  return out;
}

void compare_training(const Task& task, const OptimizerOptions& optimizer,
                      const std::string& held) {
  const Trained ours = trained(task, on_device(), optimizer, held);
  const Trained cpu = trained(task, {}, optimizer, held);
  CHECK(worst_distance(ours.values, cpu.values) < 1e-3);
  for (std::size_t step = 0; step < cpu.losses.size(); ++step) {
    CHECK(ours.losses[step] == doctest::Approx(cpu.losses[step]).epsilon(1e-4));
  }
}

OptimizerOptions sgd() {
  OptimizerOptions options;
  options.momentum = 0.9;
  options.nesterov = true;
  options.weight_decay = 5e-4;
  return options;
}

OptimizerOptions adamw() {
  OptimizerOptions options;
  options.kind = OptimizerOptions::Kind::kAdamW;
  options.weight_decay = 0.01;
  // Adam divides by a gradient's size, so that a gradient of rounding errors moves a weight as far
  // as any other; this keeps it out of the comparison.
  options.epsilon = 1e-3;
  return options;
}

ErrorCode code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::kINTERNAL;
}

}  // namespace

TEST_CASE("engine: Fishers of whole networks on the device against the CPU's f64 engine") {
  for (const Task& task : fisher_tasks()) {
    CAPTURE(task.name);
    FisherOptions options;
    options.gradient_sums = true;
    options.temperature = 2.0;
    compare_fishers(task, options);
  }
}

TEST_CASE("engine: the fused Fisher, the generic rule and the device's batch-1 passes agree") {
  for (const Task& task : {vectors(3, false), sequences(), images("lenet", 3)}) {
    CAPTURE(task.name);
    const Fishers fused = fishers(task, on_device(), {});
    FisherOptions generic;
    generic.generic = true;
    CHECK(worst_distance(fishers(task, on_device(), generic).squares, fused.squares) < kTolerance);

    Network network(task.graph, on_device());
    fill_network(network);
    FisherPass single(network, {});
    const std::int64_t samples = task.inputs.shape()[0];
    const std::size_t width = task.labels.size() / static_cast<std::size_t>(samples);
    for (std::int64_t round = 0; round < 2; ++round) {
      for (std::int64_t n = 0; n < samples; ++n) {
        BatchData one;
        one.view = task.inputs.view().sample(n);
        single.step(one, std::span(task.labels).subspan(static_cast<std::size_t>(n) * width, width),
                    static_cast<std::uint64_t>(round * samples + n));
      }
    }
    CHECK(worst_distance(single.square_sums(), fused.squares) < kTolerance);
  }
}

TEST_CASE("engine: expected, sampled, batch-mean and per-token Fishers on the device") {
  for (const FisherLabels labels : {FisherLabels::kExpected, FisherLabels::kSampled}) {
    FisherOptions options;
    options.labels = labels;
    options.seed = 5;
    for (const Task& task : {vectors(5, false), images("lenet", 2)}) {
      CAPTURE(task.name);
      compare_fishers(task, options);
    }
  }
  FisherOptions mean;
  mean.gradient = FisherGradient::kBatchMean;
  compare_fishers(vectors(6, false), mean);
  compare_fishers(images("lenet", 3), mean);
  FisherOptions per_token;
  per_token.per_token = true;
  compare_fishers(sequences(), per_token);
}

TEST_CASE("engine: the device's Fisher is the same to the bit at every run") {
  for (const Task& task : {vectors(8, false), sequences(), images("lenet", 3)}) {
    CAPTURE(task.name);
    CHECK(fishers(task, on_device(), {}).squares == fishers(task, on_device(), {}).squares);
  }
}

TEST_CASE("engine: training on the device follows the CPU's") {
  for (unsigned seed = 20; seed < 24; ++seed) {
    // The same numbers are dropped on both sides: Philox by element.
    const Task task = vectors(seed, true);
    CAPTURE(task.name);
    compare_training(task, sgd(), "");
    compare_training(task, adamw(), "");
  }
  compare_training(sequences(), adamw(), "");
  compare_training(images("lenet", 3), sgd(), "");
}

TEST_CASE("engine: held weights stay exactly 0 through momentum, decay and Adam on the device") {
  const Task task = images("lenet", 3);
  const Network shapes(task.graph, {});
  const auto& parameters = shapes.graph().parameters();
  for (const OptimizerOptions& optimizer : {sgd(), adamw()}) {
    const Trained after = trained(task, on_device(), optimizer, parameters[0].name);
    const std::vector<double>& values = after.values[0];
    // The bits of 0x55: even indices are kept.
    for (std::size_t i = 0; i < values.size(); ++i) {
      CAPTURE(i);
      CHECK((values[i] == 0.0) == (i % 2 == 1));
    }
    compare_training(task, optimizer, parameters[0].name);
  }
}

TEST_CASE("engine: what does not fit the device is OUT_OF_MEMORY, and the device works on") {
  const std::int64_t before = opened()->allocated_bytes();
  constexpr std::int64_t kHuge = std::int64_t{1} << 20;  // 2^40 weights: 4 TiB
  const std::string huge =
      graph_json({parameter_json("w", {kHuge, kHuge}, "weight")},
                 {node_json("logits", "linear", {"x"}, {{"weight", "w"}})}, "logits", {kHuge})
          .dump();
  CHECK(code_of([&] { Network network(huge, on_device()); }) == ErrorCode::kOUT_OF_MEMORY);
  CHECK(opened()->allocated_bytes() <= before);  // what the pool kept was given back, too

  // Parameters that fit, a batch whose activations do not.
  Network network(vectors(2, false).graph, on_device());
  fill_network(network);
  ExecutorOptions options;
  options.batch = std::int64_t{1} << 38;
  CHECK(code_of([&] { (void)network.executor(options); }) == ErrorCode::kOUT_OF_MEMORY);
  compare_fishers(vectors(2, false), {});
}

TEST_CASE("engine: what the device cannot do is refused in words") {
  NetworkOptions f64 = on_device();
  f64.real = DType::kF64;
  const std::string graph = vectors(1, false).graph;
  CHECK(code_of([&] { Network network(graph, f64); }) == ErrorCode::kUNSUPPORTED);
  NetworkOptions reference = on_device();
  reference.reference = true;
  CHECK(code_of([&] { Network network(graph, reference); }) == ErrorCode::kUNSUPPORTED);
  CHECK(code_of([] {
          DeviceOptions options;
          options.index = 999;
          (void)open_cuda_device(options);
        }) == ErrorCode::kNO_DEVICE);
}

TEST_CASE("engine: values that are not finite are named, on the device as on the CPU") {
  Network network(vectors(2, false).graph, on_device());
  fill_network(network);
  Task task = vectors(2, false);
  task.inputs.as<float>()[kWidth] = std::numeric_limits<float>::infinity();
  FisherPass pass(network, {});
  CHECK(code_of([&] { pass.step(task.batch(), task.labels, 0); }) == ErrorCode::kNON_FINITE);
}
