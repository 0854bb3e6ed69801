#include "mask/keep_mask.h"

#include <doctest/doctest.h>

#include <bit>
#include <cstring>

#include "mask/unit.h"
#include "mask_test_support.h"

using namespace fishermask;
using namespace fishermask::mask_test;

namespace {

KeepMask random_mask(Random& random, std::int64_t units) {
  KeepMask mask(units);
  for (std::int64_t u = 0; u < units; ++u) {
    if (random.below(3) == 0) mask.set_masked(u);
  }
  return mask;
}

// Any bit pattern, NaNs, denormals and -0 included.
std::vector<float> random_bits(Random& random, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    const std::uint32_t bits = random.below(10) == 0 ? 0x80000000U : random.next();
    std::memcpy(&value, &bits, sizeof bits);
  }
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("keep-mask: starts with everything kept, LSB first, padded with zeros") {
  KeepMask mask(11);
  CHECK(mask.bits == std::vector<std::uint8_t>{0xFF, 0x07});
  CHECK(masked_count(mask) == 0);
  mask.set_masked(0);
  mask.set_masked(9);
  CHECK(mask.bits == std::vector<std::uint8_t>{0xFE, 0x05});
  CHECK(masked_count(mask) == 2);
  CHECK_FALSE(mask.kept(9));
  mask.set_kept(9);
  CHECK(mask.kept(9));
  CHECK(KeepMask(0).bits.empty());
  CHECK(KeepMask(16).bits.size() == 2);
}

TEST_CASE("keep-mask: packed bytes are checked") {
  CHECK(KeepMask(3, {0x05}).kept(2));
  CHECK(masked_count(KeepMask(3, {0x05})) == 1);
  CHECK(contains(error_of([] { KeepMask(3, {0x0D}); }), "padding"));
  CHECK(contains(error_of([] { KeepMask(9, {0x05}); }), "ERR_FM_ARGUMENT"));
  CHECK(contains(error_of([] { KeepMask(-1); }), "ERR_FM_ARGUMENT"));
}

TEST_CASE("keep-mask: intersection masks what either masks") {
  Random random(21);
  for (const std::int64_t units : {1, 7, 8, 9, 100}) {
    const KeepMask a = random_mask(random, units);
    const KeepMask b = random_mask(random, units);
    const KeepMask both = intersect(a, b);
    for (std::int64_t u = 0; u < units; ++u) CHECK(both.kept(u) == (a.kept(u) && b.kept(u)));
  }
  CHECK(contains(error_of([] { (void)intersect(KeepMask(3), KeepMask(4)); }), "ERR_FM_MISMATCH"));
}

TEST_CASE("keep-mask: expands to one bit per weight") {
  Random random(22);
  const KeepMask mask = random_mask(random, 37);
  const KeepMask weights = expand_to_weights(mask, 9);
  CHECK(weights.units == 37 * 9);
  for (std::int64_t i = 0; i < weights.units; ++i) CHECK(weights.kept(i) == mask.kept(i / 9));
  CHECK(expand_to_weights(mask, 1) == mask);
  CHECK(contains(error_of([&] { (void)expand_to_weights(mask, 0); }), "elements_per_unit"));
}

TEST_CASE("keep-mask: apply zeroes exactly the masked units and undo restores every bit") {
  Random random(23);
  for (const std::int64_t units : {1, 8, 63, 65, 1000, 200001}) {
    for (const std::int64_t size : {1, 9}) {
      const KeepMask mask = random_mask(random, units);
      const std::vector<float> original = random_bits(random, units * size);
      std::vector<float> expected = original;
      for (std::int64_t i = 0; i < units * size; ++i) {
        if (!mask.kept(i / size)) expected[static_cast<std::size_t>(i)] = 0.0F;
      }
      for (int threads = 1; threads <= 4; ++threads) {
        const ThreadCount team(threads);
        std::vector<float> weights = original;
        std::vector<float> old_values(static_cast<std::size_t>(masked_count(mask) * size));
        apply_keep_mask(mask, size, weights, old_values);
        CHECK(same_bits(weights, expected));
        std::vector<float> again = weights;
        apply_keep_mask(mask, size, again);
        CHECK(same_bits(again, expected));
        undo_keep_mask(mask, size, weights, old_values);
        CHECK(same_bits(weights, original));
      }
    }
  }
}

TEST_CASE("keep-mask: sizes that do not fit change nothing") {
  KeepMask mask(3);
  mask.set_masked(1);
  std::vector<float> weights = {1.0F, 2.0F, 3.0F, 4.0F};
  std::vector<float> old_values(2);
  CHECK(contains(error_of([&] { apply_keep_mask(mask, 1, weights); }), "ERR_FM_MISMATCH"));
  weights.pop_back();
  CHECK(contains(error_of([&] { apply_keep_mask(mask, 1, weights, old_values); }),
                 "ERR_FM_MISMATCH"));
  CHECK(
      contains(error_of([&] { undo_keep_mask(mask, 1, weights, old_values); }), "ERR_FM_MISMATCH"));
  CHECK(contains(error_of([&] { apply_keep_mask(mask, 0, weights); }), "ERR_FM_ARGUMENT"));
  CHECK(weights == std::vector<float>{1.0F, 2.0F, 3.0F});
}

TEST_CASE("unit: counts and sizes of PyTorch-layout weights") {
  const Shape conv = {8, 4, 3, 5};
  const Shape linear = {10, 6};
  const Shape bias = {7};
  CHECK(unit_count(conv, Unit::kWeight) == 480);
  CHECK(unit_count(conv, Unit::kKernel) == 32);
  CHECK(elements_per_unit(conv, Unit::kKernel) == 15);
  CHECK(unit_count(conv, Unit::kFilter) == 8);
  CHECK(elements_per_unit(conv, Unit::kFilter) == 60);
  CHECK(unit_count(linear, Unit::kKernel) == 60);
  CHECK(elements_per_unit(linear, Unit::kKernel) == 1);
  CHECK(unit_count(linear, Unit::kFilter) == 10);
  CHECK(elements_per_unit(linear, Unit::kFilter) == 6);
  for (const Unit unit : {Unit::kWeight, Unit::kKernel, Unit::kFilter}) {
    CHECK(unit_count(bias, unit) == 7);
    CHECK(elements_per_unit(bias, unit) == 1);
    CHECK(unit_count({}, unit) == 1);
    CHECK(unit_count({0, 4, 3, 3}, unit) == 0);
    CHECK(parse_unit(unit_name(unit)) == unit);
  }
  CHECK(unit_count({8, 4, 3}, Unit::kKernel) == 32);
  CHECK(unit_count({70000, 70000}, Unit::kWeight) == std::int64_t{4'900'000'000});
  CHECK(contains(error_of([] { (void)parse_unit("neuron"); }), "neuron"));
}
