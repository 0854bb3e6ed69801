#include "ops/onednn.h"

namespace fishermask {

const dnnl::engine& onednn_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& onednn_stream() {
  thread_local dnnl::stream stream(onednn_engine());
  return stream;
}

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k,
                                          1.0F, a, lda, b, ldb, beta, c, ldc);
  FM_CHECK(status != dnnl_out_of_memory, OUT_OF_MEMORY, "oneDNN has no memory for a GEMM of ", m,
           "x", n, "x", k);
  FM_CHECK(status == dnnl_success, INTERNAL, "oneDNN refused a GEMM of ", m, "x", n, "x", k,
           " with status ", static_cast<int>(status));
}

}  // namespace fishermask
