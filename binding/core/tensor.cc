#include "core/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace fishermask {

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    FM_CHECK(size >= 0, SHAPE, "negative size in shape ", shape_text(shape));
    FM_CHECK(!__builtin_mul_overflow(count, size, &count), SHAPE, "shape ", shape_text(shape),
             " has more than 2^63 elements");
  }
  return count;
}

std::string shape_text(const Shape& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + ")";
}

Shape with_batch(std::int64_t batch, const Shape& per_sample) {
  Shape shape;
  shape.reserve(per_sample.size() + 1);
  shape.push_back(batch);
  shape.insert(shape.end(), per_sample.begin(), per_sample.end());
  return shape;
}

std::int64_t dtype_size(DType dtype) noexcept {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kU8:
      return 1;
  }
  return 0;
}

std::string_view dtype_name(DType dtype) noexcept {
  switch (dtype) {
    case DType::kF64:
      return "f64";
    case DType::kF32:
      return "f32";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

DType parse_dtype(std::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32, DType::kU8}) {
    if (dtype_name(dtype) == name) return dtype;
  }
  fail(ErrorCode::kDTYPE, "expected a dtype of f32, f64, i32, u8 but received '", name, "'");
}

std::int64_t byte_count(const Shape& shape, DType dtype) {
  std::int64_t bytes = 0;
  FM_CHECK(!__builtin_mul_overflow(element_count(shape), dtype_size(dtype), &bytes), OUT_OF_MEMORY,
           "a tensor of shape ", shape_text(shape), " would take 2^63 bytes or more");
  return bytes;
}

TensorView TensorView::sample(std::int64_t n) const {
  TensorView view = *this;
  if (data == nullptr) return view;
  const std::int64_t stride = bytes() / std::max<std::int64_t>(shape.at(0), 1);
  view.data = data + n * stride;
  view.shape.at(0) = 1;
  return view;
}

std::shared_ptr<std::byte> allocate_aligned(std::int64_t bytes, std::string_view purpose) {
  constexpr std::int64_t kAlignment = 64;
  FM_CHECK(bytes >= 0 && bytes <= std::numeric_limits<std::int64_t>::max() - kAlignment,
           OUT_OF_MEMORY, "cannot take ", bytes, " bytes for ", purpose);
  const std::int64_t rounded =
      std::max((bytes + kAlignment - 1) / kAlignment, std::int64_t{1}) * kAlignment;
  void* raw = std::aligned_alloc(kAlignment, static_cast<std::size_t>(rounded));
  FM_CHECK(raw != nullptr, OUT_OF_MEMORY, "cannot take ", bytes, " bytes for ", purpose);
  return {static_cast<std::byte*>(raw), [](std::byte* p) { std::free(p); }};
}

Tensor::Tensor(DType dtype, Shape shape, std::string_view purpose) {
  view_.dtype = dtype;
  view_.shape = std::move(shape);
  memory_ = allocate_aligned(byte_count(view_.shape, dtype), purpose);
  view_.data = memory_.get();
  zero();
}

void Tensor::zero() const {
  if (view_.data != nullptr) std::memset(view_.data, 0, static_cast<std::size_t>(view_.bytes()));
}

}  // namespace fishermask
