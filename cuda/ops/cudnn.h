// One device's cuDNN: the library and a handle on the device's stream.
#pragma once

#include <memory>
#include <string>

#include "common/backend.h"
#include "ops/cudnn_api.h"

namespace fishermask::cuda {

class Cudnn {
 public:
  // Null where no cuDNN can be loaded (cudnn_api.h says when), and for bf16: of f32 tensors cuDNN
  // reads 10 bits of fraction or all, which is not what that precision promises.
  [[nodiscard]] static std::unique_ptr<Cudnn> open(cudaStream_t stream, Precision precision);
  // "cuDNN 9.24.0", of the library that open would load; empty: none.
  [[nodiscard]] static std::string installed();

  // Whether it has a handle, made at the first call, as that takes time and memory of the device.
  [[nodiscard]] bool ready();
  [[nodiscard]] const cudnn::Api& api() const { return api_; }
  [[nodiscard]] cudnn::Handle handle() const { return handle_.get(); }

 private:
  using OwnedHandle =
      std::unique_ptr<std::remove_pointer_t<cudnn::Handle>, cudnn::Status (*)(cudnn::Handle)>;

  Cudnn(const cudnn::Api& api, cudaStream_t stream);

  cudnn::Api api_;
  cudaStream_t stream_;
  OwnedHandle handle_;
  bool tried_ = false;
};

}  // namespace fishermask::cuda
