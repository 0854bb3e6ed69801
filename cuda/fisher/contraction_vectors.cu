// Linear on vectors: sums[o, i] += Σ_n δ[n, o]² · a[n, i]², one GEMM of squares by the tile kernel
// of contraction_tile.cuh. Its "samples" are runs of kVectorRun samples, each of which is one
// position: f32 sums over a run, f32 over sixteen runs, f64 across those.
#include <algorithm>

#include "fisher/contraction.h"
#include "fisher/contraction_tile.cuh"

namespace fishermask::cuda {

void accumulate_contraction_vectors(Backend& backend, const ContractionForm& form, double* sums) {
  if (form.batch == 0) return;
  const std::int64_t run = std::min<std::int64_t>(form.batch, TilePolicy::kVectorRun);
  ContractionForm runs = form;
  runs.batch = (form.batch + run - 1) / run;
  runs.in_width = runs.out_width = run;
  TileProblem problem = describe_contraction(runs, sums);
  problem.grad_rows = form.batch;
  launch_tiles<true>(backend, problem);
}

}  // namespace fishermask::cuda
