// Forms whose operands lie on the device, and f64 sums there.
#pragma once

#include <cstring>
#include <vector>

#include "cuda/device_support.h"
#include "native/fisher/random_form.h"

namespace fishermask::test {

template <typename T>
class DeviceArray {
 public:
  DeviceArray(Device& on, const T* from, std::int64_t count)
      : device_(&on), count_(count), memory_(on.allocate(bytes(), "a test's array")) {
    on.upload(memory_.get(), reinterpret_cast<const std::byte*>(from), bytes());
  }
  DeviceArray(Device& on, const std::vector<T>& from)
      : DeviceArray(on, from.data(), static_cast<std::int64_t>(from.size())) {}
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.get()); }
  [[nodiscard]] std::vector<T> host() const {
    std::vector<T> values(static_cast<std::size_t>(count_));
    device_->download(reinterpret_cast<std::byte*>(values.data()), memory_.get(), bytes());
    return values;
  }

 private:
  [[nodiscard]] std::int64_t bytes() const { return count_ * static_cast<std::int64_t>(sizeof(T)); }
  Device* device_;
  std::int64_t count_;
  std::shared_ptr<std::byte> memory_;
};

// The squares of one form, added by the device's sink to `start` everywhere.
template <typename Form>
std::vector<double> sink_sums(Device& on, const Form& form, std::int64_t count, double start) {
  const DeviceArray<double> sums(on, std::vector<double>(static_cast<std::size_t>(count), start));
  const SquareProblem problem = {"weight", form};
  const SquareTask task = {&problem, sums.data()};
  on.make_square_sink()->accumulate(std::span(&task, 1));
  return sums.host();
}

inline bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

// A contraction with its operands on the device. `skew`: floats that they are off an alignment of
// 256 bytes.
class DeviceContraction {
 public:
  DeviceContraction(Device& on, const RandomContraction& host, std::int64_t skew = 0)
      : form(host.form),
        weights(host.weights),
        device_(&on),
        grad_(on, shifted(form.grad_output, grad_count(form), skew)),
        input_(on, shifted(form.input, input_count(form), skew)) {
    form.grad_output = grad_.data() + skew;
    form.input = input_.data() + skew;
  }
  [[nodiscard]] std::vector<double> run(double start = 0.0) const {
    return sink_sums(*device_, form, weights, start);
  }

  [[nodiscard]] static std::int64_t grad_count(const ContractionForm& f) {
    return f.batch * f.out_height * f.out_width * f.out_channels;
  }
  [[nodiscard]] static std::int64_t input_count(const ContractionForm& f) {
    return f.batch * f.in_height * f.in_width * f.in_channels;
  }

  ContractionForm form;
  std::int64_t weights = 0;

 private:
  static std::vector<float> shifted(const float* from, std::int64_t count, std::int64_t skew) {
    std::vector<float> values(static_cast<std::size_t>(skew), 0.0F);
    values.insert(values.end(), from, from + count);
    return values;
  }
  Device* device_;
  DeviceArray<float> grad_, input_;
};

}  // namespace fishermask::test
