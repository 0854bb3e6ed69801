#include "mask_bench_data.h"

#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "core/parallel.h"

namespace fishermask::bench {
namespace {

constexpr std::int64_t kGrain = 1 << 14;
constexpr std::int64_t kChannels = 64;  // of the convolution that kernels and filters are of

constexpr std::array<std::pair<const char*, Distribution>, 6> kDistributions = {
    {{"lognormal", Distribution::kLognormal},
     {"equal", Distribution::kEqual},
     {"two-values", Distribution::kTwoValues},
     {"sorted", Distribution::kSorted},
     {"descending", Distribution::kDescending},
     {"denormal", Distribution::kDenormal}}};

using Words = std::array<std::uint32_t, 4>;

// In (0, 1).
float uniform(std::uint32_t word) { return static_cast<float>(word >> 9U) * 0x1p-23F + 0x1p-24F; }

// Standard normal, by Box and Muller.
float normal(std::uint32_t a, std::uint32_t b) {
  return std::sqrt(-2.0F * std::log(uniform(a))) * std::cos(6.2831853F * uniform(b));
}

template <typename Value>
void fill(const MaskBenchSettings& settings, std::uint64_t stream, std::int64_t first,
          std::span<float> to, const Value& value) {
  const PhiloxKey key{settings.key.seed, stream};
  parallel_for(static_cast<std::int64_t>(to.size()), kGrain,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   to[static_cast<std::size_t>(i)] =
                       value(first + i, philox(key, static_cast<std::uint64_t>(first + i)));
                 }
               });
}

float forget_of(const MaskBenchSettings& settings, std::int64_t i, const Words& words) {
  const auto place = [&](std::int64_t index) {
    return static_cast<float>(static_cast<double>(index + 1) /
                              static_cast<double>(settings.params));
  };
  switch (settings.distribution) {
    case Distribution::kLognormal:
      return std::exp(3.0F * normal(words[0], words[1]) - 12.0F);
    case Distribution::kTwoValues:
      return (words[0] & 1U) != 0 ? 2.0F : 1.0F;
    case Distribution::kSorted:
      return place(i);
    case Distribution::kDescending:
      return place(settings.params - 1 - i);
    case Distribution::kDenormal:
      // Divided by the count again, a subnormal number.
      return std::bit_cast<float>(1U + (words[0] & 0x3FFFFFU)) * static_cast<float>(kForgetCount);
    default:
      return 1.0F;
  }
}

}  // namespace

MaskBenchSettings mask_settings(const Arguments& arguments) {
  MaskBenchSettings settings;
  settings.params = arguments.count("params", 100'000'000);
  settings.share = arguments.number("ratio", 0.01);
  std::vector<std::string> names;
  for (const auto& [name, value] : kDistributions) names.emplace_back(name);
  settings.distribution_name = arguments.choice("distribution", "lognormal", names);
  for (const auto& [name, value] : kDistributions) {
    if (settings.distribution_name == name) settings.distribution = value;
  }
  settings.unit = parse_unit(arguments.choice("unit", "weight", {"weight", "kernel", "filter"}));
  settings.key.seed = static_cast<std::uint64_t>(arguments.integer("seed", 0));
  settings.shape = {settings.params};
  if (settings.unit != Unit::kWeight) {
    const std::int64_t filters = settings.params / (kChannels * 9);
    FM_CHECK(filters >= 1, ARGUMENT, "Expected at least ", kChannels * 9,
             " for --params with this unit but received ", settings.params);
    settings.shape = {filters, kChannels, 3, 3};
    settings.params = filters * kChannels * 9;
  }
  return settings;
}

const ScoreProgram& ratio_program() {
  static const ScoreProgram program({{ScoreOp::kForgetFisher},
                                     {ScoreOp::kRemainFisher},
                                     {ScoreOp::kConstant, 1e-12F},
                                     {ScoreOp::kAdd},
                                     {ScoreOp::kDiv}});
  return program;
}

void draw_weights(const MaskBenchSettings& settings, std::int64_t begin, std::span<float> weight) {
  fill(settings, 1, begin, weight,
       [](std::int64_t, const Words& words) { return uniform(words[0]) - 0.50000003F; });
}

void draw_forget(const MaskBenchSettings& settings, std::int64_t begin, std::span<float> forget) {
  fill(settings, 2, begin, forget,
       [&settings](std::int64_t i, const Words& words) { return forget_of(settings, i, words); });
}

void draw_remain(const MaskBenchSettings& settings, std::int64_t begin, std::span<float> remain) {
  fill(settings, 3, begin, remain, [&settings](std::int64_t, const Words& words) {
    if (settings.distribution != Distribution::kLognormal) return static_cast<float>(kRemainCount);
    return std::exp(3.0F * normal(words[0], words[1]) - 12.0F);
  });
}

}  // namespace fishermask::bench
