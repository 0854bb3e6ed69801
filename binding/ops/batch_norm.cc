// batch_norm: y = (x − mean) · inv_std · weight + bias per channel, inv_std = 1/√(var + epsilon).
// Shapes:     x, y (N, …, C); weight, bias (C,), both or neither; running_mean, running_var (C,).
// Training:   mean and (biased) var of the batch over all sizes but the last; the running
// statistics
//             move by `momentum` towards them, running_var towards the unbiased variance, once per
//             forward. Evaluation: the running statistics.
// Accumulate: grad weight and grad bias use +=; grad x as asked.
// Workspace:  two floats per channel and block of rows.
// Squares:    reduction form, in evaluation mode.
// Deterministic: yes, for any thread count: rows are summed in blocks of a fixed size, the blocks
// in
//             order.
// Errors:     STATE for training on one value per channel, as in PyTorch.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/batch_norm_sizes.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  node.check(!node.inputs[0].shape.empty(), "expected an input (…, C) but received a scalar");
  const BatchNormSizes sizes = batch_norm_sizes(node);
  node.check(node.has_parameter("weight") == node.has_parameter("bias"),
             "expected weight and bias together but received one of them");
  for (const auto& [slot, shape] : node.parameters) {
    node.check(shape == Shape{sizes.channels}, "expected a ", slot, " of shape (", sizes.channels,
               ") but received ", shape_text(shape));
  }
  node.check(sizes.epsilon >= 0, "expected an epsilon of at least 0 but received ", sizes.epsilon);
  node.check(sizes.momentum >= 0 && sizes.momentum <= 1,
             "expected a momentum in [0, 1] but received ", sizes.momentum);
  return {node.inputs[0]};
}

// The batch's mean, then inv_std, in f64 whatever the input's type.
SavedSpec saved(const NodeSpec& node, std::int64_t /*batch*/, bool training) {
  const std::int64_t channels = node.inputs[0].shape.back();
  return {.bytes_fixed = training ? 2 * channels * static_cast<std::int64_t>(sizeof(double))
                                  : std::int64_t{0}};
}

// mean and inv_std that a pass normalises with; in training mode also the unbiased variance.
struct Statistics {
  std::vector<double> mean, inv_std, unbiased_variance;
  explicit Statistics(std::int64_t channels)
      : mean(static_cast<std::size_t>(channels)),
        inv_std(mean.size()),
        unbiased_variance(mean.size()) {}
};

// What the reference and the fast kernel share: which statistics, and the running ones.
template <typename T>
class BatchNormBase : public Kernel {
 public:
  explicit BatchNormBase(const NodeSpec& node) : sizes_(batch_norm_sizes(node)), name_(node.name) {}

 protected:
  [[nodiscard]] std::int64_t rows(const NodeIo& io) const { return io.batch * sizes_.positions; }

  void check_rows(const NodeIo& io) const {
    FM_CHECK(rows(io) > 1, STATE, "node '", name_,
             "' (batch_norm): expected more than 1 value per channel in training but received ",
             rows(io));
  }

  [[nodiscard]] Statistics running(const NodeIo& io) const {
    Statistics statistics(sizes_.channels);
    const T* mean = io.parameter("running_mean").as<T>();
    const T* variance = io.parameter("running_var").as<T>();
    for (std::size_t c = 0; c < statistics.mean.size(); ++c) {
      statistics.mean[c] = static_cast<double>(mean[c]);
      statistics.inv_std[c] = 1.0 / std::sqrt(static_cast<double>(variance[c]) + sizes_.epsilon);
    }
    return statistics;
  }

  // From the sum of squared distances to the mean, per channel.
  void finish(Statistics& statistics, const std::vector<double>& squares, std::int64_t rows) const {
    const auto count = static_cast<double>(rows);
    for (std::size_t c = 0; c < squares.size(); ++c) {
      statistics.inv_std[c] = 1.0 / std::sqrt(squares[c] / count + sizes_.epsilon);
      statistics.unbiased_variance[c] = squares[c] / (count - 1);
    }
  }

  // Keeps the batch's statistics for backward and moves the running ones.
  void save(const NodeIo& io, const Statistics& statistics) const {
    auto* kept = reinterpret_cast<double*>(io.saved_fixed);
    T* mean = io.parameter("running_mean").as<T>();
    T* variance = io.parameter("running_var").as<T>();
    const std::size_t channels = statistics.mean.size();
    for (std::size_t c = 0; c < channels; ++c) {
      kept[c] = statistics.mean[c];
      kept[channels + c] = statistics.inv_std[c];
      mean[c] = move(mean[c], statistics.mean[c]);
      variance[c] = move(variance[c], statistics.unbiased_variance[c]);
    }
  }

  // The statistics that forward used.
  [[nodiscard]] Statistics used(const NodeIo& io) const {
    if (!io.training) return running(io);
    Statistics statistics(sizes_.channels);
    const auto* kept = reinterpret_cast<const double*>(io.saved_fixed);
    std::copy_n(kept, sizes_.channels, statistics.mean.data());
    std::copy_n(kept + sizes_.channels, sizes_.channels, statistics.inv_std.data());
    return statistics;
  }

  BatchNormSizes sizes_;

 private:
  [[nodiscard]] T move(T from, double to) const {
    return static_cast<T>((1 - sizes_.momentum) * static_cast<double>(from) + sizes_.momentum * to);
  }

  std::string name_;
};

template <typename T>
class BatchNormReference : public BatchNormBase<T> {
 public:
  using BatchNormBase<T>::BatchNormBase;

  void forward(const NodeIo& io) override {
    const Statistics statistics = io.training ? of_batch(io) : this->running(io);
    if (io.training) this->save(io, statistics);
    const T* x = io.inputs[0].template as<T>();
    const TensorView weight = io.parameter("weight");
    const TensorView bias = io.parameter("bias");
    T* y = io.outputs[0].template as<T>();
    for_each(io, [&](std::int64_t i, std::size_t c) {
      y[i] = static_cast<T>((x[i] - statistics.mean[c]) * statistics.inv_std[c]);
      if (weight) y[i] = y[i] * weight.template as<T>()[c] + bias.template as<T>()[c];
    });
  }

  void backward(const NodeIo& io) override {
    const Statistics statistics = this->used(io);
    const T* x = io.inputs[0].template as<T>();
    const T* grad_output = io.grad_outputs[0].template as<T>();
    std::vector<double> sum(statistics.mean.size());
    std::vector<double> projected(sum.size());  // Σ grad_output · x̂
    for_each(io, [&](std::int64_t i, std::size_t c) {
      sum[c] += grad_output[i];
      projected[c] += grad_output[i] * (x[i] - statistics.mean[c]) * statistics.inv_std[c];
    });
    add(io.grad_parameter("bias"), sum);
    add(io.grad_parameter("weight"), projected);
    if (io.grad_inputs[0]) backward_input(io, statistics, sum, projected);
  }

 private:
  template <typename Body>
  void for_each(const NodeIo& io, const Body& body) const {
    for (std::int64_t r = 0; r < this->rows(io); ++r) {
      for (std::int64_t c = 0; c < this->sizes_.channels; ++c) {
        body(r * this->sizes_.channels + c, static_cast<std::size_t>(c));
      }
    }
  }

  [[nodiscard]] Statistics of_batch(const NodeIo& io) const {
    this->check_rows(io);
    const T* x = io.inputs[0].template as<T>();
    const auto count = static_cast<double>(this->rows(io));
    Statistics statistics(this->sizes_.channels);
    std::vector<double> squares(statistics.mean.size());
    for_each(io, [&](std::int64_t i, std::size_t c) { statistics.mean[c] += x[i] / count; });
    for_each(io, [&](std::int64_t i, std::size_t c) {
      squares[c] += (x[i] - statistics.mean[c]) * (x[i] - statistics.mean[c]);
    });
    this->finish(statistics, squares, this->rows(io));
    return statistics;
  }

  static void add(const TensorView& sums, const std::vector<double>& terms) {
    if (!sums) return;
    for (std::size_t c = 0; c < terms.size(); ++c) {
      sums.template as<T>()[c] += static_cast<T>(terms[c]);
    }
  }

  void backward_input(const NodeIo& io, const Statistics& statistics,
                      const std::vector<double>& sum, const std::vector<double>& projected) const {
    const T* x = io.inputs[0].template as<T>();
    const T* grad_output = io.grad_outputs[0].template as<T>();
    const TensorView weight = io.parameter("weight");
    T* grad_input = io.grad_inputs[0].template as<T>();
    const auto count = static_cast<double>(this->rows(io));
    for_each(io, [&](std::int64_t i, std::size_t c) {
      double grad = grad_output[i];
      if (io.training) {
        const double normalised = (x[i] - statistics.mean[c]) * statistics.inv_std[c];
        grad -= (sum[c] + normalised * projected[c]) / count;
      }
      grad *= statistics.inv_std[c];
      if (weight) grad *= weight.template as<T>()[c];
      grad_input[i] = static_cast<T>(grad) + (io.accumulate[0] ? grad_input[i] : T{0});
    });
  }
};

// Sixteen channels at a time stay in registers; the compiler splits the vector for narrower
// machines.
// The clones on x86: 76 against 40 GB/s (training forward and backward of (128, 32, 32, 16) in f32,
// 2 threads, counting every pass).
constexpr std::int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;
// A block of rows is summed in f32 and stays in the second-level cache for its second reading.
constexpr std::int64_t kBlockFloats = 1 << 14;

struct Block {
  std::int64_t rows = 0;
  std::int64_t channels = 0;
};

// mean[c] of the block, squares[c] = Σ (x − mean[c])².
FM_VECTOR_CLONES void block_moments(Block block, const float* x, float* mean, float* squares) {
  const auto count = static_cast<float>(block.rows);
  std::int64_t c = 0;
  for (; c + kLanes <= block.channels; c += kLanes) {
    Lanes sum = {};
    for (std::int64_t r = 0; r < block.rows; ++r) {
      sum += *reinterpret_cast<const Lanes*>(x + r * block.channels + c);
    }
    const Lanes middle = sum / count;
    Lanes square = {};
    Lanes rest = {};  // what rounding left in the mean
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const Lanes away = *reinterpret_cast<const Lanes*>(x + r * block.channels + c) - middle;
      square += away * away;
      rest += away;
    }
    *reinterpret_cast<Lanes*>(mean + c) = middle + rest / count;
    *reinterpret_cast<Lanes*>(squares + c) = square - rest * rest / count;
  }
  for (; c < block.channels; ++c) {
    float sum = 0;
    for (std::int64_t r = 0; r < block.rows; ++r) sum += x[r * block.channels + c];
    const float middle = sum / count;
    float square = 0;
    float rest = 0;
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const float away = x[r * block.channels + c] - middle;
      square += away * away;
      rest += away;
    }
    mean[c] = middle + rest / count;
    squares[c] = square - rest * rest / count;
  }
}

// sum[c] = Σ grad_output, projected[c] = Σ grad_output · (x − mean[c]).
FM_VECTOR_CLONES void block_gradients(Block block, const float* grad_output, const float* x,
                                      const float* mean, float* sum, float* projected) {
  std::int64_t c = 0;
  for (; c + kLanes <= block.channels; c += kLanes) {
    const Lanes middle = *reinterpret_cast<const Lanes*>(mean + c);
    Lanes sums = {};
    Lanes products = {};
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const Lanes grad = *reinterpret_cast<const Lanes*>(grad_output + r * block.channels + c);
      sums += grad;
      products += grad * (*reinterpret_cast<const Lanes*>(x + r * block.channels + c) - middle);
    }
    *reinterpret_cast<Lanes*>(sum + c) = sums;
    *reinterpret_cast<Lanes*>(projected + c) = products;
  }
  for (; c < block.channels; ++c) {
    sum[c] = projected[c] = 0;
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const float grad = grad_output[r * block.channels + c];
      sum[c] += grad;
      projected[c] += grad * (x[r * block.channels + c] - mean[c]);
    }
  }
}

// What block_normalise does after the norm. residual: null or of y's shape.
struct Ending {
  const float* residual = nullptr;
  bool relu = false;
};

template <bool kAdd, bool kRelu>
FM_INLINE_IN_CLONES void normalise_loop(Block block, const float* __restrict x,
                                        const float* __restrict mean, const float* __restrict scale,
                                        const float* __restrict shift,
                                        const float* __restrict residual, float* __restrict y) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t row = r * block.channels;
    for (std::int64_t c = 0; c < block.channels; ++c) {
      float value = (x[row + c] - mean[c]) * scale[c] + shift[c];
      if constexpr (kAdd) value += residual[row + c];
      if constexpr (kRelu) value = value < 0.0F ? 0.0F : value;  // NaN passes through
      y[row + c] = value;
    }
  }
}

// y = (x − mean) · scale + shift, then the ending.
FM_VECTOR_CLONES void block_normalise(Block block, const float* x, const float* mean,
                                      const float* scale, const float* shift, const Ending& ending,
                                      float* y) {
  if (ending.residual != nullptr) {
    normalise_loop<true, true>(block, x, mean, scale, shift, ending.residual, y);
  } else if (ending.relu) {
    normalise_loop<false, true>(block, x, mean, scale, shift, nullptr, y);
  } else {
    normalise_loop<false, false>(block, x, mean, scale, shift, nullptr, y);
  }
}

// grad_input = (grad_output − offset − (x − mean) · slope) · scale, or added to it.
FM_VECTOR_CLONES void block_input_gradient(
    Block block, bool accumulate, const float* __restrict grad_output, const float* __restrict x,
    const float* __restrict mean, const float* __restrict offset, const float* __restrict slope,
    const float* __restrict scale, float* __restrict grad_input) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const std::int64_t row = r * block.channels;
    for (std::int64_t c = 0; accumulate && c < block.channels; ++c) {
      const float grad = grad_output[row + c] - offset[c] - (x[row + c] - mean[c]) * slope[c];
      grad_input[row + c] = grad_input[row + c] + grad * scale[c];
    }
    for (std::int64_t c = 0; !accumulate && c < block.channels; ++c) {
      const float grad = grad_output[row + c] - offset[c] - (x[row + c] - mean[c]) * slope[c];
      grad_input[row + c] = grad * scale[c];
    }
  }
}

class BatchNormFast : public BatchNormBase<float> {
 public:
  explicit BatchNormFast(const NodeSpec& node)
      : BatchNormBase(node),
        block_rows_(
            std::max<std::int64_t>(kBlockFloats / std::max<std::int64_t>(sizes_.channels, 1), 1)) {
    for (auto& values : channel_) values.resize(static_cast<std::size_t>(sizes_.channels));
    inv_std_.resize(static_cast<std::size_t>(sizes_.channels));
  }

  void forward(const NodeIo& io) override {
    const Statistics statistics = io.training ? of_batch(io) : running(io);
    if (io.training) save(io, statistics);
    const float* weight = sizes_.affine ? io.parameter("weight").as<float>() : nullptr;
    const float* bias = sizes_.affine ? io.parameter("bias").as<float>() : nullptr;
    auto& [mean, scale, shift, unused] = channel_;
    for (std::size_t c = 0; c < mean.size(); ++c) {
      mean[c] = static_cast<float>(statistics.mean[c]);
      scale[c] = static_cast<float>(statistics.inv_std[c] * (weight != nullptr ? weight[c] : 1.0F));
      // The digits that the mean lost to f32 go into the shift: they matter where it is far from 0.
      const double lost = statistics.mean[c] - static_cast<double>(mean[c]);
      shift[c] = (bias != nullptr ? bias[c] : 0.0F) - static_cast<float>(lost) * scale[c];
    }
    const float* x = io.inputs[0].as<float>();
    float* y = io.outputs[0].as<float>();
    const float* residual = epilogue_.add ? io.residual.as<float>() : nullptr;
    for_each_block(io, [&](std::int64_t /*index*/, std::int64_t at, Block block) {
      const Ending ending{residual == nullptr ? nullptr : residual + at, epilogue_.relu};
      block_normalise(block, x + at, mean.data(), scale.data(), shift.data(), ending, y + at);
    });
  }

  [[nodiscard]] bool fuse(const Epilogue& epilogue) override {
    if (epilogue.add && !epilogue.relu) return false;
    epilogue_ = epilogue;
    return true;
  }

  void backward(const NodeIo& io) override {
    const Statistics statistics = used(io);
    const bool wants_input = static_cast<bool>(io.grad_inputs[0]);
    std::vector<double> sum(inv_std_.size());
    std::vector<double> projected(inv_std_.size());
    if (io.grad_parameter("weight") || io.grad_parameter("bias") || (wants_input && io.training)) {
      sum_gradients(io, statistics, sum, projected);
      add(io.grad_parameter("bias"), sum);
      add(io.grad_parameter("weight"), projected);
    }
    if (wants_input) backward_input(io, statistics, sum, projected);
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if (!sizes_.affine || io.training) return {};
    const Statistics statistics = running(io);
    for (std::size_t c = 0; c < inv_std_.size(); ++c) {
      inv_std_[c] = static_cast<float>(statistics.inv_std[c]);
    }
    ReductionForm bias;
    bias.grad_output = io.grad_outputs[0].as<float>();
    bias.batch = io.batch;
    bias.positions = sizes_.positions;
    bias.channels = sizes_.channels;
    ReductionForm weight = bias;
    weight.input = io.inputs[0].as<float>();
    weight.mean = io.parameter("running_mean").as<float>();
    weight.inv_std = inv_std_.data();
    return {{"weight", weight}, {"bias", bias}};
  }

 private:
  [[nodiscard]] std::int64_t blocks(const NodeIo& io) const {
    return (rows(io) + block_rows_ - 1) / block_rows_;
  }

  // Sized by the call, as the first of a batch size alone allocates.
  void make_partials(const NodeIo& io) {
    for (auto& values : partials_) {
      values.resize(static_cast<std::size_t>(blocks(io) * sizes_.channels));
    }
  }

  // body(block number, first element, block), in parallel.
  template <typename Body>
  void for_each_block(const NodeIo& io, const Body& body) const {
    const std::int64_t total = rows(io);
    parallel_for(blocks(io), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t b = begin; b < end; ++b) {
        const std::int64_t first = b * block_rows_;
        body(b, first * sizes_.channels,
             Block{std::min(block_rows_, total - first), sizes_.channels});
      }
    });
  }

  // Joins the blocks' means and squared distances in order. Source: Chan, Golub, LeVeque, "Updating
  // formulae and a pairwise algorithm for computing sample variances", 1979.
  Statistics of_batch(const NodeIo& io) {
    check_rows(io);
    make_partials(io);
    const float* x = io.inputs[0].as<float>();
    for_each_block(io, [&](std::int64_t index, std::int64_t at, Block block) {
      block_moments(block, x + at, partial(0, index), partial(1, index));
    });
    Statistics statistics(sizes_.channels);
    std::vector<double> squares(inv_std_.size());
    const std::int64_t total = rows(io);
    for (std::int64_t first = 0; first < total; first += block_rows_) {
      const auto count = static_cast<double>(std::min(block_rows_, total - first));
      const double share = count / (static_cast<double>(first) + count);
      const float* mean = partial(0, first / block_rows_);
      const float* square = partial(1, first / block_rows_);
      for (std::size_t c = 0; c < squares.size(); ++c) {
        const double away = mean[c] - statistics.mean[c];
        statistics.mean[c] += away * share;
        squares[c] += square[c] + away * away * static_cast<double>(first) * share;
      }
    }
    finish(statistics, squares, total);
    return statistics;
  }

  void sum_gradients(const NodeIo& io, const Statistics& statistics, std::vector<double>& sum,
                     std::vector<double>& projected) {
    make_partials(io);
    const float* x = io.inputs[0].as<float>();
    const float* grad_output = io.grad_outputs[0].as<float>();
    std::vector<float>& mean = channel_[0];
    std::copy(statistics.mean.begin(), statistics.mean.end(), mean.begin());
    for_each_block(io, [&](std::int64_t index, std::int64_t at, Block block) {
      block_gradients(block, grad_output + at, x + at, mean.data(), partial(0, index),
                      partial(1, index));
    });
    const std::int64_t count = blocks(io);
    for (std::int64_t b = 0; b < count; ++b) {
      for (std::size_t c = 0; c < sum.size(); ++c) {
        sum[c] += partial(0, b)[c];
        projected[c] += partial(1, b)[c];
      }
    }
    for (std::size_t c = 0; c < sum.size(); ++c) projected[c] *= statistics.inv_std[c];
  }

  void backward_input(const NodeIo& io, const Statistics& statistics,
                      const std::vector<double>& sum, const std::vector<double>& projected) {
    const float* weight = sizes_.affine ? io.parameter("weight").as<float>() : nullptr;
    const double per_row = io.training ? 1.0 / static_cast<double>(rows(io)) : 0.0;
    auto& [mean, offset, slope, scale] = channel_;
    for (std::size_t c = 0; c < mean.size(); ++c) {
      const double inv_std = statistics.inv_std[c];
      mean[c] = static_cast<float>(statistics.mean[c]);
      offset[c] = static_cast<float>(sum[c] * per_row);
      slope[c] = static_cast<float>(projected[c] * inv_std * per_row);
      scale[c] = static_cast<float>(inv_std * (weight != nullptr ? weight[c] : 1.0F));
    }
    const float* x = io.inputs[0].as<float>();
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* grad_input = io.grad_inputs[0].as<float>();
    for_each_block(io, [&](std::int64_t /*index*/, std::int64_t at, Block block) {
      block_input_gradient(block, io.accumulate[0], grad_output + at, x + at, mean.data(),
                           offset.data(), slope.data(), scale.data(), grad_input + at);
    });
  }

  static void add(const TensorView& sums, const std::vector<double>& terms) {
    if (!sums) return;
    for (std::size_t c = 0; c < terms.size(); ++c) {
      sums.as<float>()[c] += static_cast<float>(terms[c]);
    }
  }

  float* partial(std::size_t which, std::int64_t block) {
    return partials_[which].data() + block * sizes_.channels;
  }

  std::int64_t block_rows_;
  Epilogue epilogue_;
  std::array<std::vector<float>, 2> partials_;  // (blocks, C) each
  std::array<std::vector<float>, 4> channel_;   // per-channel factors of the running pass
  std::vector<float> inv_std_;                  // lives as long as square_rule's pointers
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<BatchNormReference<double>>(node);
  return std::make_unique<BatchNormReference<float>>(node);
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return std::make_unique<BatchNormFast>(node);
}

std::map<std::string, Shape> slots(std::int64_t channels, bool affine) {
  std::map<std::string, Shape> shapes = {{"running_mean", {channels}}, {"running_var", {channels}}};
  if (affine) shapes["weight"] = shapes["bias"] = {channels};
  return shapes;
}

std::vector<SampleCase> cases() {
  return {
      {.name = "evaluation, image", .inputs = {{4, 5, 3}}, .parameters = slots(3, true)},
      {.name = "evaluation, vector, not affine", .inputs = {{17}}, .parameters = slots(17, false)},
      {.name = "evaluation, 33 channels, batch of one",
       .inputs = {{3, 3, 33}},
       .parameters = slots(33, true),
       .batch = 1},
      {.name = "training, image",
       .inputs = {{4, 3, 17}},
       .parameters = slots(17, true),
       .training = true},
      {.name = "training, vector, not affine",
       .inputs = {{5}},
       .parameters = slots(5, false),
       .batch = 7,
       .training = true},
      {.name = "training, momentum and epsilon",
       .inputs = {{2, 2, 16}},
       .parameters = slots(16, true),
       .attributes = {{"momentum", 0.3}, {"epsilon", 1e-2}},
       .batch = 4,
       .training = true},
      {.name = "training, one channel, several blocks",
       .inputs = {{90, 100, 1}},
       .parameters = slots(1, true),
       .training = true},
      {.name = "training, 48 channels, several blocks",
       .inputs = {{15, 16, 48}},
       .parameters = slots(48, true),
       .training = true},
  };
}

OpDefinition batch_norm() {
  OpDefinition op;
  op.name = "batch_norm";
  op.slots = {{.name = "weight", .required = false},
              {.name = "bias", .required = false},
              {.name = "running_mean", .buffer = true},
              {.name = "running_var", .buffer = true}};
  op.attributes = {"epsilon", "momentum"};
  op.backward_needs_inputs = true;
  op.infer = infer;
  op.saved = saved;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(batch_norm())

}  // namespace
}  // namespace fishermask
