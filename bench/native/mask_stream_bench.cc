#include "mask_stream_bench.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "core/parallel.h"
#include "document.h"
#include "mask/file_range.h"
#include "mask/top_k.h"
#include "mask/top_k_disk.h"
#include "memory.h"

namespace fishermask::bench {
namespace {

constexpr std::int64_t kShardElements = 25'000'000;  // 100 MB a file
constexpr std::int64_t kPieceElements = 1 << 18;     // as mask_top_k_on_disk reads
constexpr std::int64_t kDrawElements = 1 << 20;

using Draw = void (*)(const MaskBenchSettings&, std::int64_t, std::span<float>);

struct Shard {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

class Shards {
 public:
  Shards(const MaskBenchSettings& settings, const std::string& folder) : folder_(folder) {
    FM_CHECK(settings.unit == Unit::kWeight, ARGUMENT,
             "Expected the unit weight for --stream but received ", unit_name(settings.unit));
    FM_CHECK(std::filesystem::is_directory(folder), IO, "could not write to ", folder,
             ": it is no folder");
    for (std::int64_t begin = 0; begin < settings.params; begin += kShardElements) {
      shards_.push_back({begin, std::min(kShardElements, settings.params - begin)});
    }
    const std::pair<const char*, Draw> arrays[] = {
        {"weight", draw_weights}, {"forget", draw_forget}, {"remain", draw_remain}};
    for (const auto& [name, draw] : arrays) {
      for (const Shard& shard : shards_) {
        files_.inputs.push_back(write(name, shard, settings, draw));
      }
    }
    for (const Shard& shard : shards_) {
      const std::string path = path_of("masked", shard);
      std::ofstream(path, std::ios::binary).close();
      std::filesystem::resize_file(path, static_cast<std::uintmax_t>(shard.count) * 4);
      files_.outputs.push_back(path);
    }
  }
  Shards(const Shards&) = delete;
  Shards& operator=(const Shards&) = delete;
  ~Shards() {
    std::error_code ignored;  // a destructor has no one to tell
    for (const auto* list : {&files_.inputs, &files_.outputs}) {
      for (const std::string& path : *list) std::filesystem::remove(path, ignored);
    }
  }

  [[nodiscard]] TopKDiskResult mask(double share) const {
    std::vector<TopKDiskTensor> tensors;
    const auto count = static_cast<std::int64_t>(shards_.size());
    for (std::int64_t s = 0; s < count; ++s) {
      const Shard& shard = shards_[static_cast<std::size_t>(s)];
      TopKDiskTensor tensor;
      tensor.name = text("shard ", s);
      tensor.shape = {shard.count};
      tensor.weight.file = s;
      tensor.output.file = s;
      tensor.forget_sums.file = count + s;
      tensor.remain_sums.file = 2 * count + s;
      tensor.first_unit = static_cast<std::uint64_t>(shard.begin);
      tensors.push_back(std::move(tensor));
    }
    TopKDiskResult result =
        mask_top_k_on_disk(ratio_program(), {Unit::kWeight, kForgetCount, kRemainCount, {}}, files_,
                           tensors, {{}, share, Scope::kGlobal});
    sync(files_.outputs);
    return result;
  }

  // Reads all inputs and writes the weights, piece by piece, several at once.
  void one_pass() const {
    for (std::size_t s = 0; s < shards_.size(); ++s) copy_shard(s);
    sync(files_.outputs);
  }

  // Clean pages leave the cache; dirty ones stay, so the files are synced first.
  void drop_from_cache() const {
    for (const auto* list : {&files_.inputs, &files_.outputs}) {
      sync(*list);
#if defined(POSIX_FADV_DONTNEED)
      for (const std::string& path : *list) {
        const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor < 0) continue;
        (void)::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
        ::close(descriptor);
      }
#endif
    }
  }

  [[nodiscard]] std::size_t size() const { return shards_.size(); }

 private:
  [[nodiscard]] std::string path_of(const std::string& name, const Shard& shard) const {
    return text(folder_, "/fishermask-bench-", name, "-", shard.begin, ".bin");
  }

  [[nodiscard]] std::string write(const std::string& name, const Shard& shard,
                                  const MaskBenchSettings& settings, Draw draw) const {
    const std::string path = path_of(name, shard);
    std::ofstream out(path, std::ios::binary);
    std::vector<float> piece(static_cast<std::size_t>(kDrawElements));
    for (std::int64_t first = 0; first < shard.count; first += kDrawElements) {
      const auto size = static_cast<std::size_t>(std::min(kDrawElements, shard.count - first));
      draw(settings, shard.begin + first, {piece.data(), size});
      out.write(reinterpret_cast<const char*>(piece.data()),
                static_cast<std::streamsize>(size * sizeof(float)));
    }
    out.flush();
    FM_CHECK(out.good(), IO, "could not write ", path);
    return path;
  }

  void copy_shard(std::size_t s) const {
    std::vector<RangeFile> inputs;
    for (std::size_t array = 0; array < 3; ++array) {
      inputs.emplace_back(files_.inputs[array * shards_.size() + s], RangeFile::Mode::kRead);
    }
    const RangeFile output(files_.outputs[s], RangeFile::Mode::kWrite);
    const std::int64_t count = shards_[s].count;
    parallel_items((count + kPieceElements - 1) / kPieceElements, [&](std::int64_t piece) {
      const std::int64_t first = piece * kPieceElements;
      const auto size = static_cast<std::size_t>(std::min(kPieceElements, count - first));
      thread_local std::vector<float> buffer;
      buffer.resize(static_cast<std::size_t>(kPieceElements));
      const std::span<float> floats(buffer.data(), size);
      for (std::size_t array = 3; array-- > 0;) {  // the weights last, which are written
        inputs[array].read(first * 4, std::as_writable_bytes(floats));
      }
      output.write(first * 4, std::as_bytes(floats));
    });
  }

  static void sync(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
      const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
      FM_CHECK(descriptor >= 0, IO, "could not open ", path);
      const int failed = ::fsync(descriptor);
      ::close(descriptor);
      FM_CHECK(failed == 0, IO, "could not sync ", path);
    }
  }

  std::string folder_;
  std::vector<Shard> shards_;
  TopKFiles files_;
};

}  // namespace

Json mask_stream_benchmark(const Arguments& arguments, const MaskBenchSettings& settings,
                           const std::string& folder) {
  const Shards shards(settings, folder);
  const int rounds = rounds_of(arguments, 3);
  trim_memory();
  TopKDiskResult result;
  shards.drop_from_cache();
  const auto peak = peak_during([&] { result = shards.mask(settings.share); });
  std::vector<Timed> pieces = {
      {"drop", [&] { shards.drop_from_cache(); }},
      {"mask", [&] { result = shards.mask(settings.share); }},
      {"drop", [&] { shards.drop_from_cache(); }},
      {"one pass", [&] { shards.one_pass(); }},
      {"mask from the cache", [&] { result = shards.mask(settings.share); }}};
  run_rounds(pieces, rounds, clock_of(arguments));
  const double seconds = pieces[1].median();
  const auto bytes = static_cast<double>(result.bytes_read + result.bytes_written);
  const TopKWork& work = result.top_k.work.at(0);
  Json document = {{"stream", true},
                   {"params", settings.params},
                   {"shards", shards.size()},
                   {"masked", result.top_k.selection.total_masked},
                   {"share", settings.share},
                   {"distribution", settings.distribution_name},
                   {"seconds", seconds},
                   {"onePassSeconds", pieces[3].median()},
                   {"ratio", seconds / pieces[3].median()},
                   {"cachedSeconds", pieces[4].median()},
                   {"bytesRead", result.bytes_read},
                   {"bytesWritten", result.bytes_written},
                   {"GBps", 1e-9 * bytes / seconds},
                   {"spread", pieces[1].spread()},
                   {"passes", work.passes},
                   {"candidates", work.candidates},
                   {"bracketMissed", work.bracket_missed}};
  if (peak) document["peakResidentBytes"] = *peak;
  document.update(settings_of(arguments, rounds));
  return document;
}

}  // namespace fishermask::bench
