// Scores and selection against the time to read the same bytes.
#include <atomic>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "benchmarks.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "mask/keep_mask.h"
#include "mask/score.h"
#include "mask/select.h"
#include "timing.h"

namespace fishermask::bench {
namespace {

std::uint64_t sum_words(const float* from, std::int64_t begin, std::int64_t end) {
  std::uint64_t sum = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, from + i, sizeof word);
    sum += word;
  }
  return sum;
}

}  // namespace

Json mask_benchmark(const Arguments& arguments) {
  const std::int64_t count = arguments.integer("weights", 50'000'000);
  const int rounds = static_cast<int>(arguments.integer("rounds", 7));
  const auto array = [&] { return std::make_unique<float[]>(static_cast<std::size_t>(count)); };
  const auto weight = array(), forget = array(), remain = array(), scores = array();
  parallel_for(count, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto words = philox({1, 2}, static_cast<std::uint64_t>(i));
      const auto uniform = [&](std::size_t k) {
        return static_cast<float>(words[k] >> 8U) * 0x1p-24F;
      };
      weight[static_cast<std::size_t>(i)] = uniform(0) - 0.5F;
      // Heavy at 0, as Fishers are.
      forget[static_cast<std::size_t>(i)] = uniform(1) * uniform(1) * uniform(3);
      remain[static_cast<std::size_t>(i)] = uniform(2) * uniform(2);
    }
  });
  const ScoreProgram ratio({{ScoreOp::kForgetFisher},
                            {ScoreOp::kRemainFisher},
                            {ScoreOp::kConstant, 1e-12F},
                            {ScoreOp::kAdd},
                            {ScoreOp::kDiv}});
  ScoreTensor tensor;
  tensor.name = "weights";
  tensor.shape = {count};
  tensor.weight = weight.get();
  tensor.forget_sums = forget.get();
  tensor.remain_sums = remain.get();
  const std::span<float> out(scores.get(), static_cast<std::size_t>(count));
  const SelectTensor selected{"weights", out, 0};
  std::atomic<std::uint64_t> sink{0};
  std::vector<Timed> pieces = {
      {"read weights and both Fishers",
       [&] {
         for (const float* from : {weight.get(), forget.get(), remain.get()}) {
           parallel_for(count, 1 << 16, [&](std::int64_t begin, std::int64_t end) {
             sink += sum_words(from, begin, end);
           });
         }
       }},
      {"score (criterion ratio, unit weight)",
       [&] { compute_scores(ratio, {Unit::kWeight, 5000, 45000, {}}, {&tensor, 1}, {&out, 1}); }}};
  for (const double share : {0.001, 0.01, 0.1}) {
    pieces.push_back({text("select ", share * 100, " %"), [&selected, share] {
                        (void)select_ratio({&selected, 1}, Scope::kGlobal, share);
                      }});
  }
  run_rounds(pieces, rounds, clock_of(arguments));
  Json results;
  const double bytes[] = {12, 16, 4, 4, 4};
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    results[pieces[i].name] = {
        {"ms", {{"median", pieces[i].median() * 1e3}, {"best", pieces[i].best() * 1e3}}},
        {"gb_per_second", 1e-9 * bytes[i] * static_cast<double>(count) / pieces[i].median()},
        {"spread", pieces[i].spread()}};
  }
  return {{"weights", count},
          {"threads", thread_count()},
          {"rounds", rounds},
          {"clock", arguments.string("clock", "wall")},
          {"results", results}};
}

}  // namespace fishermask::bench
