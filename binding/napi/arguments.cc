#include "napi/arguments.h"

#include <cmath>
#include <cstring>

namespace fishermask::napi {
namespace {
template <typename Array, typename T>
Array copy_out(Napi::Env env, const std::vector<T>& values) {
  Array array = Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(T));
  return array;
}
}  // namespace

std::string string_value(const Napi::Value& value, const char* name) {
  FM_CHECK(value.IsString(), ARGUMENT, "expected a string for ", name);
  return value.As<Napi::String>().Utf8Value();
}

double number_value(const Napi::Value& value, const char* name) {
  FM_CHECK(value.IsNumber(), ARGUMENT, "expected a number for ", name);
  return value.As<Napi::Number>().DoubleValue();
}

std::int64_t integer_value(const Napi::Value& value, const char* name) {
  const double number = number_value(value, name);
  FM_CHECK(std::floor(number) == number && std::abs(number) <= 9007199254740991.0, ARGUMENT,
           "expected a whole number for ", name, " but received ", number);
  return static_cast<std::int64_t>(number);
}

Napi::Object object_value(const Napi::Value& value, const char* name) {
  FM_CHECK(value.IsObject(), ARGUMENT, "expected an object for ", name);
  return value.As<Napi::Object>();
}

std::string string_member(const Napi::Object& object, const char* name, const char* fallback) {
  const Napi::Value value = object.Get(name);
  return value.IsUndefined() ? std::string(fallback) : string_value(value, name);
}

double number_member(const Napi::Object& object, const char* name, double fallback) {
  const Napi::Value value = object.Get(name);
  return value.IsUndefined() ? fallback : number_value(value, name);
}

bool boolean_member(const Napi::Object& object, const char* name, bool fallback) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return fallback;
  FM_CHECK(value.IsBoolean(), ARGUMENT, "expected true or false for ", name);
  return value.As<Napi::Boolean>().Value();
}

std::vector<std::string> string_list(const Napi::Value& value, const char* name) {
  std::vector<std::string> list;
  if (value.IsUndefined()) return list;
  FM_CHECK(value.IsArray(), ARGUMENT, "expected a list of strings for ", name);
  const auto array = value.As<Napi::Array>();
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    list.push_back(string_value(array.Get(i), name));
  }
  return list;
}

TensorView array_view(const Napi::Value& value, const char* name) {
  FM_CHECK(value.IsTypedArray(), ARGUMENT, "expected a typed array for ", name);
  const auto array = value.As<Napi::TypedArray>();
  TensorView view;
  switch (array.TypedArrayType()) {
    case napi_float32_array:
      view.dtype = DType::kF32;
      break;
    case napi_float64_array:
      view.dtype = DType::kF64;
      break;
    case napi_int32_array:
      view.dtype = DType::kI32;
      break;
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      view.dtype = DType::kU8;
      break;
    default:
      fail(ErrorCode::kDTYPE,
           "expected a Float32Array, Float64Array, Int32Array or Uint8Array for ", name);
  }
  view.shape = {static_cast<std::int64_t>(array.ElementLength())};
  view.data = static_cast<std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  return view;
}

std::map<std::string, Napi::Value> entries(const Napi::Value& value, const char* name) {
  const Napi::Object object = object_value(value, name);
  std::map<std::string, Napi::Value> out;
  const Napi::Array keys = object.GetPropertyNames();
  for (std::uint32_t i = 0; i < keys.Length(); ++i) {
    const std::string key = keys.Get(i).As<Napi::String>().Utf8Value();
    out.emplace(key, object.Get(key));
  }
  return out;
}

OwnedBatch batch_value(const Napi::Value& value, const Shape& per_sample) {
  const Napi::Object object = object_value(value, "the batch");
  const std::int64_t count = integer_value(object.Get("count"), "the batch's count");
  FM_CHECK(count > 0, ARGUMENT, "expected a batch of at least one sample but received ", count);
  const TensorView view = array_view(object.Get("data"), "the batch's data");
  OwnedBatch batch;
  const Shape shape = with_batch(count, per_sample);
  FM_CHECK(view.count() == element_count(shape), SHAPE, "expected ", element_count(shape),
           " values for a batch of shape ", shape_text(shape), " but received ", view.count());
  batch.memory = Tensor(view.dtype, shape, "a batch");
  std::memcpy(batch.memory.view().data, view.data, static_cast<std::size_t>(view.bytes()));
  batch.data.view = batch.memory.view();
  const Napi::Value normalisation = object.Get("normalization");
  if (!normalisation.IsUndefined()) {
    const Napi::Object n = object_value(normalisation, "normalization");
    batch.data.normalisation.divisor = static_cast<float>(number_member(n, "divisor", 1.0));
    for (const auto& [key, target] : {std::pair{"mean", &batch.data.normalisation.mean},
                                      std::pair{"std", &batch.data.normalisation.std}}) {
      for (const double v : array_copy<double>(n.Get(key), key)) {
        target->push_back(static_cast<float>(v));
      }
    }
  }
  return batch;
}

Napi::Float32Array float_array(Napi::Env env, const std::vector<float>& values) {
  return copy_out<Napi::Float32Array>(env, values);
}
Napi::Float64Array double_array(Napi::Env env, const std::vector<double>& values) {
  return copy_out<Napi::Float64Array>(env, values);
}
Napi::Int32Array int_array(Napi::Env env, const std::vector<std::int32_t>& values) {
  return copy_out<Napi::Int32Array>(env, values);
}
Napi::Uint8Array byte_array(Napi::Env env, const std::vector<std::uint8_t>& values) {
  return copy_out<Napi::Uint8Array>(env, values);
}

}  // namespace fishermask::napi
