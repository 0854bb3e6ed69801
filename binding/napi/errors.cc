#include "napi/errors.h"

namespace fishermask::napi {
namespace {
struct CodeAndMessage {
  ErrorCode code;
  std::string message;
};

CodeAndMessage describe(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& e) {
    return {e.code(), e.what()};
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kOUT_OF_MEMORY, "memory could not be taken"};
  } catch (const std::length_error&) {
    return {ErrorCode::kOUT_OF_MEMORY, "memory could not be taken: a size is out of range"};
  } catch (const std::exception& e) {
    return {ErrorCode::kINTERNAL, e.what()};
  } catch (...) {
    return {ErrorCode::kINTERNAL, "an unknown exception"};
  }
}
}  // namespace

Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& failure) {
  const CodeAndMessage what = describe(failure);
  Napi::Error error = Napi::Error::New(env, what.message);
  error.Value().Set("code", Napi::String::New(env, std::string(error_code_name(what.code))));
  return error;
}

}  // namespace fishermask::napi
