// attention: y[t, h] = Σ_s P[t, s] · v[s, g], P = softmax over s of scale · q[t, h]·k[s, g] +
// mask[t, s], for each query head h with its key-value head g = h / (H/G).
// Shapes:     q (N, T, H·d), k (N, S, G·d), v (N, S, G·e), mask (N, T, S) or (N, S), optional;
// y (N, T, H·e).
// Attributes: heads H, kv_heads G (H; a divisor of it), causal (false; row t sees s ≤ t + S − T),
// scale (1/√d).
// Unseen:     a row that sees no column, or whose largest score is −5e8 or less, gives zeros and
// passes no gradient. NaN in a score passes through.
// Backward:   the scores are computed again: nothing of size T·S is kept.
// Accumulate: each gradient as asked, in order, so that two of them may be the same memory.
// Workspace:  two blocks of 128 rows of scores on each thread.
// Deterministic: yes, for any thread count: threads take key-value heads (samples where the mask's
// gradient is wanted), and each runs its GEMMs alone.
#include "ops/attention.h"

#include <array>
#include <cmath>
#include <limits>

#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const AttentionSizes sizes = attention_sizes(node);
  return {{{sizes.rows, sizes.heads * sizes.value}, node.inputs[0].dtype}};
}

// One row of one head: where its operands begin.
struct RowPlace {
  std::int64_t row, q, k, v, y, mask;
};

template <typename T>
class AttentionReference : public Kernel {
 public:
  explicit AttentionReference(const NodeSpec& node) : sizes_(attention_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const T* v = io.inputs[2].as<T>();
    T* y = io.outputs[0].as<T>();
    for_each_row(io, [&](const RowPlace& at, const std::vector<double>& weights) {
      for (std::int64_t j = 0; j < sizes_.value; ++j) {
        double sum = 0;
        for (std::size_t s = 0; s < weights.size(); ++s) {
          sum += weights[s] * static_cast<double>(v[at.v + value_at(s) + j]);
        }
        y[at.y + j] = static_cast<T>(sum);
      }
    });
  }

  void backward(const NodeIo& io) override {
    // Whole, and written in the end: two of them may go to the same memory.
    std::array<std::vector<double>, 4> gradients;
    for (std::size_t i = 0; i < io.inputs.size(); ++i) {
      gradients[i].resize(static_cast<std::size_t>(io.inputs[i].count()));
    }
    for_each_row(io, [&](const RowPlace& at, const std::vector<double>& weights) {
      const std::vector<double> scores = value_gradients(io, at, weights, gradients[2]);
      score_gradients(io, at, scores, gradients);
    });
    for (std::size_t i = 0; i < io.inputs.size(); ++i) {
      if (!io.grad_inputs[i]) continue;
      T* grad = io.grad_inputs[i].as<T>();
      for (std::size_t j = 0; j < gradients[i].size(); ++j) {
        grad[j] = static_cast<T>(gradients[i][j]) + (io.accumulate[i] ? grad[j] : T{0});
      }
    }
  }

 private:
  [[nodiscard]] std::int64_t key_at(std::size_t s) const {
    return static_cast<std::int64_t>(s) * sizes_.kv_heads * sizes_.key;
  }
  [[nodiscard]] std::int64_t value_at(std::size_t s) const {
    return static_cast<std::int64_t>(s) * sizes_.kv_heads * sizes_.value;
  }

  // body(place, P of the visible columns) for every row of every head of every sample.
  template <typename Body>
  void for_each_row(const NodeIo& io, const Body& body) const {
    const AttentionSizes& z = sizes_;
    for (std::int64_t n = 0; n < io.batch; ++n) {
      for (std::int64_t h = 0; h < z.heads; ++h) {
        for (std::int64_t t = 0; t < z.rows; ++t) {
          const std::int64_t head_row = (n * z.rows + t) * z.heads + h;
          const RowPlace at = {.row = t,
                               .q = head_row * z.key,
                               .k = (n * z.columns * z.kv_heads + z.kv_head(h)) * z.key,
                               .v = (n * z.columns * z.kv_heads + z.kv_head(h)) * z.value,
                               .y = head_row * z.value,
                               .mask = (n * z.mask_rows + (z.mask_rows > 1 ? t : 0)) * z.columns};
          body(at, weights(io, at));
        }
      }
    }
  }

  [[nodiscard]] std::vector<double> weights(const NodeIo& io, const RowPlace& at) const {
    const T* q = io.inputs[0].as<T>() + at.q;
    const T* k = io.inputs[1].as<T>() + at.k;
    std::vector<double> row(static_cast<std::size_t>(sizes_.visible(at.row)));
    double largest = -std::numeric_limits<double>::infinity();
    for (std::size_t s = 0; s < row.size(); ++s) {
      for (std::int64_t j = 0; j < sizes_.key; ++j) {
        row[s] += static_cast<double>(q[j]) * static_cast<double>(k[key_at(s) + j]);
      }
      row[s] *= sizes_.scale;
      if (sizes_.mask_rows > 0) {
        row[s] += static_cast<double>(io.inputs[3].as<T>()[at.mask + static_cast<std::int64_t>(s)]);
      }
      if (!(row[s] <= largest) && !std::isnan(largest)) largest = row[s];
    }
    if (largest <= kSeesNothing) return std::vector<double>(row.size());
    double sum = 0;
    for (double& score : row) sum += score = std::exp(score - largest);
    for (double& score : row) score /= sum;
    return row;
  }

  // Adds to the values' gradient; returns the gradient of the scores.
  std::vector<double> value_gradients(const NodeIo& io, const RowPlace& at,
                                      const std::vector<double>& weights,
                                      std::vector<double>& grad_v) const {
    const T* v = io.inputs[2].as<T>() + at.v;
    const T* grad_output = io.grad_outputs[0].as<T>() + at.y;
    std::vector<double> grad(weights.size());
    double mean = 0;
    for (std::size_t s = 0; s < weights.size(); ++s) {
      for (std::int64_t j = 0; j < sizes_.value; ++j) {
        const auto delta = static_cast<double>(grad_output[j]);
        grad[s] += delta * static_cast<double>(v[value_at(s) + j]);
        grad_v[static_cast<std::size_t>(at.v + value_at(s) + j)] += weights[s] * delta;
      }
      mean += weights[s] * grad[s];
    }
    for (std::size_t s = 0; s < weights.size(); ++s) grad[s] = weights[s] * (grad[s] - mean);
    return grad;
  }

  void score_gradients(const NodeIo& io, const RowPlace& at, const std::vector<double>& scores,
                       std::array<std::vector<double>, 4>& gradients) const {
    const T* q = io.inputs[0].as<T>();
    const T* k = io.inputs[1].as<T>();
    for (std::size_t s = 0; s < scores.size(); ++s) {
      for (std::int64_t j = 0; j < sizes_.key; ++j) {
        const std::int64_t key = at.k + key_at(s) + j;
        const double grad = sizes_.scale * scores[s];
        gradients[0][static_cast<std::size_t>(at.q + j)] += grad * static_cast<double>(k[key]);
        gradients[1][static_cast<std::size_t>(key)] += grad * static_cast<double>(q[at.q + j]);
      }
      if (sizes_.mask_rows > 0) gradients[3][static_cast<std::size_t>(at.mask) + s] += scores[s];
    }
  }

  AttentionSizes sizes_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<AttentionReference<double>>(node);
  return std::make_unique<AttentionReference<float>>(node);
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return make_attention_fast(attention_sizes(node));
}

std::vector<SampleCase> cases() {
  const auto of = [](std::int64_t count) { return Attribute{count}; };
  const InputDraw any = {-1.5, 1.5};
  const std::vector<InputDraw> draws = {any, any, any, any};
  return {
      {.name = "one head",
       .inputs = {{4, 5}, {4, 5}, {4, 5}},
       .attributes = {{"heads", of(1)}},
       .draws = draws},
      {.name = "heads, rows unlike columns",
       .inputs = {{3, 8}, {7, 8}, {7, 12}},
       .attributes = {{"heads", of(4)}},
       .draws = draws},
      {.name = "grouped, causal, batch of one",
       .inputs = {{6, 12}, {6, 4}, {6, 6}},
       .attributes = {{"heads", of(6)}, {"kv_heads", of(2)}, {"causal", true}},
       .batch = 1,
       .draws = draws},
      {.name = "causal with a past, scale",
       .inputs = {{2, 6}, {5, 6}, {5, 2}},
       .attributes = {{"heads", of(2)}, {"causal", true}, {"scale", 0.75}},
       .draws = draws},
      {.name = "causal, rows that see nothing",
       .inputs = {{6, 3}, {4, 3}, {4, 3}},
       .attributes = {{"heads", of(1)}, {"causal", true}},
       .draws = draws},
      {.name = "mask by column, grouped",
       .inputs = {{4, 8}, {3, 4}, {3, 2}, {3}},
       .attributes = {{"heads", of(4)}, {"kv_heads", of(2)}},
       .draws = draws},
      {.name = "mask by row and column, causal",
       .inputs = {{5, 6}, {5, 3}, {5, 3}, {5, 5}},
       .attributes = {{"heads", of(2)}, {"kv_heads", of(1)}, {"causal", true}},
       .draws = draws},
      {.name = "several blocks, causal",
       .inputs = {{270, 6}, {275, 3}, {275, 5}},
       .attributes = {{"heads", of(2)}, {"kv_heads", of(1)}, {"causal", true}},
       .batch = 2,
       .draws = draws},
      {.name = "several blocks, mask",
       .inputs = {{130, 10}, {37, 10}, {37, 6}, {130, 37}},
       .attributes = {{"heads", of(2)}},
       .batch = 2,
       .draws = draws},
  };
}

OpDefinition attention() {
  OpDefinition op;
  op.name = "attention";
  op.min_inputs = 3;
  op.max_inputs = 4;
  op.attributes = {"heads", "kv_heads", "causal", "scale"};
  op.backward_needs_inputs = true;
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(attention())

}  // namespace
}  // namespace fishermask
