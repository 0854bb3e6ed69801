// Masking on the device against the CPU's: the same bits, counts, thresholds and errors.
#include "mask/top_k.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>

#include "cuda/device_support.h"
#include "cuda/mask/sample_plan.h"
#include "native/mask/mask_test_support.h"

using namespace fishermask;
using namespace fishermask::mask_test;

namespace {

using Floats = std::vector<float>;
using Program = std::vector<ScoreInstruction>;
using enum ScoreOp;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

const Program kRatio = {{kForgetFisher}, {kRemainFisher}, {kConstant, 1e-12F}, {kAdd}, {kDiv}};
const Program kForget = {{kForgetFisher}};

const std::vector<Program>& programs() {
  static const std::vector<Program> all = {
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 0.75F}, {kMul}, {kSub}},
      kRatio,
      {{kConstant, 0.5F},
       {kWeight},
       {kWeight},
       {kMul},
       {kMul},
       {kForgetFisher},
       {kRemainFisher},
       {kConstant, 1.0F},
       {kMul},
       {kSub},
       {kMul}},
      kForget,
      {{kConstant, 0.0F},
       {kWeight},
       {kNeg},
       {kForgetGradient},
       {kMul},
       {kMax},
       {kWeight},
       {kAbs},
       {kRemainFisher},
       {kSqrt},
       {kMul},
       {kConstant, 1e-6F},
       {kAdd},
       {kDiv}},
      {{kWeight}, {kAbs}, {kNeg}},
      {{kForgetGradient}, {kAbs}},
      // No kernel of their own: interpreted.
      {{kUniform}},
      {{kRemainFisher}, {kForgetFisher}, {kMin}, {kForgetFisher}, {kAdd}},
      {{kUniform},
       {kForgetGradient},
       {kWeight},
       {kMax},
       {kSqrt},
       {kAbs},
       {kConstant, 3.0F},
       {kSub},
       {kNeg},
       {kMul},
       {kWeight},
       {kAbs},
       {kConstant, 0.1F},
       {kAdd},
       {kDiv}},
  };
  return all;
}

enum class Kind {
  kLognormal,
  kHeavyTail,
  kEqual,
  kTwoValues,
  kAscending,
  kDescending,
  kDenormal,
  kSignedZeros,
  kInfinities,
  kSparse,
};
constexpr std::array kKinds = {
    Kind::kLognormal,  Kind::kHeavyTail, Kind::kEqual,       Kind::kTwoValues,  Kind::kAscending,
    Kind::kDescending, Kind::kDenormal,  Kind::kSignedZeros, Kind::kInfinities, Kind::kSparse};

struct Case {
  std::vector<Shape> shapes;
  std::vector<Floats> weight, forget, remain, gradient;
  std::vector<KeepMask> previous;
};

float normal(Random& random) {
  float sum = -6.0F;
  for (int i = 0; i < 12; ++i) sum += random.uniform();
  return sum;
}

float forget_value(Random& random, Kind kind, float place) {
  switch (kind) {
    case Kind::kLognormal:
      return std::exp(2.0F * normal(random));
    case Kind::kEqual:
      return 3.0F;
    case Kind::kTwoValues:
      return random.below(3) == 0 ? 2.0F : 1.0F;
    case Kind::kAscending:
      return 1.0F + place;
    case Kind::kDescending:
      return 2.0F - place;
    case Kind::kDenormal:
      return std::bit_cast<float>(random.next() & 0x8003FFFFU);
    case Kind::kSignedZeros:
      return random.below(9) == 0 ? 1.0F : random.below(2) == 0 ? -0.0F : 0.0F;
    case Kind::kInfinities:
      return random.below(9) == 0   ? kInfinity
             : random.below(9) == 0 ? -kInfinity
                                    : random.uniform();
    case Kind::kSparse:
      return random.uniform();
    case Kind::kHeavyTail:
      break;
  }
  return std::exp(16.0F * random.uniform() - 20.0F);
}

Case make_case(Random& random, const std::vector<Shape>& shapes, Kind kind, Unit unit) {
  Case made;
  made.shapes = shapes;
  std::int64_t total = 0;
  for (const Shape& shape : shapes) total += element_count(shape);
  std::int64_t flat = 0;
  for (const Shape& shape : shapes) {
    const auto count = static_cast<std::size_t>(element_count(shape));
    Floats weight(count), forget(count), remain(count), gradient(count);
    for (std::size_t i = 0; i < count; ++i, ++flat) {
      const bool zero = random.below(kind == Kind::kSparse ? 2 : 50) == 0;
      weight[i] = zero ? (random.below(2) == 0 ? 0.0F : -0.0F) : random.uniform() - 0.5F;
      forget[i] = forget_value(random, kind, static_cast<float>(flat) / static_cast<float>(total));
      remain[i] = kind == Kind::kHeavyTail ? std::exp(8.0F * random.uniform() - 9.0F) : 1.0F;
      gradient[i] = kind == Kind::kEqual ? -0.25F : random.uniform() - 0.5F;
    }
    KeepMask previous(unit_count(shape, unit));
    for (std::int64_t u = 0; u < previous.units; ++u) {
      if (kind == Kind::kSparse) {  // whole units of zeros, too
        const std::int64_t elements = elements_per_unit(shape, unit);
        if (random.below(3) == 0) std::fill_n(weight.begin() + u * elements, elements, 0.0F);
      }
      if (random.below(7) == 0) previous.set_masked(u);
    }
    made.weight.push_back(std::move(weight));
    made.forget.push_back(std::move(forget));
    made.remain.push_back(std::move(remain));
    made.gradient.push_back(std::move(gradient));
    made.previous.push_back(std::move(previous));
  }
  return made;
}

// Values in the device's memory, not aligned to more than they are large.
template <typename T>
class Uploaded {
 public:
  Uploaded(Device& on, const std::vector<T>& values) : device_(&on), count_(values.size()) {
    memory_ = on.allocate(bytes() + static_cast<std::int64_t>(sizeof(T)), "a test's values");
    on.upload(reinterpret_cast<std::byte*>(data()),
              reinterpret_cast<const std::byte*>(values.data()), bytes());
  }
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.get()) + 1; }
  [[nodiscard]] std::vector<T> host() const {
    std::vector<T> values(count_);
    device_->download(reinterpret_cast<std::byte*>(values.data()),
                      reinterpret_cast<const std::byte*>(data()), bytes());
    return values;
  }

 private:
  [[nodiscard]] std::int64_t bytes() const { return static_cast<std::int64_t>(count_ * sizeof(T)); }

  Device* device_;
  std::size_t count_;
  std::shared_ptr<std::byte> memory_;
};

constexpr std::int64_t kForgetCount = 50;
constexpr std::int64_t kRemainCount = 450;
constexpr PhiloxKey kKey{0x123456789ABCDEFULL, 3};
constexpr std::uint64_t kFirstUnit = 0xFFFFFFF0U;  // the draws' counter leaves 32 bits

struct OnDevice {
  std::vector<Uploaded<float>> weight, forget, remain, gradient;
  std::vector<Uploaded<std::uint8_t>> previous;
  DeviceMaskRequest request;

  OnDevice(Device& on, const Case& made, const Program& program, Unit unit, bool with_previous) {
    request.program = program;
    request.forget_count = static_cast<float>(kForgetCount);
    request.remain_count = static_cast<float>(kRemainCount);
    request.key = kKey;
    std::uint64_t first = kFirstUnit;
    for (std::size_t t = 0; t < made.shapes.size(); ++t) {
      weight.emplace_back(on, made.weight[t]);
      forget.emplace_back(on, made.forget[t]);
      remain.emplace_back(on, made.remain[t]);
      gradient.emplace_back(on, made.gradient[t]);
      previous.emplace_back(on, made.previous[t].bits);
      DeviceMaskTensor tensor;
      tensor.name = "tensor" + std::to_string(t);
      tensor.weight = weight.back().data();
      tensor.forget_sums = forget.back().data();
      tensor.remain_sums = remain.back().data();
      tensor.forget_gradient_sums = gradient.back().data();
      tensor.previous_keep = with_previous ? previous.back().data() : nullptr;
      tensor.units = unit_count(made.shapes[t], unit);
      tensor.elements_per_unit = elements_per_unit(made.shapes[t], unit);
      tensor.first_unit = first;
      first += static_cast<std::uint64_t>(tensor.units);
      request.tensors.push_back(std::move(tensor));
    }
  }
};

std::vector<TopKTensor> cpu_tensors(const Case& made, std::vector<Floats>& weights, Unit unit,
                                    bool with_previous) {
  std::vector<TopKTensor> all;
  std::uint64_t first = kFirstUnit;
  for (std::size_t t = 0; t < made.shapes.size(); ++t) {
    TopKTensor tensor;
    tensor.name = "tensor" + std::to_string(t);
    tensor.shape = made.shapes[t];
    tensor.weight = weights[t].data();
    tensor.forget_sums = made.forget[t].data();
    tensor.remain_sums = made.remain[t].data();
    tensor.forget_gradient_sums = made.gradient[t].data();
    tensor.first_unit = first;
    tensor.previous_keep = with_previous ? &made.previous[t] : nullptr;
    first += static_cast<std::uint64_t>(unit_count(made.shapes[t], unit));
    all.push_back(std::move(tensor));
  }
  return all;
}

bool same_bits(const Floats& a, const Floats& b) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The device's result, if it has one: where the CPU fails, so must it, in the same words.
std::optional<DeviceMaskResult> check(const Case& made, const Program& program, Unit unit,
                                      std::int64_t k, bool with_previous = false) {
  std::vector<Floats> weights = made.weight;
  TopKResult expected;
  const std::string expected_error = error_of([&] {
    expected = mask_top_k(ScoreProgram(program), {unit, kForgetCount, kRemainCount, kKey},
                          cpu_tensors(made, weights, unit, with_previous), {k, 0.0, {}});
  });
  OnDevice on(test::device(), made, program, unit, with_previous);
  on.request.k = k;
  std::optional<DeviceMaskResult> result;
  const std::string error = error_of([&] { result = test::device().mask_top_k(on.request); });
  CHECK(error == expected_error);
  for (std::size_t t = 0; t < weights.size(); ++t) {
    CHECK(same_bits(on.weight[t].host(), weights[t]));
    CHECK(same_bits(on.forget[t].host(), made.forget[t]));
  }
  if (!result || !expected_error.empty()) return {};
  REQUIRE(expected.selection.rankings.size() == 1);
  const Ranking& ranking = expected.selection.rankings[0];
  CHECK(result->masked == expected.selection.masked);
  CHECK(result->eligible == ranking.eligible);
  CHECK(result->total_masked == ranking.masked);
  CHECK(result->threshold == ranking.threshold);
  REQUIRE(result->keep.size() == made.shapes.size());
  for (std::size_t t = 0; t < made.shapes.size(); ++t) {
    CHECK(result->keep[t] == expected.selection.masks[t].bits);
  }
  return result;
}

std::int64_t unit_total(const Case& made, Unit unit) {
  std::int64_t units = 0;
  for (const Shape& shape : made.shapes) units += unit_count(shape, unit);
  return units;
}

// One tensor of weights whose forget sums are given; remain 1, no weight 0.
Case plain_case(Floats forget) {
  Case made;
  const auto count = static_cast<std::int64_t>(forget.size());
  made.shapes = {{count}};
  made.weight = {Floats(forget.size(), 0.5F)};
  made.remain = {Floats(forget.size(), 1.0F)};
  made.gradient = {Floats(forget.size(), 1.0F)};
  made.previous = {KeepMask(count)};
  made.forget = {std::move(forget)};
  return made;
}

// Whether the device samples each unit of one tensor of so many.
std::vector<bool> sampled_units(std::int64_t units) {
  const std::int64_t words = (units + 31) / 32;
  const int strata = cuda::sample_strata(words);
  std::vector<bool> sampled(static_cast<std::size_t>(words * 32), false);
  for (int s = 0; s < strata; ++s) {
    const std::uint32_t jitter = philox_u32(cuda::kJitter, static_cast<std::uint64_t>(s));
    const std::int64_t word = cuda::sampled_word(words, strata, s, jitter);
    std::fill_n(sampled.begin() + word * 32, 32, true);
  }
  sampled.resize(static_cast<std::size_t>(units));
  return sampled;
}

}  // namespace

TEST_CASE("mask on the device: the CPU's bits for every program, unit and distribution") {
  Random random(81);
  const std::vector<Shape> shapes = {{5, 7, 3, 3}, {129}, {0, 4},         {11, 33},
                                     {5, 3, 5, 1}, {1},   {6, 1, 3, 3, 3}};
  int masked = 0;
  int refused = 0;
  for (std::size_t p = 0; p < programs().size(); ++p) {
    for (const Unit unit : {Unit::kWeight, Unit::kKernel, Unit::kFilter}) {
      for (const Kind kind : kKinds) {
        CAPTURE(p);
        CAPTURE(static_cast<int>(unit));
        CAPTURE(static_cast<int>(kind));
        const Case made = make_case(random, shapes, kind, unit);
        const std::int64_t k = random.below(unit_total(made, unit));
        CAPTURE(k);
        const auto result = check(made, programs()[p], unit, k, random.below(2) == 0);
        masked += result ? 1 : 0;
        refused += result ? 0 : 1;
        if (result) CHECK(result->passes == 1);
      }
    }
  }
  CHECK(masked > 250);
  CHECK(refused > 5);  // infinities of both signs in one mean
}

TEST_CASE("mask on the device: none, one, all, more than there are") {
  Random random(82);
  for (const Unit unit : {Unit::kWeight, Unit::kKernel}) {
    for (const Kind kind : {Kind::kLognormal, Kind::kTwoValues, Kind::kSparse}) {
      const Case made = make_case(random, {{33, 7, 3, 3}, {100}, {64, 2, 1, 1}}, kind, unit);
      const std::int64_t units = unit_total(made, unit);
      const auto all = check(made, kRatio, unit, units + 5);
      REQUIRE(all);
      CHECK(all->total_masked == all->eligible);
      for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, all->eligible - 1,
                                   all->eligible, all->eligible + 1, std::int64_t{1} << 40}) {
        CAPTURE(k);
        check(made, kRatio, unit, k);
        check(made, kRatio, unit, k, true);
      }
    }
  }
}

TEST_CASE("mask on the device: sizes around words, strips and blocks") {
  Random random(83);
  for (const std::int64_t size :
       {1, 31, 32, 33, 63, 65, 127, 255, 257, 1023, 1024, 1025, 4095, 4097, 8191, 8193, 16385}) {
    CAPTURE(size);
    const Kind kind = kKinds[static_cast<std::size_t>(random.below(kKinds.size() - 2))];
    const Case made = make_case(random, {{size}, {3}, {size / 2 + 1}}, kind, Unit::kWeight);
    check(made, kRatio, Unit::kWeight, random.below(size + size / 2) + 1);
  }
  for (const std::int64_t elements : {2, 4, 15, 16, 17, 25, 32, 33, 49, 128, 129, 300}) {
    for (const std::int64_t units : {1, 33, 65}) {
      CAPTURE(elements);
      CAPTURE(units);
      const Case made =
          make_case(random, {{units, 1, elements}, {7}}, Kind::kHeavyTail, Unit::kKernel);
      check(made, kRatio, Unit::kKernel, random.below(units) + 1);
    }
  }
  const Case many =
      make_case(random, std::vector<Shape>(70, Shape{3, 5}), Kind::kTwoValues, Unit::kWeight);
  check(many, kRatio, Unit::kWeight, 500);
}

TEST_CASE("mask on the device: nothing to mask") {
  DeviceMaskRequest request;
  request.program = kForget;
  request.k = 5;
  DeviceMaskResult result = test::device().mask_top_k(request);
  CHECK(result.total_masked == 0);
  CHECK(result.keep.empty());
  request.tensors.emplace_back();
  result = test::device().mask_top_k(request);
  CHECK(result.keep == std::vector<std::vector<std::uint8_t>>{{}});
  CHECK(result.masked == std::vector<std::int64_t>{0});
  CHECK_FALSE(result.threshold.has_value());
}

TEST_CASE("mask on the device: a sample brackets, one pass decides, twice alike") {
  Random random(84);
  const std::vector<Shape> shapes = {{70001}, {20, 300}, {1, 2, 3, 3}, {5000}};
  for (const Kind kind : kKinds) {
    CAPTURE(static_cast<int>(kind));
    const Case made = make_case(random, shapes, kind, Unit::kWeight);
    const std::int64_t units = unit_total(made, Unit::kWeight);
    const std::int64_t k = kind == Kind::kEqual ? units / 3 : 1 + random.below(units);
    CAPTURE(k);
    const auto first = check(made, kForget, Unit::kWeight, k, kind == Kind::kLognormal);
    REQUIRE(first);
    CHECK(first->passes == 1);
    if (kind != Kind::kTwoValues && kind != Kind::kLognormal) continue;
    const auto second = check(made, kForget, Unit::kWeight, k, kind == Kind::kLognormal);
    REQUIRE(second);
    CHECK(first->keep == second->keep);
  }
}

TEST_CASE("mask on the device: the same weights where the bits are not read") {
  Random random(90);
  const Case made = make_case(random, {{9001}, {0}, {40, 70}}, Kind::kLognormal, Unit::kWeight);
  OnDevice read(test::device(), made, kRatio, Unit::kWeight, false);
  OnDevice unread(test::device(), made, kRatio, Unit::kWeight, false);
  read.request.k = unread.request.k = 700;
  unread.request.read_keep = false;
  const DeviceMaskResult first = test::device().mask_top_k(read.request);
  const DeviceMaskResult second = test::device().mask_top_k(unread.request);
  CHECK(second.keep == std::vector<std::vector<std::uint8_t>>(3));
  CHECK(second.masked == first.masked);
  CHECK(second.threshold == first.threshold);
  for (std::size_t t = 0; t < made.shapes.size(); ++t) {
    CHECK(same_bits(read.weight[t].host(), unread.weight[t].host()));
  }
}

TEST_CASE("mask on the device: a sampled ranking of kernels") {
  Random random(85);
  const Case made = make_case(random, {{69, 1000, 1, 2}}, Kind::kHeavyTail, Unit::kKernel);
  const auto result = check(made, kRatio, Unit::kKernel, 700);
  REQUIRE(result);
  CHECK(result->passes == 1);
}

TEST_CASE("mask on the device: a sample that misleads costs passes but no result") {
  constexpr std::int64_t kUnits = 66000;
  Random random(86);
  const std::vector<bool> sampled = sampled_units(kUnits);
  for (const bool low_sample : {false, true}) {
    // The sample lies on one side of what it should stand for.
    Floats forget(kUnits);
    for (std::size_t i = 0; i < forget.size(); ++i) {
      const float value = static_cast<float>(random.below(500)) + 1.0F;
      forget[i] = sampled[i] == low_sample ? value : value + 1000.0F;
    }
    const Case made = plain_case(std::move(forget));
    const auto result = check(made, kForget, Unit::kWeight, kUnits / 2);
    REQUIRE(result);
    CHECK(result->passes == 5);
  }
}

TEST_CASE("mask on the device: a misled sample of kernels, some of them masked before") {
  constexpr std::int64_t kUnits = 66000;
  Random random(90);
  const std::vector<bool> sampled = sampled_units(kUnits);
  Case made = make_case(random, {{kUnits, 1, 2}}, Kind::kTwoValues, Unit::kKernel);
  for (std::size_t i = 0; i < made.forget[0].size(); ++i) {
    if (sampled[i / 2]) made.forget[0][i] += 1000.0F;
  }
  const auto result = check(made, kForget, Unit::kKernel, kUnits / 2, true);
  REQUIRE(result);
  CHECK(result->passes == 5);
}

TEST_CASE("mask on the device: more candidates than there is room for cost passes but no result") {
  constexpr std::int64_t kUnits = 170000;
  const std::vector<bool> sampled = sampled_units(kUnits);
  // Sampled words are all high or all low in turn, all others in between.
  Floats forget(kUnits);
  int words = 0;
  for (std::size_t i = 0; i < forget.size(); ++i) {
    if (i % 32 == 0 && sampled[i]) ++words;
    forget[i] = sampled[i] ? (words % 2 == 0 ? 1.0F : 3.0F) : 2.0F;
  }
  for (std::size_t i = 7; i < forget.size(); i += 11) forget[i] = 2.5F;
  const Case made = plain_case(std::move(forget));
  const auto result = check(made, kForget, Unit::kWeight, kUnits / 2);
  REQUIRE(result);
  CHECK(result->passes == 5);
}

TEST_CASE("mask on the device: NaN names every tensor that has any and changes nothing") {
  Random random(87);
  for (const Unit unit : {Unit::kWeight, Unit::kKernel}) {
    Case made = make_case(random, {{300, 1, 3, 3}, {800}, {40, 10, 3}}, Kind::kHeavyTail, unit);
    for (const std::size_t i : {5U, 2699U}) {
      made.forget[0][i] = kNan;
      made.weight[0][i] = 1.0F;
    }
    made.forget[2][17] = kNan;
    made.weight[2][17] = 1.0F;
    made.forget[1][9] = kNan;  // of no candidate
    made.weight[1][9] = 0.0F;
    for (const std::int64_t k : {0, 100, 100000}) {
      CHECK_FALSE(check(made, kRatio, unit, k).has_value());
      OnDevice on(test::device(), made, kRatio, unit, false);
      on.request.k = k;
      const std::string error = error_of([&] { (void)test::device().mask_top_k(on.request); });
      CHECK(contains(error, "ERR_FM_NON_FINITE"));
      CHECK(contains(error, "tensor0 (2), tensor2 (1)"));
    }
    // Masked before: no candidate either.
    for (std::size_t t : {0U, 2U}) {
      const std::int64_t elements = elements_per_unit(made.shapes[t], unit);
      for (std::size_t i = 0; i < made.forget[t].size(); ++i) {
        if (std::isnan(made.forget[t][i])) {
          made.previous[t].set_masked(static_cast<std::int64_t>(i) / elements);
        }
      }
    }
    CHECK(check(made, kRatio, unit, 100, true).has_value());
  }
}

TEST_CASE("mask on the device: a shortage of memory changes nothing, and the device goes on") {
  DeviceOptions options;
  const std::shared_ptr<Device> own = open_cuda_device(options);  // its pool holds nothing yet
  Random random(88);
  const Case made = make_case(random, {{5000}, {31, 33}}, Kind::kLognormal, Unit::kWeight);
  OnDevice on(*own, made, kRatio, Unit::kWeight, false);
  on.request.k = 1000;
  int failures = 0;
  bool done = false;
  for (std::int64_t bytes = 1 << 16; !done; bytes += bytes / 16) {
    setenv("FISHERMASK_EMULATED_MEMORY", std::to_string(bytes).c_str(), 1);
    const std::string error = error_of([&] { (void)own->mask_top_k(on.request); });
    unsetenv("FISHERMASK_EMULATED_MEMORY");
    done = error.empty();
    if (done) break;
    ++failures;
    CHECK(contains(error, "ERR_FM_OUT_OF_MEMORY"));
    CHECK(contains(error, "of a masking"));
    for (std::size_t t = 0; t < made.shapes.size(); ++t) {
      CHECK(same_bits(on.weight[t].host(), made.weight[t]));
    }
  }
  if (own->info().emulated) CHECK(failures > 0);
  CHECK_FALSE(same_bits(on.weight[0].host(), made.weight[0]));
}

TEST_CASE("mask on the device: errors of arguments") {
  Random random(89);
  const Case made = make_case(random, {{40}}, Kind::kHeavyTail, Unit::kWeight);
  const auto error = [&](const auto& change) {
    OnDevice on(test::device(), made, kRatio, Unit::kWeight, false);
    on.request.k = 3;
    change(on.request);
    const std::string text = error_of([&] { (void)test::device().mask_top_k(on.request); });
    CHECK(same_bits(on.weight[0].host(), made.weight[0]));
    return text;
  };
  CHECK(contains(error([](DeviceMaskRequest& r) { r.k = -1; }), "for k but received -1"));
  CHECK(contains(error([](DeviceMaskRequest& r) { r.tensors[0].remain_sums = nullptr; }),
                 "remainFisher for tensor tensor0"));
  CHECK(contains(error([](DeviceMaskRequest& r) { r.program.clear(); }), "ERR_FM_ARGUMENT"));
  CHECK(contains(error([](DeviceMaskRequest& r) { r.program.pop_back(); }), "ERR_FM_ARGUMENT"));
  CHECK(contains(
      error([](DeviceMaskRequest& r) { r.program.insert(r.program.begin(), {kAdd, 0.0F}); }),
      "ERR_FM_ARGUMENT"));
  CHECK(contains(error([](DeviceMaskRequest& r) { r.tensors[0].elements_per_unit = 0; }),
                 "0 or more units of 1 or more elements"));
}
