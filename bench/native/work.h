// How much a network's passes have to compute and to move, counted from the graph.
#pragma once

#include "graph/graph.h"

namespace fishermask::bench {

// Operations: two (multiply, add) for each product of a convolution (without those with padding), a
//   linear layer or attention (only the visible columns); nothing else counts.
// Bytes: each node's operands once, as if no cache kept anything from one node to the next: values
//   and weights that are read, values, gradients and sums that are written. f32; sums of squares
//   f64, read and written.
struct Work {
  double operations = 0;
  double bytes = 0;

  Work& operator+=(const Work& other) {
    operations += other.operations;
    bytes += other.bytes;
    return *this;
  }
  [[nodiscard]] double intensity() const { return operations / bytes; }  // operations a byte
};

struct NetworkWork {
  Work forward;
  Work backward_input;       // gradients of the values, down to the first layer with parameters
  Work backward_parameters;  // gradients of the parameters, summed over the batch
  Work squares;              // squares of each sample's gradients, summed over the batch

  [[nodiscard]] Work forward_backward() const;
  [[nodiscard]] Work fisher() const;
};

[[nodiscard]] NetworkWork work_of(const Graph& graph, std::int64_t batch);

}  // namespace fishermask::bench
