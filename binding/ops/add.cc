// add: y = Σ_k x_k, elementwise, of two or more inputs of one shape (no broadcasting).
// In-place:   y may lie over the first input, even where that input appears again.
// Accumulate: each grad x_k as asked, in order, so that two of them may be the same memory.
// Deterministic: yes.
#include <algorithm>
#include <array>
#include <limits>

#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;
constexpr std::int64_t kChunk = 512;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  for (std::size_t k = 1; k < node.inputs.size(); ++k) {
    node.check(node.inputs[k].shape == node.inputs[0].shape, "expected inputs of one shape but ",
               "input 0 is ", shape_text(node.inputs[0].shape), " and input ", k, " is ",
               shape_text(node.inputs[k].shape));
  }
  return {node.inputs[0]};
}

template <typename T>
class Add : public Kernel {
 public:
  // Summed aside and stored at the end, as y may lie over an input that is still to be read.
  void forward(const NodeIo& io) override {
    std::vector<const T*> inputs;
    inputs.reserve(io.inputs.size());
    for (const TensorView& input : io.inputs) inputs.push_back(input.as<T>());
    T* y = io.outputs[0].as<T>();
    parallel_for(io.outputs[0].count(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      std::array<T, kChunk> sum;
      for (std::int64_t first = begin; first < end; first += kChunk) {
        const std::int64_t count = std::min(kChunk, end - first);
        std::copy_n(inputs[0] + first, count, sum.data());
        for (std::size_t k = 1; k < inputs.size(); ++k) {
          const T* x = inputs[k] + first;
          for (std::int64_t i = 0; i < count; ++i) sum[static_cast<std::size_t>(i)] += x[i];
        }
        if (relu_) clamp(sum.data(), count);
        std::copy_n(sum.data(), count, y + first);
      }
    });
  }

  [[nodiscard]] bool fuse(const Epilogue& epilogue) override {
    if (epilogue.add) return false;
    relu_ = epilogue.relu;
    return true;
  }

  void backward(const NodeIo& io) override {
    const T* grad_output = io.grad_outputs[0].as<T>();
    for (std::size_t k = 0; k < io.grad_inputs.size(); ++k) {
      if (!io.grad_inputs[k]) continue;
      T* grad_input = io.grad_inputs[k].as<T>();
      const bool add = io.accumulate[k];
      parallel_for(io.grad_outputs[0].count(), kGrain, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          grad_input[i] = add ? grad_input[i] + grad_output[i] : grad_output[i];
        }
      });
    }
  }

 private:
  // As relu's own: NaN passes through.
  static void clamp(T* values, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = values[i] < T{0} ? T{0} : values[i];
  }

  bool relu_ = false;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& /*node*/, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Add<double>>();
  return std::make_unique<Add<float>>();
}

OpDefinition add() {
  OpDefinition op;
  op.name = "add";
  op.min_inputs = 2;
  op.max_inputs = std::numeric_limits<int>::max();
  op.in_place = true;
  op.epilogue = {.add = true};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {{.name = "two images", .inputs = {{5, 4, 3}, {5, 4, 3}}},
              {.name = "three vectors", .inputs = {{700}, {700}, {700}}, .batch = 2}};
  return op;
}

FM_REGISTER_OP(add())

}  // namespace
}  // namespace fishermask
