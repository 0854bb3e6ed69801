#include "ops/cudnn.h"

namespace fishermask::cuda {

Cudnn::Cudnn(const cudnn::Api& api, cudaStream_t stream)
    : api_(api), stream_(stream), handle_(nullptr, api.destroy) {}

std::unique_ptr<Cudnn> Cudnn::open(cudaStream_t stream, Precision precision) {
  if (precision == Precision::kBf16) return nullptr;
  const std::optional<cudnn::Api> api = cudnn::load();
  if (!api) return nullptr;
  return std::unique_ptr<Cudnn>(new Cudnn(*api, stream));
}

std::string Cudnn::installed() {
  const std::optional<cudnn::Api> api = cudnn::load();
  return api ? cudnn::version_name(*api) : std::string();
}

bool Cudnn::ready() {
  if (tried_) return handle_ != nullptr;
  tried_ = true;
  cudnn::Handle raw = nullptr;
  if (api_.create(&raw) != cudnn::kSuccess) raw = nullptr;
  handle_.reset(raw);
  if (raw != nullptr && api_.set_stream(raw, stream_) != cudnn::kSuccess) handle_.reset();
  return handle_ != nullptr;
}

}  // namespace fishermask::cuda
