// resample: y[…, j, …] = Σ_t weight[j·taps + t] · x[…, index[j·taps + t], …] along one axis (as
// binding/ops/resample.cc). A sparse matrix by rows, and its transpose for the gradient.
// Shapes:     x (N, …, A, …), y (N, …, out, …) with out = length of index / taps.
// Memory:     12 bytes per tap and direction, uploaded once.
// Deterministic: yes: a thread per element sums its row in order, in f64. Bound by memory.
#include <limits>

#include "common/backend.h"
#include "common/launch.cuh"
#include "core/moved_shape.h"
#include "core/places.h"

namespace fishermask::cuda {
namespace {

// Row r has the entries starts[r] … starts[r + 1] − 1.
struct SparseRows {
  const std::int32_t* starts;
  const std::int32_t* columns;
  const double* weights;
  std::int64_t rows, column_count;
};

// to[o, r, i] = Σ_c weight(r, c) · from[o, c, i], or added to it.
__global__ void resample_rows(const SparseRows by, std::int64_t count, std::int64_t inner,
                              const float* from, float* to, bool add) {
  for (std::int64_t item = first_item(); item < count; item += item_step()) {
    const std::int64_t line = item / inner;
    const std::int64_t outer = line / by.rows;
    const std::int64_t row = line - outer * by.rows;
    const float* const first = from + outer * by.column_count * inner + (item - line * inner);
    double sum = 0.0;
    for (std::int32_t e = by.starts[row]; e < by.starts[row + 1]; ++e) {
      sum += by.weights[e] * static_cast<double>(first[by.columns[e] * inner]);
    }
    const auto value = static_cast<float>(sum);
    to[item] = add ? to[item] + value : value;
  }
}

// The same on the host, then on the device.
struct HostRows {
  std::vector<std::int32_t> starts = {0}, columns;
  std::vector<double> weights;
};

HostRows forward_rows(const std::vector<std::int64_t>& index, const std::vector<double>& weight,
                      std::int64_t taps) {
  HostRows rows;
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] >= 0) {
      rows.columns.push_back(static_cast<std::int32_t>(index[i]));
      rows.weights.push_back(weight[i]);
    }
    if ((static_cast<std::int64_t>(i) + 1) % taps == 0) {
      rows.starts.push_back(static_cast<std::int32_t>(rows.columns.size()));
    }
  }
  return rows;
}

// A place's entries in the order of the outputs.
HostRows transposed_rows(const std::vector<std::int64_t>& index, const std::vector<double>& weight,
                         std::int64_t taps, std::int64_t places) {
  const GroupedPlaces grouped(index);
  HostRows rows;
  std::int64_t group = 0;
  for (std::int64_t place = 0; place < places; ++place) {
    if (group < grouped.count() && grouped.place_of[static_cast<std::size_t>(group)] == place) {
      for (const std::int64_t update : grouped.group(group++)) {
        rows.columns.push_back(static_cast<std::int32_t>(update / taps));
        rows.weights.push_back(weight[static_cast<std::size_t>(update)]);
      }
    }
    rows.starts.push_back(static_cast<std::int32_t>(rows.columns.size()));
  }
  return rows;
}

template <typename T>
Buffer<T> upload(Backend& backend, const std::vector<T>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  Buffer<T> buffer(backend, std::max<std::int64_t>(count, 1), "the taps of a resampling");
  backend.from_host(buffer.data(), values.data(), count * static_cast<std::int64_t>(sizeof(T)));
  return buffer;
}

class DeviceRows {
 public:
  DeviceRows(Backend& backend, const HostRows& rows, std::int64_t column_count)
      : starts_(upload(backend, rows.starts)),
        columns_(upload(backend, rows.columns)),
        weights_(upload(backend, rows.weights)),
        column_count_(column_count) {}

  void apply(cudaStream_t stream, std::int64_t outer, std::int64_t inner, const float* from,
             float* to, bool add) const {
    const SparseRows by{starts_.data(), columns_.data(), weights_.data(), starts_.count() - 1,
                        column_count_};
    const std::int64_t count = outer * by.rows * inner;
    launch("resample", stream, over(count), resample_rows, by, count, inner, from, to, add);
  }

 private:
  Buffer<std::int32_t> starts_, columns_;
  Buffer<double> weights_;
  std::int64_t column_count_;
};

class Resample : public Kernel {
 public:
  Resample(const AxisSplit& split, const std::vector<std::int64_t>& index,
           const std::vector<double>& weight, std::int64_t taps, const KernelContext& context)
      : split_(split),
        context_(context),
        forward_(*context.backend, forward_rows(index, weight, taps), split.length),
        back_(*context.backend, transposed_rows(index, weight, taps, split.length),
              static_cast<std::int64_t>(index.size()) / taps) {}

  void forward(const NodeIo& io) override {
    forward_.apply(context_.stream, io.batch * split_.outer, split_.inner, io.inputs[0].as<float>(),
                   io.outputs[0].as<float>(), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    back_.apply(context_.stream, io.batch * split_.outer, split_.inner,
                io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(), io.accumulate[0]);
  }

 private:
  AxisSplit split_;
  KernelContext context_;
  DeviceRows forward_, back_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const Shape& input = node.inputs[0].shape;
  const AxisSplit split = split_at(input, axis_attribute(node, input.size()));
  const std::vector<std::int64_t> index = node.attributes.integers("index", -1);
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (static_cast<std::int64_t>(index.size()) >= kMost || split.length >= kMost) return nullptr;
  return std::make_unique<Resample>(split, index, node.attributes.numbers("weight", -1),
                                    node.attributes.integer("taps"), context);
}

}  // namespace

FM_REGISTER_CUDA_OP("resample", make)

}  // namespace fishermask::cuda
