// The one translator from C++ exceptions to JavaScript errors with a `code`.
#pragma once

#include <exception>
#include <new>

#include "core/error.h"
#include "napi/napi_setup.h"

namespace fishermask::napi {

// An Error object with `code` (ERR_FM_…); src/native turns it into a FishermaskError. Never throws
// fishermask errors.
[[nodiscard]] Napi::Error to_js_error(Napi::Env env, const std::exception_ptr& failure);

// Runs body; whatever it throws leaves as a JavaScript error with a code.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, std::current_exception());
  }
}

}  // namespace fishermask::napi
