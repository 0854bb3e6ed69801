// The optimisers on a device against the CPU's, over several steps.
#include "optim/optimizer.h"

#include <cstring>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

// Around the sizes of a block and of a chunk, and one without elements.
const std::vector<std::int64_t> kCounts = {1, 31, 0, 4096, 4097, 33, 12345, 0};
constexpr int kSteps = 4;
// The device rounds every operation by itself. So does the CPU's code for x86-64; elsewhere its
// compiler may join a product and a sum.
#if defined(__x86_64__)
constexpr double kTolerance = 0;
#else
constexpr double kTolerance = 1e-6;
#endif

struct OptimizerCase {
  std::string name;
  OptimizerOptions options;
};

std::vector<OptimizerCase> cases() {
  using Kind = OptimizerOptions::Kind;
  return {
      {"sgd", {.kind = Kind::kSgd}},
      {"sgd with decay", {.kind = Kind::kSgd, .weight_decay = 0.01}},
      {"momentum and dampening",
       {.kind = Kind::kSgd, .momentum = 0.9, .dampening = 0.2, .weight_decay = 5e-4}},
      {"nesterov", {.kind = Kind::kSgd, .momentum = 0.8, .nesterov = true}},
      {"adamw", {.kind = Kind::kAdamW}},
      {"adamw with decay",
       {.kind = Kind::kAdamW, .weight_decay = 0.05, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-6}},
  };
}

Tensor drawn(std::int64_t count, std::uint64_t stream) {
  return tensor_of<float>({count}, normals(count, stream));
}

std::vector<OptimizedParameter> described(const std::vector<Tensor>& values,
                                          const std::vector<Tensor>& gradients) {
  std::vector<OptimizedParameter> all(values.size());
  for (std::size_t p = 0; p < values.size(); ++p) {
    all[p].value = values[p].as<float>();
    all[p].gradient = gradients[p].as<float>();
    all[p].count = values[p].count();
  }
  return all;
}

}  // namespace

TEST_CASE("optimisers on a device take the CPU's steps") {
  for (const OptimizerCase& one : cases()) {
    CAPTURE(one.name);
    std::vector<Tensor> values;
    std::vector<DeviceTensor> device_values;
    for (std::size_t p = 0; p < kCounts.size(); ++p) {
      values.push_back(drawn(kCounts[p], 300 + p));
      device_values.emplace_back(values.back());
    }
    // Some weights of the last large tensor are held at 0.
    const std::vector<std::int64_t> held = {0, 7, 4095, 4096, 12344};
    Tensor device_held_bytes(DType::kU8, {static_cast<std::int64_t>(held.size() * 8)});
    std::memcpy(device_held_bytes.view().data, held.data(), held.size() * 8);
    const DeviceTensor device_held(device_held_bytes);

    Optimizer here(one.options);
    Optimizer there(one.options, &device());
    for (int step = 0; step < kSteps; ++step) {
      std::vector<Tensor> gradients;
      std::vector<DeviceTensor> device_gradients;
      for (std::size_t p = 0; p < kCounts.size(); ++p) {
        gradients.push_back(drawn(kCounts[p], 400 + 10 * static_cast<std::uint64_t>(step) + p));
        device_gradients.emplace_back(gradients.back());
      }
      std::vector<OptimizedParameter> parameters = described(values, gradients);
      parameters[6].held = held.data();
      parameters[6].held_count = static_cast<std::int64_t>(held.size());
      here.step(parameters, 0.1 / (1 + step));
      for (std::size_t p = 0; p < kCounts.size(); ++p) {
        parameters[p].value = device_values[p].view().as<float>();
        parameters[p].gradient = device_gradients[p].view().as<float>();
      }
      parameters[6].held = reinterpret_cast<const std::int64_t*>(device_held.view().data);
      there.step(parameters, 0.1 / (1 + step));
    }
    for (std::size_t p = 0; p < kCounts.size(); ++p) {
      CAPTURE(p);
      CHECK(relative_distance<float, float>(device_values[p].host(), values[p]) <= kTolerance);
    }
    for (const std::int64_t index : held) CHECK(device_values[6].host().as<float>()[index] == 0.0F);
  }
}
