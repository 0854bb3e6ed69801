// lrn: y[c] = x[c] · s[c]^−beta with s[c] = bias + alpha/size · Σ x² over the `size` channels that
// begin ⌊(size − 1)/2⌋ before c, as far as there are any.
// Shapes:     x, y (N, …, C).
// Attributes: size, alpha (1e-4), beta (0.75), bias (1).
// Backward:   grad x[j] = g[j] · s[j]^−beta − 2·alpha·beta/size · x[j] · Σ g[c]·x[c]·s[c]^(−beta−1)
// over the c whose window holds j; s is computed again.
// Source:     Krizhevsky et al., NeurIPS 2012; ONNX LRN for even sizes.
// Deterministic: yes, for any thread count: threads take positions.
#include <algorithm>
#include <cmath>

#include "core/lrn_sizes.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 16;

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  (void)lrn_sizes(node);
  return {node.inputs[0]};
}

template <typename T>
class Lrn : public Kernel {
 public:
  explicit Lrn(const NodeSpec& node) : z_(lrn_sizes(node)) {}

  void forward(const NodeIo& io) override {
    const T* x = io.inputs[0].as<T>();
    T* y = io.outputs[0].as<T>();
    for_each_row(io.batch, [=, this](std::int64_t at) {
      for (std::int64_t c = 0; c < z_.channels; ++c) {
        y[at + c] = x[at + c] * std::pow(sum_at(x + at, c), -beta());
      }
    });
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const T* x = io.inputs[0].as<T>();
    const T* grad_output = io.grad_outputs[0].as<T>();
    T* grad_input = io.grad_inputs[0].as<T>();
    const bool add = io.accumulate[0];
    for_each_row(io.batch, [=, this](std::int64_t at) {
      backward_row(x + at, grad_output + at, add, grad_input + at);
    });
  }

 private:
  [[nodiscard]] T beta() const { return static_cast<T>(z_.beta); }

  // body(where a row of channels begins)
  template <typename Body>
  void for_each_row(std::int64_t batch, const Body& body) const {
    parallel_for(batch * z_.positions, kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) body(row * z_.channels);
    });
  }

  [[nodiscard]] T sum_at(const T* x, std::int64_t c) const {
    T sum = 0;
    const std::int64_t last = std::min(z_.channels - 1, c + z_.after);
    for (std::int64_t i = std::max<std::int64_t>(0, c - z_.before); i <= last; ++i) {
      sum += x[i] * x[i];
    }
    return static_cast<T>(z_.bias) + static_cast<T>(z_.factor) * sum;
  }

  void backward_row(const T* x, const T* grad_output, bool add, T* grad_input) const {
    const auto channels = static_cast<std::size_t>(z_.channels);
    std::vector<T> powers(channels);    // s^−beta
    std::vector<T> products(channels);  // g · x · s^(−beta−1)
    for (std::size_t c = 0; c < channels; ++c) {
      const T sum = sum_at(x, static_cast<std::int64_t>(c));
      powers[c] = std::pow(sum, -beta());
      products[c] = grad_output[c] * x[c] * powers[c] / sum;
    }
    const auto factor = static_cast<T>(2 * z_.factor * z_.beta);
    for (std::int64_t j = 0; j < z_.channels; ++j) {
      T sum = 0;
      const std::int64_t last = std::min(z_.channels - 1, j + z_.before);
      for (std::int64_t c = std::max<std::int64_t>(0, j - z_.after); c <= last; ++c) {
        sum += products[static_cast<std::size_t>(c)];
      }
      const T value = grad_output[j] * powers[static_cast<std::size_t>(j)] - factor * x[j] * sum;
      grad_input[j] = value + (add ? grad_input[j] : T{0});
    }
  }

  LrnSizes z_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Lrn<double>>(node);
  return std::make_unique<Lrn<float>>(node);
}

std::vector<SampleCase> cases() {
  const InputDraw values = {-1.5, 1.5};
  return {
      {.name = "size 5",
       .inputs = {{3, 4, 9}},
       .attributes = {{"size", std::int64_t{5}}, {"alpha", 0.5}},
       .draws = {values}},
      {.name = "even size, bias 2, batch of one",
       .inputs = {{7}},
       .attributes = {{"size", std::int64_t{4}}, {"alpha", 1.5}, {"beta", 0.5}, {"bias", 2.0}},
       .batch = 1,
       .draws = {values}},
      {.name = "wider than the channels",
       .inputs = {{5, 3}},
       .attributes = {{"size", std::int64_t{8}}, {"alpha", 2.0}},
       .draws = {values}},
      {.name = "size 1",
       .inputs = {{40, 2}},
       .attributes = {{"size", std::int64_t{1}}, {"alpha", 0.7}},
       .draws = {values}},
  };
}

OpDefinition lrn() {
  OpDefinition op;
  op.name = "lrn";
  op.attributes = {"size", "alpha", "beta", "bias"};
  op.backward_needs_inputs = true;
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(lrn())

}  // namespace
}  // namespace fishermask
