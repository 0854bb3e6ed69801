// Matrix products of the backend, row-major:
//
//   C_z (m, n) = alpha · Σ_t op(A_(z,t)) · op(B_(z,t)) + beta · C_z + bias,   z < batch, t < terms
//
// op is a transpose where asked for: op(A) is (m, k), op(B) is (k, n). The sum over t is one longer
// inner sum: gradients of operands that several products share need no second pass.
// Precision: the backend's. Deterministic: yes, for one device and one library.
// Library: cuBLASLt where it is found and takes the call, else own kernels (gemm.cu). Both
// work in Backend::product_scratch and not in Backend::scratch: operands may lie there.
#pragma once

#include <cstdint>

namespace fishermask::cuda {

class Backend;

// Matrix (z, t) begins at data + offsets[z · terms + t], or without offsets at
// data + z · batch_stride + t · term_stride. `offsets` is the device's.
struct GemmOperand {
  const float* data = nullptr;
  std::int64_t row_stride = 0;  // elements between rows as stored; at least a row's length
  bool transposed = false;
  std::int64_t batch_stride = 0;
  std::int64_t term_stride = 0;
  const std::int64_t* offsets = nullptr;
};

enum class GemmTile : std::uint8_t { kChosen, kLarge, kSmall };

// All pointers are the device's. C does not overlap A or B.
struct GemmCall {
  std::int64_t m = 0, n = 0, k = 0;  // each below 2^31 - 128; 0 is possible
  GemmOperand a = {};
  GemmOperand b = {};
  float* c = nullptr;
  std::int64_t c_row_stride = 0;
  std::int64_t c_batch_stride = 0;
  float alpha = 1.0F;
  float beta = 0.0F;            // 0: C is written without having been read
  const float* bias = nullptr;  // (n,), added to every row; null: none
  std::int64_t batch = 1;
  std::int64_t terms = 1;
  // For tests and measurements: own kernels with this tile and number of parts of the inner sum.
  GemmTile tile = GemmTile::kChosen;
  int splits = 0;  // 0: chosen
};

// Errors: ARGUMENT for sizes out of range, OUT_OF_MEMORY for the workspace of a split inner sum.
void gemm(Backend& backend, const GemmCall& call);

}  // namespace fishermask::cuda
