// An environment variable for as long as this lives, for what is read when a device is opened; and
// devices whose streams the emulation runs late.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "core/device.h"

namespace fishermask::test {

class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  ~Setting() {
    if (before_) {
      setenv(name_, before_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// When the emulation runs what is enqueued: at once, or as late as it may (emulation/streams.h).
struct StreamOrder {
  const char* compute;
  const char* copies;
};
inline constexpr StreamOrder kStreamOrders[] = {
    {"", ""}, {"late", "late"}, {"late", ""}, {"", "late"}};

// The stream of the copies is made at the first batch.
class OrderedDevice {
 public:
  explicit OrderedDevice(const StreamOrder& order)
      : device_(opened(order.compute)), copies_("FISHERMASK_EMULATED_STREAMS", order.copies) {}
  [[nodiscard]] const std::shared_ptr<Device>& get() const { return device_; }

 private:
  static std::shared_ptr<Device> opened(const char* order) {
    const Setting compute("FISHERMASK_EMULATED_STREAMS", order);
    return open_cuda_device({});
  }
  std::shared_ptr<Device> device_;
  Setting copies_;
};

}  // namespace fishermask::test
