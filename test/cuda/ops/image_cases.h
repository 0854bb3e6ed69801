// Runs of the ops' harness whose tensors live on a device, and the convolutions that are tried
// there: at sizes beyond one tile and no multiple of any.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

namespace fishermask::test {

using Integers = std::vector<std::int64_t>;

struct ImageCase {
  std::string op;
  SampleCase sample;
};

// A run of the harness whose tensors live on a device.
class DeviceRun {
 public:
  DeviceRun(OpRun<float>& from, Device& on) : host(from), io(from.io) {
    const auto send = [&](const std::vector<Tensor>& tensors, std::vector<DeviceTensor>& kept,
                          std::vector<TensorView>& views) {
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        kept.emplace_back(tensors[i], on);
        if (views[i]) views[i] = kept.back().view();
      }
    };
    send(host.inputs, inputs, io.inputs);
    send(host.outputs, outputs, io.outputs);
    send(host.grad_outputs, grad_outputs, io.grad_outputs);
    send(host.grad_inputs, grad_inputs, io.grad_inputs);
    for (const auto& [slot, tensor] : host.parameters) {
      io.parameters[slot] = parameters.emplace(slot, DeviceTensor(tensor, on)).first->second.view();
    }
    for (const auto& [slot, tensor] : host.grad_parameters) {
      io.grad_parameters[slot] =
          grad_parameters.emplace(slot, DeviceTensor(tensor, on)).first->second.view();
    }
    const SavedSpec saved = host.saved_spec();
    saved_per_sample_ = on.allocate(saved.bytes_per_sample * io.batch + 1, "saved");
    saved_fixed_ = on.allocate(saved.bytes_fixed + 1, "saved");
    io.saved_per_sample = saved_per_sample_.get();
    io.saved_fixed = saved_fixed_.get();
  }

  // Over the host's tensors.
  void read_back() const {
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].read(host.outputs[i]);
    for (std::size_t i = 0; i < grad_inputs.size(); ++i) {
      if (io.grad_inputs[i]) grad_inputs[i].read(host.grad_inputs[i]);
    }
    for (const auto& [slot, tensor] : grad_parameters) tensor.read(host.grad_parameters.at(slot));
    for (const auto& [slot, tensor] : parameters) tensor.read(host.parameters.at(slot));
  }

  OpRun<float>& host;
  NodeIo io;
  std::vector<DeviceTensor> inputs, outputs, grad_outputs, grad_inputs;
  std::map<std::string, DeviceTensor> parameters, grad_parameters;

 private:
  std::shared_ptr<std::byte> saved_per_sample_, saved_fixed_;
};

// Every result of a run by name.
using Results = std::map<std::string, Tensor>;

template <typename T>
Results results_of(const OpRun<T>& run) {
  Results all;
  for (std::size_t i = 0; i < run.outputs.size(); ++i) {
    all["output " + std::to_string(i)] = run.outputs[i];
  }
  for (std::size_t i = 0; i < run.grad_inputs.size(); ++i) {
    all["grad input " + std::to_string(i)] = run.grad_inputs[i];
  }
  for (const auto& [slot, tensor] : run.grad_parameters) all["grad " + slot] = tensor;
  for (const auto& [slot, tensor] : run.parameters) all[slot] = tensor;
  return all;
}

inline Results on_device(const ImageCase& one, Device& on) {
  OpRun<float> run(find_op(one.op), one.sample, false);
  DeviceRun there(run, on);
  const std::unique_ptr<Kernel> kernel = on.make_kernel(run.node(), one.sample.batch);
  REQUIRE(kernel != nullptr);
  kernel->forward(there.io);
  kernel->backward(there.io);
  there.read_back();
  return results_of(run);
}

inline Results on_host(const ImageCase& one) {
  OpRun<double> run(find_op(one.op), one.sample, false);
  run.forward();
  run.backward();
  return results_of(run);
}

inline void check_close(const Results& found, const Results& expected, double tolerance) {
  REQUIRE(found.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    CAPTURE(name);
    const double away = relative_distance<float, double>(found.at(name), tensor);
    CHECK(away <= tolerance);
  }
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.view().bytes() == b.view().bytes() &&
         std::memcmp(a.view().data, b.view().data, static_cast<std::size_t>(a.view().bytes())) == 0;
}

inline ImageCase conv(const char* name, const Shape& input, const Shape& weight, bool bias,
                      const std::map<std::string, Attribute>& attributes, std::int64_t batch,
                      const char* op = "conv2d") {
  ImageCase one{op, {.name = name, .inputs = {input}, .parameters = {{"weight", weight}}}};
  one.sample.attributes = attributes;
  one.sample.batch = batch;
  const bool transposed = std::string(op) == "conv_transpose2d";
  const auto groups = attributes.contains("groups")
                          ? std::get<std::int64_t>(attributes.at("groups"))
                          : std::int64_t{1};
  if (bias) one.sample.parameters["bias"] = {transposed ? weight[1] * groups : weight[0]};
  return one;
}

inline std::vector<ImageCase> convolutions() {
  const Attribute same = Integers{1, 1, 1, 1};
  const Attribute two = Integers{2, 2};
  return {
      // Words, not 16 bytes; several tiles of positions and of columns.
      conv("17x19, 65 to 66 channels", {17, 19, 65}, {66, 65, 1, 2}, true, {}, 1),
      conv("7x9, 33 to 130 channels", {7, 9, 33}, {130, 33, 3, 3}, true, {{"padding", same}}, 3),
      conv("one channel, the weight gradient split", {17, 19, 1}, {16, 1, 3, 3}, true,
           {{"padding", same}}, 3),
      // 16 bytes.
      conv("stride, dilation, asymmetric padding", {9, 11, 36}, {72, 36, 3, 3}, true,
           {{"stride", Integers{2, 3}},
            {"dilation", Integers{2, 1}},
            {"padding", Integers{1, 0, 2, 3}}},
           3),
      conv("stride 2, no padding after", {8, 8, 20}, {24, 20, 3, 3}, false,
           {{"stride", two}, {"padding", Integers{1, 1, 0, 0}}}, 2),
      conv("dilation and stride share no factor", {13, 13, 8}, {8, 8, 3, 3}, false,
           {{"stride", Integers{3, 2}}, {"dilation", Integers{2, 3}}}, 1),
      conv("groups of 12 and 24 channels", {5, 7, 36}, {72, 12, 3, 3}, true,
           {{"groups", std::int64_t{3}}, {"padding", same}}, 2),
      conv("few positions, the depth split", {3, 3, 128}, {20, 128, 3, 3}, true, {}, 3),
      conv("1x1, stride 2: places that nothing reaches", {7, 7, 64}, {33, 64, 1, 1}, false,
           {{"stride", two}}, 2),
      // Direct kernels.
      conv("depthwise 5x5", {17, 11, 33}, {33, 1, 5, 5}, true,
           {{"groups", std::int64_t{33}}, {"stride", two}, {"padding", Integers{2, 2, 2, 2}}}, 3),
      conv("groups of 2 and 4 channels", {9, 8, 10}, {20, 2, 3, 3}, true,
           {{"groups", std::int64_t{5}}, {"dilation", two}}, 3),
      // Transposed.
      conv("4x4 stride 2", {7, 5, 40}, {40, 36, 4, 4}, true, {{"stride", two}, {"padding", same}},
           2, "conv_transpose2d"),
      conv("stride beyond the kernel", {5, 4, 8}, {8, 12, 2, 2}, true,
           {{"stride", Integers{3, 4}}, {"output_padding", Integers{1, 2}}}, 2, "conv_transpose2d"),
      conv("groups", {6, 5, 24}, {24, 10, 3, 3}, false,
           {{"groups", std::int64_t{2}}, {"padding", same}}, 3, "conv_transpose2d"),
  };
}

// Distances from f64 that each precision may have.
struct Bound {
  Precision precision;
  double tolerance;
};
inline constexpr std::array<Bound, 3> kBounds = {
    {{Precision::kF32, 1e-5}, {Precision::kTf32, 2e-3}, {Precision::kBf16, 2e-2}}};

}  // namespace fishermask::test
