// The kernel of an op that only moves values: y takes x's elements by a strided map and holds a
// constant elsewhere; the gradient goes the same way back, and is 0 where y does not look.
// Accumulate: grad x as asked.   Deterministic: yes.
#pragma once

#include <algorithm>
#include <memory>

#include "core/parallel.h"
#include "graph/op.h"
#include "ops/strided.h"

namespace fishermask {

template <typename T>
void fill_all(T* values, std::int64_t count, T value) {
  constexpr std::int64_t kGrain = 1 << 15;
  parallel_for(count, kGrain, [=](std::int64_t begin, std::int64_t end) {
    std::fill(values + begin, values + end, value);
  });
}

template <typename T>
class MoveKernel : public Kernel {
 public:
  explicit MoveKernel(Move move) : move_(std::move(move)), back_(move_.map.reversed()) {}

  void forward(const NodeIo& io) override {
    T* y = io.outputs[0].as<T>();
    if (move_.elsewhere) fill_all(y, io.outputs[0].count(), static_cast<T>(*move_.elsewhere));
    copy_strided(move_.map, io.batch, io.inputs[0].as<const T>(), y, false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    if (move_.partial && !add) fill_all(grad_input, io.grad_inputs[0].count(), T{0});
    copy_strided(back_, io.batch, io.grad_outputs[0].as<const T>(), grad_input, add);
  }

 private:
  Move move_;
  StridedMap back_;
};

[[nodiscard]] inline std::unique_ptr<Kernel> make_move_kernel(Move move, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<MoveKernel<double>>(std::move(move));
  return std::make_unique<MoveKernel<float>>(std::move(move));
}

}  // namespace fishermask
