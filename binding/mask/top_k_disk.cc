#include "mask/top_k_disk.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>

#include "core/vector_clones.h"
#include "mask/file_range.h"
#include "mask/top_k_ranker.h"

namespace fishermask {
namespace {

static_assert(std::endian::native == std::endian::little);  // the files are

std::int64_t width_of(StoredType type) { return type == StoredType::kF32 ? 4 : 2; }

// f16 as f32, exactly: subnormals are counted in units of 2^-24.
float widen_f16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
  const std::uint32_t exponent = (bits >> 10U) & 0x1FU;
  const std::uint32_t fraction = bits & 0x3FFU;
  if (exponent == 0) {
    const float value = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
  }
  const std::uint32_t wide = exponent == 0x1FU ? 0xFFU : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23U) | (fraction << 13U));
}

void widen(StoredType type, const std::byte* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + i * 2, sizeof bits);
    to[i] = type == StoredType::kF16
                ? widen_f16(bits)
                : std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
  }
}

// How many values are not in [least, largest finite].
FM_VECTOR_CLONES std::int64_t count_outside(const float* values, std::int64_t count, float least) {
  constexpr float kMost = std::numeric_limits<float>::max();
  std::int32_t outside = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    outside += (values[i] >= least ? 0 : 1) | (values[i] <= kMost ? 0 : 1);
  }
  return outside;
}

// F_D - F_Df, clamped at 0; by way of f64, as JavaScript does it (src/unlearn/fisher-store.ts).
FM_VECTOR_CLONES void subtract_clamped(const float* __restrict forget, std::int64_t count,
                                       float* __restrict all) {
  for (std::int64_t i = 0; i < count; ++i) {
    const double left = static_cast<double>(all[i]) - static_cast<double>(forget[i]);
    all[i] = left > 0.0 ? static_cast<float>(left) : 0.0F;
  }
}

class DiskStore final : public TopKStore {
 public:
  DiskStore(const ScoreNeeds& needs, Unit unit, const TopKFiles& files,
            std::span<const TopKDiskTensor> tensors)
      : needs_(needs), tensors_(tensors), subtracts_(files.remain_includes_forget) {
    for (const std::string& path : files.inputs) {
      inputs_.emplace_back(path, RangeFile::Mode::kRead);
    }
    for (const std::string& path : files.outputs) {
      outputs_.emplace_back(path, RangeFile::Mode::kWrite);
    }
    for (const TopKDiskTensor& tensor : tensors) {
      elements_per_unit_.push_back(elements_per_unit(tensor.shape, unit));
    }
  }

  [[nodiscard]] std::unique_ptr<TopKWindow> window() override {
    return std::make_unique<Window>(*this);
  }

  void correct(const UnitRange& segment, const std::uint8_t* /*kept*/,
               std::span<const TopKCorrection> corrections) override {
    const TopKDiskTensor& tensor = of(segment);
    const std::int64_t unit_bytes = elements_of(segment) * width_of(tensor.type);
    std::vector<std::byte> bytes(static_cast<std::size_t>(unit_bytes));
    for (const TopKCorrection& correction : corrections) {
      const std::int64_t from = (segment.begin + correction.unit) * unit_bytes;
      if (correction.masked) {
        std::fill(bytes.begin(), bytes.end(), std::byte{0});
      } else {
        input(tensor.weight).read(tensor.weight.offset + from, bytes);
        bytes_read_ += unit_bytes;
      }
      output(tensor.output).write(tensor.output.offset + from, bytes);
      bytes_written_ += unit_bytes;
    }
  }

  // The source has the old values and the next pass writes every segment whole; after an error the
  // outputs are thrown away.
  void undo(const UnitRange& /*segment*/, const std::uint8_t* /*kept*/) override {}

  [[nodiscard]] std::int64_t bytes_read() const { return bytes_read_; }
  [[nodiscard]] std::int64_t bytes_written() const { return bytes_written_; }

 private:
  class Window final : public TopKWindow {
   public:
    explicit Window(DiskStore& store) : store_(store) {}

    UnitData read(const UnitRange& range) override {
      const TopKDiskTensor& tensor = store_.of(range);
      const std::int64_t first = range.begin * store_.elements_of(range);
      const std::int64_t count = (range.end - range.begin) * store_.elements_of(range);
      UnitData data;
      data.weight = read_weights(tensor, first, count);
      if (store_.reads_forget()) {
        data.forget_sums = read_sums(tensor, tensor.forget_sums, first, count, 0.0F, forget_);
      }
      if (store_.needs_.remain_fisher) {
        data.remain_sums = read_sums(tensor, tensor.remain_sums, first, count, 0.0F, remain_);
        if (store_.subtracts_) subtract_clamped(forget_.data(), count, remain_.data());
      }
      if (store_.needs_.forget_gradient) {
        data.forget_gradient_sums = read_sums(tensor, tensor.forget_gradient_sums, first, count,
                                              std::numeric_limits<float>::lowest(), gradient_);
      }
      return data;
    }

    void prefetch(const UnitRange& range) override {
      const TopKDiskTensor& tensor = store_.of(range);
      const std::int64_t first = range.begin * store_.elements_of(range);
      const std::int64_t count = (range.end - range.begin) * store_.elements_of(range);
      const auto ask = [&](bool needed, const StoredRange& from, std::int64_t width) {
        if (needed) store_.input(from).will_need(from.offset + first * width, count * width);
      };
      ask(true, tensor.weight, width_of(tensor.type));
      ask(store_.reads_forget(), tensor.forget_sums, 4);
      ask(store_.needs_.remain_fisher, tensor.remain_sums, 4);
      ask(store_.needs_.forget_gradient, tensor.forget_gradient_sums, 4);
    }

    void mask(const UnitRange& segment, std::span<const std::uint32_t> masked) override {
      const TopKDiskTensor& tensor = store_.of(segment);
      const std::int64_t unit_bytes = store_.elements_of(segment) * width_of(tensor.type);
      const std::int64_t units = segment.end - segment.begin;
      for (const std::uint32_t unit : masked) {
        std::memset(stored_.data() + unit * unit_bytes, 0, static_cast<std::size_t>(unit_bytes));
      }
      const auto bytes = static_cast<std::size_t>(units * unit_bytes);
      store_.output(tensor.output)
          .write(tensor.output.offset + segment.begin * unit_bytes, {stored_.data(), bytes});
      store_.bytes_written_ += static_cast<std::int64_t>(bytes);
    }

   private:
    template <typename T>
    static void grow(std::vector<T>& buffer, std::int64_t count) {
      if (static_cast<std::int64_t>(buffer.size()) < count) {
        buffer.resize(static_cast<std::size_t>(count));
      }
    }

    // The stored bytes stay in stored_ for mask().
    const float* read_weights(const TopKDiskTensor& tensor, std::int64_t first,
                              std::int64_t count) {
      const std::int64_t width = width_of(tensor.type);
      grow(stored_, count * width);
      store_.read(tensor.weight, first * width,
                  {stored_.data(), static_cast<std::size_t>(count * width)});
      grow(weight_, count);
      if (tensor.type == StoredType::kF32) {
        std::memcpy(weight_.data(), stored_.data(), static_cast<std::size_t>(count * width));
      } else {
        widen(tensor.type, stored_.data(), count, weight_.data());
      }
      const std::int64_t bad =
          count_outside(weight_.data(), count, std::numeric_limits<float>::lowest());
      FM_CHECK(bad == 0, NON_FINITE, "Expected finite weights for tensor ", tensor.name, " of ",
               store_.input(tensor.weight).path(), " but received ", bad,
               " that are not, from element ", first, " on");
      return weight_.data();
    }

    const float* read_sums(const TopKDiskTensor& tensor, const StoredRange& from,
                           std::int64_t first, std::int64_t count, float least,
                           std::vector<float>& to) {
      grow(to, count);
      store_.read(from, first * 4,
                  std::as_writable_bytes(std::span(to.data(), static_cast<std::size_t>(count))));
      const std::int64_t bad = count_outside(to.data(), count, least);
      FM_CHECK(bad == 0, BAD_FILE, "Expected finite sums", least < 0.0F ? "" : " of squares",
               " for tensor ", tensor.name, " of ", store_.input(from).path(), " but received ",
               bad, " that are not, from element ", first, " on");
      return to.data();
    }

    DiskStore& store_;
    std::vector<std::byte> stored_;  // the weights as they are stored
    std::vector<float> weight_, forget_, remain_, gradient_;
  };

  [[nodiscard]] const TopKDiskTensor& of(const UnitRange& range) const {
    return tensors_[static_cast<std::size_t>(range.tensor)];
  }
  [[nodiscard]] std::int64_t elements_of(const UnitRange& range) const {
    return elements_per_unit_[static_cast<std::size_t>(range.tensor)];
  }
  [[nodiscard]] bool reads_forget() const {
    return needs_.forget_fisher || (subtracts_ && needs_.remain_fisher);
  }
  [[nodiscard]] const RangeFile& input(const StoredRange& range) const {
    return inputs_[static_cast<std::size_t>(range.file)];
  }
  [[nodiscard]] const RangeFile& output(const StoredRange& range) const {
    return outputs_[static_cast<std::size_t>(range.file)];
  }
  void read(const StoredRange& from, std::int64_t byte, std::span<std::byte> to) {
    input(from).read(from.offset + byte, to);
    bytes_read_ += static_cast<std::int64_t>(to.size());
  }

  ScoreNeeds needs_;
  std::span<const TopKDiskTensor> tensors_;
  bool subtracts_;
  std::vector<std::int64_t> elements_per_unit_;
  std::vector<RangeFile> inputs_;
  std::vector<RangeFile> outputs_;
  std::atomic<std::int64_t> bytes_read_ = 0;
  std::atomic<std::int64_t> bytes_written_ = 0;
};

void check_range(const StoredRange& range, std::size_t files, bool needed, const char* what,
                 const TopKDiskTensor& tensor) {
  if (!needed) return;
  FM_CHECK(range.file >= 0 && range.file < static_cast<std::int64_t>(files) && range.offset >= 0,
           ARGUMENT, "Expected a place in one of ", files, " files for the ", what, " of tensor ",
           tensor.name, " but received file ", range.file, " at ", range.offset);
}

void check_count(bool needed, std::int64_t count, const char* name) {
  FM_CHECK(!needed || count > 0, ARGUMENT, "Expected a positive number of samples for ", name,
           " but received ", count);
}

void check(const ScoreNeeds& needs, const ScoreSettings& settings, const TopKFiles& files,
           std::span<const TopKDiskTensor> tensors) {
  check_count(needs.forget_fisher || needs.forget_gradient, settings.forget_count, "forget_count");
  check_count(needs.remain_fisher, settings.remain_count, "remain_count");
  const bool subtracts = files.remain_includes_forget && needs.remain_fisher;
  for (const TopKDiskTensor& tensor : tensors) {
    check_range(tensor.weight, files.inputs.size(), true, "weight", tensor);
    check_range(tensor.output, files.outputs.size(), true, "output", tensor);
    check_range(tensor.forget_sums, files.inputs.size(), needs.forget_fisher || subtracts,
                "forget Fisher", tensor);
    check_range(tensor.remain_sums, files.inputs.size(), needs.remain_fisher, "remain Fisher",
                tensor);
    check_range(tensor.forget_gradient_sums, files.inputs.size(), needs.forget_gradient,
                "forget gradient", tensor);
  }
}

}  // namespace

StoredType parse_stored_type(std::string_view name) {
  if (name == "F32") return StoredType::kF32;
  if (name == "BF16") return StoredType::kBF16;
  if (name == "F16") return StoredType::kF16;
  fail(ErrorCode::kDTYPE, "Expected F32, BF16 or F16 for the weights' type but received ", name);
}

TopKTuning disk_tuning() {
  TopKTuning tuning;
  tuning.segment_elements = 1 << 18;
  tuning.strata = 1 << 10;  // every run is a read of its own from each input
  tuning.run = 128;         // within a page, which is read whole anyway
  return tuning;
}

TopKDiskResult mask_top_k_on_disk(const ScoreProgram& program, const ScoreSettings& settings,
                                  const TopKFiles& files, std::span<const TopKDiskTensor> tensors,
                                  const TopKAmount& amount, const TopKControl& control,
                                  const TopKTuning& tuning) {
  check(program.needs(), settings, files, tensors);
  std::vector<TopKUnits> units;
  for (const TopKDiskTensor& tensor : tensors) {
    units.push_back({tensor.name, unit_count(tensor.shape, settings.unit),
                     elements_per_unit(tensor.shape, settings.unit), tensor.first_unit, nullptr,
                     tensor.group});
  }
  DiskStore store(program.needs(), settings.unit, files, tensors);
  TopKDiskResult result;
  result.top_k = rank_top_k(program, settings, units, store, amount, control, tuning);
  result.bytes_read = store.bytes_read();
  result.bytes_written = store.bytes_written();
  return result;
}

}  // namespace fishermask
