// The device: one stream, one pool, and the rooms of this backend behind core/device.h.
#include <cuda_runtime.h>

#include <array>
#include <cstring>
#include <mutex>

#include "common/backend.h"
#include "common/check.h"
#include "common/loops.h"
#include "common/parts.h"
#include "common/pool.h"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kStagingBytes = 16 << 20;

struct StreamCloser {
  void operator()(cudaStream_t stream) const noexcept { check_quietly(cudaStreamDestroy(stream)); }
};
struct HostCloser {
  void operator()(std::byte* memory) const noexcept { check_quietly(cudaFreeHost(memory)); }
};

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
  return info;
}

class CudaDevice final : public Device, public Backend {
 public:
  explicit CudaDevice(const DeviceOptions& options)
      : info_(describe(options.index)), precision_(options.precision) {
    FM_CUDA(cudaSetDevice(options.index));
    cudaStream_t stream = nullptr;
    FM_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    stream_.reset(stream);
    void* staging = nullptr;
    FM_CUDA(cudaMallocHost(&staging, kStagingBytes));
    staging_.reset(static_cast<std::byte*>(staging));
    info_.matmul_library = matmul_library();
  }

  ~CudaDevice() override { check_quietly(cudaStreamSynchronize(stream_.get())); }

  // --- Backend
  [[nodiscard]] cudaStream_t stream() const override { return stream_.get(); }
  [[nodiscard]] const DeviceInfo& device_info() const override { return info_; }
  [[nodiscard]] Precision matmul_precision() const override { return precision_; }
  [[nodiscard]] SquareReport& square_notes() override { return square_report_; }
  [[nodiscard]] std::shared_ptr<std::byte> take(std::int64_t bytes,
                                                std::string_view purpose) override {
    make_current();
    return pool_->take(bytes, purpose);
  }
  [[nodiscard]] std::byte* scratch(std::int64_t bytes) override {
    if (bytes > scratch_bytes_) {
      scratch_.reset();  // first, so that its memory can serve the new one
      scratch_bytes_ = 0;
      scratch_ = pool_->take(bytes, "scratch of the kernels");
      scratch_bytes_ = bytes;
    }
    return scratch_.get();
  }
  void to_host(void* to, const void* from, std::int64_t bytes) override {
    make_current();
    if (bytes > 0) {
      FM_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                              stream_.get()));
    }
    synchronize();
  }
  // Through pinned memory in two halves, so that the copy of one overlaps the filling of the other.
  void from_host(void* to, const void* from, std::int64_t bytes) override {
    constexpr std::int64_t kHalf = kStagingBytes / 2;
    make_current();
    auto* target = static_cast<std::byte*>(to);
    const auto* source = static_cast<const std::byte*>(from);
    while (bytes > 0) {
      // Small uploads go behind each other; the device is waited for when the memory is used up.
      std::int64_t part = std::min(bytes, kHalf);
      if (staging_used_ + part > kStagingBytes) {
        synchronize();
        staging_used_ = 0;
      }
      std::memcpy(staging_.get() + staging_used_, source, static_cast<std::size_t>(part));
      FM_CUDA(cudaMemcpyAsync(target, staging_.get() + staging_used_,
                              static_cast<std::size_t>(part), cudaMemcpyHostToDevice,
                              stream_.get()));
      staging_used_ += (part + 63) / 64 * 64;
      target += part;
      source += part;
      bytes -= part;
    }
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
    make_current();
    FM_CUDA(cudaStreamSynchronize(stream_.get()));
    staging_used_ = 0;
  }
  [[nodiscard]] std::int64_t allocated_bytes() const override { return pool_->bytes(); }

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
  [[nodiscard]] bool all_finite(const float* values, std::int64_t count) override {
    auto* const found = reinterpret_cast<unsigned*>(scratch(sizeof(unsigned)));
    zero(reinterpret_cast<std::byte*>(found), sizeof(unsigned));
    note_non_finite(stream_.get(), values, count, found);
    unsigned bad = 0;
    to_host(&bad, found, sizeof bad);
    return bad == 0;
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
  // The runtime's current device is each thread's own. Every pass begins with a copy or an
  // allocation, so its launches find it right.
  void make_current() const {
    thread_local int current = -1;
    if (current == info_.index) return;
    FM_CUDA(cudaSetDevice(info_.index));
    current = info_.index;
  }

  DeviceInfo info_;
  Precision precision_;
  SquareReport square_report_;
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamCloser> stream_;
  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
  std::shared_ptr<std::byte> scratch_;
  std::int64_t scratch_bytes_ = 0;
  std::unique_ptr<std::byte, HostCloser> staging_;
  std::int64_t staging_used_ = 0;
};

void CudaDevice::write_pixels(const TensorView& raw, std::int64_t channels,
                              const DeviceNormalisation& normalisation, float* to) {
  const std::int64_t count = raw.count();
  if (count == 0) return;
  const auto constants = static_cast<std::int64_t>(normalisation.mean.size());
  const std::int64_t constant_bytes =
      (2 * constants * static_cast<std::int64_t>(sizeof(float)) + 255) / 256 * 256;
  std::byte* const memory = scratch(constant_bytes + raw.bytes());
  auto* const mean = reinterpret_cast<float*>(memory);
  if (constants > 0) {
    std::vector<float> both(normalisation.mean.begin(), normalisation.mean.end());
    both.insert(both.end(), normalisation.std.begin(), normalisation.std.end());
    from_host(mean, both.data(), 2 * constants * static_cast<std::int64_t>(sizeof(float)));
  }
  from_host(memory + constant_bytes, raw.data, raw.bytes());
  const float* const first = constants > 0 ? mean : nullptr;
  const float* const deviation = constants > 0 ? mean + constants : nullptr;
  if (raw.dtype == DType::kU8) {
    normalise_pixels(stream_.get(), reinterpret_cast<const std::uint8_t*>(memory + constant_bytes),
                     first, deviation, normalisation.divisor, channels, count, to);
    return;
  }
  FM_CHECK(raw.dtype == DType::kF32, DTYPE, "expected u8 or f32 pixels but received ",
           dtype_name(raw.dtype));
  normalise_pixels(stream_.get(), reinterpret_cast<const float*>(memory + constant_bytes), first,
                   deviation, normalisation.divisor, channels, count, to);
}

CudaAvailability availability() {
  CudaAvailability found;
  try {
    FM_CUDA(cudaGetDeviceCount(&found.devices));
    for (int i = 0; i < found.devices; ++i) found.infos.push_back(describe(i));
    if (found.devices == 0) found.reason = "no CUDA device is visible";
  } catch (const Error& e) {
    found.devices = 0;
    found.reason = e.what();
  }
  return found;
}

std::shared_ptr<Device> open(const DeviceOptions& options) {
  const CudaAvailability found = availability();
  FM_CHECK(found.devices > 0, NO_DEVICE, found.reason);
  FM_CHECK(options.index >= 0 && options.index < found.devices, NO_DEVICE,
           "expected a CUDA device below ", found.devices, " but received cuda:", options.index);
  return std::make_shared<CudaDevice>(options);
}

}  // namespace
}  // namespace fishermask::cuda

extern "C" __attribute__((visibility("default")))
const fishermask::CudaBackendEntry fishermask_cuda_backend = {
    fishermask::kCudaBackendAbi, fishermask::cuda::availability, fishermask::cuda::open};
