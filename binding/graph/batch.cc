#include "graph/batch.h"

#include <type_traits>

#include "core/parallel.h"
#include "core/placement.h"

namespace fishermask {
namespace {

void check_normalisation(const Normalisation& n, std::int64_t channels) {
  FM_CHECK(n.divisor > 0.0F, ARGUMENT, "expected a normalisation divisor above 0 but received ",
           n.divisor);
  FM_CHECK(n.mean.size() == n.std.size(), ARGUMENT,
           "expected as many means as standard deviations but received ", n.mean.size(), " and ",
           n.std.size());
  FM_CHECK(n.mean.empty() || static_cast<std::int64_t>(n.mean.size()) == channels, ARGUMENT,
           "expected a normalisation of ", channels, " channels but received ", n.mean.size());
  for (const float std : n.std) {
    FM_CHECK(std > 0.0F, ARGUMENT, "expected standard deviations above 0 but received ", std);
  }
}

template <typename From, typename To>
void convert(const From* from, To* to, std::int64_t count, std::int64_t channels,
             const Normalisation& n) {
  parallel_for(count / channels, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto channel = static_cast<std::size_t>(c);
        auto value = static_cast<std::conditional_t<std::is_same_v<From, double>, double, float>>(
            from[pixel * channels + c]);
        if (n.divisor != 1.0F) value = value / n.divisor;
        if (!n.mean.empty()) value = (value - n.mean[channel]) / n.std[channel];
        to[pixel * channels + c] = static_cast<To>(value);
      }
    }
  });
}

template <typename To>
void convert_any(const BatchData& batch, To* to, std::int64_t count, std::int64_t channels) {
  const TensorView& view = batch.view;
  if (view.dtype == DType::kU8) {
    convert(view.as<std::uint8_t>(), to, count, channels, batch.normalisation);
  } else if (view.dtype == DType::kF32) {
    convert(view.as<float>(), to, count, channels, batch.normalisation);
  } else {
    convert(view.as<double>(), to, count, channels, batch.normalisation);
  }
}

// f64 comes down to f32 on the host: the device computes in f32.
void write_on_device(const BatchData& batch, const TensorView& input, std::int64_t channels,
                     Device& device) {
  const DeviceNormalisation constants{batch.normalisation.divisor, batch.normalisation.mean,
                                      batch.normalisation.std};
  if (batch.view.dtype != DType::kF64) {
    return device.write_pixels(batch.view, channels, constants, input.as<float>());
  }
  const Tensor converted(DType::kF32, input.shape, "a batch");
  convert(batch.view.as<double>(), converted.as<float>(), input.count(), channels,
          batch.normalisation);
  device.upload(input.data, converted.view().data, input.bytes());
}

}  // namespace

void write_batch(const BatchData& batch, const TensorView& input, Device* device) {
  FM_CHECK(batch.view.shape == input.shape, SHAPE, "expected a batch of shape ",
           shape_text(input.shape), " but received ", shape_text(batch.view.shape));
  if (input.dtype == DType::kI32) {
    FM_CHECK(batch.view.dtype == DType::kI32, DTYPE, "expected i32 input but received ",
             dtype_name(batch.view.dtype));
    return write_batch_tensor(device, input, batch.view.data);
  }
  FM_CHECK(batch.view.dtype != DType::kI32, DTYPE, "expected real input but received i32");
  const std::int64_t count = input.count();
  const std::int64_t channels = input.shape.size() > 1 ? input.shape.back() : 1;
  check_normalisation(batch.normalisation, channels);
  if (count == 0) return;
  if (device != nullptr) return write_on_device(batch, input, channels, *device);
  if (input.dtype == DType::kF64) {
    convert_any(batch, input.as<double>(), count, channels);
  } else {
    convert_any(batch, input.as<float>(), count, channels);
  }
}

}  // namespace fishermask
