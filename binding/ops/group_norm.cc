// group_norm: y = x̂ · weight + bias with x̂ = (x − mean) · inv_std over all positions of a sample
// and the C/groups channels of a group together, inv_std = 1/√(var + epsilon), var biased.
// Shapes:     x, y (N, …, C), channels last; weight, bias (C,), each optional.
// Attributes: groups (a divisor of C; C is instance norm), epsilon (1e-5).
// Backward:   grad x = inv_std · (g − Σ g/count − x̂ · Σ g·x̂/count) with g = grad y · weight, sums
// over the group.
// Saved:      mean and inv_std of each group in f64.
// Accumulate: grad weight and grad bias use +=; grad x as asked. Sums over positions in f64.
// Workspace:  two f64 per sample and channel; for the squares x̂, as large as x.
// Squares:    reduction form: weight on x̂, bias on 1.
// Deterministic: yes, for any thread count: threads take samples.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/group_norm_sizes.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/row_norm.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const GroupNormSizes sizes = group_norm_sizes(node);
  node.check(sizes.groups >= 1 && sizes.channels % sizes.groups == 0,
             "expected groups that divide ", sizes.channels, " channels but received ",
             sizes.groups);
  for (const auto& [slot, shape] : node.parameters) {
    node.check(shape == Shape{sizes.channels}, "expected a ", slot, " of shape (", sizes.channels,
               ") but received ", shape_text(shape));
  }
  node.check(sizes.epsilon >= 0, "expected an epsilon of at least 0 but received ", sizes.epsilon);
  return {node.inputs[0]};
}

SavedSpec saved(const NodeSpec& node, std::int64_t /*batch*/, bool /*training*/) {
  return {.bytes_per_sample =
              group_norm_sizes(node).groups * static_cast<std::int64_t>(sizeof(RowStatistics))};
}

using Sums = std::vector<double>;

template <typename T>
class GroupNorm : public Kernel {
 public:
  explicit GroupNorm(const NodeSpec& node) : z_(group_norm_sizes(node)) {}

  void forward(const NodeIo& io) override {
    for_each_sample(io.batch, [&](std::int64_t n) {
      const T* x = io.inputs[0].as<T>() + n * size();
      RowStatistics* statistics = statistics_of(io, n);
      find_statistics(x, statistics);
      normalise(x, statistics, factors(io.parameter("weight"), T{1}),
                factors(io.parameter("bias"), T{0}), io.outputs[0].as<T>() + n * size());
    });
  }

  void backward(const NodeIo& io) override {
    for (Sums& sums : sums_) sums.assign(static_cast<std::size_t>(io.batch * z_.channels), 0.0);
    for_each_sample(io.batch, [&](std::int64_t n) {
      channel_sums(io, n);
      if (io.grad_inputs[0]) backward_input(io, n);
    });
    add_samples(io, 0, io.grad_parameter("bias"));
    add_samples(io, 1, io.grad_parameter("weight"));
  }

 protected:
  [[nodiscard]] std::int64_t size() const { return z_.positions * z_.channels; }

  [[nodiscard]] RowStatistics* statistics_of(const NodeIo& io, std::int64_t n) const {
    return reinterpret_cast<RowStatistics*>(io.saved_per_sample) + n * z_.groups;
  }

  template <typename Body>
  static void for_each_sample(std::int64_t batch, const Body& body) {
    parallel_for(batch, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n) body(n);
    });
  }

  void normalise(const T* x, const RowStatistics* statistics, const std::vector<T>& weight,
                 const std::vector<T>& bias, T* y) const {
    std::vector<T> means, scales;
    for (std::size_t c = 0; c < weight.size(); ++c) {
      const RowStatistics& group = statistics[z_.group_of(static_cast<std::int64_t>(c))];
      means.push_back(static_cast<T>(group.mean));
      scales.push_back(static_cast<T>(group.inv_std * static_cast<double>(weight[c])));
    }
    for (std::int64_t p = 0; p < z_.positions; ++p) {
      const std::int64_t at = p * z_.channels;
      for (std::int64_t c = 0; c < z_.channels; ++c) {
        const auto i = static_cast<std::size_t>(c);
        y[at + c] = (x[at + c] - means[i]) * scales[i] + bias[i];
      }
    }
  }

  GroupNormSizes z_;

 private:
  [[nodiscard]] std::vector<T> factors(const TensorView& parameter, T absent) const {
    const auto channels = static_cast<std::size_t>(z_.channels);
    if (!parameter) return std::vector<T>(channels, absent);
    return {parameter.as<T>(), parameter.as<T>() + channels};
  }

  // A value of each group, once per channel.
  template <typename Value>
  [[nodiscard]] Sums by_channel(const Value& of_group) const {
    Sums all;
    for (std::int64_t c = 0; c < z_.channels; ++c) all.push_back(of_group(z_.group_of(c)));
    return all;
  }

  void find_statistics(const T* x, RowStatistics* statistics) const {
    const auto channels = static_cast<std::size_t>(z_.channels);
    const auto groups = static_cast<std::size_t>(z_.groups);
    Sums sums(channels);
    for (std::int64_t p = 0; p < z_.positions; ++p) {
      const T* row = x + p * z_.channels;
      for (std::size_t c = 0; c < channels; ++c) sums[c] += static_cast<double>(row[c]);
    }
    const Sums totals = of_groups(sums);
    for (std::size_t g = 0; g < groups; ++g) statistics[g].mean = totals[g] / z_.count();
    const Sums means = by_channel([&](std::size_t g) { return statistics[g].mean; });
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::int64_t p = 0; p < z_.positions; ++p) {
      const T* row = x + p * z_.channels;
      for (std::size_t c = 0; c < channels; ++c) {
        const double away = static_cast<double>(row[c]) - means[c];
        sums[c] += away * away;
      }
    }
    const Sums squares = of_groups(sums);
    for (std::size_t g = 0; g < groups; ++g) {
      statistics[g].inv_std = 1 / std::sqrt(squares[g] / z_.count() + z_.epsilon);
    }
  }

  [[nodiscard]] Sums of_groups(const Sums& channels) const {
    Sums groups(static_cast<std::size_t>(z_.groups));
    for (std::int64_t c = 0; c < z_.channels; ++c) {
      groups[z_.group_of(c)] += channels[static_cast<std::size_t>(c)];
    }
    return groups;
  }

  // Σ grad y and Σ grad y · x̂ of one sample, per channel, into sums_.
  void channel_sums(const NodeIo& io, std::int64_t n) {
    const T* x = io.inputs[0].as<T>() + n * size();
    const T* grad_output = io.grad_outputs[0].as<T>() + n * size();
    const RowStatistics* statistics = statistics_of(io, n);
    const Sums means = by_channel([=](std::size_t g) { return statistics[g].mean; });
    double* plain = sums_[0].data() + n * z_.channels;
    double* projected = sums_[1].data() + n * z_.channels;
    for (std::int64_t p = 0; p < z_.positions; ++p) {
      const std::int64_t at = p * z_.channels;
      for (std::int64_t c = 0; c < z_.channels; ++c) {
        const auto grad = static_cast<double>(grad_output[at + c]);
        plain[c] += grad;
        projected[c] +=
            grad * (static_cast<double>(x[at + c]) - means[static_cast<std::size_t>(c)]);
      }
    }
    for (std::int64_t c = 0; c < z_.channels; ++c) {
      projected[c] *= statistics[z_.group_of(c)].inv_std;
    }
  }

  // Σ over the group of the sums of one sample, weighted by channel, over the group's count.
  [[nodiscard]] Sums group_means(const Sums& sums, std::int64_t n,
                                 const std::vector<T>& weight) const {
    Sums weighted;
    for (std::size_t c = 0; c < weight.size(); ++c) {
      const double sum = sums[static_cast<std::size_t>(n * z_.channels) + c];
      weighted.push_back(sum * static_cast<double>(weight[c]) / z_.count());
    }
    return of_groups(weighted);
  }

  void backward_input(const NodeIo& io, std::int64_t n) const {
    const std::vector<T> weight = factors(io.parameter("weight"), T{1});
    const Sums plain = group_means(sums_[0], n, weight);
    const Sums projected = group_means(sums_[1], n, weight);
    const RowStatistics* statistics = statistics_of(io, n);
    // grad x = grad y · scale − offset − (x − mean) · slope
    std::array<std::vector<T>, 4> by;
    for (std::size_t c = 0; c < weight.size(); ++c) {
      const std::size_t g = z_.group_of(static_cast<std::int64_t>(c));
      const double inv_std = statistics[g].inv_std;
      by[0].push_back(static_cast<T>(inv_std * static_cast<double>(weight[c])));
      by[1].push_back(static_cast<T>(inv_std * plain[g]));
      by[2].push_back(static_cast<T>(statistics[g].mean));
      by[3].push_back(static_cast<T>(inv_std * inv_std * projected[g]));
    }
    const T* x = io.inputs[0].as<T>() + n * size();
    const T* grad_output = io.grad_outputs[0].as<T>() + n * size();
    T* grad_input = io.grad_inputs[0].as<T>() + n * size();
    const bool add = io.accumulate[0];
    const auto& [scale, offset, mean, slope] = by;
    for (std::int64_t p = 0; p < z_.positions; ++p) {
      const std::int64_t at = p * z_.channels;
      for (std::int64_t c = 0; c < z_.channels; ++c) {
        const auto i = static_cast<std::size_t>(c);
        const T value =
            grad_output[at + c] * scale[i] - offset[i] - (x[at + c] - mean[i]) * slope[i];
        grad_input[at + c] = value + (add ? grad_input[at + c] : T{0});
      }
    }
  }

  void add_samples(const NodeIo& io, std::size_t which, const TensorView& to) const {
    if (!to) return;
    for (std::int64_t c = 0; c < z_.channels; ++c) {
      double sum = 0;
      for (std::int64_t n = 0; n < io.batch; ++n) {
        sum += sums_[which][static_cast<std::size_t>(n * z_.channels + c)];
      }
      to.as<T>()[c] += static_cast<T>(sum);
    }
  }

  std::array<Sums, 2> sums_;  // (N, C): Σ grad y, Σ grad y · x̂
};

// The squares are f32's alone.
class GroupNormF32 : public GroupNorm<float> {
 public:
  using GroupNorm<float>::GroupNorm;

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.positions = z_.positions;
    form.channels = z_.channels;
    std::vector<SquareProblem> problems;
    if (io.parameter("bias")) problems.push_back({"bias", form});
    if (!io.parameter("weight")) return problems;
    normalised_.resize(static_cast<std::size_t>(io.batch * size()));
    zeros_.assign(static_cast<std::size_t>(z_.channels), 0.0F);
    ones_.assign(zeros_.size(), 1.0F);
    for_each_sample(io.batch, [&](std::int64_t n) {
      normalise(io.inputs[0].as<float>() + n * size(), statistics_of(io, n), ones_, zeros_,
                normalised_.data() + n * size());
    });
    form.input = normalised_.data();
    form.mean = zeros_.data();
    form.inv_std = ones_.data();
    problems.push_back({"weight", form});
    return problems;
  }

 private:
  std::vector<float> normalised_, zeros_, ones_;  // live as long as square_rule's pointers
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<GroupNorm<double>>(node);
  return std::make_unique<GroupNormF32>(node);
}

std::vector<SampleCase> cases() {
  const auto groups = [](std::int64_t count) {
    return std::map<std::string, Attribute>{{"groups", count}};
  };
  return {
      {.name = "image, two groups",
       .inputs = {{4, 5, 6}},
       .parameters = {{"weight", {6}}, {"bias", {6}}},
       .attributes = groups(2)},
      {.name = "instance norm, no parameters", .inputs = {{3, 4, 5}}, .attributes = groups(5)},
      {.name = "one group, bias alone, batch of one",
       .inputs = {{7, 33}},
       .parameters = {{"bias", {33}}},
       .attributes = groups(1),
       .batch = 1},
      {.name = "vector, weight alone, epsilon",
       .inputs = {{12}},
       .parameters = {{"weight", {12}}},
       .attributes = {{"groups", std::int64_t{3}}, {"epsilon", 1e-2}},
       .batch = 5},
      {.name = "many positions",
       .inputs = {{20, 15, 4}},
       .parameters = {{"weight", {4}}, {"bias", {4}}},
       .attributes = groups(2)},
  };
}

OpDefinition group_norm() {
  OpDefinition op;
  op.name = "group_norm";
  op.slots = {{.name = "weight", .required = false}, {.name = "bias", .required = false}};
  op.attributes = {"groups", "epsilon"};
  op.backward_needs_inputs = true;
  op.nonlinear = true;
  op.infer = infer;
  op.saved = saved;
  op.make_reference = make_reference;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(group_norm())

}  // namespace
}  // namespace fishermask
