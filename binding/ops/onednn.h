// The one door to oneDNN (2.x): engine, stream, memory wrapping, GEMM. Its errors become fishermask
// errors here.
#pragma once

#include <cstdint>

#include "core/error.h"

// oneDNN's own headers do not hold to our warning level.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <oneapi/dnnl/dnnl.hpp>
#pragma GCC diagnostic pop

namespace fishermask {

// The process-wide CPU engine, and a stream of the calling thread.
[[nodiscard]] const dnnl::engine& onednn_engine();
[[nodiscard]] dnnl::stream& onednn_stream();

// C (M, N) = op(A) · op(B) + beta · C, row-major; op is a transpose when asked for. lda, ldb, ldc
// are row lengths. Errors: INTERNAL, OUT_OF_MEMORY.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc);

// Runs body and turns dnnl::error into our Error, naming what was being done.
template <typename Body>
decltype(auto) with_onednn(const char* what, Body&& body) {
  try {
    return body();
  } catch (const dnnl::error& e) {
    const ErrorCode code =
        e.status == dnnl_out_of_memory ? ErrorCode::kOUT_OF_MEMORY : ErrorCode::kINTERNAL;
    fail(code, "oneDNN failed in ", what, ": ", e.what());
  }
}

}  // namespace fishermask
