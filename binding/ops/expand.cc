// expand: sizes of 1 are repeated, and sizes are added in front.
// Shapes:     x (N, s…), y (N, shape…); aligned at the end, each s is 1 or the shape's.
// Attributes: shape.
// Accumulate: grad x as asked, the sum over what was repeated, in f64.   Deterministic: yes.
#include <algorithm>
#include <array>

#include "core/moved_shape.h"
#include "core/parallel.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/strided.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;
constexpr std::int64_t kLanes = 256;  // sums kept at a time

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  const Shape& input = node.inputs[0].shape;
  Shape output = sizes_attribute(node, "shape");
  bool fits = input.size() <= output.size();
  for (std::size_t d = 0; fits && d < input.size(); ++d) {
    const std::int64_t size = output[output.size() - input.size() + d];
    fits = input[d] == 1 || input[d] == size;
  }
  node.check(fits, "expected a shape that ", shape_text(input), " can be repeated to but received ",
             shape_text(output));
  return {{std::move(output), node.inputs[0].dtype}};
}

// Position `index` of a walk over the axes, as an offset on either side.
struct Offsets {
  std::int64_t from = 0;
  std::int64_t to = 0;
};
Offsets offsets_at(const std::vector<StridedAxis>& axes, std::int64_t index) {
  Offsets offsets;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    offsets.from += index % axis->size * axis->from;
    offsets.to += index % axis->size * axis->to;
    index /= axis->size;
  }
  return offsets;
}

std::int64_t positions(const std::vector<StridedAxis>& axes) {
  std::int64_t count = 1;
  for (const StridedAxis& axis : axes) count *= axis.size;
  return count;
}

StridedAxis take_last(std::vector<StridedAxis>& axes) {
  if (axes.empty()) return {};
  const StridedAxis last = axes.back();
  axes.pop_back();
  return last;
}

// grad_input[i] = Σ over the repeats of i: the axes of x that y keeps, apart from those it repeats.
class RepeatSum {
 public:
  RepeatSum(const StridedMap& map, std::int64_t batch) {
    for (const StridedAxis& axis : map.batched_axes(batch)) {
      (axis.from == 0 ? repeated_ : kept_).push_back(axis);
    }
    lane_ = take_last(kept_);
    run_ = take_last(repeated_);
    chunks_ = (lane_.size + kLanes - 1) / kLanes;
    repeats_ = positions(repeated_);
  }

  template <typename T>
  void run(const T* grad_output, T* grad_input, bool add) const {
    const std::int64_t terms = repeats_ * run_.size * std::min(lane_.size, kLanes);
    const std::int64_t grain = std::max<std::int64_t>(kGrain / terms, 1);
    parallel_for(positions(kept_) * chunks_, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t item = begin; item < end; ++item) {
        const Offsets at = offsets_at(kept_, item / chunks_);
        const std::int64_t first = item % chunks_ * kLanes;
        sum_lanes(std::min(kLanes, lane_.size - first), grad_output + at.to + first * lane_.to,
                  grad_input + at.from + first * lane_.from, add);
      }
    });
  }

 private:
  template <typename T>
  void sum_lanes(std::int64_t lanes, const T* grad_output, T* grad_input, bool add) const {
    std::array<double, kLanes> sums;
    std::fill_n(sums.begin(), lanes, 0.0);
    for (std::int64_t r = 0; r < repeats_; ++r) {
      const T* block = grad_output + offsets_at(repeated_, r).to;
      for (std::int64_t i = 0; i < run_.size; ++i) {
        for (std::int64_t l = 0; l < lanes; ++l) {
          sums[static_cast<std::size_t>(l)] += block[i * run_.to + l * lane_.to];
        }
      }
    }
    for (std::int64_t l = 0; l < lanes; ++l) {
      T& to = grad_input[l * lane_.from];
      const T sum = static_cast<T>(sums[static_cast<std::size_t>(l)]);
      to = add ? to + sum : sum;
    }
  }

  std::vector<StridedAxis> kept_;      // but the last
  std::vector<StridedAxis> repeated_;  // but the last
  StridedAxis lane_;                   // the last kept one: its sums are made side by side
  StridedAxis run_;                    // the last repeated one
  std::int64_t chunks_ = 1;
  std::int64_t repeats_ = 1;
};

template <typename T>
class Expand : public Kernel {
 public:
  explicit Expand(const NodeSpec& node) : map_(expand_map(node)) {}

  void forward(const NodeIo& io) override {
    copy_strided(map_, io.batch, io.inputs[0].as<const T>(), io.outputs[0].as<T>(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    RepeatSum(map_, io.batch)
        .run(io.grad_outputs[0].as<const T>(), io.grad_inputs[0].as<T>(), io.accumulate[0]);
  }

 private:
  StridedMap map_;
};

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<Expand<double>>(node);
  return std::make_unique<Expand<float>>(node);
}

SampleCase row(const char* name, const Shape& input, const Shape& shape, std::int64_t batch = 3) {
  return {.name = name, .inputs = {input}, .attributes = {{"shape", shape}}, .batch = batch};
}

OpDefinition expand() {
  OpDefinition op;
  op.name = "expand";
  op.attributes = {"shape"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("a row to all rows", {1, 7}, {5, 7}),
      row("a column to all columns", {6, 1}, {6, 9}, 2),
      row("sizes in front", {3}, {4, 2, 3}),
      row("middle and front, batch of one", {2, 1, 5}, {3, 2, 4, 5}, 1),
      row("alternating", {1, 3, 1, 2, 1}, {2, 3, 4, 2, 3}),
      row("a scalar", {}, {3, 2}),
      row("nothing to repeat", {4, 3}, {4, 3}, 2),
      row("long sum, 300 lanes", {1, 300}, {900, 300}, 2),
      row("long sum of a scalar", {1}, {50'000}, 2),
  };
  return op;
}

FM_REGISTER_OP(expand())

}  // namespace
}  // namespace fishermask
