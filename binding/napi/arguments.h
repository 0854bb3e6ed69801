// JavaScript values to C++ values, with errors that name what was expected. Data are copied, so
// that the caller may reuse its arrays at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "graph/batch.h"
#include "napi/errors.h"

namespace fishermask::napi {

[[nodiscard]] std::string string_value(const Napi::Value& value, const char* name);
[[nodiscard]] double number_value(const Napi::Value& value, const char* name);
[[nodiscard]] std::int64_t integer_value(const Napi::Value& value, const char* name);
[[nodiscard]] Napi::Object object_value(const Napi::Value& value, const char* name);
// Optional members: the fallback when undefined.
[[nodiscard]] std::string string_member(const Napi::Object& object, const char* name,
                                        const char* fallback);
[[nodiscard]] double number_member(const Napi::Object& object, const char* name, double fallback);
[[nodiscard]] bool boolean_member(const Napi::Object& object, const char* name, bool fallback);
[[nodiscard]] std::vector<std::string> string_list(const Napi::Value& value, const char* name);

// Float32Array, Float64Array, Int32Array or Uint8Array: a view of JavaScript's memory, shape
// (length,).
[[nodiscard]] TensorView array_view(const Napi::Value& value, const char* name);
// A typed array's elements, copied. Errors: DTYPE.
template <typename T>
[[nodiscard]] std::vector<T> array_copy(const Napi::Value& value, const char* name) {
  const TensorView view = array_view(value, name);
  FM_CHECK(view.dtype == dtype_of<T>(), DTYPE, "expected an array of ", dtype_name(dtype_of<T>()),
           " for ", name, " but received ", dtype_name(view.dtype));
  const T* data = view.as<T>();
  return std::vector<T>(data, data + view.count());
}
[[nodiscard]] std::map<std::string, Napi::Value> entries(const Napi::Value& value,
                                                         const char* name);

// {data, count, normalisation?: {divisor, mean, std}} with `count` samples of `per_sample` shape;
// owns a copy.
struct OwnedBatch {
  Tensor memory;
  BatchData data;
};
[[nodiscard]] OwnedBatch batch_value(const Napi::Value& value, const Shape& per_sample);

[[nodiscard]] Napi::Float32Array float_array(Napi::Env env, const std::vector<float>& values);
[[nodiscard]] Napi::Float64Array double_array(Napi::Env env, const std::vector<double>& values);
[[nodiscard]] Napi::Int32Array int_array(Napi::Env env, const std::vector<std::int32_t>& values);
[[nodiscard]] Napi::Uint8Array byte_array(Napi::Env env, const std::vector<std::uint8_t>& values);

}  // namespace fishermask::napi
