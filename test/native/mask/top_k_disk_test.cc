#include "mask/top_k_disk.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "mask_test_support.h"

using namespace fishermask;
using namespace fishermask::mask_test;

namespace {

using Floats = std::vector<float>;
using enum ScoreOp;

// A folder that goes when the test ends.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / ("fishermask-" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

void write(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

std::vector<std::byte> contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::byte> bytes(chars.size());
  std::memcpy(bytes.data(), chars.data(), chars.size());
  return bytes;
}

void append(std::vector<std::byte>& bytes, const void* from, std::size_t size) {
  const auto* const first = static_cast<const std::byte*>(from);
  bytes.insert(bytes.end(), first, first + size);
}

// The 16 high bits of a value that has no others.
std::uint16_t bf16_of(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U);
}
std::uint16_t f16_of_small_integer(std::int64_t value) {  // |value| < 1024, as value * 2^-24
  return static_cast<std::uint16_t>(value < 0 ? 0x8000 | -value : value);
}

struct Stored {
  std::vector<Shape> shapes = {{40, 30, 3, 3}, {2500}, {77, 91}};
  std::vector<StoredType> types = {StoredType::kF32, StoredType::kBF16, StoredType::kF16};
  std::vector<Floats> weight, forget, remain;
  TopKFiles files;
  std::vector<TopKDiskTensor> tensors;
};

constexpr std::int64_t kHeader = 13;  // odd, so that nothing is aligned in the file

// weights, forget and remain sums in one file each, behind a header; the output is a copy.
Stored store(Random& random, const Folder& folder, bool ties) {
  Stored made;
  std::vector<std::byte> weights(kHeader, std::byte{0xAB}), forget(kHeader), remain(kHeader);
  std::int64_t first = 0;
  for (std::size_t t = 0; t < made.shapes.size(); ++t) {
    TopKDiskTensor tensor;
    tensor.name = "tensor" + std::to_string(t);
    tensor.shape = made.shapes[t];
    tensor.type = made.types[t];
    tensor.group = static_cast<std::int64_t>(t % 2);
    tensor.weight = {0, static_cast<std::int64_t>(weights.size())};
    tensor.output = {0, static_cast<std::int64_t>(weights.size())};
    tensor.forget_sums = {1, static_cast<std::int64_t>(forget.size())};
    tensor.remain_sums = {2, static_cast<std::int64_t>(remain.size())};
    Floats w, f, r;
    for (std::int64_t i = 0; i < element_count(tensor.shape); ++i) {
      float value = random.below(40) == 0 ? 0.0F : random.uniform() - 0.5F;
      if (tensor.type == StoredType::kF32) {
        append(weights, &value, 4);
      } else if (tensor.type == StoredType::kBF16) {
        const std::uint16_t bits = bf16_of(value);
        append(weights, &bits, 2);
        value = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
      } else {
        const std::int64_t units = random.below(1999) - 999;
        const std::uint16_t bits = f16_of_small_integer(units);
        append(weights, &bits, 2);
        value = static_cast<float>(units) * 0x1p-24F;
      }
      w.push_back(value);
      f.push_back(ties ? static_cast<float>(random.below(3)) : random.uniform() * random.uniform());
      r.push_back(ties ? 1.0F : random.uniform());
    }
    append(forget, f.data(), f.size() * 4);
    append(remain, r.data(), r.size() * 4);
    made.weight.push_back(std::move(w));
    made.forget.push_back(std::move(f));
    made.remain.push_back(std::move(r));
    tensor.first_unit = static_cast<std::uint64_t>(first);
    made.tensors.push_back(std::move(tensor));
  }
  append(weights, "end", 3);
  made.files.inputs = {folder.file("weights"), folder.file("forget"), folder.file("remain")};
  made.files.outputs = {folder.file("out")};
  write(made.files.inputs[0], weights);
  write(made.files.inputs[1], forget);
  write(made.files.inputs[2], remain);
  write(made.files.outputs[0], weights);
  return made;
}

TopKTuning small_tuning() {
  TopKTuning tuning = disk_tuning();
  tuning.segment_elements = 512;
  tuning.strata = 64;
  tuning.run = 4;
  tuning.least_sampled = 500;
  return tuning;
}

const ScoreProgram& ratio() {
  static const ScoreProgram program(
      {{kForgetFisher}, {kRemainFisher}, {kConstant, 1e-12F}, {kAdd}, {kDiv}});
  return program;
}

}  // namespace

TEST_CASE(
    "top-k on disk: masks as in memory, writes masked weights and every other byte as it was") {
  const Folder folder("top-k-disk");
  Random random(81);
  int missed = 0;
  for (const bool ties : {false, true}) {
    for (const bool includes_forget : {false, true}) {
      for (const Unit unit : {Unit::kWeight, Unit::kKernel, Unit::kFilter}) {
        for (const Scope scope : {Scope::kGlobal, Scope::kLayer, Scope::kTensor}) {
          for (const bool misled : {false, true}) {
            const ThreadCount threads(1 + static_cast<int>(random.below(3)));
            Stored made = store(random, folder, ties);
            made.files.remain_includes_forget = includes_forget;
            std::vector<Floats> weights = made.weight;
            std::vector<Floats> remain = made.remain;
            std::vector<TopKTensor> tensors;
            for (std::size_t t = 0; t < weights.size(); ++t) {
              for (std::size_t i = 0; includes_forget && i < remain[t].size(); ++i) {
                remain[t][i] =
                    static_cast<float>(std::max(0.0, static_cast<double>(remain[t][i]) -
                                                         static_cast<double>(made.forget[t][i])));
              }
              tensors.push_back({made.tensors[t].name, made.shapes[t], weights[t].data(),
                                 made.forget[t].data(), remain[t].data(), nullptr, 0, nullptr,
                                 made.tensors[t].group});
            }
            const ScoreSettings settings{unit, 50, 450, {}};
            const TopKAmount amount{{}, 0.05, scope};
            TopKTuning tuning = small_tuning();
            if (misled) tuning.candidate_divisor = 0;
            const TopKResult expected = mask_top_k(ratio(), settings, tensors, amount);
            const std::vector<std::byte> before = contents(made.files.inputs[0]);
            const TopKDiskResult result =
                mask_top_k_on_disk(ratio(), settings, made.files, made.tensors, amount, {}, tuning);
            CHECK(result.top_k.selection.masks == expected.selection.masks);
            CHECK(result.top_k.selection.masked == expected.selection.masked);
            for (std::size_t r = 0; r < expected.selection.rankings.size(); ++r) {
              CHECK(result.top_k.selection.rankings[r].threshold ==
                    expected.selection.rankings[r].threshold);
            }
            for (const TopKWork& work : result.top_k.work) missed += work.bracket_missed ? 1 : 0;
            std::vector<std::byte> wanted = before;
            for (std::size_t t = 0; t < made.tensors.size(); ++t) {
              const std::int64_t width = made.types[t] == StoredType::kF32 ? 4 : 2;
              const KeepMask bits = expand_to_weights(expected.selection.masks[t],
                                                      elements_per_unit(made.shapes[t], unit));
              for (std::int64_t i = 0; i < bits.units; ++i) {
                if (bits.kept(i)) continue;
                const auto at = made.tensors[t].weight.offset + i * width;
                std::fill_n(wanted.begin() + at, width, std::byte{0});
              }
            }
            CHECK(contents(made.files.outputs[0]) == wanted);
            CHECK(contents(made.files.inputs[0]) == before);
            CHECK(result.bytes_written >= 40 * 30 * 9 * 4 + 2500 * 2 + 77 * 91 * 2);
            CHECK(result.bytes_read > 2 * result.bytes_written);
          }
        }
      }
    }
  }
  CHECK(missed > 10);
}

TEST_CASE("top-k on disk: bad files and arguments are named") {
  const Folder folder("top-k-disk-errors");
  Random random(82);
  const ScoreSettings settings{Unit::kWeight, 50, 450, {}};
  const auto error = [&](const Stored& made) {
    return error_of([&] {
      (void)mask_top_k_on_disk(ratio(), settings, made.files, made.tensors,
                               {{}, 0.1, Scope::kGlobal}, {}, small_tuning());
    });
  };
  Stored made = store(random, folder, false);
  CHECK(error(made).empty());
  const auto damage = [&](const std::string& path, std::int64_t offset, float value) {
    std::vector<std::byte> bytes = contents(path);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    write(path, bytes);
  };
  damage(made.files.inputs[1], made.tensors[2].forget_sums.offset + 400, -1.0F);
  CHECK(
      contains(error(made), "ERR_FM_BAD_FILE: Expected finite sums of squares for tensor tensor2"));
  CHECK(contains(error(made), made.files.inputs[1]));
  made = store(random, folder, false);
  damage(made.files.inputs[0], made.tensors[0].weight.offset + 4000, HUGE_VALF);
  CHECK(contains(error(made), "ERR_FM_NON_FINITE: Expected finite weights for tensor tensor0"));
  made = store(random, folder, false);
  std::filesystem::resize_file(made.files.inputs[2], 1000);
  CHECK(contains(error(made), "ERR_FM_BAD_FILE"));
  made = store(random, folder, false);
  made.files.inputs[1] += "-missing";
  CHECK(contains(error(made), "ERR_FM_IO: could not open"));
  made = store(random, folder, false);
  made.tensors[1].remain_sums.file = 7;
  CHECK(contains(error(made), "remain Fisher of tensor tensor1 but received file 7"));
  CHECK(contains(error_of([] { (void)parse_stored_type("F64"); }), "ERR_FM_DTYPE"));
}
