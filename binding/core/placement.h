// Tensors in the memory of a device, or of the host where `device` is null: what the engine's rooms
// do with memory that they do not compute on.
#pragma once

#include <string_view>

#include "core/device.h"
#include "core/tensor.h"

namespace fishermask {

// Zero-filled. Errors: SHAPE, OUT_OF_MEMORY, DEVICE_LOST.
[[nodiscard]] Tensor make_tensor(Device* device, DType dtype, Shape shape,
                                 std::string_view purpose);
void clear(Device* device, const TensorView& view);
// `to` and `from` are the host's and as large as the view.
void write_tensor(Device* device, const TensorView& to, const std::byte* from);
// As write_tensor, for a batch that follows another one: Device::upload_batch.
void write_batch_tensor(Device* device, const TensorView& to, const std::byte* from);
void read_tensor(Device* device, const TensorView& from, std::byte* to);
// A tensor of the host with the view's values. Errors: OUT_OF_MEMORY.
[[nodiscard]] Tensor host_copy(Device* device, const TensorView& view);

}  // namespace fishermask
