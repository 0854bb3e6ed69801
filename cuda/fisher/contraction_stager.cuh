// How the kernel of contraction_tile.cuh brings its operands to shared memory: δ as it lies, a by
// way of an im2col that exists only as addresses.
#pragma once

#include "common/mma.cuh"
#include "common/shared.cuh"
#include "fisher/contraction_problem.h"
#include "fisher/contraction_products.cuh"

namespace fishermask::cuda {

// Where the rows of a stage begin in memory: two stages of them, as one is written while the other
// is read.
struct StageRows {
  SharedArray<long long> grad;   // first element of the row; −1: no such position
  SharedArray<long long> input;  // of the position that tap (0, 0) meets, inside the image or not
  SharedArray<int> y, x;         // that position
};

// Copies the stages of one block from global to shared memory.
template <typename Tile>
class Stager {
 public:
  static constexpr int kThreads = threads_of<Tile>(), kDepth = TilePolicy::kDepth;
  static constexpr int kGradPitch = Tile::kRows + TilePolicy::kPad;
  static constexpr int kInputPitch = Tile::kColumns + TilePolicy::kPad;
  static constexpr int kStageFloats = kDepth * (kGradPitch + kInputPitch);

  __device__ __forceinline__ Stager(const TileProblem& problem, SharedArray<float> stages,
                                    StageRows rows, int group, int first_o, int first_column,
                                    std::int64_t first_sample, int rows_in_split)
      : problem_(problem),
        stages_(stages),
        rows_(rows),
        first_sample_(first_sample),
        rows_in_split_(rows_in_split) {
    const int thread = static_cast<int>(threadIdx.x);
    grad_column_ = problem.wide_grad ? thread % (Tile::kRows / 4) * 4 : thread % Tile::kRows;
    grad_valid_ = first_o + grad_column_ < problem.group_out;
    grad_channel_ = group * problem.group_out + first_o + grad_column_;
    input_column_ =
        problem.wide_input ? thread % (Tile::kColumns / 4) * 4 : thread % Tile::kColumns;
    input_valid_ = first_column + input_column_ < problem.columns;
    const int column = input_valid_ ? first_column + input_column_ : 0;
    const int tap = problem.by_group_in.quotient(column);
    const int tap_row = problem.by_kernel_width.quotient(tap);
    tap_y_ = tap_row * problem.dilation_height;
    tap_x_ = (tap - tap_row * problem.kernel_width) * problem.dilation_width;
    input_offset_ =
        (static_cast<std::int64_t>(tap_y_) * problem.in_width + tap_x_) * problem.in_channels +
        group * problem.group_in + column - tap * problem.group_in;
  }

  // Where stage s's rows begin. Read a barrier later.
  __device__ __forceinline__ void locate(int s) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread >= kDepth) return;
    constexpr int kNowhere = -(1 << 30);
    const int slot = s % 2 * kDepth + thread;
    const int row = s * kDepth + thread;
    const int number = problem_.by_padded.quotient(row);
    const int p = row - number * problem_.padded_positions;
    const std::int64_t sample = first_sample_ + number;
    const std::int64_t grad_row = sample * problem_.positions + p;
    const bool exists =
        row < rows_in_split_ && p < problem_.positions && grad_row < problem_.grad_rows;
    const int out_y = problem_.by_out_width.quotient(p);
    const int out_x = p - out_y * problem_.out_width;
    const int y = out_y * problem_.stride_height - problem_.pad_top;
    const int x = out_x * problem_.stride_width - problem_.pad_left;
    rows_.grad[slot] = exists ? grad_row * problem_.out_channels : -1;
    rows_.y[slot] = exists ? y : kNowhere;
    rows_.x[slot] = x;
    rows_.input[slot] = ((sample * problem_.in_height + y) * problem_.in_width + x) *
                        static_cast<std::int64_t>(problem_.in_channels);
  }

  // Asks for stage s; its rows have been located.
  __device__ __forceinline__ void request(int s) const {
    const SharedArray<float> grad = grad_stage(s);
    const SharedArray<float> input = input_stage(s);
    const int slot = s % 2 * kDepth;
    if (problem_.wide_grad) {
      copy_grad<4>(grad, slot);
    } else {
      copy_grad<1>(grad, slot);
    }
    if (problem_.wide_input) {
      copy_input<4>(input, slot);
    } else {
      copy_input<1>(input, slot);
    }
  }

  __device__ __forceinline__ SharedArray<float> grad_stage(int s) const {
    return stages_.from(s % TilePolicy::kStages * kStageFloats);
  }
  __device__ __forceinline__ SharedArray<float> input_stage(int s) const {
    return grad_stage(s).from(kDepth * kGradPitch);
  }

 private:
  template <int kWidth>
  __device__ __forceinline__ static void copy(SharedArray<float> to, int at, const float* from,
                                              bool valid) {
    if constexpr (kWidth == 4) {
      cp_async16(to, at, from, valid);
    } else {
      cp_async4(to, at, from, valid);
    }
  }

  template <int kWidth>
  __device__ __forceinline__ void copy_grad(SharedArray<float> to, int slot) const {
    constexpr int kPerRow = Tile::kRows / kWidth;
    constexpr int kRowStep = kThreads / kPerRow;
    int row = static_cast<int>(threadIdx.x) / kPerRow;
#pragma unroll
    for (int u = 0; u < (kDepth + kRowStep - 1) / kRowStep; ++u, row += kRowStep) {
      if (kDepth % kRowStep != 0 && row >= kDepth) break;
      const std::int64_t first = rows_.grad[slot + row];
      const bool valid = grad_valid_ && first >= 0;
      const float* const from = problem_.grad_output + (valid ? first + grad_channel_ : 0);
      copy<kWidth>(to, row * kGradPitch + grad_column_, from, valid);
    }
  }

  template <int kWidth>
  __device__ __forceinline__ void copy_input(SharedArray<float> to, int slot) const {
    constexpr int kPerRow = Tile::kColumns / kWidth;
    constexpr int kRowStep = kThreads / kPerRow;
    int row = static_cast<int>(threadIdx.x) / kPerRow;
#pragma unroll
    for (int u = 0; u < (kDepth + kRowStep - 1) / kRowStep; ++u, row += kRowStep) {
      if (kDepth % kRowStep != 0 && row >= kDepth) break;
      const int y = rows_.y[slot + row] + tap_y_;
      const int x = rows_.x[slot + row] + tap_x_;
      const bool valid = input_valid_ &&
                         static_cast<unsigned>(y) < static_cast<unsigned>(problem_.in_height) &&
                         static_cast<unsigned>(x) < static_cast<unsigned>(problem_.in_width);
      const float* const from =
          problem_.input + (valid ? rows_.input[slot + row] + input_offset_ : 0);
      copy<kWidth>(to, row * kInputPitch + input_column_, from, valid);
    }
  }

  const TileProblem& problem_;
  SharedArray<float> stages_;
  StageRows rows_;
  std::int64_t first_sample_;
  int rows_in_split_;
  int grad_column_, grad_channel_, input_column_, tap_y_, tap_x_;
  bool grad_valid_, input_valid_;
  std::int64_t input_offset_;
};

}  // namespace fishermask::cuda
