// The kernel of all elementwise ops of two or three operands with broadcasting. kA function is
//   template <typename T> struct F {
//     static constexpr std::size_t kOperands;             // 2 or 3
//     static constexpr std::array<bool, 3> kPasses;       // false: operand k gets no gradient
//     static T value(T a, T b, T c);                      // c: of no meaning where kOperands is 2
//     template <std::size_t k> static T passed(T grad_output, T a, T b, T c);   // to operand k
//   };
// The second operand is the second input or, with one input, the slot `other`.
// Accumulate: each gradient as asked, in order, so that two of them may be the same memory.
// Deterministic: a repeated operand's gradient is summed by one thread, in order, in f64.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/broadcast.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {

// Steps of 0 or 1 along a row, known to the compiler where they are common.
template <typename T, typename F, std::int64_t kA, std::int64_t kB, std::int64_t kC>
void broadcast_values(const T* a, const T* b, const T* c, T* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = F::value(a[i * kA], b[i * kB], c[i * kC]);
}

template <typename T, typename F, std::size_t kK, std::int64_t kA, std::int64_t kB, std::int64_t kC>
void broadcast_pass(const T* a, const T* b, const T* c, const T* __restrict grad_output,
                    T* __restrict grad_input, std::int64_t count, bool add) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T passed = F::template passed<kK>(grad_output[i], a[i * kA], b[i * kB], c[i * kC]);
    grad_input[i] = add ? grad_input[i] + passed : passed;
  }
}

// sums[i] += the gradient at column i (for an operand that moves along the row).
template <typename T, typename F, std::size_t kK, std::int64_t kA, std::int64_t kB, std::int64_t kC>
void broadcast_column_sums(const T* a, const T* b, const T* c, const T* __restrict grad_output,
                           double* __restrict sums, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T passed = F::template passed<kK>(grad_output[i], a[i * kA], b[i * kB], c[i * kC]);
    sums[i] += static_cast<double>(passed);
  }
}

// The sum of the gradients along a row (for an operand that is repeated along it), in a fixed
// number of lanes, so that neither vector width nor thread count changes the order.
template <typename T, typename F, std::size_t kK, std::int64_t kA, std::int64_t kB, std::int64_t kC>
double broadcast_row_sum(const T* a, const T* b, const T* c, const T* __restrict grad_output,
                         std::int64_t count) {
  constexpr std::int64_t kLanes = 8;
  double lanes[kLanes] = {};
  const auto term = [&](std::int64_t i) {
    return static_cast<double>(
        F::template passed<kK>(grad_output[i], a[i * kA], b[i * kB], c[i * kC]));
  };
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  double sum = 0;
  for (; i < count; ++i) sum += term(i);
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Calls body.template operator()<kA, kB, kC>() with the row's steps. (Callers leave out at compile
// time the steps that cannot occur: they would only cost compile time.) Two operands that both
// stand still have a row of one element, where steps do not matter.
template <std::size_t kOperands, typename Body>
void with_steps(const LaneOffsets& step, Body&& body) {
  const auto last = [&]<std::int64_t kA, std::int64_t kB>() {
    if constexpr (kOperands == 3) {
      if (step[2] != 0) return body.template operator()<kA, kB, 1>();
    }
    body.template operator()<kA, kB, 0>();
  };
  if (step[0] != 0) {
    step[1] != 0 ? last.template operator()<1, 1>() : last.template operator()<1, 0>();
  } else {
    if constexpr (kOperands == 2) {
      step[1] != 0 ? last.template operator()<0, 1>() : last.template operator()<1, 1>();
    } else {
      step[1] != 0 ? last.template operator()<0, 1>() : last.template operator()<0, 0>();
    }
  }
}

template <typename T, typename F>
class BroadcastKernel : public Kernel {
 public:
  explicit BroadcastKernel(const NodeSpec& node) : output_(node.outputs[0].shape) {
    for (const ValueSpec& input : node.inputs) operands_.push_back({input.shape, true});
    if (operands_.size() < F::kOperands) {
      operands_.push_back({node.parameters.at("other"), false});
    }
  }

  void forward(const NodeIo& io) override {
    const BroadcastDims dims = broadcast_dims(operands_, output_, io.batch);
    const Operands x = operands_of(io);
    T* y = io.outputs[0].as<T>();
    parallel_for(dims_count(dims), kGrain, [&](std::int64_t begin, std::int64_t end) {
      with_steps<F::kOperands>(
          dims.back().stride, [&]<std::int64_t kA, std::int64_t kB, std::int64_t kC>() {
            for_each_row(dims, begin, end,
                         [&](const LaneOffsets& o, std::int64_t at, std::int64_t count) {
                           broadcast_values<T, F, kA, kB, kC>(x[0] + o[0], x[1] + o[1], x[2] + o[2],
                                                              y + at, count);
                         });
          });
    });
  }

  void backward(const NodeIo& io) override {
    const BroadcastDims dims = broadcast_dims(operands_, output_, io.batch);
    backward_operand<0>(io, dims);
    backward_operand<1>(io, dims);
    if constexpr (F::kOperands == 3) backward_operand<2>(io, dims);
  }

 protected:
  [[nodiscard]] const Shape& output_shape() const { return output_; }

 private:
  static constexpr std::int64_t kGrain = 1 << 13;
  static constexpr std::int64_t kColumns = 64;
  using Operands = std::array<const T*, kMostOperands>;

  // kA third operand that is not there is the first: it is read and not used.
  static Operands operands_of(const NodeIo& io) {
    Operands x{};
    for (std::size_t k = 0; k < F::kOperands; ++k) {
      x[k] = k < io.inputs.size() ? io.inputs[k].as<T>() : io.parameter("other").as<T>();
    }
    if (F::kOperands < kMostOperands) x[2] = x[0];
    return x;
  }

  template <std::size_t kK>
  void backward_operand(const NodeIo& io, const BroadcastDims& dims) const {
    const bool is_input = kK < io.inputs.size();
    const TensorView target = is_input ? io.grad_inputs[kK] : io.grad_parameter("other");
    if (!target) return;
    T* gradient = target.as<T>();
    const bool add = is_input ? io.accumulate[kK] : true;
    if constexpr (!F::kPasses[kK]) {
      if (!add) std::fill_n(gradient, target.count(), T{0});
      return;
    } else {
      const SplitDims split = split_dims(dims, kK);
      if (split.repeated.empty()) {
        pass<kK>(io, dims, gradient, add);
      } else if (dims.back().stride[kK] != 0) {
        sum_columns<kK>(io, split, gradient, add);
      } else {
        sum_rows<kK>(io, split, gradient, add);
      }
    }
  }

  // The operand has the output's shape: element by element.
  template <std::size_t kK>
  void pass(const NodeIo& io, const BroadcastDims& dims, T* gradient, bool add) const {
    const Operands x = operands_of(io);
    const T* grad_output = io.grad_outputs[0].as<T>();
    parallel_for(dims_count(dims), kGrain, [&](std::int64_t begin, std::int64_t end) {
      with_steps<F::kOperands>(
          dims.back().stride, [&]<std::int64_t kA, std::int64_t kB, std::int64_t kC>() {
            if constexpr (std::array{kA, kB, kC}[kK] == 1) {
              for_each_row(dims, begin, end,
                           [&](const LaneOffsets& o, std::int64_t at, std::int64_t count) {
                             broadcast_pass<T, F, kK, kA, kB, kC>(x[0] + o[0], x[1] + o[1],
                                                                  x[2] + o[2], grad_output + at,
                                                                  gradient + o[kK], count, add);
                           });
            }
          });
    });
  }

  // The operand moves along the rows and is repeated outside: sums for a block of columns at a
  // time, one task each.
  template <std::size_t kK>
  void sum_columns(const NodeIo& io, const SplitDims& split, T* gradient, bool add) const {
    const BroadcastDim inner = split.kept.back();
    const BroadcastDims outer(split.kept.begin(), split.kept.end() - 1);
    const std::int64_t blocks = (inner.size + kColumns - 1) / kColumns;
    const std::int64_t work = kColumns * dims_count(split.repeated);
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / work);
    const Operands x = operands_of(io);
    const T* grad_output = io.grad_outputs[0].as<T>();
    parallel_for(blocks * dims_count(outer), grain, [&](std::int64_t begin, std::int64_t end) {
      BroadcastDims walk = split.repeated;
      walk.push_back(inner);
      for (std::int64_t task = begin; task < end; ++task) {
        const std::int64_t first = task % blocks * kColumns;
        const std::int64_t columns = std::min(kColumns, inner.size - first);
        walk.back().size = columns;
        LaneOffsets base = offsets_at(outer, task / blocks);
        for (std::size_t k = 0; k < base.size(); ++k) base[k] += first * inner.stride[k];
        std::array<double, kColumns> sums{};
        with_steps<F::kOperands>(
            inner.stride, [&]<std::int64_t kA, std::int64_t kB, std::int64_t kC>() {
              if constexpr (std::array{kA, kB, kC}[kK] == 1) {
                for_each_row(
                    walk, 0, dims_count(walk),
                    [&](const LaneOffsets& o, std::int64_t /*at*/, std::int64_t count) {
                      broadcast_column_sums<T, F, kK, kA, kB, kC>(
                          x[0] + base[0] + o[0], x[1] + base[1] + o[1], x[2] + base[2] + o[2],
                          grad_output + base[kOutputLane] + o[kOutputLane], sums.data(), count);
                    });
              }
            });
        for (std::int64_t i = 0; i < columns; ++i) {
          store(gradient[base[kK] + i], sums[static_cast<std::size_t>(i)], add);
        }
      }
    });
  }

  // The operand is repeated along the rows: one sum for each of its elements.
  template <std::size_t kK>
  void sum_rows(const NodeIo& io, const SplitDims& split, T* gradient, bool add) const {
    const std::int64_t repeated = dims_count(split.repeated);
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / repeated);
    // Of two operands the other one moves, or the row is one element and steps do not matter.
    LaneOffsets step = split.repeated.back().stride;
    if (F::kOperands == 2) step[1 - kK % 2] = 1;
    const Operands x = operands_of(io);
    const T* grad_output = io.grad_outputs[0].as<T>();
    parallel_for(dims_count(split.kept), grain, [&](std::int64_t begin, std::int64_t end) {
      with_steps<F::kOperands>(step, [&]<std::int64_t kA, std::int64_t kB, std::int64_t kC>() {
        if constexpr (std::array{kA, kB, kC}[kK] == 0) {
          for (std::int64_t task = begin; task < end; ++task) {
            const LaneOffsets base = offsets_at(split.kept, task);
            double sum = 0;
            for_each_row(split.repeated, 0, repeated,
                         [&](const LaneOffsets& o, std::int64_t /*at*/, std::int64_t count) {
                           sum += broadcast_row_sum<T, F, kK, kA, kB, kC>(
                               x[0] + base[0] + o[0], x[1] + base[1] + o[1], x[2] + base[2] + o[2],
                               grad_output + base[kOutputLane] + o[kOutputLane], count);
                         });
            store(gradient[base[kK]], sum, add);
          }
        }
      });
    });
  }

  static void store(T& to, double sum, bool add) {
    to = static_cast<T>(add ? static_cast<double>(to) + sum : sum);
  }

  Shape output_;
  std::vector<BroadcastOperand> operands_;
};

}  // namespace fishermask
