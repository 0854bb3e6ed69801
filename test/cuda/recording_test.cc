// Passes that are recorded and replayed against the same passes run directly: the same bits, with
// weights, requests, scratch, errors and random numbers changing in between.
#include <dlfcn.h>

#include <cstdio>
#include <limits>

#include "core/placement.h"
#include "cuda/device_support.h"
#include "cuda/network_tasks.h"
#include "cuda/setting.h"
#include "fisher/fisher_pass.h"
#include "optim/trainer.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Lists = std::vector<std::vector<double>>;

// One for all tests that records, one that does not.
const std::shared_ptr<Device>& recording() {
  static const std::shared_ptr<Device> one = [] {
    const Setting on("FISHERMASK_CUDA_GRAPHS", "on");
    return open_cuda_device({});
  }();
  return one;
}
const std::shared_ptr<Device>& direct() {
  static const std::shared_ptr<Device> one = [] {
    const Setting off("FISHERMASK_CUDA_GRAPHS", "off");
    return open_cuda_device({});
  }();
  return one;
}

NetworkOptions on(const std::shared_ptr<Device>& device) {
  NetworkOptions options;
  options.device = device;
  return options;
}

// A device, and a network on it.
struct Setup {
  Setup(const Task& task, const std::shared_ptr<Device>& device)
      : network(task.graph, on(device)), counts(device->recording_counts()) {
    fill_network(network);
  }
  [[nodiscard]] std::int64_t replays() const {
    return network.device()->recording_counts().replays - counts.replays;
  }
  [[nodiscard]] std::int64_t refused() const {
    return network.device()->recording_counts().refused - counts.refused;
  }
  [[nodiscard]] std::int64_t outdated() const {
    return network.device()->recording_counts().outdated - counts.outdated;
  }
  Network network;
  RecordingCounts counts;  // when it was made
};

// The first `samples` of a task.
BatchData part_of(const Task& task, std::int64_t samples) {
  BatchData batch = task.batch();
  batch.view.shape[0] = samples;
  return batch;
}
std::span<const std::int32_t> labels_of(const Task& task, std::int64_t samples) {
  const auto per_sample = task.labels.size() / static_cast<std::size_t>(task.inputs.shape()[0]);
  return std::span(task.labels).first(static_cast<std::size_t>(samples) * per_sample);
}

constexpr int kSteps = 4;  // direct, recorded, replayed twice

Lists fishers(Setup& setup, const Task& task, const FisherOptions& options) {
  FisherPass pass(setup.network, options);
  const std::int64_t samples = task.inputs.shape()[0];
  for (int step = 0; step < kSteps; ++step) {
    pass.step(task.batch(), task.labels, static_cast<std::uint64_t>(step * samples));
  }
  Lists sums = pass.square_sums();
  if (options.gradient_sums) {
    for (const auto& list : pass.gradient_sums()) sums.push_back(list);
  }
  sums.push_back({pass.loss_sum()});
  return sums;
}

void compare_fishers(const Task& task, const FisherOptions& options) {
  CAPTURE(task.name);
  Setup replayed(task, recording());
  Setup straight(task, direct());
  CHECK(fishers(replayed, task, options) == fishers(straight, task, options));
  CHECK(replayed.replays() > kSteps);  // forward and reverse, but for the first step
  CHECK(straight.replays() == 0);
}

struct Trained {
  Lists values;
  std::vector<double> losses;
  bool operator==(const Trained&) const = default;
};

void read_values(const Network& network, Lists& to) {
  for (std::size_t p = 0; p < network.graph().parameters().size(); ++p) {
    const std::vector<float> values = network.parameter_f32(static_cast<int>(p));
    to.emplace_back(values.begin(), values.end());
  }
}

Trained trained(Setup& setup, const Task& task, const OptimizerOptions& optimizer) {
  Trainer trainer(setup.network, optimizer, 11);
  Trained out;
  for (int step = 0; step < kSteps; ++step) {
    const LossResult loss = trainer.step(task.batch(), task.labels, 0.05);
    out.losses.insert(out.losses.end(), loss.per_sample.begin(), loss.per_sample.end());
  }
  read_values(setup.network, out.values);
  return out;
}

void compare_training(const Task& task, bool with_adam = true) {
  CAPTURE(task.name);
  OptimizerOptions sgd;
  sgd.momentum = 0.9;
  OptimizerOptions adamw;
  adamw.kind = OptimizerOptions::Kind::kAdamW;
  for (const OptimizerOptions& optimizer : {sgd, adamw}) {
    if (optimizer.kind == OptimizerOptions::Kind::kAdamW && !with_adam) continue;
    Setup replayed(task, recording());
    Setup straight(task, direct());
    const Trained expected = trained(straight, task, optimizer);
    CHECK(trained(replayed, task, optimizer) == expected);
    CHECK(replayed.replays() > kSteps);
  }
}

std::vector<double> losses(Setup& setup, const Task& task, std::int64_t samples) {
  return evaluate_batch(setup.network, part_of(task, samples), labels_of(task, samples), 1.0, {})
      .loss.per_sample;
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

// Forward and reverse passes by hand: gradients of all weights, read back.
class Passes {
 public:
  Passes(Network& network, const Task& task, bool repeatable = false)
      : network_(network), task_(task) {
    options_.batch = task.inputs.shape()[0];
    options_.backward = true;
    options_.repeatable = repeatable;
  }
  // A request with memory of its own.
  struct Request {
    std::vector<Tensor> tensors;
    BackwardRequest request;
  };
  [[nodiscard]] Request request() const {
    Request made;
    for (const Parameter& parameter : network_.graph().parameters()) {
      made.tensors.push_back(parameter.trainable() ? make_tensor(network_.device(), DType::kF32,
                                                                 parameter.shape, "gradients")
                                                   : Tensor());
      made.request.grad_parameters.push_back(made.tensors.back().view());
    }
    return made;
  }
  void forward() {
    Executor& executor = network_.executor(options_);
    write_batch(task_.batch(), executor.input(), network_.device());
    executor.forward();
  }
  void backward(const Request& into) {
    Executor& executor = network_.executor(options_);
    const std::vector<double> ones(static_cast<std::size_t>(options_.batch), 1.0);
    seed_loss(executor.output(), task_.labels, 1.0, ones, executor.output_gradient(),
              network_.device());
    executor.backward(into.request);
  }
  [[nodiscard]] Lists read(const Request& from) const {
    Lists out;
    for (const Tensor& tensor : from.tensors) {
      if (!tensor.view()) continue;
      out.push_back(doubles(host_copy(network_.device(), tensor.view()).view()));
    }
    return out;
  }

 private:
  Network& network_;
  const Task& task_;
  ExecutorOptions options_;
};

// Changes every weight by the same factor.
void scale_weights(Network& network, float factor) {
  for (std::size_t p = 0; p < network.graph().parameters().size(); ++p) {
    const Parameter& parameter = network.graph().parameters()[p];
    std::vector<float> values = network.parameter_f32(static_cast<int>(p));
    for (float& value : values) value *= factor;
    network.set_parameter(parameter.name, tensor_of<float>(parameter.shape, values).view());
  }
}

}  // namespace

TEST_CASE("recording: replayed Fishers are the direct ones to the bit") {
  FisherOptions with_gradients;
  with_gradients.gradient_sums = true;
  FisherOptions generic;
  generic.generic = true;
  for (unsigned seed = 0; seed < 4; ++seed) {
    compare_fishers(vectors(seed, false), with_gradients);
    compare_fishers(vectors(seed, false), generic);
  }
  compare_fishers(images("lenet", 2), with_gradients);
  compare_fishers(images("lenet", 2), generic);
}

TEST_CASE("recording: several reverse passes after one forward, replayed") {
  for (const FisherLabels labels : {FisherLabels::kExpected, FisherLabels::kSampled}) {
    FisherOptions options;
    options.labels = labels;
    options.gradient_sums = true;  // a second request beside the squares
    compare_fishers(vectors(5, false), options);
    if (labels == FisherLabels::kSampled) compare_fishers(images("lenet", 2), options);
  }
  FisherOptions mean;
  mean.gradient = FisherGradient::kBatchMean;
  compare_fishers(images("lenet", 2), mean);
  FisherOptions per_token;
  per_token.per_token = true;
  compare_fishers(sequences(), per_token);
}

TEST_CASE("recording: an embedding's check of ids cuts a pass in two, and the rest is replayed") {
  FisherOptions generic;
  generic.generic = true;
  for (const FisherOptions& options : {FisherOptions{}, generic}) {
    compare_fishers(sequences(), options);
  }
  Setup setup(sequences(), recording());
  (void)fishers(setup, sequences(), {});
  CHECK(setup.refused() > 0);
  CHECK(setup.replays() > 0);
}

TEST_CASE("recording: training with dropout and batch norm is the direct one to the bit") {
  bool drops = false, normalises = false;
  for (unsigned seed = 20; seed < 26; ++seed) {
    const Task task = vectors(seed, true);
    drops = drops || task.graph.find("dropout") != std::string::npos;
    normalises = normalises || task.graph.find("batch_norm") != std::string::npos;
    compare_training(task);
  }
  CHECK(drops);
  CHECK(normalises);
  compare_training(sequences());
  compare_training(images("lenet", 2), false);
}

TEST_CASE("recording: a network of convolutions and batch norms, replayed") {
  compare_fishers(images("resnet20", 1), {});
  compare_training(images("resnet20", 1), false);
}

TEST_CASE("recording: random numbers are drawn anew at every step") {
  const std::string graph =
      graph_json({parameter_json("w", {kWidth, kWidth}, "weight")},
                 {node_json("h", "linear", {"x"}, {{"weight", "w"}}),
                  node_json("logits", "dropout", {"h"}, Json::object(), {{"rate", 0.5}})},
                 "logits")
          .dump();
  Network network(graph, on(recording()));
  fill_network(network);
  ExecutorOptions options;
  options.batch = 4;
  options.training = true;
  Executor& executor = network.executor(options);
  Tensor input(DType::kF32, {4, kWidth});
  fill(input.view(), 3);
  BatchData batch;
  batch.view = input.view();
  std::vector<std::vector<double>> seen;
  for (std::uint64_t step = 0; step < 6; ++step) {
    write_batch(batch, executor.input(), network.device());
    executor.forward({7, step});
    seen.push_back(doubles(host_copy(network.device(), executor.output()).view()));
    for (std::size_t other = 0; other + 1 < seen.size(); ++other) CHECK(seen[other] != seen.back());
  }
}

TEST_CASE("recording: weights that change between replays are packed anew") {
  for (const Task& task : {images("lenet", 2), vectors(3, false)}) {
    CAPTURE(task.name);
    Setup replayed(task, recording());
    Setup straight(task, direct());
    std::vector<Lists> seen;
    for (Setup* const setup : {&replayed, &straight}) {
      Passes passes(setup->network, task, true);
      const auto first = passes.request();
      for (int step = 0; step < 4; ++step) {
        passes.forward();
        passes.backward(first);
        scale_weights(setup->network, 0.9F);
      }
      // A replayed forward, and a reverse pass that has not been recorded: it must not believe that
      // the weights of the last one are packed.
      passes.forward();
      const auto second = passes.request();
      passes.backward(second);
      passes.backward(second);  // recorded, after the same forward
      passes.backward(first);   // replayed
      seen.push_back(passes.read(first));
      seen.push_back(passes.read(second));
    }
    CHECK(seen[0] == seen[2]);
    CHECK(seen[1] == seen[3]);
    CHECK(replayed.replays() > 0);
  }
}

TEST_CASE("recording: a request with other memory is another recording") {
  const Task task = vectors(4, false);
  Setup replayed(task, recording());
  Setup straight(task, direct());
  std::vector<Lists> seen;
  for (Setup* const setup : {&replayed, &straight}) {
    Passes passes(setup->network, task);
    std::vector<Passes::Request> requests;
    // More of them than are remembered, in turns of different lengths.
    for (int r = 0; r < 6; ++r) requests.push_back(passes.request());
    for (const int r : {0, 0, 0, 1, 0, 1, 1, 2, 3, 4, 5, 0, 0, 0, 5, 5, 2}) {
      passes.forward();
      passes.backward(requests[static_cast<std::size_t>(r)]);
    }
    for (const auto& request : requests) seen.push_back(passes.read(request));
  }
  for (std::size_t r = 0; r < 6; ++r) CHECK(seen[r] == seen[r + 6]);
  CHECK(replayed.replays() > 0);
}

TEST_CASE("recording: scratch of the generic rule that has moved is not written to") {
  // A request for a bias alone, then one that needs a larger gradient of one sample. No kernel here
  // keeps memory, which could be what the old gradient of one sample becomes.
  Task task = vectors(4, false);
  task.graph = graph_json({parameter_json("w", {kWidth, kWidth}, "weight"),
                           parameter_json("v", {kWidth, kWidth}, "weight"),
                           parameter_json("b", {kWidth}, "bias")},
                          {node_json("h", "linear", {"x"}, {{"weight", "w"}}),
                           node_json("logits", "linear", {"h"}, {{"weight", "v"}, {"bias", "b"}})},
                          "logits")
                   .dump();
  const Setting graphs("FISHERMASK_CUDA_GRAPHS", "on");
  const std::shared_ptr<Device> device = open_cuda_device({});
  Setup setup(task, device);
  FisherSums small(setup.network), all(setup.network);
  BackwardRequest of_bias, of_all;
  for (std::size_t p = 0; p < all.size(); ++p) {
    const bool bias = setup.network.graph().parameters()[p].name == "b";
    of_bias.square_sums.push_back(bias ? small.data(p) : nullptr);
    of_all.square_sums.push_back(all.data(p));
  }
  ExecutorOptions options;
  options.batch = task.inputs.shape()[0];
  options.squares = true;
  const std::vector<double> ones(task.labels.size(), 1.0);
  const auto step = [&](const BackwardRequest& request) {
    Executor& executor = setup.network.executor(options);
    write_batch(task.batch(), executor.input(), device.get());
    executor.forward();
    seed_loss(executor.output(), task.labels, 1.0, ones, executor.output_gradient(), device.get());
    executor.backward(request);
  };
  // On another executor, so that the device's own scratch is as large as it gets.
  options.repeatable = true;
  step(of_all);
  options.repeatable = false;
  for (int i = 0; i < 3; ++i) step(of_bias);
  step(of_all);
  // What the pool gives out now may be what the recording wrote to.
  constexpr std::int64_t kBytes = 256;
  const std::vector<std::byte> own(kBytes, std::byte{0x5A});
  std::vector<std::shared_ptr<std::byte>> taken;
  for (int i = 0; i < 16; ++i) {
    taken.push_back(device->allocate(kBytes, "a test"));
    device->upload(taken.back().get(), own.data(), kBytes);
  }
  for (int i = 0; i < 3; ++i) step(of_bias);
  for (const auto& memory : taken) {
    std::vector<std::byte> seen(kBytes);
    device->download(seen.data(), memory.get(), kBytes);
    CHECK(seen == own);
  }
  CHECK(setup.replays() > 0);
  CHECK(setup.outdated() == 0);
}

TEST_CASE("recording: scratch that has moved ends recordings, and they are made again") {
  // Devices of their own: scratch that other tests left is as large as it gets.
  const Setting graphs("FISHERMASK_CUDA_GRAPHS", "on");
  const Task task = images("lenet", 6);
  Setup replayed(task, open_cuda_device({}));
  Setup straight(task, direct());
  std::vector<Lists> seen;
  for (Setup* const setup : {&replayed, &straight}) {
    FisherPass pass(setup->network, {});
    for (const std::int64_t samples : {1, 1, 1, 6, 1, 1, 1, 6, 6, 6, 1}) {
      pass.step(part_of(task, samples), labels_of(task, samples), 0);
    }
    seen.push_back(pass.square_sums());
  }
  CHECK(seen[0] == seen[1]);
  CHECK(replayed.outdated() > 0);
  CHECK(replayed.replays() > 0);
}

TEST_CASE("recording: errors in and between replays leave no trace") {
  Task task = vectors(2, false);
  Setup replayed(task, recording());
  Setup straight(task, direct());
  std::vector<Lists> seen;
  float& spoiled = task.inputs.as<float>()[kWidth];
  const float good = spoiled;
  for (Setup* const setup : {&replayed, &straight}) {
    FisherPass pass(setup->network, {});
    for (int step = 0; step < 6; ++step) {
      spoiled = step % 2 == 1 ? std::numeric_limits<float>::quiet_NaN() : good;
      const auto run = [&] { pass.step(task.batch(), task.labels, 0); };
      if (step % 2 == 1) {
        CHECK(code_of(run) == ErrorCode::kNON_FINITE);
      } else {
        run();
      }
    }
    seen.push_back(pass.square_sums());
  }
  CHECK(seen[0] == seen[1]);
  CHECK(replayed.replays() > 0);
}

TEST_CASE("recording: an id out of range within a replayed pass is named, and passes go on") {
  Task task = sequences();
  Setup replayed(task, recording());
  const std::vector<double> expected = losses(replayed, task, kSequences);
  for (int step = 0; step < 6; ++step) {
    if (step % 2 == 1) {
      task.inputs.as<std::int32_t>()[3] = kWords;
      CHECK(code_of([&] { (void)losses(replayed, task, kSequences); }) == ErrorCode::kARGUMENT);
      task.inputs.as<std::int32_t>()[3] = kIds[3];
    }
    CHECK(losses(replayed, task, kSequences) == expected);
  }
  CHECK(replayed.replays() > 0);
}

TEST_CASE("recording: a device without memory left replays on") {
  if (!recording()->info().emulated) return;
  const Setting graphs("FISHERMASK_CUDA_GRAPHS", "on");
  const Task task = images("lenet", 6);
  Setup replayed(task, open_cuda_device({}));
  const std::vector<double> expected = losses(replayed, task, 1);
  for (int step = 0; step < 3; ++step) CHECK(losses(replayed, task, 1) == expected);
  {
    const Setting full("FISHERMASK_EMULATED_MEMORY", "1");
    CHECK(code_of([&] { (void)losses(replayed, task, 6); }) == ErrorCode::kOUT_OF_MEMORY);
  }
  for (int step = 0; step < 3; ++step) CHECK(losses(replayed, task, 1) == expected);
  CHECK(losses(replayed, task, 6).front() == doctest::Approx(expected.front()));
  CHECK(losses(replayed, task, 1) == expected);
  CHECK(replayed.replays() >= 3);
}

TEST_CASE("recording: a graph that still runs outlives its network") {
  const Setting graphs("FISHERMASK_CUDA_GRAPHS", "on");
  const Setting late("FISHERMASK_EMULATED_STREAMS", "late");
  const std::shared_ptr<Device> device = open_cuda_device({});
  const Task task = images("lenet", 2);
  {
    Setup setup(task, device);
    ExecutorOptions options;
    options.batch = 2;
    Executor& executor = setup.network.executor(options);
    for (int step = 0; step < 4; ++step) executor.forward();
    CHECK(setup.replays() == 3);
  }
  device->synchronize();
}

TEST_CASE("recording: work that runs as late as it may is the same") {
  const Setting graphs("FISHERMASK_CUDA_GRAPHS", "on");
  for (const StreamOrder& order : kStreamOrders) {
    CAPTURE(order.compute);
    CAPTURE(order.copies);
    for (const Task& task : {vectors(1, false), sequences(), images("lenet", 2)}) {
      CAPTURE(task.name);
      const OrderedDevice ordered(order);
      Setup late(task, ordered.get());
      Setup straight(task, direct());
      CHECK(fishers(late, task, {}) == fishers(straight, task, {}));
      CHECK(late.replays() > 0);
    }
  }
}

TEST_CASE("recording: what a recording cannot hold drops it, and the device works on") {
  Device& device = *recording();
  const auto memory = device.allocate(4096, "a test");
  const auto other = device.allocate(4096, "a test");
  const std::vector<std::byte> zeros(4096), ones(4096, std::byte{1});
  std::vector<std::byte> seen(4096);
  const auto refused = [&](const std::function<void()>& work) {
    const RecordingCounts before = device.recording_counts();
    device.zero(memory.get(), 4096);
    CHECK(device.record([&] {
      device.copy(memory.get(), other.get(), 4096);
      work();
    }) == nullptr);
    CHECK(device.recording_counts().refused == before.refused + 1);
    device.download(seen.data(), memory.get(), 4096);
    CHECK(seen == zeros);  // nothing of it ran
  };
  device.upload(other.get(), ones.data(), 4096);
  refused([&] { device.synchronize(); });
  refused([&] { device.download(seen.data(), memory.get(), 8); });
  refused([&] { device.upload(memory.get(), ones.data(), 8); });
  refused([&] { device.upload_batch(memory.get(), ones.data(), 8); });
  refused([&] { (void)device.allocate(1 << 20, "a test"); });
  refused([&] {
    (void)device.find_non_finite(std::array{TensorView{memory.get(), DType::kF32, {8}}});
  });
  refused([&] { (void)device.record([] {}); });

  // An error of the work's own is passed on.
  CHECK(code_of([&] { (void)device.record([] { fail(ErrorCode::kARGUMENT, "of the work"); }); }) ==
        ErrorCode::kARGUMENT);

  // What remains is recorded: nothing runs before it is replayed.
  const auto made = device.record([&] { device.copy(memory.get(), other.get(), 4096); });
  REQUIRE(made != nullptr);
  device.download(seen.data(), memory.get(), 4096);
  CHECK(seen == zeros);
  CHECK(made->replay());
  device.download(seen.data(), memory.get(), 4096);
  CHECK(seen == ones);
}

TEST_CASE("recording: turned off, passes run directly") {
  const Task task = vectors(1, false);
  Setup setup(task, direct());
  (void)fishers(setup, task, {});
  CHECK_FALSE(direct()->records());
  CHECK(direct()->recording_counts().made == 0);
  CHECK(direct()->record([] {}) == nullptr);
}

TEST_CASE("recording: the emulation's captures refuse what CUDA's do") {
  if (!recording()->info().emulated) return;
  const char* const path = std::getenv("FISHERMASK_CUDA_LIBRARY");
  void* const library = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != nullptr);
  const auto wrong =
      reinterpret_cast<const char* (*)()>(dlsym(library, "fishermask_test_captures"));
  REQUIRE(static_cast<bool>(wrong));
  CHECK(std::string(wrong()) == "");
}
