#include "mask/top_k.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/vector_clones.h"
#include "mask/top_k_bits.h"
#include "mask/top_k_ranker.h"

namespace fishermask {
namespace {

constexpr std::int64_t kCacheLine = 64;

// How many units of [begin, end) are masked.
FM_VECTOR_CLONES std::int64_t masked_between(const std::uint8_t* kept, std::int64_t begin,
                                             std::int64_t end) {
  std::int64_t count = 0;
  for (; begin < end && begin % 8 != 0; ++begin) count += (~kept[begin / 8] >> (begin % 8)) & 1;
  for (; begin + 64 <= end; begin += 64) {
    std::uint64_t word = 0;
    std::memcpy(&word, kept + begin / 8, sizeof word);
    count += __builtin_popcountll(~word);
  }
  for (; begin < end; ++begin) count += (~kept[begin / 8] >> (begin % 8)) & 1;
  return count;
}

// Arrays in memory, masked in place. A log per segment has what the masked
// weights were.
class MemoryStore final : public TopKStore {
 public:
  MemoryStore(std::span<const TopKTensor> tensors, Unit unit, const TopKTuning& tuning) {
    for (const TopKTensor& tensor : tensors) {
      const std::int64_t elements = elements_per_unit(tensor.shape, unit);
      const std::int64_t units = unit_count(tensor.shape, unit);
      const std::int64_t size = segment_units(elements, tuning);
      tensors_.push_back(
          {tensor.weight,
           {tensor.weight, tensor.forget_sums, tensor.remain_sums, tensor.forget_gradient_sums},
           elements,
           size,
           std::vector<Log>(static_cast<std::size_t>((units + size - 1) / size))});
    }
  }

  [[nodiscard]] std::unique_ptr<TopKWindow> window() override {
    return std::make_unique<Window>(*this);
  }

  void correct(const UnitRange& segment, const std::uint8_t* kept,
               std::span<const TopKCorrection> corrections) override {
    const Array& array = of(segment);
    Log& log = log_of(segment);
    const std::int64_t elements = array.elements_per_unit;
    float* const weight = array.weight + segment.begin * elements;
    // The pass is long over: all that follows comes from memory, at once rather than one by one.
    std::vector<const float*> unmasked;  // where the pass has put their values
    std::size_t masked = 0;
    std::int64_t counted = 0;  // units whose masked ones are counted in `rank`
    std::int64_t rank = 0;
    for (const TopKCorrection& correction : corrections) {
      __builtin_prefetch(weight + correction.unit * elements, 1);
      if (correction.masked) {
        ++masked;
        continue;
      }
      rank += masked_between(kept, counted, correction.unit);
      counted = correction.unit;
      unmasked.push_back(log.values.data() + rank * elements);
      __builtin_prefetch(unmasked.back());
    }
    std::vector<float> late(masked * static_cast<std::size_t>(elements));
    log.corrections.assign(corrections.begin(), corrections.end());
    log.late = std::move(late);
    float* was = log.late.data();
    auto value = unmasked.begin();
    for (const TopKCorrection& correction : corrections) {
      float* const unit = weight + correction.unit * elements;
      if (correction.masked) {
        was = std::copy_n(unit, elements, was);
        std::fill_n(unit, elements, 0.0F);
      } else {
        std::copy_n(*value++, elements, unit);
      }
    }
  }

  void undo(const UnitRange& segment, const std::uint8_t* kept) override {
    const Array& array = of(segment);
    const std::int64_t elements = array.elements_per_unit;
    Log& log = log_of(segment);
    if (log.values.empty() && log.late.empty()) return;
    for_each_old(log, elements, kept, segment.end - segment.begin,
                 [&](std::int64_t unit, const float* old) {
                   std::copy_n(old, elements, array.weight + (segment.begin + unit) * elements);
                 });
    log = {};
  }

  // The old values of a tensor's masked weights, in index order: (masked * elements_per_unit,).
  [[nodiscard]] std::vector<float> old_values(std::size_t tensor, const KeepMask& mask,
                                              std::int64_t masked) const {
    const Array& array = tensors_[tensor];
    const std::int64_t elements = array.elements_per_unit;
    std::vector<float> all(static_cast<std::size_t>(masked * elements));
    float* next = all.data();
    for (std::size_t i = 0; i < array.logs.size(); ++i) {
      const std::int64_t begin = static_cast<std::int64_t>(i) * array.segment_units;
      const Log& log = array.logs[i];
      if (log.corrections.empty()) {
        next = std::copy(log.values.begin(), log.values.end(), next);
        continue;
      }
      for_each_old(
          log, elements, mask.bits.data() + begin / 8,
          std::min(array.segment_units, mask.units - begin),
          [&](std::int64_t, const float* old) { next = std::copy_n(old, elements, next); });
    }
    return all;
  }

 private:
  // What the masked weights of a segment were.
  struct Log {
    std::vector<float> values;                // of those that the pass masked, in order
    std::vector<TopKCorrection> corrections;  // what changed afterwards
    std::vector<float> late;                  // values of those that corrections masked
  };

  struct Array {
    float* weight = nullptr;
    UnitData data;
    std::int64_t elements_per_unit = 1;
    std::int64_t segment_units = 1;
    std::vector<Log> logs;  // one per segment
  };

  class Window final : public TopKWindow {
   public:
    explicit Window(MemoryStore& store) : store_(store) {}

    UnitData read(const UnitRange& range) override {
      const Array& array = store_.of(range);
      return array.data.at(range.begin * array.elements_per_unit);
    }
    void prefetch(const UnitRange& range) override {
      if (range.end - range.begin > kCacheLine) return;  // the processor sees streams by itself
      const UnitData data = read(range);
      for (const float* from :
           {data.weight, data.forget_sums, data.remain_sums, data.forget_gradient_sums}) {
        if (from != nullptr) __builtin_prefetch(from);
      }
    }
    void mask(const UnitRange& segment, std::span<const std::uint32_t> units) override {
      if (!units.empty()) store_.mask(segment, units);
    }

   private:
    MemoryStore& store_;
  };

  Array& of(const UnitRange& range) { return tensors_[static_cast<std::size_t>(range.tensor)]; }
  Log& log_of(const UnitRange& segment) {
    Array& array = of(segment);
    return array.logs[static_cast<std::size_t>(segment.begin / array.segment_units)];
  }

  void mask(const UnitRange& segment, std::span<const std::uint32_t> units) {
    Array& array = of(segment);
    const std::int64_t elements = array.elements_per_unit;
    std::vector<float> log(units.size() * static_cast<std::size_t>(elements));
    float* old = log.data();
    float* const first = array.weight + segment.begin * elements;
    if (elements == 1) {
      for (const std::uint32_t unit : units) *old++ = std::exchange(first[unit], 0.0F);
    } else {
      const auto bytes = static_cast<std::size_t>(elements) * sizeof(float);
      for (const std::uint32_t unit : units) {
        std::memcpy(old, first + unit * elements, bytes);
        std::memset(first + unit * elements, 0, bytes);
        old += elements;
      }
    }
    log_of(segment).values = std::move(log);
  }

  // visit(unit, its old values) for the masked units, `kept` being as the corrections left it.
  template <typename Visit>
  static void for_each_old(const Log& log, std::int64_t elements, const std::uint8_t* kept,
                           std::int64_t units, const Visit& visit) {
    const float* value = log.values.data();
    const float* late = log.late.data();
    auto next = log.corrections.begin();
    for_each_masked_bit(kept, units, [&](std::int64_t unit) {
      for (; next != log.corrections.end() && next->unit < unit; ++next) {
        if (!next->masked) value += elements;
      }
      const bool was_late = next != log.corrections.end() && next->unit == unit;
      const float*& from = was_late ? late : value;
      visit(unit, from);
      from += elements;
      if (was_late) ++next;
    });
  }

  std::vector<Array> tensors_;
};

std::vector<ScoreTensor> as_score_tensors(std::span<const TopKTensor> tensors) {
  std::vector<ScoreTensor> scored;
  for (const TopKTensor& tensor : tensors) {
    scored.push_back({tensor.name, tensor.shape, tensor.weight, tensor.forget_sums,
                      tensor.remain_sums, tensor.forget_gradient_sums, tensor.first_unit,
                      tensor.previous_keep});
  }
  return scored;
}

}  // namespace

TopKResult mask_top_k(const ScoreProgram& program, const ScoreSettings& settings,
                      std::span<const TopKTensor> tensors, const TopKAmount& amount,
                      bool keep_old_values, const TopKControl& control, const TopKTuning& tuning) {
  check_scorable(program, settings, as_score_tensors(tensors));
  std::vector<TopKUnits> units;
  for (const TopKTensor& tensor : tensors) {
    units.push_back({tensor.name, unit_count(tensor.shape, settings.unit),
                     elements_per_unit(tensor.shape, settings.unit), tensor.first_unit,
                     tensor.previous_keep, tensor.group});
  }
  MemoryStore store(tensors, settings.unit, tuning);
  TopKResult result = rank_top_k(program, settings, units, store, amount, control, tuning);
  if (keep_old_values) {
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      result.old_values.push_back(
          store.old_values(t, result.selection.masks[t], result.selection.masked[t]));
    }
  }
  return result;
}

}  // namespace fishermask
