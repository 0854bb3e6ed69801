// layer_norm: y = x̂ · weight + bias with x̂ = (x − mean) · inv_std over the last `dims` sizes
// together, inv_std = 1/√(var + epsilon), var biased.
// rms_norm:   the same with mean = 0: x̂ = x / √(Σ x²/D + epsilon), and no bias.
// Shapes:     x, y (N, …, D…); weight, bias (D…), each optional.
// Attributes: epsilon (1e-5), dims (1).
// Backward:   grad x = inv_std · (g − Σ g/D − x̂ · Σ g·x̂/D) with g = grad y · weight; the middle
// term is layer_norm's alone.
// Saved:      mean and inv_std of each row in f64.
// Accumulate: grad weight and grad bias use +=; grad x as asked.
// Workspace:  two floats per column and 64 rows; for the squares x̂, as large as x.
// Squares:    reduction form over the rows of a sample: weight on x̂, bias on 1.
// Deterministic: yes, for any thread count: rows are summed in blocks of a fixed size, the blocks
// in order.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/norm_sizes.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/row_norm.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const Shape normalised = normalised_shape(node);
  for (const auto& [slot, shape] : node.parameters) {
    node.check(shape == normalised, "expected a ", slot, " of shape ", shape_text(normalised),
               " but received ", shape_text(shape));
  }
  const double epsilon = node.attributes.number("epsilon", 1e-5);
  node.check(epsilon >= 0, "expected an epsilon of at least 0 but received ", epsilon);
  return {node.inputs[0]};
}

SavedSpec saved(const NodeSpec& node, std::int64_t /*batch*/, bool /*training*/) {
  return {.bytes_per_sample =
              norm_sizes(node).rows * static_cast<std::int64_t>(sizeof(RowStatistics))};
}

RowStatistics* statistics_of(const NodeIo& io) {
  return reinterpret_cast<RowStatistics*>(io.saved_per_sample);
}

template <typename T>
class LayerNormReference : public Kernel {
 public:
  explicit LayerNormReference(const NodeSpec& node) : sizes_(norm_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const TensorView weight = io.parameter("weight");
    const TensorView bias = io.parameter("bias");
    for (std::int64_t r = 0; r < io.batch * sizes_.rows; ++r) {
      const T* x = io.inputs[0].as<T>() + r * sizes_.width;
      T* y = io.outputs[0].as<T>() + r * sizes_.width;
      const RowStatistics row = statistics(x);
      statistics_of(io)[r] = row;
      for (std::int64_t c = 0; c < sizes_.width; ++c) {
        y[c] = static_cast<T>((static_cast<double>(x[c]) - row.mean) * row.inv_std);
        if (weight) y[c] *= weight.as<T>()[c];
        if (bias) y[c] += bias.as<T>()[c];
      }
    }
  }

  void backward(const NodeIo& io) override {
    const TensorView grad_weight = io.grad_parameter("weight");
    const TensorView grad_bias = io.grad_parameter("bias");
    for (std::int64_t r = 0; r < io.batch * sizes_.rows; ++r) {
      const T* x = io.inputs[0].as<T>() + r * sizes_.width;
      const T* grad_output = io.grad_outputs[0].as<T>() + r * sizes_.width;
      const RowStatistics row = statistics_of(io)[r];
      for (std::int64_t c = 0; c < sizes_.width; ++c) {
        const double normalised = (static_cast<double>(x[c]) - row.mean) * row.inv_std;
        if (grad_weight) grad_weight.as<T>()[c] += static_cast<T>(grad_output[c] * normalised);
        if (grad_bias) grad_bias.as<T>()[c] += grad_output[c];
      }
      if (io.grad_inputs[0]) backward_row(io, row, r);
    }
  }

 private:
  [[nodiscard]] RowStatistics statistics(const T* x) const {
    const auto width = static_cast<double>(sizes_.width);
    RowStatistics row;
    for (std::int64_t c = 0; sizes_.centred && c < sizes_.width; ++c) row.mean += x[c] / width;
    double squares = 0;
    for (std::int64_t c = 0; c < sizes_.width; ++c) {
      squares += (x[c] - row.mean) * (x[c] - row.mean);
    }
    row.inv_std = 1 / std::sqrt(squares / width + sizes_.epsilon);
    return row;
  }

  void backward_row(const NodeIo& io, const RowStatistics& row, std::int64_t r) const {
    const T* x = io.inputs[0].as<T>() + r * sizes_.width;
    const T* grad_output = io.grad_outputs[0].as<T>() + r * sizes_.width;
    T* grad_input = io.grad_inputs[0].as<T>() + r * sizes_.width;
    const TensorView weight = io.parameter("weight");
    const auto width = static_cast<double>(sizes_.width);
    const auto grad = [&](std::int64_t c) {
      return static_cast<double>(grad_output[c]) *
             (weight ? static_cast<double>(weight.as<T>()[c]) : 1.0);
    };
    double sum = 0;
    double projected = 0;
    for (std::int64_t c = 0; c < sizes_.width; ++c) {
      if (sizes_.centred) sum += grad(c) / width;
      projected += grad(c) * (x[c] - row.mean) * row.inv_std / width;
    }
    for (std::int64_t c = 0; c < sizes_.width; ++c) {
      const double normalised = (x[c] - row.mean) * row.inv_std;
      const double value = row.inv_std * (grad(c) - sum - normalised * projected);
      grad_input[c] = static_cast<T>(value) + (io.accumulate[0] ? grad_input[c] : T{0});
    }
  }

  NormSizes sizes_;
};

constexpr std::int64_t kBlockRows = 64;

class LayerNormFast : public Kernel {
 public:
  explicit LayerNormFast(const NodeSpec& node) : sizes_(norm_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const float* x = io.inputs[0].as<float>();
    const float* weight = optional(io.parameter("weight"));
    const float* bias = optional(io.parameter("bias"));
    float* y = io.outputs[0].as<float>();
    RowStatistics* rows = statistics_of(io);
    parallel_for(io.batch * sizes_.rows, grain(), [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t at = r * sizes_.width;
        rows[r] = row_statistics(x + at, sizes_.width, sizes_.centred, sizes_.epsilon);
        normalise_row(x + at, rows[r], sizes_.width, weight, bias, y + at);
      }
    });
  }

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) backward_input(io);
    if (io.grad_parameter("weight") || io.grad_parameter("bias")) backward_parameters(io);
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.positions = sizes_.rows;
    form.channels = sizes_.width;
    std::vector<SquareProblem> problems;
    if (io.parameter("bias")) problems.push_back({"bias", form});
    if (!io.parameter("weight")) return problems;
    normalise(io);
    form.input = normalised_.data();
    form.mean = zeros_.data();
    form.inv_std = ones_.data();
    problems.push_back({"weight", form});
    return problems;
  }

 private:
  static float* optional(const TensorView& view) { return view ? view.as<float>() : nullptr; }

  [[nodiscard]] std::int64_t grain() const {
    return 1 + (std::int64_t{1} << 13) / std::max<std::int64_t>(sizes_.width, 1);
  }

  void backward_input(const NodeIo& io) const {
    const float* x = io.inputs[0].as<float>();
    const float* weight = optional(io.parameter("weight"));
    const float* grad_output = io.grad_outputs[0].as<float>();
    float* grad_input = io.grad_inputs[0].as<float>();
    const RowStatistics* rows = statistics_of(io);
    const bool add = io.accumulate[0];
    parallel_for(io.batch * sizes_.rows, grain(), [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t at = r * sizes_.width;
        row_input_gradient({x + at, grad_output + at, weight, sizes_.width}, rows[r],
                           sizes_.centred, add, grad_input + at);
      }
    });
  }

  void backward_parameters(const NodeIo& io) {
    const float* x = io.inputs[0].as<float>();
    const float* grad_output = io.grad_outputs[0].as<float>();
    const RowStatistics* statistics = statistics_of(io);
    const std::int64_t rows = io.batch * sizes_.rows;
    const std::int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
    for (auto& partial : partials_) {
      partial.assign(static_cast<std::size_t>(blocks * sizes_.width), 0.0F);
    }
    parallel_for(blocks, 1, [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t b = begin; b < end; ++b) {
        float* weight = partials_[0].data() + b * sizes_.width;
        float* bias = partials_[1].data() + b * sizes_.width;
        for (std::int64_t r = b * kBlockRows; r < std::min(rows, (b + 1) * kBlockRows); ++r) {
          const std::int64_t at = r * sizes_.width;
          add_parameter_gradients(x + at, grad_output + at, statistics[r], sizes_.width, weight,
                                  bias);
        }
      }
    });
    add_blocks(partials_[0], blocks, io.grad_parameter("weight"));
    add_blocks(partials_[1], blocks, io.grad_parameter("bias"));
  }

  void add_blocks(const std::vector<float>& partial, std::int64_t blocks,
                  const TensorView& sums) const {
    if (!sums) return;
    std::vector<double> total(static_cast<std::size_t>(sizes_.width));
    for (std::int64_t b = 0; b < blocks; ++b) {
      const float* block = partial.data() + b * sizes_.width;
      for (std::size_t c = 0; c < total.size(); ++c) total[c] += static_cast<double>(block[c]);
    }
    for (std::size_t c = 0; c < total.size(); ++c) {
      sums.as<float>()[c] += static_cast<float>(total[c]);
    }
  }

  // x̂ of the batch into normalised_.
  void normalise(const NodeIo& io) {
    const auto width = static_cast<std::size_t>(sizes_.width);
    const std::int64_t rows = io.batch * sizes_.rows;
    zeros_.assign(width, 0.0F);
    ones_.assign(width, 1.0F);
    normalised_.resize(static_cast<std::size_t>(rows) * width);
    const float* x = io.inputs[0].as<float>();
    const RowStatistics* statistics = statistics_of(io);
    parallel_for(rows, grain(), [=, this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t at = r * sizes_.width;
        normalise_row(x + at, statistics[r], sizes_.width, nullptr, nullptr,
                      normalised_.data() + at);
      }
    });
  }

  NormSizes sizes_;
  std::array<std::vector<float>, 2> partials_;    // (blocks, width): of weight, of bias
  std::vector<float> normalised_, zeros_, ones_;  // live as long as square_rule's pointers
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<LayerNormReference<double>>(node);
  return std::make_unique<LayerNormReference<float>>(node);
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return std::make_unique<LayerNormFast>(node);
}

std::map<std::string, Shape> slots(const Shape& shape, bool has_bias) {
  std::map<std::string, Shape> parameters = {{"weight", shape}};
  if (has_bias) parameters["bias"] = shape;
  return parameters;
}

std::vector<SampleCase> cases(bool has_bias) {
  std::vector<SampleCase> all = {
      {.name = "sequence", .inputs = {{5, 8}}, .parameters = slots({8}, has_bias)},
      {.name = "one row, batch of one",
       .inputs = {{33}},
       .parameters = slots({33}, has_bias),
       .batch = 1},
      {.name = "no parameters", .inputs = {{3, 17}}},
      {.name = "two sizes together",
       .inputs = {{3, 4, 5}},
       .parameters = slots({4, 5}, has_bias),
       .attributes = {{"dims", std::int64_t{2}}, {"epsilon", 1e-2}}},
      {.name = "the whole sample",
       .inputs = {{7, 3, 11}},
       .parameters = slots({7, 3, 11}, has_bias),
       .attributes = {{"dims", std::int64_t{3}}},
       .batch = 2},
      {.name = "several blocks of rows",
       .inputs = {{9, 10, 18}},
       .parameters = slots({18}, has_bias)},
      {.name = "long rows", .inputs = {{2, 2500}}, .parameters = slots({2500}, has_bias)},
  };
  if (has_bias) {
    all.push_back({.name = "bias alone", .inputs = {{4, 6}}, .parameters = {{"bias", {6}}}});
    all.push_back({.name = "weight alone", .inputs = {{4, 6}}, .parameters = {{"weight", {6}}}});
  }
  return all;
}

OpDefinition definition(const char* name, bool has_bias) {
  OpDefinition op;
  op.name = name;
  op.slots = {{.name = "weight", .required = false}};
  if (has_bias) op.slots.push_back({.name = "bias", .required = false});
  op.attributes = {"epsilon", "dims"};
  op.backward_needs_inputs = true;
  op.nonlinear = true;
  op.infer = infer;
  op.saved = saved;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = cases(has_bias);
  return op;
}

[[maybe_unused]] const int kLayerNorm = register_op(definition("layer_norm", true));
[[maybe_unused]] const int kRmsNorm = register_op(definition("rms_norm", false));

}  // namespace
}  // namespace fishermask
