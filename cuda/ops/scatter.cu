// scatter: y = x, but at the places of a list, where the updates go, in their order: replacing,
// adding, multiplying, or the largest or smallest, folded from x on.
// Gradients:  replacing: to the last update of a place alone. Largest and smallest: to the first of
//             equals, x first; NaN wins. Products: of all other factors, from either end, without a
//             division; the products from the front lie in the backend's scratch, 4 bytes an
//             update.
// Accumulate: grad x, then grad updates as asked, so that they may be the same memory.
// Deterministic: yes, one thread owns a place. Bound by memory.
#include <cmath>

#include "core/places.h"
#include "ops/elementwise.cuh"

namespace fishermask::cuda {
namespace {

// The updates of group g: updates[starts[g]] … updates[starts[g + 1] − 1], for place place_of[g].
struct Groups {
  const std::int64_t* place_of;
  const std::int64_t* starts;
  const std::int64_t* updates;
  std::int64_t count;
  std::int64_t x_count;       // per sample
  std::int64_t update_count;  // per sample
};

__device__ __forceinline__ bool takes_over(ScatterReduction reduction, float value, float held) {
  if (held != held) return false;
  if (value != value) return true;
  return reduction == ScatterReduction::kMax ? value > held : value < held;
}

__device__ __forceinline__ float folded(ScatterReduction reduction, float held, float value) {
  if (reduction == ScatterReduction::kNone) return value;
  if (reduction == ScatterReduction::kAdd) return held + value;
  if (reduction == ScatterReduction::kMul) return held * value;
  return takes_over(reduction, value, held) ? value : held;
}

// y holds x already.
__global__ void scatter_updates(Groups groups, ScatterReduction reduction, std::int64_t batch,
                                const float* updates, float* y) {
  for (std::int64_t i = first_item(); i < batch * groups.count; i += item_step()) {
    const std::int64_t sample = i / groups.count;
    const std::int64_t g = i % groups.count;
    float& to = y[sample * groups.x_count + groups.place_of[g]];
    float held = to;
    for (std::int64_t u = groups.starts[g]; u < groups.starts[g + 1]; ++u) {
      held = folded(reduction, held, updates[sample * groups.update_count + groups.updates[u]]);
    }
    to = held;
  }
}

// What the output's gradient is multiplied with on its way to x: 1 where nothing was updated.
__device__ __forceinline__ float factor_of_x(const Groups& groups, ScatterReduction reduction,
                                             std::int64_t g, const float* updates, float x) {
  if (reduction == ScatterReduction::kAdd) return 1.0F;
  if (reduction == ScatterReduction::kNone) return 0.0F;
  float product = 1.0F;
  for (std::int64_t u = groups.starts[g]; u < groups.starts[g + 1]; ++u) {
    const float update = updates[groups.updates[u]];
    if (reduction == ScatterReduction::kMul) {
      product *= update;
    } else if (takes_over(reduction, update, x)) {
      return 0.0F;
    }
  }
  return product;
}

// group_at: by place; −1 where there is none.
__global__ void pass_to_x(Groups groups, ScatterReduction reduction, const std::int64_t* group_at,
                          std::int64_t count, const float* x, const float* updates,
                          const float* grad_output, float* grad_x, bool add) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t sample = i / groups.x_count;
    const std::int64_t g = group_at[i % groups.x_count];
    float factor = 1.0F;
    if (g >= 0) {
      factor = factor_of_x(groups, reduction, g, updates + sample * groups.update_count, x[i]);
    }
    const float passed = factor != 0.0F ? grad_output[i] * factor : 0.0F;
    grad_x[i] = add ? grad_x[i] + passed : passed;
  }
}

// Which update of group g is the result: its position in the list, or −1 for x.
__device__ __forceinline__ std::int64_t winner_of(const Groups& groups, ScatterReduction reduction,
                                                  std::int64_t g, const float* updates, float x) {
  if (reduction == ScatterReduction::kNone) return groups.starts[g + 1] - 1;
  std::int64_t winner = -1;
  for (std::int64_t u = groups.starts[g]; u < groups.starts[g + 1]; ++u) {
    const float update = updates[groups.updates[u]];
    if (!takes_over(reduction, update, x)) continue;
    x = update;
    winner = u;
  }
  return winner;
}

__device__ __forceinline__ void write_term(float& to, float grad, float factor, bool add) {
  const float term = factor != 0.0F ? grad * factor : 0.0F;
  to = add ? to + term : term;
}

// before: (batch, updates) for products, else null.
__global__ void pass_to_updates(Groups groups, ScatterReduction reduction, std::int64_t batch,
                                const float* x, const float* updates, const float* grad_output,
                                float* before, float* grad_updates, bool add) {
  for (std::int64_t i = first_item(); i < batch * groups.count; i += item_step()) {
    const std::int64_t sample = i / groups.count;
    const std::int64_t g = i % groups.count;
    const std::int64_t place = sample * groups.x_count + groups.place_of[g];
    const std::int64_t first = sample * groups.update_count;
    const float grad = grad_output[place];
    const std::int64_t begin = groups.starts[g];
    const std::int64_t end = groups.starts[g + 1];
    if (reduction == ScatterReduction::kMul) {
      float product = x[place];
      for (std::int64_t u = begin; u < end; ++u) {
        before[first + groups.updates[u]] = product;
        product *= updates[first + groups.updates[u]];
      }
      product = 1.0F;
      for (std::int64_t u = end; u > begin; --u) {
        const std::int64_t at = first + groups.updates[u - 1];
        write_term(grad_updates[at], grad, before[at] * product, add);
        product *= updates[at];
      }
      continue;
    }
    const bool all = reduction == ScatterReduction::kAdd;
    const std::int64_t winner =
        all ? -1 : winner_of(groups, reduction, g, updates + first, x[place]);
    for (std::int64_t u = begin; u < end; ++u) {
      write_term(grad_updates[first + groups.updates[u]], grad, all || u == winner ? 1.0F : 0.0F,
                 add);
    }
  }
}

class Scatter : public Kernel {
 public:
  Scatter(const NodeSpec& node, const KernelContext& context)
      : context_(context),
        reduction_(scatter_reduction(node)),
        x_count_(element_count(node.inputs[0].shape)),
        update_count_(element_count(node.inputs[1].shape)) {
    const GroupedPlaces places(node.attributes.integers("index", -1));
    std::vector<std::int64_t> group_at(static_cast<std::size_t>(x_count_), -1);
    for (std::int64_t g = 0; g < places.count(); ++g) {
      group_at[static_cast<std::size_t>(places.place_of[static_cast<std::size_t>(g)])] = g;
    }
    groups_ = places.count();
    Backend& backend = *context.backend;
    place_of_ = device_list(backend, places.place_of, "scatter's places");
    starts_ = device_list(backend, places.starts, "scatter's places");
    updates_ = device_list(backend, places.updates, "scatter's places");
    group_at_ = device_list(backend, group_at, "scatter's places");
  }

  void forward(const NodeIo& io) override {
    float* y = io.outputs[0].as<float>();
    copy_elements(context_.stream, io.inputs[0].as<float>(), y, io.outputs[0].count(), false);
    launch("scatter_updates", context_.stream, over(io.batch * groups_), scatter_updates, groups(),
           reduction_, io.batch, io.inputs[1].as<float>(), y);
  }

  void backward(const NodeIo& io) override {
    const float* x = io.inputs[0].as<float>();
    const float* updates = io.inputs[1].as<float>();
    const float* grad_output = io.grad_outputs[0].as<float>();
    if (io.grad_inputs[0]) {
      const std::int64_t count = io.batch * x_count_;
      launch("pass_to_x", context_.stream, over(count), pass_to_x, groups(), reduction_,
             group_at_.data(), count, x, updates, grad_output, io.grad_inputs[0].as<float>(),
             io.accumulate[0]);
    }
    if (io.grad_inputs[1]) {
      launch("pass_to_updates", context_.stream, over(io.batch * groups_), pass_to_updates,
             groups(), reduction_, io.batch, x, updates, grad_output, products(io.batch),
             io.grad_inputs[1].as<float>(), io.accumulate[1]);
    }
  }

 private:
  [[nodiscard]] Groups groups() const {
    return {place_of_.data(), starts_.data(), updates_.data(), groups_, x_count_, update_count_};
  }
  [[nodiscard]] float* products(std::int64_t batch) const {
    if (reduction_ != ScatterReduction::kMul) return nullptr;
    const std::int64_t bytes = batch * update_count_ * static_cast<std::int64_t>(sizeof(float));
    return reinterpret_cast<float*>(context_.backend->scratch(bytes));
  }

  KernelContext context_;
  ScatterReduction reduction_;
  std::int64_t x_count_;       // per sample
  std::int64_t update_count_;  // per sample
  std::int64_t groups_ = 0;
  Buffer<std::int64_t> place_of_, starts_, updates_, group_at_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Scatter>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("scatter", make)

}  // namespace fishermask::cuda
