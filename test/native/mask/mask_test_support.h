// What the mask tests share: a small deterministic generator, and the sort that selection must
// equal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "mask/keep_mask.h"
#include "mask/score.h"
#include "mask/select.h"

namespace fishermask::mask_test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 32U);
  }
  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(next()) % std::max<std::int64_t>(end, 1);
  }
  float uniform() { return static_cast<float>(next() >> 8U) * 0x1p-24F; }

 private:
  std::uint64_t state_;
};

// Restores the team's size when a test that changes it ends.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(thread_count()) { set_thread_count(threads); }
  ~ThreadCount() { set_thread_count(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

inline std::vector<SelectTensor> as_tensors(const std::vector<std::vector<float>>& scores) {
  std::vector<SelectTensor> tensors;
  for (std::size_t t = 0; t < scores.size(); ++t) {
    tensors.push_back({"tensor" + std::to_string(t), scores[t], static_cast<std::int64_t>(t)});
  }
  return tensors;
}

// The definition of selection, by a stable sort over one ranking of all tensors.
inline std::vector<KeepMask> reference_select(const std::vector<std::vector<float>>& scores,
                                              std::int64_t k) {
  struct Candidate {
    float score;
    std::size_t tensor;
    std::int64_t unit;
  };
  std::vector<Candidate> all;
  std::vector<KeepMask> masks;
  for (std::size_t t = 0; t < scores.size(); ++t) {
    masks.emplace_back(static_cast<std::int64_t>(scores[t].size()));
    for (std::size_t u = 0; u < scores[t].size(); ++u) {
      if (scores[t][u] == kNotEligible) continue;
      all.push_back({scores[t][u], t, static_cast<std::int64_t>(u)});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  for (std::size_t i = 0; i < all.size() && static_cast<std::int64_t>(i) < k; ++i) {
    masks[all[i].tensor].set_masked(all[i].unit);
  }
  return masks;
}

// The error that `body` throws, as "ERR_FM_X: message"; empty when it throws none.
inline std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return std::string(error_code_name(error.code())) + ": " + error.what();
  }
  return {};
}

inline bool contains(const std::string& whole, const std::string& part) {
  return whole.find(part) != std::string::npos;
}

}  // namespace fishermask::mask_test
