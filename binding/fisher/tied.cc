#include "fisher/tied.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/vector_clones.h"
#include "fisher/contraction.h"
#include "fisher/scatter.h"

namespace fishermask {
namespace {

// Threads take whole cache lines of channels. More than tidiness: a loop's vectors fuse their
// multiplications and its last elements may not, so that where a run of channels ends must not
// depend on the thread count.
constexpr std::int64_t kLine = 16;

FM_VECTOR_CLONES void add_scaled(const float* __restrict from, float by, std::int64_t count,
                                 float* __restrict to) {
  for (std::int64_t c = 0; c < count; ++c) to[c] += by * from[c];
}

FM_VECTOR_CLONES void add_cross_terms(const float* __restrict a, const double* __restrict b,
                                      std::int64_t count, double* __restrict sums) {
  for (std::int64_t c = 0; c < count; ++c) {
    sums[c] += b[c] * (2 * static_cast<double>(a[c]) + b[c]);
  }
}

// Channels [begin, end) of the rows that one sample holds.
class TiedRows {
 public:
  TiedRows(const ContractionForm& head, const ScatterForm& embedding, std::int64_t begin,
           std::int64_t end)
      : head_(head),
        embedding_(embedding),
        begin_(begin),
        count_(end - begin),
        head_row_(static_cast<std::size_t>(count_)),
        embedding_row_(head_row_.size()) {}

  void add_sample(std::int64_t n, const std::int32_t* order, double* sums) {
    const std::int32_t* ids = embedding_.ids + n * embedding_.positions;
    std::int64_t p = 0;
    while (p < embedding_.positions && ids[order[p]] < 0) ++p;
    while (p < embedding_.positions) {
      const std::int32_t id = ids[order[p]];
      std::fill(embedding_row_.begin(), embedding_row_.end(), 0.0);
      for (; p < embedding_.positions && ids[order[p]] == id; ++p) add_embedding(n, order[p]);
      compute_head_row(n, id);
      add_cross_terms(head_row_.data(), embedding_row_.data(), count_,
                      sums + id * embedding_.channels + begin_);
    }
  }

 private:
  void add_embedding(std::int64_t n, std::int64_t position) {
    const float* delta = embedding_.grad_output +
                         (n * embedding_.positions + position) * embedding_.channels + begin_;
    for (std::int64_t c = 0; c < count_; ++c) {
      embedding_row_[static_cast<std::size_t>(c)] += static_cast<double>(delta[c]);
    }
  }

  // A_n[id, begin … end)
  void compute_head_row(std::int64_t n, std::int32_t id) {
    std::fill(head_row_.begin(), head_row_.end(), 0.0F);
    const std::int64_t positions = head_.out_width;
    for (std::int64_t t = 0; t < positions; ++t) {
      const std::int64_t row = n * positions + t;
      add_scaled(head_.input + row * head_.in_channels + begin_,
                 head_.grad_output[row * head_.out_channels + id], count_, head_row_.data());
    }
  }

  const ContractionForm& head_;
  const ScatterForm& embedding_;
  std::int64_t begin_, count_;
  std::vector<float> head_row_;
  std::vector<double> embedding_row_;
};

}  // namespace

bool is_tied(const ContractionForm& head, const ScatterForm& embedding) {
  return head.groups == 1 && head.kernel_height == 1 && head.kernel_width == 1 &&
         head.in_height == 1 && head.out_height == 1 && head.in_width == head.out_width &&
         head.pad_top == 0 && head.pad_left == 0 && head.stride_width == 1 &&
         head.batch == embedding.batch && head.out_channels == embedding.rows &&
         head.in_channels == embedding.channels;
}

void accumulate_tied(const ContractionForm& head, const ScatterForm& embedding, double* sums) {
  const std::vector<std::int32_t> order = scatter_order(embedding);
  accumulate_contraction(head, sums);
  const std::int64_t lines = (embedding.channels + kLine - 1) / kLine;
  parallel_for(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    TiedRows rows(head, embedding, begin * kLine, std::min(end * kLine, embedding.channels));
    for (std::int64_t n = 0; n < embedding.batch; ++n) {
      rows.add_sample(n, order.data() + n * embedding.positions, sums);
    }
  });
}

}  // namespace fishermask
