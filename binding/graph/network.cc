#include "graph/network.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/placement.h"

namespace fishermask {
namespace {

// A full batch and the short last one, for a forward pass and one other kind of pass.
constexpr std::size_t kMostExecutors = 4;

bool same(const ExecutorOptions& a, const ExecutorOptions& b) {
  return a.batch == b.batch && a.training == b.training && a.backward == b.backward &&
         a.repeatable == b.repeatable && a.squares == b.squares &&
         a.input_gradients == b.input_gradients && a.keep == b.keep;
}

template <typename From, typename To>
void copy_finite(const From* from, To* to, std::int64_t count, const std::string& name) {
  for (std::int64_t i = 0; i < count; ++i) {
    // As the network will hold it: 1e300 is finite in f64 alone.
    FM_CHECK(std::isfinite(static_cast<To>(from[i])), NON_FINITE,
             "expected finite values for tensor '", name, "' but element ", i, " is ", from[i]);
  }
  std::transform(from, from + count, to, [](From v) { return static_cast<To>(v); });
}

}  // namespace

Network::Network(std::string_view graph_json, NetworkOptions options)
    : graph_(Graph::parse(graph_json)), options_(std::move(options)) {
  FM_CHECK(options_.real == DType::kF32 || options_.real == DType::kF64, ARGUMENT,
           "expected a real type of f32 or f64 but received ", dtype_name(options_.real));
  FM_CHECK(options_.device == nullptr || (options_.real == DType::kF32 && !options_.reference),
           UNSUPPORTED, "the reference kernels and f64 run on the CPU alone");
  for (const Parameter& parameter : graph_.parameters()) {
    parameters_.push_back(make_tensor(device(), options_.real, parameter.shape,
                                      "parameter '" + parameter.name + "'"));
  }
}

void Network::set_parameter(const std::string& name, const TensorView& values) {
  const Tensor& target = parameters_[static_cast<std::size_t>(graph_.parameter_index(name))];
  FM_CHECK(values.count() == target.count(), SHAPE, "expected ", target.count(),
           " values for tensor '", name, "' of shape ", shape_text(target.shape()),
           " but received ", values.count());
  // Checked on the host before anything is written.
  const Tensor staged(options_.real, target.shape(), "parameter '" + name + "'");
  const auto copy = [&](auto* to) {
    if (values.dtype == DType::kF64) {
      copy_finite(values.as<double>(), to, target.count(), name);
    } else {
      copy_finite(values.as<float>(), to, target.count(), name);
    }
  };
  if (options_.real == DType::kF64) {
    copy(staged.as<double>());
  } else {
    copy(staged.as<float>());
  }
  write_tensor(device(), target.view(), staged.view().data);
}

std::vector<float> Network::parameter_f32(int index) const {
  const Tensor& stored = parameters_.at(static_cast<std::size_t>(index));
  const Tensor tensor = device() == nullptr ? stored : host_copy(device(), stored.view());
  std::vector<float> out(static_cast<std::size_t>(tensor.count()));
  if (options_.real == DType::kF64) {
    const auto from = tensor.span<double>();
    std::transform(from.begin(), from.end(), out.begin(),
                   [](double v) { return static_cast<float>(v); });
  } else {
    const auto from = tensor.span<float>();
    std::copy(from.begin(), from.end(), out.begin());
  }
  return out;
}

Executor& Network::executor(const ExecutorOptions& options) {
  const auto found = std::find_if(cache_.begin(), cache_.end(),
                                  [&](const Cached& c) { return same(c.options, options); });
  if (found != cache_.end()) {
    cache_.splice(cache_.begin(), cache_, found);
    return *cache_.front().executor;
  }
  // The oldest goes first, so that its memory can serve the new one.
  while (cache_.size() >= kMostExecutors) cache_.pop_back();
  ExecutorOptions made = options;
  made.real = options_.real;
  made.reference = options_.reference;
  made.device = device();
  cache_.push_front({made, std::make_unique<Executor>(graph_, parameters_, made)});
  return *cache_.front().executor;
}

}  // namespace fishermask
