// Shapes, element types and tensors. A tensor is contiguous, row-major and aligned to 64 bytes.
// TensorView does not own; Tensor shares ownership of its buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fishermask {

using Shape = std::vector<std::int64_t>;

// Number of elements; an empty shape is a scalar. Errors: SHAPE on a negative size or on overflow.
[[nodiscard]] std::int64_t element_count(const Shape& shape);
// "(64, 3, 3, 3)"
[[nodiscard]] std::string shape_text(const Shape& shape);
// (batch, per_sample...)
[[nodiscard]] Shape with_batch(std::int64_t batch, const Shape& per_sample);

enum class DType : std::uint8_t { kF32, kF64, kI32, kU8 };
[[nodiscard]] std::int64_t dtype_size(DType dtype) noexcept;
[[nodiscard]] std::string_view dtype_name(DType dtype) noexcept;  // "f32"
[[nodiscard]] DType parse_dtype(std::string_view name);           // Errors: DTYPE
// Bytes of a tensor. Errors: SHAPE; OUT_OF_MEMORY for 2^63 bytes and more.
[[nodiscard]] std::int64_t byte_count(const Shape& shape, DType dtype);

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) {
    return DType::kF32;
  } else if constexpr (std::is_same_v<T, double>) {
    return DType::kF64;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return DType::kI32;
  } else {
    static_assert(std::is_same_v<T, std::uint8_t>);
    return DType::kU8;
  }
}

struct TensorView {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;  // with the batch as its first size, where there is a batch

  [[nodiscard]] std::int64_t count() const { return element_count(shape); }
  [[nodiscard]] std::int64_t bytes() const { return count() * dtype_size(dtype); }
  [[nodiscard]] explicit operator bool() const noexcept { return data != nullptr; }
  // The caller names the type it expects; a mismatch is a bug in an op, so it throws INTERNAL.
  template <typename T>
  [[nodiscard]] T* as() const {
    FM_CHECK(dtype == dtype_of<std::remove_const_t<T>>(), INTERNAL, "tensor view holds ",
             dtype_name(dtype), ", not ", dtype_name(dtype_of<std::remove_const_t<T>>()));
    return reinterpret_cast<T*>(data);
  }
  // The view of sample n alone: shape (1, …).
  [[nodiscard]] TensorView sample(std::int64_t n) const;
};

// 64-byte aligned memory. Errors: OUT_OF_MEMORY, naming `purpose` and the bytes asked for.
[[nodiscard]] std::shared_ptr<std::byte> allocate_aligned(std::int64_t bytes,
                                                          std::string_view purpose);

class Tensor {
 public:
  Tensor() = default;
  // Zero-filled. Errors: SHAPE, OUT_OF_MEMORY.
  Tensor(DType dtype, Shape shape, std::string_view purpose = "a tensor");
  // Over memory that is there, of the host or of a device.
  Tensor(std::shared_ptr<std::byte> memory, DType dtype, Shape shape)
      : memory_(std::move(memory)), view_{memory_.get(), dtype, std::move(shape)} {}
  [[nodiscard]] const Shape& shape() const noexcept { return view_.shape; }
  [[nodiscard]] DType dtype() const noexcept { return view_.dtype; }
  [[nodiscard]] std::int64_t count() const { return view_.count(); }
  [[nodiscard]] const TensorView& view() const noexcept { return view_; }
  template <typename T>
  [[nodiscard]] T* as() const {
    return view_.as<T>();
  }
  template <typename T>
  [[nodiscard]] std::span<T> span() const {
    return {view_.as<T>(), static_cast<std::size_t>(count())};
  }
  void zero() const;

 private:
  std::shared_ptr<std::byte> memory_;
  TensorView view_;
};

}  // namespace fishermask
