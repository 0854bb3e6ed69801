#include "mask/score_histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace fishermask {
namespace {

constexpr double kDecades = 8.0;

struct Range {
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();
};

Range finite_range(std::span<const std::span<const float>> scores) {
  Range range;
  for (const std::span<const float> tensor : scores) {
    for (const float score : tensor) {
      if (!std::isfinite(score)) continue;
      range.least = std::min(range.least, static_cast<double>(score));
      range.most = std::max(range.most, static_cast<double>(score));
    }
  }
  return range;
}

std::vector<double> bin_edges(const Range& range, int bins) {
  std::vector<double> edges;
  const bool logarithmic = range.least >= 0.0 && range.most > 0.0;
  if (logarithmic) {
    edges.push_back(0.0);
    for (int i = 0; i < bins; ++i) {
      const double exponent = -kDecades * (1.0 - static_cast<double>(i) / (bins - 1));
      edges.push_back(i == bins - 1 ? range.most : range.most * std::pow(10.0, exponent));
    }
    return edges;
  }
  const double width = range.most > range.least ? range.most - range.least : 1.0;
  for (int i = 0; i <= bins; ++i) edges.push_back(range.least + width * i / bins);
  return edges;
}

}  // namespace

ScoreHistogram score_histogram(std::span<const std::span<const float>> scores,
                               std::span<const KeepMask> masks, int bins) {
  FM_CHECK(bins >= 2, ARGUMENT, "expected at least 2 bins but received ", bins);
  FM_CHECK(scores.size() == masks.size(), MISMATCH,
           "expected one mask per score tensor but received ", masks.size(), " for ",
           scores.size());
  const Range range = finite_range(scores);
  ScoreHistogram out;
  if (range.least > range.most) return out;
  out.edges = bin_edges(range, bins);
  out.counts.assign(static_cast<std::size_t>(bins), 0);
  out.masked_counts.assign(static_cast<std::size_t>(bins), 0);
  for (std::size_t t = 0; t < scores.size(); ++t) {
    FM_CHECK(static_cast<std::int64_t>(scores[t].size()) == masks[t].units, MISMATCH, "expected ",
             scores[t].size(), " units in a mask but received ", masks[t].units);
    for (std::size_t u = 0; u < scores[t].size(); ++u) {
      const auto score = static_cast<double>(scores[t][u]);
      if (!std::isfinite(score)) continue;
      const auto above = std::upper_bound(out.edges.begin(), out.edges.end() - 1, score);
      const auto bin =
          static_cast<std::size_t>(std::max<std::ptrdiff_t>(above - out.edges.begin() - 1, 0));
      const std::size_t last = std::min(bin, out.counts.size() - 1);
      ++out.counts[last];
      if (!masks[t].kept(static_cast<std::int64_t>(u))) ++out.masked_counts[last];
    }
  }
  return out;
}

}  // namespace fishermask
