#include "fisher/fisher_sums.h"

#include "core/parallel.h"
#include "core/placement.h"

namespace fishermask {
namespace {

// sums[i] += term(g[i]), elements spread over the threads.
template <typename Term>
void add_terms(const Tensor& gradient, std::vector<double>& sums, const Term& term) {
  constexpr std::int64_t kGrain = 1 << 14;
  const auto add = [&](const auto* g) {
    parallel_for(static_cast<std::int64_t>(sums.size()), kGrain,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     sums[static_cast<std::size_t>(i)] += term(static_cast<double>(g[i]));
                   }
                 });
  };
  if (gradient.dtype() == DType::kF64) {
    add(gradient.as<double>());
  } else {
    add(gradient.as<float>());
  }
}

}  // namespace

FisherSums::FisherSums(const Network& network) : device_(network.device()) {
  for (const Parameter& parameter : network.graph().parameters()) {
    const std::int64_t count = parameter.trainable() ? element_count(parameter.shape) : 0;
    const bool on_host = device_ == nullptr;
    host_.emplace_back(on_host ? static_cast<std::size_t>(count) : 0, 0.0);
    sums_.push_back(on_host || count == 0
                        ? Tensor()
                        : make_tensor(device_, DType::kF64, {count}, "Fisher sums"));
  }
}

double* FisherSums::data(std::size_t parameter) const {
  if (device_ != nullptr) return sums_[parameter].view() ? sums_[parameter].as<double>() : nullptr;
  return host_[parameter].empty() ? nullptr : host_[parameter].data();
}

void FisherSums::add_squares(const std::vector<Tensor>& gradients, double weight) {
  for (std::size_t p = 0; p < sums_.size(); ++p) {
    if (data(p) == nullptr) continue;
    if (device_ != nullptr) {
      device_->add_squares(gradients[p].as<float>(), gradients[p].count(), weight, data(p));
    } else {
      add_terms(gradients[p], host_[p], [weight](double g) { return weight * g * g; });
    }
  }
}

void FisherSums::add_values(const std::vector<Tensor>& gradients) {
  for (std::size_t p = 0; p < sums_.size(); ++p) {
    if (data(p) == nullptr) continue;
    if (device_ != nullptr) {
      device_->add_values(gradients[p].as<float>(), gradients[p].count(), 1.0, data(p));
    } else {
      add_terms(gradients[p], host_[p], [](double g) { return g; });
    }
  }
}

const std::vector<std::vector<double>>& FisherSums::read() const {
  if (device_ == nullptr) return host_;
  for (std::size_t p = 0; p < sums_.size(); ++p) {
    if (!sums_[p].view()) continue;
    host_[p].resize(static_cast<std::size_t>(sums_[p].count()));
    read_tensor(device_, sums_[p].view(), reinterpret_cast<std::byte*>(host_[p].data()));
  }
  return host_;
}

}  // namespace fishermask
