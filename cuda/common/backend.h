// The CUDA device, and the registry of its ops. One file in cuda/ops registers one op (or one
// family) under the names of binding/ops:
//
//   std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context);
//   FM_REGISTER_CUDA_OP("relu", make)
//
// A maker returns null for attributes that it does not cover: the op is then refused by name. Its
// kernels run on context.stream and take views of device memory; saved memory is as the op's own
// definition in binding/ops describes it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/device.h"

namespace fishermask::cuda {

class Backend;
class Cublas;
class Cudnn;

struct KernelContext {
  Backend* backend = nullptr;  // outlives the kernels
  cudaStream_t stream = nullptr;
  Precision precision = Precision::kF32;
  std::int64_t batch = 1;
};

using KernelMaker = std::unique_ptr<Kernel> (*)(const NodeSpec& node, const KernelContext& context);

int register_cuda_op(const char* name, KernelMaker maker);
[[nodiscard]] KernelMaker find_cuda_op(std::string_view name);  // null: none
[[nodiscard]] std::vector<std::string> cuda_op_names();         // sorted

#define FM_CUDA_JOIN2(a, b) a##b
#define FM_CUDA_JOIN(a, b) FM_CUDA_JOIN2(a, b)
#define FM_REGISTER_CUDA_OP(name, maker)                              \
  namespace {                                                         \
  [[maybe_unused]] const int FM_CUDA_JOIN(fm_cuda_op_, __COUNTER__) = \
      ::fishermask::cuda::register_cuda_op(name, maker);              \
  }

// Memory of the device that returns to the pool. (count,) of T.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend& backend, std::int64_t count, std::string_view purpose);
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.get()); }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] explicit operator bool() const { return memory_ != nullptr; }

 private:
  std::shared_ptr<std::byte> memory_;
  std::int64_t count_ = 0;
};

// What launchers need of the device: its stream, memory and scratch.
//
// Launches may be recorded and replayed (recorder.h), so that a kernel's forward and backward see
// to it that a launch with the same pointers means the same next time. While they are recorded,
// take, to_host, from_host and a scratch that has to grow throw Unrecordable; the kernel is then
// called again outside of the recording, and must not have changed itself by the first call. What
// depends on earlier calls (is this packed already?) is Kernel::forget's matter.
class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual cudaStream_t stream() const = 0;
  [[nodiscard]] virtual const DeviceInfo& device_info() const = 0;
  [[nodiscard]] virtual Precision matmul_precision() const = 0;
  // For whoever squares to fill in; it also remembers whether wgmma has been checked.
  [[nodiscard]] virtual SquareReport& square_notes() = 0;
  // From the pool, aligned to 256 bytes. Errors: OUT_OF_MEMORY naming `purpose`.
  [[nodiscard]] virtual std::shared_ptr<std::byte> take(std::int64_t bytes,
                                                        std::string_view purpose) = 0;
  // Scratch that the next call of scratch() may hand to another launcher: work on the stream is in
  // order, so it is free again for whoever launches later. At least `bytes`, aligned to 256.
  [[nodiscard]] virtual std::byte* scratch(std::int64_t bytes) = 0;
  // A second one, for the workspace of matrix products: their operands may lie in the first.
  [[nodiscard]] virtual std::byte* product_scratch(std::int64_t bytes) = 0;
  // Ready for use; null where own kernels do the work.
  [[nodiscard]] virtual Cublas* cublas() = 0;
  [[nodiscard]] virtual Cudnn* cudnn() = 0;
  virtual void to_host(void* to, const void* from, std::int64_t bytes) = 0;    // waits
  virtual void from_host(void* to, const void* from, std::int64_t bytes) = 0;  // `from` may change
};

template <typename T>
Buffer<T>::Buffer(Backend& backend, std::int64_t count, std::string_view purpose)
    : memory_(backend.take(count * static_cast<std::int64_t>(sizeof(T)), purpose)), count_(count) {}

}  // namespace fishermask::cuda
