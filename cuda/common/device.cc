// The device: one stream to compute on, one for batches on their way, one pool, and the rooms of
// this backend behind core/device.h.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <vector>

#include "common/backend.h"
#include "common/batch_uploads.h"
#include "common/check.h"
#include "common/handles.h"
#include "common/loops.h"
#include "common/parts.h"
#include "common/pinned_ring.h"
#include "common/pool.h"
#include "common/recorder.h"
#include "common/scratch.h"
#include "ops/cublas.h"
#include "ops/cudnn.h"

namespace fishermask::cuda {
namespace {

constexpr const char* kOwnKernels = "own kernels";

// The runtime's current device is each thread's own.
void make_device_current(int index) {
  thread_local int current = -1;
  if (current == index) return;
  FM_CUDA(cudaSetDevice(index));
  current = index;
}

Stream make_stream_of(int index) {
  make_device_current(index);
  return make_stream();
}

DeviceInfo describe(int index) {
  cudaDeviceProp properties{};
  FM_CUDA(cudaGetDeviceProperties(&properties, index));
  DeviceInfo info;
  info.kind = "cuda";
  info.index = index;
  info.name = properties.name;
  info.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
  info.compute_capability = properties.major * 10 + properties.minor;
  info.processors = properties.multiProcessorCount;
#ifdef FM_EMULATION
  info.emulated = true;
#endif
  const auto or_own = [](const std::string& library) {
    return library.empty() ? std::string(kOwnKernels) : library;
  };
  info.matmul_library = or_own(Cublas::installed());
  info.convolution_library = or_own(Cudnn::installed());
  return info;
}

class CudaDevice final : public Device, public Backend {
 public:
  explicit CudaDevice(const DeviceOptions& options)
      : info_(describe(options.index)), precision_(options.precision) {
    cublas_ = Cublas::open();
    cudnn_ = Cudnn::open(stream_.get(), options.precision);
    if (cudnn_ == nullptr) info_.convolution_library = kOwnKernels;
  }

  ~CudaDevice() override {
    uploads_.synchronize();
    check_quietly(cudaStreamSynchronize(stream_.get()));
    recorder_.bury();
  }

  // --- Backend
  [[nodiscard]] cudaStream_t stream() const override { return stream_.get(); }
  [[nodiscard]] const DeviceInfo& device_info() const override { return info_; }
  [[nodiscard]] Precision matmul_precision() const override { return precision_; }
  [[nodiscard]] SquareReport& square_notes() override { return square_report_; }
  [[nodiscard]] std::shared_ptr<std::byte> take(std::int64_t bytes,
                                                std::string_view purpose) override {
    recorder_.refuse("memory from the pool");
    make_current();
    return pool_->take(bytes, purpose);
  }
  [[nodiscard]] std::byte* scratch(std::int64_t bytes) override { return scratch_.of(bytes); }
  [[nodiscard]] std::byte* product_scratch(std::int64_t bytes) override {
    return product_scratch_.of(bytes);
  }
  [[nodiscard]] Cublas* cublas() override { return ready(cublas_, info_.matmul_library); }
  [[nodiscard]] Cudnn* cudnn() override { return ready(cudnn_, info_.convolution_library); }
  void to_host(void* to, const void* from, std::int64_t bytes) override {
    recorder_.refuse("a copy to the host");
    make_current();
    if (bytes > 0) {
      FM_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                              stream_.get()));
    }
    synchronize();
  }
  void from_host(void* to, const void* from, std::int64_t bytes) override {
    recorder_.refuse("a copy from the host");
    make_current();
    pinned_.copy(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  }

  // --- Device
  [[nodiscard]] const DeviceInfo& info() const override { return info_; }
  [[nodiscard]] Precision precision() const override { return precision_; }
  [[nodiscard]] std::shared_ptr<std::byte> allocate(std::int64_t bytes,
                                                    std::string_view purpose) override {
    return take(bytes, purpose);
  }
  void upload(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    from_host(to, from, bytes);
  }
  void download(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    to_host(to, from, bytes);
  }
  void upload_batch(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    recorder_.refuse("a copy from the host");
    make_current();
    const std::array parts = {std::span(from, static_cast<std::size_t>(bytes))};
    uploads_.send(parts, [&](std::span<std::byte* const> here) { copy(to, here[0], bytes); });
  }
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override {
    if (bytes == 0) return;
    make_current();
    FM_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                            stream_.get()));
  }
  void zero(std::byte* to, std::int64_t bytes) override {
    if (bytes == 0) return;
    make_current();
    FM_CUDA(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), stream_.get()));
  }
  void synchronize() override {
    recorder_.refuse("a wait for the device");
    make_current();
    FM_CUDA(cudaStreamSynchronize(stream_.get()));
    recorder_.bury();
  }
  [[nodiscard]] std::int64_t allocated_bytes() const override { return pool_->bytes(); }

  [[nodiscard]] bool records() const override { return recorder_.on(); }
  [[nodiscard]] std::unique_ptr<Recording> record(const std::function<void()>& work) override {
    make_current();
    return recorder_.record(work);
  }
  [[nodiscard]] RecordingCounts recording_counts() const override { return recorder_.counts(); }

  [[nodiscard]] std::unique_ptr<Kernel> make_kernel(const NodeSpec& node,
                                                    std::int64_t batch) override {
    const KernelMaker maker = find_cuda_op(node.op);
    if (maker == nullptr) return nullptr;
    return maker(node, {this, stream_.get(), precision_, batch});
  }
  [[nodiscard]] std::vector<std::string> op_names() const override { return cuda_op_names(); }
  [[nodiscard]] std::unique_ptr<SquareSink> make_square_sink() override {
    return cuda::make_square_sink(*this);
  }
  [[nodiscard]] SquareReport square_report() const override { return square_report_; }
  void add_squares(const float* g, std::int64_t count, double weight, double* sums) override {
    accumulate_sums(stream_.get(), g, count, weight, true, sums);
  }
  void add_values(const float* g, std::int64_t count, double weight, double* sums) override {
    accumulate_sums(stream_.get(), g, count, weight, false, sums);
  }
  void write_pixels(const TensorView& raw, std::int64_t channels,
                    const DeviceNormalisation& normalisation, float* to) override;
  [[nodiscard]] std::optional<std::size_t> find_non_finite(
      std::span<const TensorView> tensors) override {
    if (tensors.empty()) return {};
    std::vector<unsigned> bad(tensors.size());
    const auto bytes = static_cast<std::int64_t>(bad.size() * sizeof(unsigned));
    auto* const found = reinterpret_cast<unsigned*>(scratch(bytes));
    zero(reinterpret_cast<std::byte*>(found), bytes);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      note_non_finite(stream_.get(), tensors[i].as<float>(), tensors[i].count(), found + i);
    }
    to_host(bad.data(), found, bytes);
    const auto first = std::ranges::find_if(bad, [](unsigned one) { return one != 0; });
    if (first == bad.end()) return {};
    return static_cast<std::size_t>(first - bad.begin());
  }

  PredictionCounts cross_entropy(const LogitsShape& shape, const float* logits,
                                 std::span<const std::int32_t> labels, double temperature,
                                 double* per_sample_loss, std::int32_t* predictions) override {
    return cuda::cross_entropy(*this, shape, logits, labels, temperature, per_sample_loss,
                               predictions);
  }
  void cross_entropy_seed(const LogitsShape& shape, const float* logits,
                          std::span<const std::int32_t> labels, double temperature,
                          std::span<const double> scales, float* grad_logits) override {
    cuda::cross_entropy_seed(*this, shape, logits, labels, temperature, scales, grad_logits);
  }
  void softmax_probabilities(const LogitsShape& shape, const float* logits, double temperature,
                             double* probabilities) override {
    cuda::softmax_probabilities(*this, shape, logits, temperature, probabilities);
  }
  void sgd_step(const DeviceSgd& step, std::span<const DeviceOptimized> parameters) override {
    cuda::sgd_step(*this, step, parameters);
  }
  void adamw_step(const DeviceAdamW& step, std::span<const DeviceOptimized> parameters) override {
    cuda::adamw_step(*this, step, parameters);
  }
  void hold_zero(float* values, const std::int64_t* indices, std::int64_t count) override {
    zero_elements(stream_.get(), values, indices, count);
  }
  DeviceMaskResult mask_top_k(const DeviceMaskRequest& request) override {
    return cuda::mask_top_k(*this, request);
  }

 private:
  // A library that cannot make its handle is given up, and the device's information says so.
  template <typename Library>
  [[nodiscard]] Library* ready(std::unique_ptr<Library>& library, std::string& name) {
    if (library == nullptr) return nullptr;
    make_current();
    if (!library->ready()) {
      library.reset();
      name = kOwnKernels;
    }
    return library.get();
  }

  // Every pass begins with a copy or an allocation, so its launches find the device current.
  void make_current() const { make_device_current(info_.index); }

  DeviceInfo info_;
  Precision precision_;
  SquareReport square_report_;
  Stream stream_ = make_stream_of(info_.index);
  std::unique_ptr<Cublas> cublas_;
  std::unique_ptr<Cudnn> cudnn_;  // after its stream
  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
  Recorder recorder_{stream_.get()};
  Scratch scratch_{*this, recorder_, "scratch of the kernels"};
  Scratch product_scratch_{*this, recorder_, "scratch of the matrix products"};
  PinnedRing pinned_{stream_.get()};
  BatchUploads uploads_{*this};
};

// The constants of the channels travel in front of the pixels.
void CudaDevice::write_pixels(const TensorView& raw, std::int64_t channels,
                              const DeviceNormalisation& normalisation, float* to) {
  recorder_.refuse("a copy from the host");
  FM_CHECK(raw.dtype == DType::kU8 || raw.dtype == DType::kF32, DTYPE,
           "expected u8 or f32 pixels but received ", dtype_name(raw.dtype));
  const std::int64_t count = raw.count();
  if (count == 0) return;
  make_current();
  const std::array parts = {
      std::as_bytes(normalisation.mean), std::as_bytes(normalisation.std),
      std::span<const std::byte>(raw.data, static_cast<std::size_t>(raw.bytes()))};
  uploads_.send(parts, [&](std::span<std::byte* const> here) {
    const bool scaled = !normalisation.mean.empty();
    const float* const mean = scaled ? reinterpret_cast<const float*>(here[0]) : nullptr;
    const float* const deviation = scaled ? reinterpret_cast<const float*>(here[1]) : nullptr;
    const auto normalise = [&](const auto* pixels) {
      normalise_pixels(stream_.get(), pixels, mean, deviation, normalisation.divisor, channels,
                       count, to);
    };
    if (raw.dtype == DType::kU8) {
      normalise(reinterpret_cast<const std::uint8_t*>(here[2]));
    } else {
      normalise(reinterpret_cast<const float*>(here[2]));
    }
  });
}

constexpr int kLeastCapability = 80;

std::string unusable(const DeviceInfo& info) {
  return text("cuda:", info.index, " (", info.name, ") has compute capability ",
              info.compute_capability / 10, ".", info.compute_capability % 10,
              ", and the CUDA backend needs 8.0 or newer");
}

// What the driver is, where it could not name its devices.
std::string driver_problem(const std::string& words) {
  int driver = 0;
  int own = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) return words;
  if (driver == 0) return "CUDA is not available: there is no NVIDIA driver";
  if (cudaRuntimeGetVersion(&own) != cudaSuccess || driver >= own) return words;
  const auto version = [](int v) { return text(v / 1000, ".", v % 1000 / 10); };
  return text("CUDA is not available: the NVIDIA driver is for CUDA ", version(driver),
              ", and the CUDA backend needs one for ", version(own), " or newer");
}

CudaAvailability availability() {
  CudaAvailability found;
  try {
    int visible = 0;
    FM_CUDA(cudaGetDeviceCount(&visible));
    found.reason = "no CUDA device is visible";
    for (int i = 0; i < visible; ++i) {
      const DeviceInfo info = describe(i);
      if (info.compute_capability >= kLeastCapability) {
        found.infos.push_back(info);
      } else {
        found.reason = unusable(info);
      }
    }
    found.devices = static_cast<int>(found.infos.size());
    if (found.devices > 0) found.reason.clear();
  } catch (const Error& e) {
    found.infos.clear();
    found.reason = driver_problem(e.what());
  }
  return found;
}

std::shared_ptr<Device> open(const DeviceOptions& options) {
  const CudaAvailability found = availability();
  FM_CHECK(found.devices > 0, NO_DEVICE, found.reason);
  std::string names;
  for (const DeviceInfo& info : found.infos) {
    if (info.index == options.index) return std::make_shared<CudaDevice>(options);
    names += text(names.empty() ? "" : ", ", "cuda:", info.index);
  }
  fail(ErrorCode::kNO_DEVICE, "expected one of ", names, " but received cuda:", options.index);
}

}  // namespace
}  // namespace fishermask::cuda

extern "C" __attribute__((visibility("default")))
const fishermask::CudaBackendEntry fishermask_cuda_backend = {
    fishermask::kCudaBackendAbi, fishermask::cuda::availability, fishermask::cuda::open};
