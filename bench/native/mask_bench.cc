// Masking the top share in memory, beside one pass that reads and writes the same arrays.
#include <algorithm>
#include <bit>
#include <cstring>
#include <fstream>
#include <memory>

#include "core/parallel.h"
#include "core/score_key.h"
#include "document.h"
#include "mask/keep_mask.h"
#include "mask/select.h"
#include "mask/top_k.h"
#include "mask_bench_data.h"
#include "mask_stream_bench.h"
#include "memory.h"

namespace fishermask::bench {
namespace {

constexpr std::int64_t kGrain = 1 << 16;

using Floats = std::unique_ptr<float[]>;

struct Arrays {
  std::int64_t count = 0;
  Floats weight, forget, remain;
  Floats original;  // of the weights

  explicit Arrays(const MaskBenchSettings& settings)
      : count(settings.params),
        weight(array()),
        forget(array()),
        remain(array()),
        original(array()) {
    draw_weights(settings, 0, span(original));
    draw_forget(settings, 0, span(forget));
    draw_remain(settings, 0, span(remain));
    restore();
  }
  [[nodiscard]] Floats array() const {
    return std::make_unique<float[]>(static_cast<std::size_t>(count));
  }
  [[nodiscard]] std::span<float> span(const Floats& from) const {
    return {from.get(), static_cast<std::size_t>(count)};
  }
  void restore() const {
    parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      std::copy(original.get() + begin, original.get() + end, weight.get() + begin);
    });
  }
};

// Reads both Fishers and the weights and writes the weights: sums have no sign, so the bits that
// are written are the ones that were read, which no compiler knows.
void one_pass(const Arrays& arrays) {
  parallel_for(arrays.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const float* const forget = arrays.forget.get();
    const float* const remain = arrays.remain.get();
    float* const weight = arrays.weight.get();
    for (std::int64_t i = begin; i < end; ++i) {
      const std::uint32_t both =
          std::bit_cast<std::uint32_t>(forget[i]) & std::bit_cast<std::uint32_t>(remain[i]);
      weight[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(weight[i]) ^ (both >> 31U));
    }
  });
}

// The definition: the k units that std::nth_element puts first by (largest score, smallest index).
KeepMask reference_mask(std::span<const float> scores, std::int64_t k) {
  std::vector<std::uint64_t> order;
  order.reserve(scores.size());
  for (std::size_t u = 0; u < scores.size(); ++u) {
    const std::uint32_t key = score_key(scores[u]);
    if (key > kNotEligibleKey) order.push_back((std::uint64_t{~key} << 32U) | u);
  }
  KeepMask mask(static_cast<std::int64_t>(scores.size()));
  const auto last = order.begin() + std::min(k, static_cast<std::int64_t>(order.size()));
  std::nth_element(order.begin(), last, order.end());
  for (auto it = order.begin(); it != last; ++it) {
    mask.set_masked(static_cast<std::int64_t>(*it & 0xFFFFFFFFU));
  }
  return mask;
}

// An array in NumPy's format 1.0; type as NumPy writes it: "<f4".
void write_npy(const std::string& path, const char* type, std::int64_t count, const void* data,
               std::int64_t bytes) {
  std::string header =
      text("{'descr': '", type, "', 'fortran_order': False, 'shape': (", count, ",), }");
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  const auto size = static_cast<std::uint16_t>(header.size());
  std::ofstream out(path, std::ios::binary);
  out.write("\x93NUMPY\x01\x00", 8);
  out.write(reinterpret_cast<const char*>(&size), sizeof size);
  out << header;
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  out.flush();
  FM_CHECK(out.good(), IO, "could not write ", path);
}

void dump(const std::string& prefix, const std::vector<float>& scores, const Arrays& arrays,
          const KeepMask& mask) {
  const auto units = static_cast<std::int64_t>(scores.size());
  write_npy(prefix + "scores.npy", "<f4", units, scores.data(), units * 4);
  write_npy(prefix + "weights.npy", "<f4", arrays.count, arrays.weight.get(), arrays.count * 4);
  std::vector<std::uint8_t> kept(scores.size());
  for (std::int64_t u = 0; u < units; ++u) {
    kept[static_cast<std::size_t>(u)] = mask.kept(u) ? 1 : 0;
  }
  write_npy(prefix + "keepmask.npy", "|u1", units, kept.data(), units);
}

class MaskBench {
 public:
  explicit MaskBench(const MaskBenchSettings& settings)
      : settings_(settings),
        arrays_(settings),
        score_settings_{settings.unit, kForgetCount, kRemainCount, {}} {
    tensor_.name = "weights";
    tensor_.shape = settings.shape;
    tensor_.weight = arrays_.weight.get();
    tensor_.forget_sums = arrays_.forget.get();
    tensor_.remain_sums = arrays_.remain.get();
  }

  void mask() {
    result_ = mask_top_k(ratio_program(), score_settings_, {&tensor_, 1},
                         {{}, settings_.share, Scope::kGlobal});
  }
  void one_pass() const { bench::one_pass(arrays_); }
  void restore() const { arrays_.restore(); }

  // The three steps that mask() is one of.
  void separate_steps() {
    score();
    const SelectTensor selected{"weights", scores_, 0};
    const Selection selection = select_ratio({&selected, 1}, Scope::kGlobal, settings_.share);
    apply_keep_mask(selection.masks[0], elements_per_unit(settings_.shape, settings_.unit),
                    arrays_.span(arrays_.weight));
  }
  void free_scores() { scores_ = {}; }

  // Whether the masks, and every bit of the weights, are what the definition says. Weights must be
  // restored; they are masked afterwards.
  bool exact(const std::string& dump_prefix) {
    score();
    const std::int64_t k = ratio_to_k(settings_.share, static_cast<std::int64_t>(scores_.size()));
    const KeepMask expected = reference_mask(scores_, k);
    mask();
    const Floats wanted = arrays_.array();
    std::copy_n(arrays_.original.get(), arrays_.count, wanted.get());
    apply_keep_mask(expected, elements_per_unit(settings_.shape, settings_.unit),
                    arrays_.span(wanted));
    if (!dump_prefix.empty()) dump(dump_prefix, scores_, arrays_, result_.selection.masks[0]);
    return result_.selection.masks[0] == expected &&
           std::memcmp(wanted.get(), arrays_.weight.get(),
                       static_cast<std::size_t>(arrays_.count) * sizeof(float)) == 0;
  }

  [[nodiscard]] const TopKWork& work() const { return result_.work.at(0); }
  [[nodiscard]] std::int64_t masked() const { return result_.selection.total_masked; }
  [[nodiscard]] std::int64_t units() const { return result_.selection.total_units; }

 private:
  void score() {
    scores_.resize(static_cast<std::size_t>(unit_count(settings_.shape, settings_.unit)));
    ScoreTensor tensor;
    tensor.name = "weights";
    tensor.shape = settings_.shape;
    tensor.weight = arrays_.weight.get();
    tensor.forget_sums = arrays_.forget.get();
    tensor.remain_sums = arrays_.remain.get();
    const std::span<float> out = scores_;
    compute_scores(ratio_program(), score_settings_, {&tensor, 1}, {&out, 1});
  }

  MaskBenchSettings settings_;
  Arrays arrays_;
  ScoreSettings score_settings_;
  TopKTensor tensor_;
  TopKResult result_;
  std::vector<float> scores_;
};

}  // namespace

Json mask_benchmark(const Arguments& arguments) {
  arguments.check_known({"params", "ratio", "distribution", "unit", "seed", "dump", "stream"});
  const MaskBenchSettings settings = mask_settings(arguments);
  FM_CHECK(settings.params < (std::int64_t{1} << 32U), ARGUMENT,
           "Expected fewer than 2^32 for --params but received ", settings.params);
  const std::string folder = arguments.string("stream", "");
  if (!folder.empty()) return mask_stream_benchmark(arguments, settings, folder);
  const int rounds = rounds_of(arguments, 7);
  MaskBench bench(settings);
  bench.mask();
  bench.restore();
  trim_memory();
  const auto before = resident_bytes();
  const auto peak = peak_during([&] { bench.mask(); });
  bench.restore();
  // Restoring the weights is work of the rounds that nobody reads.
  std::vector<Timed> pieces = {{"score, select and mask", [&] { bench.mask(); }},
                               {"restore", [&] { bench.restore(); }},
                               {"one pass", [&] { bench.one_pass(); }},
                               {"score, then select, then mask", [&] { bench.separate_steps(); }},
                               {"restore again", [&] { bench.restore(); }}};
  run_rounds(pieces, rounds, clock_of(arguments));
  const double seconds = pieces[0].median();
  const double one_pass_seconds = pieces[2].median();
  bench.free_scores();
  const bool exact = bench.exact(arguments.string("dump", ""));
  Json document = {{"params", settings.params},
                   {"units", bench.units()},
                   {"masked", bench.masked()},
                   {"share", settings.share},
                   {"distribution", settings.distribution_name},
                   {"unit", unit_name(settings.unit)},
                   {"seconds", seconds},
                   {"onePassSeconds", one_pass_seconds},
                   {"ratio", seconds / one_pass_seconds},
                   {"exact", exact},
                   {"separateStepsSeconds", pieces[3].median()},
                   {"bestSeconds", pieces[0].best()},
                   {"bestOnePassSeconds", pieces[2].best()},
                   {"spread", pieces[0].spread()},
                   {"passes", bench.work().passes},
                   {"candidates", bench.work().candidates},
                   {"bracketMissed", bench.work().bracket_missed}};
  if (peak && before) document["workspaceBytes"] = std::max<std::int64_t>(*peak - *before, 0);
  document.update(settings_of(arguments, rounds));
  return document;
}

}  // namespace fishermask::bench
