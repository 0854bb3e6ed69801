// Batches that follow each other without the host waiting for the device: whatever runs early or
// late, each is read whole by the work behind it and by no other.
#include <array>
#include <cstring>
#include <random>

#include "cuda/device_support.h"
#include "cuda/setting.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr std::int64_t kChannels = 3;
const std::vector<float> kMean = {0.4F, 0.5F, 0.6F};
const std::vector<float> kDeviation = {0.2F, 0.25F, 0.5F};

float normalised(float raw, std::int64_t i) {
  const auto c = static_cast<std::size_t>(i % kChannels);
  return (raw / 255.0F - kMean[c]) / kDeviation[c];
}

// What a batch came to, on the device, and what it should have come to.
struct Sent {
  std::shared_ptr<std::byte> result;
  std::vector<float> expected;
};

class Sender {
 public:
  explicit Sender(Device& device) : device_(device) {}

  void send(std::int64_t pixels, int kind) {
    const std::int64_t count = pixels * kChannels;
    Sent sent{device_.allocate(count * 4, "a test's batch"), {}};
    if (kind == 0) {
      send_as<std::uint8_t>(DType::kU8, count, true, sent);
    } else if (kind == 1) {
      send_as<float>(DType::kF32, count, true, sent);
    } else {
      send_as<std::int32_t>(DType::kI32, count, false, sent);
    }
    sent_.push_back(std::move(sent));
  }

  void check() {
    for (const Sent& sent : sent_) {
      const auto count = static_cast<std::int64_t>(sent.expected.size());
      std::vector<float> seen(sent.expected.size());
      device_.download(reinterpret_cast<std::byte*>(seen.data()), sent.result.get(), count * 4);
      CHECK(std::memcmp(seen.data(), sent.expected.data(), static_cast<std::size_t>(count) * 4) ==
            0);
    }
    sent_.clear();
  }

 private:
  template <typename T>
  void send_as(DType type, std::int64_t count, bool pixels, Sent& sent) {
    const Tensor raw(type, {count / kChannels, kChannels});
    std::uniform_int_distribution<int> draw(0, 255);
    for (std::int64_t i = 0; i < count; ++i) raw.as<T>()[i] = static_cast<T>(draw(random_));
    auto* const to = reinterpret_cast<float*>(sent.result.get());
    for (std::int64_t i = 0; i < count; ++i) {
      const T value = raw.as<T>()[i];
      sent.expected.push_back(pixels ? normalised(static_cast<float>(value), i)
                                     : __builtin_bit_cast(float, static_cast<std::int32_t>(value)));
    }
    if (pixels) {
      device_.write_pixels(raw.view(), kChannels, {255.0F, kMean, kDeviation}, to);
    } else {
      device_.upload_batch(sent.result.get(), raw.view().data, count * 4);
    }
    // The caller's memory may change at once.
    std::memset(raw.view().data, 0xEE, static_cast<std::size_t>(raw.view().bytes()));
  }

  Device& device_;
  std::mt19937 random_{5};
  std::vector<Sent> sent_;
};

}  // namespace

TEST_CASE("uploads: batches of many sizes in a row, with streams ahead of and behind each other") {
  for (const StreamOrder& order : kStreamOrders) {
    CAPTURE(order.compute);
    CAPTURE(order.copies);
    const OrderedDevice ordered(order);
    const std::shared_ptr<Device>& device = ordered.get();
    Sender sender(*device);
    std::mt19937 random(9);
    for (int batch = 0; batch < 60; ++batch) {
      // Small, growing and shrinking: staging memory is taken anew and given back in between.
      const std::int64_t most = batch % 7 == 0 ? 40000 : 400;
      sender.send(std::uniform_int_distribution<std::int64_t>(1, most)(random), batch % 3);
    }
    sender.check();
    // The same staging memory again, now that nothing grows.
    for (int batch = 0; batch < 20; ++batch) sender.send(1000, batch % 3);
    sender.check();
  }
}

TEST_CASE("uploads: batches larger than all pinned memory") {
  for (const StreamOrder& order : kStreamOrders) {
    CAPTURE(order.compute);
    CAPTURE(order.copies);
    const OrderedDevice ordered(order);
    const std::shared_ptr<Device>& device = ordered.get();
    Sender sender(*device);
    for (int batch = 0; batch < 3; ++batch) sender.send(1'000'000, 2);
    sender.check();
    // In the order of everything else, through the other ring.
    const std::vector<float> values = normals(3'000'000, 4);
    const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(float));
    const auto memory = device->allocate(bytes, "a test's values");
    std::vector<float> source = values;
    device->upload(memory.get(), reinterpret_cast<const std::byte*>(source.data()), bytes);
    std::fill(source.begin(), source.end(), 0.0F);
    std::vector<float> seen(values.size());
    device->download(reinterpret_cast<std::byte*>(seen.data()), memory.get(), bytes);
    CHECK(seen == values);
  }
}

TEST_CASE("uploads: staging memory comes from the pool behind what still used it") {
  for (const StreamOrder& order : kStreamOrders) {
    CAPTURE(order.compute);
    CAPTURE(order.copies);
    const OrderedDevice ordered(order);
    const std::shared_ptr<Device>& device = ordered.get();
    Sender sender(*device);
    constexpr std::int64_t kBytes = 1 << 20;
    const std::vector<float> values = normals(kBytes / 4, 8);
    const std::array kept = {device->allocate(kBytes, "a test's values"),
                             device->allocate(kBytes, "a test's values")};
    {
      // Given back while the copies out of them have not run: the next batch's result takes one,
      // and it may be staged in the other.
      const std::array passing = {device->allocate(kBytes, "a test's values"),
                                  device->allocate(kBytes, "a test's values")};
      for (std::size_t i = 0; i < 2; ++i) {
        device->upload(passing[i].get(), reinterpret_cast<const std::byte*>(values.data()), kBytes);
        device->copy(kept[i].get(), passing[i].get(), kBytes);
      }
    }
    sender.send(kBytes / 12, 2);
    for (const auto& memory : kept) {
      std::vector<float> seen(values.size());
      device->download(reinterpret_cast<std::byte*>(seen.data()), memory.get(), kBytes);
      CHECK(seen == values);
    }
    sender.check();
  }
}

TEST_CASE("uploads: an empty batch, and one of a type that there are no pixels of") {
  Sender sender(device());
  sender.send(0, 0);
  sender.send(0, 2);
  sender.check();
  const Tensor wrong(DType::kF64, {2, kChannels});
  CHECK_THROWS_AS(device().write_pixels(wrong.view(), kChannels, {}, nullptr), Error);
  sender.send(5, 0);
  sender.check();
}
