// A sparse matrix applied along one axis: to[o, r, i] = Σ_c weight(r, c) · from[o, c, i].
// Resampling and taking by a list are such products, and their gradients are those of the
// transposed matrix. Sums in f64. Deterministic: yes, one thread owns to[o, r, …].
#pragma once

#include <cstdint>
#include <vector>

namespace fishermask {

class AxisWeights {
 public:
  AxisWeights() = default;
  // index and weight: `taps` columns and factors for each row; a column of −1 is left out.
  AxisWeights(std::int64_t columns, std::int64_t taps, const std::vector<std::int64_t>& index,
              const std::vector<double>& weight);

  [[nodiscard]] AxisWeights transposed() const;

  // from (outer, columns, inner), to (outer, rows, inner); written, or added to.
  template <typename T>
  void apply(std::int64_t outer, std::int64_t inner, const T* from, T* to, bool add) const;

  [[nodiscard]] std::int64_t rows() const noexcept {
    return static_cast<std::int64_t>(starts_.size()) - 1;
  }

 private:
  struct Entry {
    std::int64_t column;
    double weight;
  };
  template <typename T>
  void apply_row(std::int64_t row, std::int64_t inner, const T* from, T* to, bool add) const;

  std::int64_t columns_ = 0;
  std::vector<std::int64_t> starts_ = {0};  // (rows + 1): where each row's entries begin
  std::vector<Entry> entries_;
};

}  // namespace fishermask
