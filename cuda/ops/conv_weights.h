// The gradient of a convolution's weights, summed over the batch.
#pragma once

#include "common/backend.h"
#include "ops/conv_problem.h"

namespace fishermask::cuda {

// grad_weight[o, i, tap] += Σ_p grad[p, o] · source[at(p, tap), g·I/groups + i]
struct ConvWeights {
  const float* source = nullptr;  // (N, rows.source, columns.source, source_channels)
  const float* grad = nullptr;    // (N, rows.positions, columns.positions, grad_channels)
  float* partial = nullptr;       // filled in: (splits, groups, depth, grad_per_group)
  GatherAxis rows, columns;       // forward ones
  int positions = 0;              // of all samples
  int per_split = 0;
  int groups = 1;
  int source_channels = 1, source_per_group = 1;
  int grad_channels = 1, grad_per_group = 1;
  int depth = 0;  // taps · source_per_group
  FastDivisor by_source_channel, by_tap_column, by_sample, by_row;
  bool vector_source = false, vector_grad = false;

  void finish(std::int64_t batch) {
    const int per_sample = rows.positions * columns.positions;
    positions = static_cast<int>(batch) * per_sample;
    depth = rows.taps * columns.taps * source_per_group;
    by_source_channel = FastDivisor(source_per_group);
    by_tap_column = FastDivisor(columns.taps);
    by_sample = FastDivisor(per_sample);
    by_row = FastDivisor(columns.positions);
  }
};

// direct: for groups of few channels.
void add_weight_gradient(Backend& backend, Precision precision, ConvWeights problem, bool direct,
                         float* grad_weight);

}  // namespace fishermask::cuda
