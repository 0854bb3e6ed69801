// The sizes of a batched matrix product and which matrix of either operand each product takes.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernel.h"

namespace fishermask {

// C_l (M, N) = op(A_(a_of[l])) · op(B_(b_of[l])) for the `lead` products of one sample.
struct MatmulSizes {
  std::int64_t m = 1;
  std::int64_t n = 1;
  std::int64_t k = 1;
  bool transpose_a = false;
  bool transpose_b = false;
  bool slot = false;  // B is the parameter `other`: the same for every sample
  std::int64_t lead = 1;
  std::int64_t a_count = 1;  // matrices of a sample's first operand
  std::int64_t b_count = 1;  // of the second; of the parameter
  std::vector<std::int64_t> a_of;
  std::vector<std::int64_t> b_of;

  // Products that share B and whose rows lie one after the other are one product of more rows.
  void join_rows();
};

// Errors: GRAPH where ranks, inner sizes or leading sizes do not fit, SHAPE on overflow.
[[nodiscard]] MatmulSizes matmul_sizes(const NodeSpec& node);
[[nodiscard]] Shape matmul_shape(const NodeSpec& node);

}  // namespace fishermask
