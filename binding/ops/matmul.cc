// matmul: y = op(a) · op(b) over the last two sizes; leading sizes broadcast as NumPy's do.
// Shapes:     a (N, …, M, K), b (N, …, K, N') or the parameter `other` (…, K, N'), y (N, …, M, N');
//             with transpose_a a is (…, K, M), with transpose_b b is (…, N', K).
// Attributes: transpose_a, transpose_b (false).
// Accumulate: grad a, then grad b as asked, so that they may be the same memory; grad other +=.
// Squares:    contraction form of a matrix `other` without transpose_a: the roles of x and δ follow
//             the parameter's own layout. Others take the generic rule.
// Deterministic: where many products share the threads, yes; a single large one for a given thread
// count (oneDNN's GEMM).
#include <algorithm>

#include "core/matmul_sizes.h"
#include "core/parallel.h"
#include "graph/op.h"
#include "ops/one_thread.h"
#include "ops/onednn.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  return {{matmul_shape(node), node.inputs[0].dtype}};
}

// C (m, n) = op(A) · op(B), or added to C. Row-major and dense, k the inner size.
struct Product {
  bool transpose_a = false;
  bool transpose_b = false;
  std::int64_t m = 1;
  std::int64_t n = 1;
  std::int64_t k = 1;
};

template <typename T>
void multiply_plain(const Product& p, const T* a, const T* b, T* c, bool add) {
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < p.k; ++l) {
        const T left = p.transpose_a ? a[l * p.m + i] : a[i * p.k + l];
        const T right = p.transpose_b ? b[j * p.k + l] : b[l * p.n + j];
        sum += static_cast<double>(left) * static_cast<double>(right);
      }
      T& to = c[i * p.n + j];
      to = static_cast<T>(add ? static_cast<double>(to) + sum : sum);
    }
  }
}

void multiply_onednn(const Product& p, const float* a, const float* b, float* c, bool add) {
  gemm(p.transpose_a, p.transpose_b, p.m, p.n, p.k, a, p.transpose_a ? p.m : p.k, b,
       p.transpose_b ? p.k : p.n, add ? 1.0F : 0.0F, c, p.n);
}

// The three products of the op, out of either operand's stored layout.
Product output_product(const MatmulSizes& s) {
  return {s.transpose_a, s.transpose_b, s.m, s.n, s.k};
}
// δ · op(B)ᵀ, or its transpose where A is stored transposed.
template <typename T, typename Multiply>
void add_grad_a(const MatmulSizes& s, const T* b, const T* grad_output, T* grad_a, bool add,
                const Multiply& multiply) {
  if (s.transpose_a) {
    multiply(Product{s.transpose_b, true, s.k, s.m, s.n}, b, grad_output, grad_a, add);
  } else {
    multiply(Product{false, !s.transpose_b, s.m, s.k, s.n}, grad_output, b, grad_a, add);
  }
}
// op(A)ᵀ · δ, or its transpose where B is stored transposed.
template <typename T, typename Multiply>
void add_grad_b(const MatmulSizes& s, const T* a, const T* grad_output, T* grad_b, bool add,
                const Multiply& multiply) {
  if (s.transpose_b) {
    multiply(Product{true, s.transpose_a, s.n, s.k, s.m}, grad_output, a, grad_b, add);
  } else {
    multiply(Product{!s.transpose_a, false, s.k, s.n, s.m}, a, grad_output, grad_b, add);
  }
}

// Products one after the other, each by a plain loop.
template <typename T>
struct PlainProducts {
  template <typename Body>
  static void for_each(const MatmulSizes& /*sizes*/, std::int64_t items, const Body& body) {
    for (std::int64_t item = 0; item < items; ++item) body(item, multiply_plain<T>);
  }
};

// oneDNN's GEMM: many products share the threads, each on one; a few large ones take all threads in
// turn.
struct FastProducts {
  static constexpr std::int64_t kGrain = 1 << 16;  // multiply-adds worth a thread
  static constexpr std::int64_t kLarge = 1 << 21;  // worth all threads
  static constexpr std::int64_t kTiny = 256;       // a plain loop is done before a GEMM has begun

  template <typename Body>
  static void for_each(const MatmulSizes& s, std::int64_t items, const Body& body) {
    const std::int64_t work = std::max<std::int64_t>(s.m * s.n * s.k, 1);
    if (work <= kTiny) {
      parallel_for(items, kGrain / work, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t item = begin; item < end; ++item) body(item, multiply_plain<float>);
      });
    } else if (items < thread_count() && work >= kLarge) {
      for (std::int64_t item = 0; item < items; ++item) body(item, multiply_onednn);
    } else {
      parallel_for(items, std::max<std::int64_t>(kGrain / work, 1),
                   [&](std::int64_t begin, std::int64_t end) {
                     const OneThread alone;
                     for (std::int64_t item = begin; item < end; ++item) {
                       body(item, multiply_onednn);
                     }
                   });
    }
  }
};

template <typename T, typename Products>
class Matmul : public Kernel {
 public:
  explicit Matmul(MatmulSizes sizes) : sizes_(std::move(sizes)) {
    a_uses_ = uses(sizes_.a_of, sizes_.a_count);
    b_uses_ = uses(sizes_.b_of, sizes_.b_count);
  }

  void forward(const NodeIo& io) override {
    const auto [s, batch] = folded(io.batch);
    const T* a = io.inputs[0].as<const T>();
    const T* b = second(io);
    T* y = io.outputs[0].as<T>();
    const Product product = output_product(s);
    Products::for_each(s, batch * s.lead, [&](std::int64_t item, const auto& multiply) {
      const std::int64_t sample = item / s.lead;
      const std::int64_t l = item % s.lead;
      multiply(product, a + a_at(s, sample, a_of(l)), b + b_at(s, sample, b_of(l)),
               y + item * s.m * s.n, false);
    });
  }

  void backward(const NodeIo& io) override {
    if (io.grad_inputs[0]) backward_a(io);
    if (sizes_.slot) {
      if (const TensorView grad = io.grad_parameter("other")) backward_slot(io, grad.as<T>());
    } else if (io.grad_inputs[1]) {
      backward_b(io);
    }
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if constexpr (std::is_same_v<T, float>) {
      if (sizes_.slot && sizes_.b_count == 1 && !sizes_.transpose_a) {
        return {{"other", contraction(io)}};
      }
    }
    return {};
  }

 private:
  using Uses = std::vector<std::vector<std::int64_t>>;

  // For each matrix, the products that it is part of, in order.
  static Uses uses(const std::vector<std::int64_t>& of, std::int64_t count) {
    Uses all(static_cast<std::size_t>(count));
    for (std::size_t l = 0; l < of.size(); ++l) {
      all[static_cast<std::size_t>(of[l])].push_back(static_cast<std::int64_t>(l));
    }
    return all;
  }

  // With one matrix for all, the samples' rows are rows of one product.
  [[nodiscard]] std::pair<MatmulSizes, std::int64_t> folded(std::int64_t batch) const {
    MatmulSizes sizes = sizes_;
    if constexpr (std::is_same_v<Products, FastProducts>) {
      if (sizes.slot && sizes.lead == 1 && !sizes.transpose_a) {
        sizes.m *= batch;
        return {std::move(sizes), 1};
      }
    }
    return {std::move(sizes), batch};
  }

  [[nodiscard]] static const T* second(const NodeIo& io) {
    return io.inputs.size() > 1 ? io.inputs[1].as<const T>()
                                : io.parameter("other").template as<const T>();
  }
  [[nodiscard]] std::int64_t a_of(std::int64_t l) const {
    return sizes_.a_of[static_cast<std::size_t>(l)];
  }
  [[nodiscard]] std::int64_t b_of(std::int64_t l) const {
    return sizes_.b_of[static_cast<std::size_t>(l)];
  }
  static std::int64_t a_at(const MatmulSizes& s, std::int64_t sample, std::int64_t matrix) {
    return (sample * s.a_count + matrix) * s.m * s.k;
  }
  static std::int64_t b_at(const MatmulSizes& s, std::int64_t sample, std::int64_t matrix) {
    return ((s.slot ? 0 : sample * s.b_count) + matrix) * s.k * s.n;
  }

  void backward_a(const NodeIo& io) const {
    const auto [s, batch] = folded(io.batch);
    const T* b = second(io);
    const T* grad_output = io.grad_outputs[0].as<const T>();
    T* grad_a = io.grad_inputs[0].as<T>();
    Products::for_each(s, batch * s.a_count, [&](std::int64_t item, const auto& multiply) {
      const std::int64_t sample = item / s.a_count;
      bool add = io.accumulate[0];
      for (const std::int64_t l : a_uses_[static_cast<std::size_t>(item % s.a_count)]) {
        add_grad_a(s, b + b_at(s, sample, b_of(l)), grad_output + (sample * s.lead + l) * s.m * s.n,
                   grad_a + item * s.m * s.k, add, multiply);
        add = true;
      }
    });
  }

  void backward_b(const NodeIo& io) const {
    const MatmulSizes& s = sizes_;
    const T* a = io.inputs[0].as<const T>();
    const T* grad_output = io.grad_outputs[0].as<const T>();
    T* grad_b = io.grad_inputs[1].as<T>();
    Products::for_each(s, io.batch * s.b_count, [&](std::int64_t item, const auto& multiply) {
      const std::int64_t sample = item / s.b_count;
      bool add = io.accumulate[1];
      for (const std::int64_t l : b_uses_[static_cast<std::size_t>(item % s.b_count)]) {
        add_grad_b(s, a + a_at(s, sample, a_of(l)), grad_output + (sample * s.lead + l) * s.m * s.n,
                   grad_b + item * s.k * s.n, add, multiply);
        add = true;
      }
    });
  }

  void backward_slot(const NodeIo& io, T* grad_other) const {
    const auto [s, batch] = folded(io.batch);
    const T* a = io.inputs[0].as<const T>();
    const T* grad_output = io.grad_outputs[0].as<const T>();
    Products::for_each(s, s.b_count, [&](std::int64_t matrix, const auto& multiply) {
      for (std::int64_t sample = 0; sample < batch; ++sample) {
        for (const std::int64_t l : b_uses_[static_cast<std::size_t>(matrix)]) {
          add_grad_b(s, a + a_at(s, sample, a_of(l)),
                     grad_output + (sample * s.lead + l) * s.m * s.n,
                     grad_other + matrix * s.k * s.n, true, multiply);
        }
      }
    });
  }

  // G (K, N') = Σ over rows of aᵀδ, or (N', K) its transpose: rows are the positions of a strip.
  [[nodiscard]] ContractionForm contraction(const NodeIo& io) const {
    const float* a = io.inputs[0].as<const float>();
    const float* grad_output = io.grad_outputs[0].as<const float>();
    ContractionForm form;
    form.grad_output = sizes_.transpose_b ? grad_output : a;
    form.input = sizes_.transpose_b ? a : grad_output;
    form.batch = io.batch;
    form.in_width = form.out_width = sizes_.m * sizes_.lead;
    form.out_channels = sizes_.transpose_b ? sizes_.n : sizes_.k;
    form.in_channels = sizes_.transpose_b ? sizes_.k : sizes_.n;
    return form;
  }

  MatmulSizes sizes_;
  Uses a_uses_;
  Uses b_uses_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) {
    return std::make_unique<Matmul<double, PlainProducts<double>>>(matmul_sizes(node));
  }
  return std::make_unique<Matmul<float, PlainProducts<float>>>(matmul_sizes(node));
}

std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  MatmulSizes sizes = matmul_sizes(node);
  sizes.join_rows();
  return std::make_unique<Matmul<float, FastProducts>>(std::move(sizes));
}

SampleCase pair_row(const char* name, const Shape& a, const Shape& b, bool transpose_a = false,
                    bool transpose_b = false, std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {a, b},
          .attributes = {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}},
          .batch = batch};
}

SampleCase slot_row(const char* name, const Shape& a, const Shape& other, bool transpose_a = false,
                    bool transpose_b = false, std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {a},
          .parameters = {{"other", other}},
          .attributes = {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}},
          .batch = batch};
}

std::vector<SampleCase> cases() {
  return {
      {.name = "two matrices", .inputs = {{5, 7}, {7, 3}}},
      pair_row("scores of heads", {2, 9, 11}, {2, 9, 11}, false, true),
      pair_row("first transposed, batch of one", {13, 17}, {13, 9}, true, false, 1),
      pair_row("both transposed", {7, 10}, {19, 7}, true, true, 2),
      pair_row("first repeated", {8, 6}, {3, 6, 9}),
      pair_row("second repeated", {4, 3, 8, 6}, {6, 9}, false, false, 2),
      pair_row("both repeated", {2, 1, 5, 8}, {3, 7, 8}, false, true),
      pair_row("middle repeated, first transposed", {2, 3, 6, 5}, {2, 1, 6, 7}, true, false, 2),
      pair_row("ones all over", {1, 1, 1}, {1, 1}),
      pair_row("few and large", {65, 300}, {300, 120}, false, false, 1),
      slot_row("other", {9, 6}, {6, 5}),
      slot_row("other, stacked rows", {2, 4, 7}, {7, 33}, false, false, 5),
      slot_row("other, transposed", {6, 8}, {11, 8}, false, true),
      slot_row("other, first transposed", {7, 6}, {7, 10}, true, false, 2),
      slot_row("other, a stack of three", {3, 4, 7}, {3, 7, 6}),
      slot_row("other, repeated input, batch of one", {4, 7}, {2, 7, 5}, false, false, 1),
  };
}

OpDefinition matmul() {
  OpDefinition op;
  op.name = "matmul";
  op.slots = {{.name = "other", .required = false}};
  op.max_inputs = 2;
  op.attributes = {"transpose_a", "transpose_b"};
  op.backward_needs_inputs = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.make_fast = make_fast;
  op.cases = cases();
  return op;
}

FM_REGISTER_OP(matmul())

}  // namespace
}  // namespace fishermask
