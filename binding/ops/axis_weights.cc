#include "ops/axis_weights.h"

#include <algorithm>
#include <array>

#include "core/parallel.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;
constexpr std::int64_t kChunk = 256;  // sums kept at a time

template <typename T>
void copy_or_add(const T* from, std::int64_t count, T* to, bool add) {
  if (!add) {
    std::copy_n(from, count, to);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

AxisWeights::AxisWeights(std::int64_t columns, std::int64_t taps,
                         const std::vector<std::int64_t>& index, const std::vector<double>& weight)
    : columns_(columns) {
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] >= 0) entries_.push_back({index[i], weight[i]});
    if ((static_cast<std::int64_t>(i) + 1) % taps == 0) {
      starts_.push_back(static_cast<std::int64_t>(entries_.size()));
    }
  }
}

// Counting sort by column: the entries of a column stay in the order of their rows.
AxisWeights AxisWeights::transposed() const {
  AxisWeights other;
  other.columns_ = rows();
  other.starts_.assign(static_cast<std::size_t>(columns_) + 1, 0);
  other.entries_.resize(entries_.size());
  for (const Entry& entry : entries_) ++other.starts_[static_cast<std::size_t>(entry.column) + 1];
  for (std::size_t c = 1; c < other.starts_.size(); ++c) other.starts_[c] += other.starts_[c - 1];
  std::vector<std::int64_t> next = other.starts_;
  for (std::int64_t row = 0; row < rows(); ++row) {
    const auto r = static_cast<std::size_t>(row);
    for (std::int64_t e = starts_[r]; e < starts_[r + 1]; ++e) {
      const Entry& entry = entries_[static_cast<std::size_t>(e)];
      const std::int64_t at = next[static_cast<std::size_t>(entry.column)]++;
      other.entries_[static_cast<std::size_t>(at)] = {row, entry.weight};
    }
  }
  return other;
}

template <typename T>
void AxisWeights::apply(std::int64_t outer, std::int64_t inner, const T* from, T* to,
                        bool add) const {
  const std::int64_t grain = std::max<std::int64_t>(kGrain / inner, 1);
  const std::int64_t count = rows();
  parallel_for(outer * count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t o = item / count;
      apply_row(item % count, inner, from + o * columns_ * inner, to + item * inner, add);
    }
  });
}

template <typename T>
void AxisWeights::apply_row(std::int64_t row, std::int64_t inner, const T* from, T* to,
                            bool add) const {
  const Entry* first = entries_.data() + starts_[static_cast<std::size_t>(row)];
  const Entry* last = entries_.data() + starts_[static_cast<std::size_t>(row) + 1];
  if (last - first == 1 && first->weight == 1) {
    copy_or_add(from + first->column * inner, inner, to, add);
    return;
  }
  std::array<double, kChunk> sums;
  for (std::int64_t begin = 0; begin < inner; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, inner - begin);
    std::fill_n(sums.begin(), count, 0.0);
    for (const Entry* entry = first; entry != last; ++entry) {
      const T* values = from + entry->column * inner + begin;
      for (std::int64_t i = 0; i < count; ++i) {
        sums[static_cast<std::size_t>(i)] += entry->weight * static_cast<double>(values[i]);
      }
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const T sum = static_cast<T>(sums[static_cast<std::size_t>(i)]);
      to[begin + i] = add ? to[begin + i] + sum : sum;
    }
  }
}

template void AxisWeights::apply(std::int64_t, std::int64_t, const float*, float*, bool) const;
template void AxisWeights::apply(std::int64_t, std::int64_t, const double*, double*, bool) const;

}  // namespace fishermask
