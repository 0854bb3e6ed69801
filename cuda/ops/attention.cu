// attention: y[t, h] = Σ_s P[t, s] · v[s, g], P = softmax over s of scale · q[t, h]·k[s, g] +
// mask[t, s], for each query head h with its key-value head g = h / (H/G).
// Shapes:     q (N, T, H·d), k (N, S, G·d), v (N, S, G·e), mask (N, T, S) or (N, S), optional;
// y (N, T, H·e); d and e at most 256, else the op is refused.
// Unseen:     as binding/ops/attention.cc: a row that sees no column, or whose largest score is
// −5e8 or less, gives zeros and passes no gradient. NaN in a score passes through. Saved: nothing;
// backward reads q, k, v, the mask and grad y alone, so that it also runs on one sample cut out of
// a batch. Workspace:  backward: (N, H, T, 3) f32. Accumulate: each gradient as asked, in order, so
// that two of them may be the same memory. Deterministic: yes. Precision: products as the
// backend's; the softmax in f32. Bound by:   FFMA or the tensor cores; two of backward's nine
// products of T·S·d find again what forward knew, in exchange for saving nothing. Not measured on a
// GPU.
#include "common/backend.h"
#include "ops/attention_backward.cuh"
#include "ops/attention_forward.cuh"

namespace fishermask::cuda {
namespace {

// Calls run<kHead>() with the smallest padded size that holds both heads.
template <typename Run>
void with_head_size(std::int64_t size, const Run& run) {
  if (size <= 64) return run(std::integral_constant<int, 64>{});
  if (size <= 128) return run(std::integral_constant<int, 128>{});
  run(std::integral_constant<int, kLargestHead>{});
}
template <typename Run>
void with_precision(Precision precision, const Run& run) {
  switch (precision) {
    case Precision::kF32:
      return run(std::integral_constant<Precision, Precision::kF32>{});
    case Precision::kTf32:
      return run(std::integral_constant<Precision, Precision::kTf32>{});
    case Precision::kBf16:
      return run(std::integral_constant<Precision, Precision::kBf16>{});
  }
}

class Attention : public Kernel {
 public:
  Attention(const AttentionSizes& sizes, const KernelContext& context)
      : sizes_(sizes), context_(context) {}

  void forward(const NodeIo& io) override {
    AttentionTask task = task_of(io);
    task.y = io.outputs[0].as<float>();
    with_kernels([&](auto head, auto precision) {
      start("attention_forward", task.batch * sizes_.heads * task.row_tiles(),
            ForwardMemory<head()>::kBytes, attention_forward<head(), precision()>, task);
    });
  }

  void backward(const NodeIo& io) override {
    AttentionTask task = task_of(io);
    task.grad_output = io.grad_outputs[0].as<float>();
    const auto target = [&](std::size_t i) {
      return i < io.grad_inputs.size() && io.grad_inputs[i] ? io.grad_inputs[i].as<float>()
                                                            : nullptr;
    };
    const auto add = [&](std::size_t i) { return i < io.accumulate.size() && io.accumulate[i]; };
    task.grad_q = target(0);
    task.grad_k = target(1);
    task.grad_v = target(2);
    task.grad_mask = target(3);
    task.add_q = add(0);
    task.add_k = add(1);
    task.add_v = add(2);
    task.add_mask = add(3);
    const bool keys = task.grad_k != nullptr || task.grad_v != nullptr;
    if (task.grad_q == nullptr && !keys && task.grad_mask == nullptr) return;
    task.statistics = reinterpret_cast<float*>(
        context_.backend->scratch(task.batch * sizes_.heads * sizes_.rows *
                                  static_cast<std::int64_t>(sizeof(RowStatistics))));
    with_kernels([&](auto head, auto precision) {
      constexpr std::size_t kBytes = BackwardMemory<head()>::kBytes;
      start("attention_grad_queries", task.batch * sizes_.heads * task.row_tiles(), kBytes,
            attention_grad_queries<head(), precision()>, task);
      // Keys before values: their gradients may be the same memory.
      if constexpr (head() <= 128) {
        if (keys) start_keys<head(), precision(), KeyGradients::kBoth>(task);
      } else {
        if (task.grad_k) start_keys<head(), precision(), KeyGradients::kKeys>(task);
        if (task.grad_v) start_keys<head(), precision(), KeyGradients::kValues>(task);
      }
      if (task.grad_mask != nullptr) {
        start("attention_grad_mask",
              task.batch * (sizes_.mask_rows > 1 ? task.row_tiles() : 1) * task.column_tiles(),
              BackwardMemory<kAttentionTile>::kBytes, attention_grad_mask<precision()>, task);
      }
    });
  }

 private:
  [[nodiscard]] AttentionTask task_of(const NodeIo& io) const {
    AttentionTask task = {};
    task.q = io.inputs[0].as<const float>();
    task.k = io.inputs[1].as<const float>();
    task.v = io.inputs[2].as<const float>();
    if (sizes_.mask_rows > 0) task.mask = io.inputs[3].as<const float>();
    task.batch = io.batch;
    task.rows = static_cast<int>(sizes_.rows);
    task.columns = static_cast<int>(sizes_.columns);
    task.heads = static_cast<int>(sizes_.heads);
    task.kv_heads = static_cast<int>(sizes_.kv_heads);
    task.key = static_cast<int>(sizes_.key);
    task.value = static_cast<int>(sizes_.value);
    task.mask_rows = static_cast<int>(sizes_.mask_rows);
    task.causal = sizes_.causal;
    task.scale = static_cast<float>(sizes_.scale);
    return task;
  }

  template <typename Run>
  void with_kernels(const Run& run) const {
    with_head_size(std::max(sizes_.key, sizes_.value), [&](auto head) {
      with_precision(context_.precision, [&](auto precision) { run(head, precision); });
    });
  }

  template <int kHead, Precision kPrecision, KeyGradients kWanted>
  void start_keys(const AttentionTask& task) const {
    start("attention_grad_keys", task.batch * sizes_.kv_heads * task.column_tiles(),
          BackwardMemory<kHead>::kBytes, attention_grad_keys<kHead, kPrecision, kWanted>, task);
  }

  void start(const char* name, std::int64_t items, std::size_t bytes, void (*kernel)(AttentionTask),
             const AttentionTask& task) const {
    if (items == 0) return;
    const std::int64_t blocks = std::min(items, std::int64_t{1} << 30);
    launch(name, context_.stream,
           {dim3(static_cast<unsigned>(blocks)), dim3(kAttentionThreads), bytes}, kernel, task);
  }

  AttentionSizes sizes_;
  KernelContext context_;
};

// Counts of stages are held in 32 bits.
bool covered(const AttentionSizes& sizes) {
  constexpr std::int64_t kLongest = 1 << 24;
  const std::int64_t steps = sizes.heads * ((sizes.rows + kAttentionTile - 1) / kAttentionTile);
  return std::max(sizes.key, sizes.value) <= kLargestHead && sizes.rows <= kLongest &&
         sizes.columns <= kLongest && steps <= kLongest;
}

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const AttentionSizes sizes = attention_sizes(node);
  if (!covered(sizes)) return nullptr;
  return std::make_unique<Attention>(sizes, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("attention", make)

}  // namespace fishermask::cuda
