// Attention on the device beyond the op table's rows: sizes around its tiles, every padded head
// size, grouped heads and masks, in every precision, against the CPU's f64 reference; masked rows;
// one sample cut out of a batch; equal bits when run again.
#include <cmath>
#include <cstdio>
#include <limits>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct Sizes {
  std::int64_t rows = 4, columns = 4, heads = 1, kv_heads = 1, key = 8, value = 8;
  bool causal = false;
  int mask = 0;  // 0: none, 1: (S), 2: (T, S)
  std::int64_t batch = 2;
};

SampleCase case_of(const Sizes& z) {
  const InputDraw any = {-1.5, 1.5};
  SampleCase made;
  made.name = "attention";
  made.inputs = {{z.rows, z.heads * z.key},
                 {z.columns, z.kv_heads * z.key},
                 {z.columns, z.kv_heads * z.value}};
  if (z.mask == 1) made.inputs.push_back({z.columns});
  if (z.mask == 2) made.inputs.push_back({z.rows, z.columns});
  made.attributes = {{"heads", z.heads}, {"kv_heads", z.kv_heads}, {"causal", z.causal}};
  made.batch = z.batch;
  made.draws = {any, any, any, any};
  return made;
}

struct Results {
  std::vector<Tensor> outputs, gradients;
};

Results run(const OpRun<float>& host, Kernel& kernel, Device& on, bool forward = true) {
  NodeIo io = host.io;
  std::vector<DeviceTensor> kept;
  const auto send = [&](const std::vector<Tensor>& tensors, std::vector<TensorView>& views) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      kept.emplace_back(tensors[i], on);
      views[i] = kept.back().view();
    }
  };
  send(host.inputs, io.inputs);
  send(host.grad_outputs, io.grad_outputs);
  const std::size_t outputs = kept.size();
  send(host.outputs, io.outputs);
  const std::size_t gradients = kept.size();
  send(host.grad_inputs, io.grad_inputs);
  if (forward) kernel.forward(io);
  kernel.backward(io);
  Results results;
  for (std::size_t i = outputs; i < kept.size(); ++i) {
    (i < gradients ? results.outputs : results.gradients).push_back(kept[i].host());
  }
  return results;
}

Results run(const OpRun<float>& host, Device& on) {
  const std::unique_ptr<Kernel> kernel = on.make_kernel(host.node(), host.io.batch);
  REQUIRE(kernel != nullptr);
  return run(host, *kernel, on);
}

double distance(const Results& results, const OpRun<double>& reference) {
  double worst = 0;
  for (std::size_t i = 0; i < results.outputs.size(); ++i) {
    worst =
        std::max(worst, relative_distance<float, double>(results.outputs[i], reference.outputs[i]));
  }
  for (std::size_t i = 0; i < results.gradients.size(); ++i) {
    worst = std::max(
        worst, relative_distance<float, double>(results.gradients[i], reference.grad_inputs[i]));
  }
  return worst;
}

double compare(const Sizes& z, Precision precision, double tolerance) {
  CAPTURE(z.rows);
  CAPTURE(z.columns);
  CAPTURE(z.heads);
  CAPTURE(z.kv_heads);
  CAPTURE(z.key);
  CAPTURE(z.value);
  CAPTURE(z.causal);
  CAPTURE(z.mask);
  const OpDefinition& op = find_op("attention");
  const SampleCase sample_case = case_of(z);
  const OpRun<float> host(op, sample_case, false);
  OpRun<double> reference(op, sample_case, false);
  reference.forward();
  reference.kernel().backward(reference.io);
  const double found = distance(run(host, device(precision)), reference);
  CHECK(found <= tolerance);
  return found;
}

bool equal(const Tensor& a, const Tensor& b) {
  return std::equal(a.as<float>(), a.as<float>() + a.count(), b.as<float>());
}

}  // namespace

TEST_CASE("attention: sizes around the tiles, heads and masks") {
  const std::int64_t lengths[] = {1, 5, 33, 70};
  const std::int64_t heads[] = {1, 8, 33, 64, 80};
  double worst = 0;
  int turn = 0;
  for (const std::int64_t rows : lengths) {
    for (const std::int64_t columns : lengths) {
      Sizes z = {.rows = rows, .columns = columns};
      z.key = heads[turn % 5];
      z.value = heads[turn * 2 % 5];
      z.heads = turn % 3 == 0 ? 2 : 1;
      z.kv_heads = turn % 6 == 0 ? 1 : z.heads;
      z.causal = turn % 2 == 1;
      z.mask = turn / 2 % 3;
      z.batch = turn % 4 == 0 ? 2 : 1;
      ++turn;
      worst = std::max(worst, compare(z, Precision::kF32, 1e-5));
    }
  }
  std::printf("attention f32: worst relative distance %.2g\n", worst);
}

TEST_CASE("attention: the largest head sizes") {
  compare({.rows = 3, .columns = 66, .key = 256, .value = 129, .causal = true, .batch = 1},
          Precision::kF32, 1e-5);
  compare({.rows = 2, .columns = 3, .key = 7, .value = 200, .batch = 1}, Precision::kBf16, 2e-2);
  const SampleCase too_large = case_of({.key = 257});
  CHECK(device().make_kernel(node_of(find_op("attention"), too_large), 2) == nullptr);
}

TEST_CASE("attention on tensor cores") {
  for (const Precision precision : {Precision::kTf32, Precision::kBf16}) {
    const double tolerance = precision == Precision::kTf32 ? 2e-3 : 2e-2;
    double worst = 0;
    for (int turn = 0; turn < 3; ++turn) {
      Sizes z = {.rows = 33, .columns = 70, .heads = 2, .kv_heads = 1, .batch = 1};
      z.key = turn == 0 ? 33 : turn == 1 ? 64 : 80;
      z.value = turn == 0 ? 64 : 20;
      z.causal = turn == 1;
      z.mask = turn;
      worst = std::max(worst, compare(z, precision, tolerance));
    }
    std::printf("attention %s: worst relative distance %.2g\n",
                std::string(precision_name(precision)).c_str(), worst);
    CHECK(worst > 1e-5);  // the rounded operands were used
  }
}

TEST_CASE("attention: rows masked by -1e9 or minus infinity give zeros and pass no gradient") {
  const OpDefinition& op = find_op("attention");
  for (const float unseen : {-1e9F, -std::numeric_limits<float>::infinity()}) {
    const SampleCase sample_case = case_of({.rows = 6, .columns = 70, .mask = 2, .batch = 1});
    OpRun<float> host(op, sample_case, false);
    OpRun<double> reference(op, sample_case, false);
    for (std::int64_t s = 0; s < 70; ++s) {
      for (const std::int64_t t : {1, 4}) {  // row 4 sees its last column alone
        if (t == 4 && s == 69) continue;
        host.inputs[3].as<float>()[t * 70 + s] = unseen;
        reference.inputs[3].as<double>()[t * 70 + s] = static_cast<double>(unseen);
      }
    }
    reference.forward();
    reference.kernel().backward(reference.io);
    const Results results = run(host, device());
    CHECK(distance(results, reference) <= 1e-5);
    for (std::int64_t c = 0; c < 8; ++c) {
      CHECK(results.outputs[0].as<float>()[8 + c] == 0.0F);
      CHECK(results.gradients[0].as<float>()[8 + c] == 0.0F);
    }
  }
}

TEST_CASE("attention: NaN in a score reaches its own row") {
  const SampleCase sample_case = case_of({.rows = 3, .columns = 5, .batch = 1});
  OpRun<float> host(find_op("attention"), sample_case, false);
  host.inputs[0].as<float>()[8] = std::numeric_limits<float>::quiet_NaN();  // of row 1
  const Results results = run(host, device());
  for (std::int64_t i = 0; i < 24; ++i) {
    CHECK(std::isnan(results.outputs[0].as<float>()[i]) == (i / 8 == 1));
  }
}

TEST_CASE("attention: backward without forward, and twice, gives the same bits") {
  const SampleCase sample_case = case_of(
      {.rows = 9, .columns = 70, .heads = 2, .kv_heads = 1, .causal = true, .mask = 1, .batch = 1});
  const OpRun<float> host(find_op("attention"), sample_case, false);
  const Results both = run(host, device());
  const std::unique_ptr<Kernel> fresh = device().make_kernel(host.node(), host.io.batch);
  const Results alone = run(host, *fresh, device(), false);
  REQUIRE(both.gradients.size() == 4);
  for (std::size_t i = 0; i < both.gradients.size(); ++i) {
    CHECK(equal(both.gradients[i], alone.gradients[i]));
  }
}

TEST_CASE("attention: gradients of one value used thrice accumulate in its memory") {
  const SampleCase sample_case = case_of({.rows = 6, .columns = 6, .batch = 1});
  const OpDefinition& op = find_op("attention");
  OpRun<float> host(op, sample_case, false);
  const Results apart = run(host, device());
  std::vector<DeviceTensor> inputs;
  NodeIo io = host.io;
  for (std::size_t i = 0; i < 3; ++i) {
    inputs.emplace_back(host.inputs[i]);
    io.inputs[i] = inputs.back().view();
  }
  const DeviceTensor grad_output(host.grad_outputs[0]);
  const DeviceTensor shared(host.grad_inputs[0]);
  io.grad_outputs[0] = grad_output.view();
  io.grad_inputs.assign(3, shared.view());
  io.accumulate = {false, true, true};
  device().make_kernel(host.node(), 1)->backward(io);
  const Tensor sum = shared.host();
  for (std::int64_t i = 0; i < sum.count(); ++i) {
    float expected = apart.gradients[0].as<float>()[i];
    expected += apart.gradients[1].as<float>()[i];
    expected += apart.gradients[2].as<float>()[i];
    CHECK(sum.as<float>()[i] == expected);
  }
}
