// A device beside the CPU: memory that only it reaches, and everything of a pass that touches such
// memory. The engine's rooms (graph, fisher, optim) run the same graphs on it: tensors then hold
// the device's memory, kernels come from make_kernel, and what the CPU would do with a loop of its
// own is asked for here. The CUDA backend is one; it lives in a library of its own and depends on
// this room alone.
//
// Order: calls on one device run in the order in which they were made, on one stream. `upload` has
// read the host's memory when it returns; `download` returns when the values are there. All else
// may return before it has run; its failure shows at the next download or synchronize.
// Errors: OUT_OF_MEMORY (the device can be used on), DEVICE_LOST (it cannot), NO_DEVICE.
// Threads: one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernel.h"
#include "core/logits_shape.h"
#include "core/recording.h"
#include "core/rng.h"
#include "core/score_op.h"
#include "core/square_rule.h"
#include "core/tensor.h"

namespace fishermask {

struct DeviceInfo {
  std::string kind;  // "cuda"
  int index = 0;
  std::string name;  // as its driver says
  std::int64_t memory_bytes = 0;
  int compute_capability = 0;  // 90 for 9.0
  int processors = 0;
  bool emulated = false;            // kernels run on the host, for tests
  std::string matmul_library;       // "cuBLASLt 13.0.1", or "own kernels"
  std::string convolution_library;  // "cuDNN 9.24.0", or "own kernels"
};

// What matrix products read: f32 as it is, or rounded to 10 (TF32) or 7 (bf16) bits of fraction
// first. Sums are f32 always.
enum class Precision : std::uint8_t { kF32, kTf32, kBf16 };
[[nodiscard]] std::string_view precision_name(Precision precision) noexcept;  // "tf32"
[[nodiscard]] Precision parse_precision(std::string_view name);               // Errors: ARGUMENT

struct DeviceOptions {
  int index = 0;
  Precision precision = Precision::kF32;
};

// Which kernels square per-sample gradients of convolutions and linear layers, in words.
struct SquareReport {
  std::string kernel;  // of the last one: "tiles", "wgmma", "vectors", "few channels"
  std::string wgmma;   // "checked", or "off: " and why; empty before it was first considered
};

// One parameter and its optimiser state, all (count,) f32 on the device.
struct DeviceOptimized {
  float* value = nullptr;
  const float* gradient = nullptr;
  float* first = nullptr;   // momentum buffer, or Adam's first moment; null: none
  float* second = nullptr;  // Adam's second moment
  std::int64_t count = 0;
};

// The numbers of one optimiser step, as optim/optimizer.cc uses them.
struct DeviceSgd {
  float momentum = 0, keep = 1, decay = 0, rate = 0;  // keep: 1 − dampening
  bool nesterov = false;
  bool first_step = true;
};
struct DeviceAdamW {
  float beta1 = 0, beta2 = 0, rest1 = 0, rest2 = 0;  // rest: 1 − beta, subtracted in f64
  float epsilon = 0, shrink = 1, rate = 0, root_correction2 = 1;
};

// Raw pixels into a network's input: (raw / divisor − mean[c]) / std[c], as graph/batch.h.
struct DeviceNormalisation {
  float divisor = 1.0F;
  std::span<const float> mean;  // (C,) on the host; empty: none
  std::span<const float> std;
};

// One tensor of a masking; its units count from first_unit in the ranking. All on the device.
struct DeviceMaskTensor {
  std::string name;
  float* weight = nullptr;             // (units · elements_per_unit,); masked ones become 0
  const float* forget_sums = nullptr;  // null where the program does not need them
  const float* remain_sums = nullptr;
  const float* forget_gradient_sums = nullptr;
  const std::uint8_t* previous_keep = nullptr;  // one bit per unit, LSB first; null: all kept
  std::int64_t units = 0;
  std::int64_t elements_per_unit = 1;
  std::uint64_t first_unit = 0;  // of the random stream
};

// Mask exactly the k units of largest score over all tensors together: the semantics, to the bit,
// of mask/select.h and mask/score_program.h.
struct DeviceMaskRequest {
  std::vector<ScoreInstruction> program;
  float forget_count = 1.0F, remain_count = 1.0F;
  PhiloxKey key;
  std::int64_t k = 0;
  std::vector<DeviceMaskTensor> tensors;
  bool read_keep = true;  // false: the weights alone are wanted, and the bits stay on the device
};

struct DeviceMaskResult {
  // One bit per unit, LSB first; unused bits 0. Empty where they were not to be read.
  std::vector<std::vector<std::uint8_t>> keep;
  std::vector<std::int64_t> masked;  // by tensor
  std::int64_t eligible = 0;
  std::int64_t total_masked = 0;   // min(k, eligible)
  std::optional<float> threshold;  // the smallest masked score
  int passes = 0;                  // over the inputs
};

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  [[nodiscard]] virtual const DeviceInfo& info() const = 0;
  [[nodiscard]] virtual Precision precision() const = 0;

  // --- memory
  // Aligned to 256 bytes, not cleared. Errors: OUT_OF_MEMORY naming `purpose` and the bytes.
  [[nodiscard]] virtual std::shared_ptr<std::byte> allocate(std::int64_t bytes,
                                                            std::string_view purpose) = 0;
  virtual void upload(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  virtual void download(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  // As upload, but on the way while earlier calls still run: for a batch, whose place in `to` they
  // may still read. Takes memory of the device for two such batches.
  virtual void upload_batch(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  virtual void copy(std::byte* to, const std::byte* from, std::int64_t bytes) = 0;
  virtual void zero(std::byte* to, std::int64_t bytes) = 0;
  virtual void synchronize() = 0;
  [[nodiscard]] virtual std::int64_t allocated_bytes() const = 0;  // now, pool included

  // --- recordings
  // Whether record() is worth a call: a device may have none, or have them turned off.
  [[nodiscard]] virtual bool records() const { return false; }
  // Calls `work` once, which starts nothing: what it asks of this device is written down. Null
  // where it cannot be: something in `work` was Unrecordable, or the device refused the whole. What
  // `work` throws besides is passed on, and nothing is recorded.
  [[nodiscard]] virtual std::unique_ptr<Recording> record(const std::function<void()>& /*work*/) {
    return nullptr;
  }
  [[nodiscard]] virtual RecordingCounts recording_counts() const { return {}; }

  // --- a pass
  // Null: the device has no kernel for this op (or not for these attributes).
  [[nodiscard]] virtual std::unique_ptr<Kernel> make_kernel(const NodeSpec& node,
                                                            std::int64_t batch) = 0;
  [[nodiscard]] virtual std::vector<std::string> op_names() const = 0;  // sorted
  // Adds to f64 sums on the device.
  [[nodiscard]] virtual std::unique_ptr<SquareSink> make_square_sink() = 0;
  [[nodiscard]] virtual SquareReport square_report() const { return {}; }
  // sums[i] += weight · g[i]², or weight · g[i].
  virtual void add_squares(const float* g, std::int64_t count, double weight, double* sums) = 0;
  virtual void add_values(const float* g, std::int64_t count, double weight, double* sums) = 0;
  // raw: u8 or f32 on the host, count = pixels · channels; `to` on the device. On the way as
  // upload_batch.
  virtual void write_pixels(const TensorView& raw, std::int64_t channels,
                            const DeviceNormalisation& normalisation, float* to) = 0;
  // The first of the f32 tensors that holds NaN or infinity, if any does. Waits once for all.
  [[nodiscard]] virtual std::optional<std::size_t> find_non_finite(
      std::span<const TensorView> tensors) = 0;

  // --- the loss: as ops/loss.h, with logits on the device and labels, losses, predictions and
  // scales on the host. Errors: ARGUMENT, NON_FINITE as there.
  virtual PredictionCounts cross_entropy(const LogitsShape& shape, const float* logits,
                                         std::span<const std::int32_t> labels, double temperature,
                                         double* per_sample_loss, std::int32_t* predictions) = 0;
  virtual void cross_entropy_seed(const LogitsShape& shape, const float* logits,
                                  std::span<const std::int32_t> labels, double temperature,
                                  std::span<const double> scales, float* grad_logits) = 0;
  virtual void softmax_probabilities(const LogitsShape& shape, const float* logits,
                                     double temperature, double* probabilities) = 0;

  // --- optimisers. Held weights are set to 0 by hold_zero after the step.
  virtual void sgd_step(const DeviceSgd& step, std::span<const DeviceOptimized> parameters) = 0;
  virtual void adamw_step(const DeviceAdamW& step, std::span<const DeviceOptimized> parameters) = 0;
  // values[indices[i]] = 0; indices on the device.
  virtual void hold_zero(float* values, const std::int64_t* indices, std::int64_t count) = 0;

  // --- masking. Errors: ARGUMENT, NON_FINITE naming the tensors with NaN scores (no weight is
  // changed then), OUT_OF_MEMORY (nor then).
  virtual DeviceMaskResult mask_top_k(const DeviceMaskRequest& request) = 0;
};

// Opens the library that holds the CUDA backend and one of its devices. `library`: a path, or empty
// for the one beside this library (FISHERMASK_CUDA_LIBRARY overrules both). The device keeps the
// library loaded. Errors: NO_DEVICE saying why.
[[nodiscard]] std::shared_ptr<Device> open_cuda_device(const DeviceOptions& options,
                                                       const std::string& library = "");
// What open_cuda_device would load.
[[nodiscard]] std::string cuda_library_path(const std::string& library = "");
// How many devices open_cuda_device would find, or why none.
struct CudaAvailability {
  int devices = 0;     // that can be used
  std::string reason;  // empty when devices > 0
  std::vector<DeviceInfo> infos;
};
[[nodiscard]] CudaAvailability cuda_availability(const std::string& library = "");

// The one symbol of the backend's library. Both sides are built together: `abi` must be equal.
inline constexpr int kCudaBackendAbi = 2;
struct CudaBackendEntry {
  int abi = 0;
  CudaAvailability (*availability)() = nullptr;
  std::shared_ptr<Device> (*open)(const DeviceOptions& options) = nullptr;
};
inline constexpr const char* kCudaBackendSymbol = "fishermask_cuda_backend";

}  // namespace fishermask
