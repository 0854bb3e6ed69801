// f64 sums by parameter, in the memory of the network's device: what the Fisher accumulates.
#pragma once

#include <vector>

#include "graph/network.h"

namespace fishermask {

class FisherSums {
 public:
  // Zeros for every trainable parameter, none for buffers. Errors: OUT_OF_MEMORY.
  explicit FisherSums(const Network& network);
  FisherSums() = default;

  [[nodiscard]] std::size_t size() const noexcept { return sums_.size(); }
  // Null for buffers.
  [[nodiscard]] double* data(std::size_t parameter) const;
  // sums += weight · g², or weight · g; gradients by parameter index.
  void add_squares(const std::vector<Tensor>& gradients, double weight);
  void add_values(const std::vector<Tensor>& gradients);

  // By parameter index, on the host; empty for buffers. The same vectors at every call, read anew
  // from a device.
  [[nodiscard]] const std::vector<std::vector<double>>& read() const;

 private:
  Device* device_ = nullptr;
  std::vector<Tensor> sums_;                       // on a device; else over host_
  mutable std::vector<std::vector<double>> host_;  // by parameter
};

}  // namespace fishermask
