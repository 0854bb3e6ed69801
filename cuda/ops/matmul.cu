// matmul: y = op(a) · op(b) over the last two sizes; leading sizes broadcast as NumPy's do.
// Shapes:     a (N, …, M, K), b (N, …, K, N') or the parameter `other` (…, K, N'), y (N, …, M, N').
// Backward:   the gradient of a matrix is one product whose inner sum runs over all products that
// the matrix was part of (GemmCall::terms): no second pass, one fixed order. Workspace:  lists of
// offsets for operands that are repeated irregularly, kept by the kernel. Accumulate: grad a, then
// grad b as asked, so that they may be the same memory; grad other +=. Squares:    as
// binding/ops/matmul.cc. Deterministic: yes. Bound by: the products.
#include <map>

#include "common/backend.h"
#include "core/matmul_sizes.h"
#include "ops/gemm.h"

namespace fishermask::cuda {
namespace {

using Indices = std::vector<std::int64_t>;

// For each matrix, the products that it is part of, in order.
std::vector<Indices> uses_of(const Indices& of, std::int64_t count) {
  std::vector<Indices> uses(static_cast<std::size_t>(count));
  for (std::size_t l = 0; l < of.size(); ++l) {
    uses[static_cast<std::size_t>(of[l])].push_back(static_cast<std::int64_t>(l));
  }
  return uses;
}

// Offsets (batch, terms) as strides where they are regular.
struct Placement {
  bool regular = true;
  std::int64_t batch_stride = 0;
  std::int64_t term_stride = 0;
};

Placement placement_of(const Indices& offsets, std::int64_t batch, std::int64_t terms) {
  const auto at = [&](std::int64_t z, std::int64_t t) {
    return offsets[static_cast<std::size_t>(z * terms + t)];
  };
  if (batch == 0 || terms == 0) return {};
  Placement place = {at(0, 0) == 0, batch > 1 ? at(1, 0) : 0, terms > 1 ? at(0, 1) : 0};
  for (std::int64_t z = 0; z < batch; ++z) {
    for (std::int64_t t = 0; t < terms; ++t) {
      place.regular = place.regular && at(z, t) == z * place.batch_stride + t * place.term_stride;
    }
  }
  return place;
}

// Where the matrices of an operand's (batch, terms) products begin, on the device if it must.
class Places {
 public:
  Places() = default;
  Places(Backend& backend, const Indices& offsets, std::int64_t batch, std::int64_t terms)
      : place_(placement_of(offsets, batch, terms)) {
    if (place_.regular) return;
    list_ = Buffer<std::int64_t>(backend, batch * terms, "offsets of matrices");
    backend.from_host(list_.data(), offsets.data(),
                      batch * terms * static_cast<std::int64_t>(sizeof(std::int64_t)));
  }
  [[nodiscard]] GemmOperand operand(const float* data, std::int64_t row_stride,
                                    bool transposed) const {
    return {data,
            row_stride,
            transposed,
            place_.batch_stride,
            place_.term_stride,
            place_.regular ? nullptr : list_.data()};
  }

 private:
  Placement place_;
  Buffer<std::int64_t> list_;
};

// The products of one direction: `batch` results, each the sum of `terms` products.
struct Products {
  std::int64_t batch = 0;
  std::int64_t terms = 1;
  Places first, second;
};

class Matmul : public Kernel {
 public:
  Matmul(MatmulSizes sizes, const KernelContext& context)
      : sizes_(std::move(sizes)),
        context_(context),
        a_uses_(uses_of(sizes_.a_of, sizes_.a_count)),
        b_uses_(uses_of(sizes_.b_of, sizes_.b_count)) {}

  void forward(const NodeIo& io) override {
    const Plan& p = plan(io.batch);
    const MatmulSizes& s = p.sizes;
    GemmCall call = {.m = s.m, .n = s.n, .k = s.k};
    call.a = p.output.first.operand(io.inputs[0].as<const float>(), a_row(s), s.transpose_a);
    call.b = p.output.second.operand(second(io), b_row(s), s.transpose_b);
    multiply(p.output, call, io.outputs[0].as<float>(), false);
  }

  void backward(const NodeIo& io) override {
    const Plan& p = plan(io.batch);
    if (io.grad_inputs[0]) backward_a(p, io);
    if (sizes_.slot) {
      if (const TensorView grad = io.grad_parameter("other")) {
        backward_b(p, io, grad.as<float>(), true);
      }
    } else if (io.grad_inputs[1]) {
      backward_b(p, io, io.grad_inputs[1].as<float>(), io.accumulate[1]);
    }
  }

  // G (K, N') = Σ over rows of aᵀδ, or (N', K) its transpose: rows are the positions of a strip.
  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if (!sizes_.slot || sizes_.b_count != 1 || sizes_.transpose_a) return {};
    const float* a = io.inputs[0].as<const float>();
    const float* grad_output = io.grad_outputs[0].as<const float>();
    ContractionForm form;
    form.grad_output = sizes_.transpose_b ? grad_output : a;
    form.input = sizes_.transpose_b ? a : grad_output;
    form.batch = io.batch;
    form.in_width = form.out_width = sizes_.m * sizes_.lead;
    form.out_channels = sizes_.transpose_b ? sizes_.n : sizes_.k;
    form.in_channels = sizes_.transpose_b ? sizes_.k : sizes_.n;
    return {{"other", form}};
  }

 private:
  // What one batch size needs.
  struct Plan {
    MatmulSizes sizes;
    std::int64_t batch = 0;
    Products output, grad_a, grad_b;
  };

  [[nodiscard]] static std::int64_t a_row(const MatmulSizes& s) {
    return s.transpose_a ? s.m : s.k;
  }
  [[nodiscard]] static std::int64_t b_row(const MatmulSizes& s) {
    return s.transpose_b ? s.k : s.n;
  }
  [[nodiscard]] static const float* second(const NodeIo& io) {
    return io.inputs.size() > 1 ? io.inputs[1].as<const float>()
                                : io.parameter("other").as<const float>();
  }

  const Plan& plan(std::int64_t batch) {
    const auto found = plans_.find(batch);
    if (found != plans_.end()) return found->second;
    // Made first: where that fails, nothing half made stays behind.
    return plans_.emplace(batch, make_plan(batch)).first->second;
  }

  [[nodiscard]] Plan make_plan(std::int64_t batch) const {
    Plan p;
    p.sizes = sizes_;
    p.batch = batch;
    // With one matrix for all, the samples' rows are rows of one product.
    if (sizes_.slot && sizes_.lead == 1 && !sizes_.transpose_a) {
      p.sizes.m *= batch;
      p.batch = 1;
    }
    p.output = output_products(p);
    p.grad_a = grad_a_products(p);
    p.grad_b = grad_b_products(p);
    return p;
  }

  [[nodiscard]] static std::int64_t a_at(const MatmulSizes& s, std::int64_t sample,
                                         std::int64_t matrix) {
    return (sample * s.a_count + matrix) * s.m * s.k;
  }
  [[nodiscard]] static std::int64_t b_at(const MatmulSizes& s, std::int64_t sample,
                                         std::int64_t matrix) {
    return ((s.slot ? 0 : sample * s.b_count) + matrix) * s.k * s.n;
  }
  [[nodiscard]] static std::int64_t y_at(const MatmulSizes& s, std::int64_t sample,
                                         std::int64_t l) {
    return (sample * s.lead + l) * s.m * s.n;
  }
  [[nodiscard]] Products products(std::int64_t batch, std::int64_t terms, const Indices& first,
                                  const Indices& second) const {
    return {batch, terms, Places(*context_.backend, first, batch, terms),
            Places(*context_.backend, second, batch, terms)};
  }

  [[nodiscard]] Products output_products(const Plan& p) const {
    const MatmulSizes& s = p.sizes;
    Indices a, b;
    for (std::int64_t i = 0; i < p.batch; ++i) {
      for (std::size_t l = 0; l < s.a_of.size(); ++l) {
        a.push_back(a_at(s, i, s.a_of[l]));
        b.push_back(b_at(s, i, s.b_of[l]));
      }
    }
    return products(p.batch * s.lead, 1, a, b);
  }

  // Every matrix of an operand is part of equally many products: broadcasting repeats it whole.
  [[nodiscard]] Products grad_a_products(const Plan& p) const {
    const MatmulSizes& s = p.sizes;
    Indices delta, b;
    for (std::int64_t i = 0; i < p.batch; ++i) {
      for (const Indices& uses : a_uses_) {
        for (const std::int64_t l : uses) {
          delta.push_back(y_at(s, i, l));
          b.push_back(b_at(s, i, s.b_of[static_cast<std::size_t>(l)]));
        }
      }
    }
    return products(p.batch * s.a_count, static_cast<std::int64_t>(a_uses_[0].size()), delta, b);
  }

  // A parameter's gradient is summed over the samples as well.
  [[nodiscard]] Products grad_b_products(const Plan& p) const {
    const MatmulSizes& s = p.sizes;
    Indices delta, a;
    const std::int64_t outer = s.slot ? 1 : p.batch;
    const std::int64_t inner = s.slot ? p.batch : 1;
    for (std::int64_t i = 0; i < outer; ++i) {
      for (const Indices& uses : b_uses_) {
        for (std::int64_t j = 0; j < inner; ++j) {
          for (const std::int64_t l : uses) {
            delta.push_back(y_at(s, i + j, l));
            a.push_back(a_at(s, i + j, s.a_of[static_cast<std::size_t>(l)]));
          }
        }
      }
    }
    return products(outer * s.b_count, inner * static_cast<std::int64_t>(b_uses_[0].size()), delta,
                    a);
  }

  // Results lie one after the other.
  void multiply(const Products& products, GemmCall& call, float* c, bool add) const {
    call.c = c;
    call.c_row_stride = call.n;
    call.c_batch_stride = call.m * call.n;
    call.beta = add ? 1.0F : 0.0F;
    call.batch = products.batch;
    call.terms = products.terms;
    gemm(*context_.backend, call);
  }

  // δ · op(B)ᵀ, or its transpose where A is stored transposed.
  void backward_a(const Plan& p, const NodeIo& io) const {
    const MatmulSizes& s = p.sizes;
    const float* const delta = io.grad_outputs[0].as<const float>();
    GemmCall call;
    if (s.transpose_a) {
      call = {.m = s.k, .n = s.m, .k = s.n};
      call.a = p.grad_a.second.operand(second(io), b_row(s), s.transpose_b);
      call.b = p.grad_a.first.operand(delta, s.n, true);
    } else {
      call = {.m = s.m, .n = s.k, .k = s.n};
      call.a = p.grad_a.first.operand(delta, s.n, false);
      call.b = p.grad_a.second.operand(second(io), b_row(s), !s.transpose_b);
    }
    multiply(p.grad_a, call, io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }

  // op(A)ᵀ · δ, or its transpose where B is stored transposed.
  void backward_b(const Plan& p, const NodeIo& io, float* grad, bool add) const {
    const MatmulSizes& s = p.sizes;
    const float* const delta = io.grad_outputs[0].as<const float>();
    const float* const a = io.inputs[0].as<const float>();
    GemmCall call;
    if (s.transpose_b) {
      call = {.m = s.n, .n = s.k, .k = s.m};
      call.a = p.grad_b.first.operand(delta, s.n, true);
      call.b = p.grad_b.second.operand(a, a_row(s), s.transpose_a);
    } else {
      call = {.m = s.k, .n = s.n, .k = s.m};
      call.a = p.grad_b.second.operand(a, a_row(s), !s.transpose_a);
      call.b = p.grad_b.first.operand(delta, s.n, false);
    }
    multiply(p.grad_b, call, grad, add);
  }

  MatmulSizes sizes_;
  KernelContext context_;
  std::vector<Indices> a_uses_, b_uses_;
  std::map<std::int64_t, Plan> plans_;  // by batch size
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  MatmulSizes sizes = matmul_sizes(node);
  sizes.join_rows();
  return std::make_unique<Matmul>(std::move(sizes), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("matmul", make)

}  // namespace fishermask::cuda
