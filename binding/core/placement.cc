#include "core/placement.h"

#include <cstring>
#include <utility>

namespace fishermask {

Tensor make_tensor(Device* device, DType dtype, Shape shape, std::string_view purpose) {
  if (device == nullptr) return {dtype, std::move(shape), purpose};
  const std::int64_t bytes = byte_count(shape, dtype);
  Tensor tensor(device->allocate(bytes, purpose), dtype, std::move(shape));
  device->zero(tensor.view().data, bytes);
  return tensor;
}

void clear(Device* device, const TensorView& view) {
  if (device == nullptr) {
    std::memset(view.data, 0, static_cast<std::size_t>(view.bytes()));
  } else {
    device->zero(view.data, view.bytes());
  }
}

void write_tensor(Device* device, const TensorView& to, const std::byte* from) {
  if (device == nullptr) {
    std::memcpy(to.data, from, static_cast<std::size_t>(to.bytes()));
  } else {
    device->upload(to.data, from, to.bytes());
  }
}

void write_batch_tensor(Device* device, const TensorView& to, const std::byte* from) {
  if (device == nullptr) return write_tensor(device, to, from);
  device->upload_batch(to.data, from, to.bytes());
}

void read_tensor(Device* device, const TensorView& from, std::byte* to) {
  if (device == nullptr) {
    std::memcpy(to, from.data, static_cast<std::size_t>(from.bytes()));
  } else {
    device->download(to, from.data, from.bytes());
  }
}

Tensor host_copy(Device* device, const TensorView& view) {
  Tensor copy(view.dtype, view.shape, "a copy on the host");
  read_tensor(device, view, copy.view().data);
  return copy;
}

}  // namespace fishermask
