// Every row of the op tables on the device, against the CPU's f64 reference: forward, backward,
// accumulation, and one sample cut out of a batch. An op without a CUDA kernel is counted and
// named.
#include <cstdio>

#include "cuda/device_support.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr double kTolerance = 1e-5;  // as for the CPU's own f32 kernels

// FISHERMASK_CUDA_OPS: names separated by commas; only these ops are tried.
bool chosen(const std::string& op) {
  const char* const only = std::getenv("FISHERMASK_CUDA_OPS");
  if (only == nullptr) return true;
  const std::string list = "," + std::string(only) + ",";
  return list.find("," + op + ",") != std::string::npos;
}

// An OpRun whose tensors live on the device: its memory is copied there, and the results back.
struct DeviceRun {
  explicit DeviceRun(OpRun<float>& from) : host(from) {
    io = host.io;
    const auto send = [](const std::vector<Tensor>& tensors, std::vector<DeviceTensor>& kept,
                         std::vector<TensorView>& views) {
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        kept.emplace_back(tensors[i]);
        const bool wanted = static_cast<bool>(views[i]);
        if (wanted) views[i] = kept.back().view();
      }
    };
    send(host.inputs, inputs, io.inputs);
    send(host.outputs, outputs, io.outputs);
    send(host.grad_outputs, grad_outputs, io.grad_outputs);
    send(host.grad_inputs, grad_inputs, io.grad_inputs);
    for (const auto& [slot, tensor] : host.parameters) {
      io.parameters[slot] = parameters.emplace(slot, DeviceTensor(tensor)).first->second.view();
    }
    for (const auto& [slot, tensor] : host.grad_parameters) {
      io.grad_parameters[slot] =
          grad_parameters.emplace(slot, DeviceTensor(tensor)).first->second.view();
    }
    const SavedSpec saved = host.saved_spec();
    saved_per_sample = device().allocate(saved.bytes_per_sample * io.batch + 1, "saved");
    saved_fixed = device().allocate(saved.bytes_fixed + 1, "saved");
    io.saved_per_sample = saved_per_sample.get();
    io.saved_fixed = saved_fixed.get();
  }

  // Results over the host's tensors.
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
  std::shared_ptr<std::byte> saved_per_sample, saved_fixed;
};

template <typename T>
void prefill(OpRun<T>& run) {
  std::uint64_t stream = 700;
  const auto fill = [&](const Tensor& tensor) {
    if (tensor.dtype() == DType::kI32) return;
    const std::vector<float> values = normals(tensor.count(), stream++);
    std::copy(values.begin(), values.end(), tensor.template as<T>());
  };
  for (const Tensor& gradient : run.grad_inputs) fill(gradient);
  for (const auto& [slot, gradient] : run.grad_parameters) fill(gradient);
}

double distance(const OpRun<float>& run, const OpRun<double>& reference) {
  double worst = 0;
  const auto note = [&](const Tensor& a, const Tensor& b) {
    if (a.dtype() == DType::kI32) return;
    worst = std::max(worst, relative_distance<float, double>(a, b));
  };
  for (std::size_t i = 0; i < run.outputs.size(); ++i) note(run.outputs[i], reference.outputs[i]);
  for (std::size_t i = 0; i < run.grad_inputs.size(); ++i) {
    note(run.grad_inputs[i], reference.grad_inputs[i]);
  }
  for (const auto& [slot, gradient] : run.grad_parameters) {
    note(gradient, reference.grad_parameters.at(slot));
  }
  for (const auto& [slot, value] : run.parameters) note(value, reference.parameters.at(slot));
  return worst;
}

// Forward and backward of a case on both sides; `add` as where gradients accumulate.
double compare(const OpDefinition& op, const SampleCase& sample_case, bool add) {
  OpRun<float> run(op, sample_case, false);
  OpRun<double> reference(op, sample_case, false);
  if (add) {
    prefill(run);
    prefill(reference);
    run.io.accumulate.assign(run.inputs.size(), true);
    reference.io.accumulate.assign(reference.inputs.size(), true);
  }
  DeviceRun on_device(run);
  const std::unique_ptr<Kernel> kernel = device().make_kernel(run.node(), sample_case.batch);
  REQUIRE(kernel != nullptr);
  kernel->forward(on_device.io);
  kernel->backward(on_device.io);
  on_device.read_back();
  reference.forward();
  reference.kernel().backward(reference.io);
  return distance(run, reference);
}

}  // namespace

TEST_CASE("every op's CUDA kernel against the CPU's f64 reference") {
  std::vector<std::string> missing;
  double worst = 0;
  int cases = 0;
  for (const std::string& name : op_names()) {
    if (!chosen(name)) continue;
    const OpDefinition& op = find_op(name);
    int refused = 0;
    for (const SampleCase& sample_case : op.cases) {
      CAPTURE(name);
      CAPTURE(sample_case.name);
      if (device().make_kernel(node_of(op, sample_case), sample_case.batch) == nullptr) {
        ++refused;
        continue;
      }
      for (const bool add : {false, true}) {
        CAPTURE(add);
        const double found = compare(op, sample_case, add);
        CHECK(found <= kTolerance);
        worst = std::max(worst, found);
        ++cases;
      }
    }
    if (refused == static_cast<int>(op.cases.size())) {
      missing.push_back(name);
    } else if (refused > 0) {
      missing.push_back(name + " (" + std::to_string(refused) + " of " +
                        std::to_string(op.cases.size()) + " cases)");
    }
  }
  std::printf("CUDA ops: %d cases, worst relative distance %.2g; without a kernel: ", cases, worst);
  for (const std::string& name : missing) std::printf("%s ", name.c_str());
  std::printf("\n");
}
