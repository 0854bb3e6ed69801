// One tensor to mask, drawn as the CPU's benchmark draws it, on a device.
#pragma once

#include "bench/native/mask_bench_data.h"
#include "device_array.h"
#include "mask/select.h"

namespace fishermask::cuda_bench {

[[nodiscard]] inline bench::MaskBenchSettings mask_settings(std::int64_t params,
                                                            const std::string& distribution) {
  return bench::mask_settings(bench::Arguments(
      {{"params", std::to_string(params)}, {"distribution", distribution}, {"ratio", "0.01"}}));
}

class MaskWork {
 public:
  // Bytes that it takes on the device, without what masking needs for itself.
  [[nodiscard]] static std::int64_t bytes(std::int64_t params) { return 16 * params; }

  MaskWork(Device& device, const bench::MaskBenchSettings& settings)
      : device_(&device),
        settings_(settings),
        weight_(device, settings.params),
        original_(device, settings.params),
        forget_(device, settings.params),
        remain_(device, settings.params) {
    draw(original_, bench::draw_weights);
    draw(forget_, bench::draw_forget);
    draw(remain_, bench::draw_remain);
    request_.program = bench::ratio_program().instructions();
    request_.forget_count = static_cast<float>(bench::kForgetCount);
    request_.remain_count = static_cast<float>(bench::kRemainCount);
    request_.k = ratio_to_k(settings.share, settings.params);
    DeviceMaskTensor tensor;
    tensor.name = "weights";
    tensor.weight = weight_.data();
    tensor.forget_sums = forget_.data();
    tensor.remain_sums = remain_.data();
    tensor.units = settings.params;
    request_.tensors = {tensor};
  }

  // The weights as drawn: a masked one is no candidate of the next masking.
  void restore() const { device_->copy(weight_.raw(), original_.raw(), weight_.bytes()); }
  // read_keep: also the bits' way to the host, into memory that is new each time.
  void mask(bool read_keep = true) {
    request_.read_keep = read_keep;
    result = device_->mask_top_k(request_);
  }
  [[nodiscard]] std::vector<float> weights() const { return weight_.read(); }

  DeviceMaskResult result;

 private:
  // By pieces: the host need not hold a whole array.
  template <typename Draw>
  void draw(const DeviceArray<float>& to, const Draw& draw_values) const {
    constexpr std::int64_t kPiece = std::int64_t{1} << 26;
    std::vector<float> piece(static_cast<std::size_t>(std::min(kPiece, to.count())));
    for (std::int64_t begin = 0; begin < to.count(); begin += kPiece) {
      const auto size = static_cast<std::size_t>(std::min(kPiece, to.count() - begin));
      draw_values(settings_, begin, std::span(piece).first(size));
      to.write(std::span<const float>(piece).first(size), begin);
    }
  }

  Device* device_;
  bench::MaskBenchSettings settings_;
  DeviceArray<float> weight_, original_, forget_, remain_;
  DeviceMaskRequest request_;
};

}  // namespace fishermask::cuda_bench
