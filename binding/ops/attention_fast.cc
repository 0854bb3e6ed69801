// attention in f32: GEMMs on blocks of rows of one head at a time, the softmax in between.
#include <array>
#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "core/vector_clones.h"
#include "ops/attention.h"
#include "ops/one_thread.h"
#include "ops/onednn.h"
#include "ops/softmax_row.h"

namespace fishermask {
namespace {

constexpr std::int64_t kBlockRows = 128;

// Rows [first, first + rows) of one head; `columns`: how many any of them sees.
struct Block {
  std::int64_t sample, head, first, rows, columns;
};

// Where one input's gradient goes. Null: not wanted.
struct Target {
  float* data = nullptr;
  bool add = false;
};
using Targets = std::array<Target, 4>;

// Scratch of one thread.
struct Scores {
  explicit Scores(const AttentionSizes& sizes)
      : weights(static_cast<std::size_t>(std::min(kBlockRows, sizes.rows) * sizes.columns)),
        gradients(weights.size()) {}
  std::vector<float> weights, gradients;
};

class AttentionFast : public Kernel {
 public:
  explicit AttentionFast(const AttentionSizes& sizes)
      : z_(sizes), blocks_((sizes.rows + kBlockRows - 1) / kBlockRows) {}

  void forward(const NodeIo& io) override {
    parallel_for(io.batch * z_.heads * blocks_, 1, [&](std::int64_t begin, std::int64_t end) {
      const OneThread alone;
      Scores scores(z_);
      for (std::int64_t i = begin; i < end; ++i) {
        forward_block(io, block_of(i / blocks_ / z_.heads, i / blocks_ % z_.heads, i % blocks_),
                      scores.weights.data());
      }
    });
  }

  void backward(const NodeIo& io) override {
    const Targets targets = targets_of(io);
    // All heads add to one mask: then a thread takes whole samples.
    const bool by_sample = targets[3].data != nullptr;
    const std::int64_t parts = by_sample ? 1 : z_.kv_heads;
    parallel_for(io.batch * parts, 1, [&](std::int64_t begin, std::int64_t end) {
      const OneThread alone;
      Scores scores(z_);
      for (std::int64_t i = begin; i < end; ++i) {
        if (by_sample) clear_mask(targets[3], i);
        for (std::int64_t g = 0; g < (by_sample ? z_.kv_heads : 1); ++g) {
          backward_kv_head(io, targets, i / parts, by_sample ? g : i % parts, scores);
        }
      }
    });
    add_shared(io, targets);
  }

 private:
  [[nodiscard]] Block block_of(std::int64_t sample, std::int64_t head, std::int64_t index) const {
    const std::int64_t first = index * kBlockRows;
    const std::int64_t rows = std::min(kBlockRows, z_.rows - first);
    return {sample, head, first, rows, z_.visible(first + rows - 1)};
  }

  // Where a block's operands begin; rows of q and y are width() apart, those of k and v kv_width().
  [[nodiscard]] std::int64_t at_row(const Block& b, std::int64_t size) const {
    return ((b.sample * z_.rows + b.first) * z_.heads + b.head) * size;
  }
  [[nodiscard]] std::int64_t at_kv(const Block& b, std::int64_t size) const {
    return (b.sample * z_.columns * z_.kv_heads + z_.kv_head(b.head)) * size;
  }
  [[nodiscard]] std::int64_t at_mask(const Block& b, std::int64_t row) const {
    return (b.sample * z_.mask_rows + (z_.mask_rows > 1 ? b.first + row : 0)) * z_.columns;
  }
  [[nodiscard]] std::int64_t width(std::int64_t size) const { return z_.heads * size; }
  [[nodiscard]] std::int64_t kv_width(std::int64_t size) const { return z_.kv_heads * size; }

  // P of the block, zero where a row does not see a column.
  void weigh(const NodeIo& io, const Block& b, float* weights) const {
    gemm(false, true, b.rows, b.columns, z_.key, io.inputs[0].as<float>() + at_row(b, z_.key),
         width(z_.key), io.inputs[1].as<float>() + at_kv(b, z_.key), kv_width(z_.key), 0.0F,
         weights, b.columns);
    const float* mask = z_.mask_rows > 0 ? io.inputs[3].as<float>() : nullptr;
    const auto scale = static_cast<float>(z_.scale);
    for (std::int64_t r = 0; r < b.rows; ++r) {
      float* row = weights + r * b.columns;
      const std::int64_t visible = z_.visible(b.first + r);
      masked_softmax_row(row, visible, scale, mask != nullptr ? mask + at_mask(b, r) : nullptr,
                         static_cast<float>(kSeesNothing));
      std::fill(row + visible, row + b.columns, 0.0F);
    }
  }

  void forward_block(const NodeIo& io, const Block& b, float* weights) const {
    float* y = io.outputs[0].as<float>() + at_row(b, z_.value);
    if (b.columns == 0) return clear_rows(y, b.rows, z_.value, width(z_.value));
    weigh(io, b, weights);
    gemm(false, false, b.rows, z_.value, b.columns, weights, b.columns,
         io.inputs[2].as<float>() + at_kv(b, z_.value), kv_width(z_.value), 0.0F, y,
         width(z_.value));
  }

  static void clear_rows(float* rows, std::int64_t count, std::int64_t size, std::int64_t apart) {
    for (std::int64_t r = 0; r < count; ++r) std::fill_n(rows + r * apart, size, 0.0F);
  }

  void clear_mask(const Target& target, std::int64_t sample) const {
    const std::int64_t size = z_.mask_rows * z_.columns;
    if (!target.add) std::fill_n(target.data + sample * size, size, 0.0F);
  }

  void backward_kv_head(const NodeIo& io, const Targets& targets, std::int64_t sample,
                        std::int64_t kv_head, Scores& scores) const {
    const std::int64_t group = z_.heads / z_.kv_heads;
    const Block first = block_of(sample, kv_head * group, 0);
    const std::array<std::int64_t, 4> size = {0, z_.key, z_.value, 0};
    for (const std::size_t i : {1U, 2U}) {
      if (targets[i].data == nullptr || targets[i].add) continue;
      clear_rows(targets[i].data + at_kv(first, size[i]), z_.columns, size[i], kv_width(size[i]));
    }
    for (std::int64_t h = first.head; h < first.head + group; ++h) {
      for (std::int64_t b = 0; b < blocks_; ++b) {
        backward_block(io, targets, block_of(sample, h, b), scores);
      }
    }
  }

  void backward_block(const NodeIo& io, const Targets& targets, const Block& b,
                      Scores& scores) const {
    const Target& q = targets[0];
    if (b.columns == 0) {
      if (q.data != nullptr && !q.add) {
        clear_rows(q.data + at_row(b, z_.key), b.rows, z_.key, width(z_.key));
      }
      return;
    }
    weigh(io, b, scores.weights.data());
    const float* grad_output = io.grad_outputs[0].as<float>() + at_row(b, z_.value);
    if (targets[2].data != nullptr) {
      gemm(true, false, b.columns, z_.value, b.rows, scores.weights.data(), b.columns, grad_output,
           width(z_.value), 1.0F, targets[2].data + at_kv(b, z_.value), kv_width(z_.value));
    }
    if (q.data == nullptr && targets[1].data == nullptr && targets[3].data == nullptr) return;
    gemm(false, true, b.rows, b.columns, z_.value, grad_output, width(z_.value),
         io.inputs[2].as<float>() + at_kv(b, z_.value), kv_width(z_.value), 0.0F,
         scores.gradients.data(), b.columns);
    score_gradients(targets[3], b, scores);
    query_and_key_gradients(io, targets, b, scores.gradients.data());
  }

  // From the gradient of P to that of scale · q·k's operands' product; adds the mask's on the way.
  void score_gradients(const Target& mask, const Block& b, Scores& scores) const {
    const auto scale = static_cast<float>(z_.scale);
    for (std::int64_t r = 0; r < b.rows; ++r) {
      float* gradient = scores.gradients.data() + r * b.columns;
      softmax_row_gradient(scores.weights.data() + r * b.columns, b.columns, gradient);
      if (mask.data != nullptr) add_row(gradient, b.columns, mask.data + at_mask(b, r));
      scale_row(gradient, b.columns, scale);
    }
  }

  void query_and_key_gradients(const NodeIo& io, const Targets& targets, const Block& b,
                               const float* gradients) const {
    const auto& [q, k, v, mask] = targets;
    if (q.data != nullptr) {
      gemm(false, false, b.rows, z_.key, b.columns, gradients, b.columns,
           io.inputs[1].as<float>() + at_kv(b, z_.key), kv_width(z_.key), q.add ? 1.0F : 0.0F,
           q.data + at_row(b, z_.key), width(z_.key));
    }
    if (k.data != nullptr) {
      gemm(true, false, b.columns, z_.key, b.rows, gradients, b.columns,
           io.inputs[0].as<float>() + at_row(b, z_.key), width(z_.key), 1.0F,
           k.data + at_kv(b, z_.key), kv_width(z_.key));
    }
  }

  // One value may be several of the inputs: the gradients after its first then go through memory
  // of their own, as the heads of one are not those of another.
  Targets targets_of(const NodeIo& io) {
    Targets targets;
    for (std::size_t i = 0; i < io.grad_inputs.size(); ++i) {
      if (!io.grad_inputs[i]) continue;
      targets[i] = {io.grad_inputs[i].as<float>(), io.accumulate[i]};
      for (std::size_t j = 0; j < i; ++j) {
        if (io.grad_inputs[j].data != io.grad_inputs[i].data) continue;
        shared_[i].resize(static_cast<std::size_t>(io.grad_inputs[i].count()));
        targets[i] = {shared_[i].data(), false};
      }
    }
    return targets;
  }

  static void add_shared(const NodeIo& io, const Targets& targets) {
    for (std::size_t i = 0; i < io.grad_inputs.size(); ++i) {
      if (!io.grad_inputs[i]) continue;
      float* grad = io.grad_inputs[i].as<float>();
      if (targets[i].data == grad) continue;
      const std::int64_t count = io.grad_inputs[i].count();
      for (std::int64_t j = 0; j < count; ++j) {
        grad[j] = targets[i].data[j] + (io.accumulate[i] ? grad[j] : 0.0F);
      }
    }
  }

  AttentionSizes z_;
  std::int64_t blocks_;
  std::array<std::vector<float>, 4> shared_;
};

}  // namespace

std::unique_ptr<Kernel> make_attention_fast(const AttentionSizes& sizes) {
  return std::make_unique<AttentionFast>(sizes);
}

}  // namespace fishermask
