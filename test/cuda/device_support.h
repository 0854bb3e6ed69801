// The device under test, and moving tensors to it and back.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/device.h"

namespace fishermask::test {

// One device for all tests of one precision; opened at first use.
inline Device& device(Precision precision = Precision::kF32) {
  static std::array<std::shared_ptr<Device>, 3> devices;
  auto& one = devices[static_cast<std::size_t>(precision)];
  if (one == nullptr) {
    DeviceOptions options;
    options.precision = precision;
    one = open_cuda_device(options);
  }
  return *one;
}

// A tensor in the device's memory.
class DeviceTensor {
 public:
  DeviceTensor() = default;
  explicit DeviceTensor(const Tensor& host, Device& on = device()) : device_(&on) {
    view_ = host.view();
    memory_ = on.allocate(host.view().bytes(), "a test's tensor");
    view_.data = memory_.get();
    on.upload(memory_.get(), host.view().data, host.view().bytes());
  }
  [[nodiscard]] const TensorView& view() const { return view_; }
  // Over `host`, of the same shape.
  void read(const Tensor& host) const {
    device_->download(host.view().data, view_.data, view_.bytes());
  }
  [[nodiscard]] Tensor host() const {
    Tensor out(view_.dtype, view_.shape);
    read(out);
    return out;
  }

 private:
  Device* device_ = nullptr;
  std::shared_ptr<std::byte> memory_;
  TensorView view_;
};

}  // namespace fishermask::test
