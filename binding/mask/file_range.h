// Files read and written at given places, by several threads at once.
// Errors: IO naming the file and the system's reason; BAD_FILE where a file ends early.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace fishermask {

class RangeFile {
 public:
  enum class Mode : std::uint8_t { kRead, kWrite };

  RangeFile(std::string path, Mode mode);
  RangeFile(RangeFile&& other) noexcept;
  RangeFile(const RangeFile&) = delete;
  RangeFile& operator=(const RangeFile&) = delete;
  RangeFile& operator=(RangeFile&&) = delete;
  ~RangeFile();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // Fills `to` from byte `offset` on.
  void read(std::int64_t offset, std::span<std::byte> to) const;
  void write(std::int64_t offset, std::span<const std::byte> from) const;
  // Asks the system to have these bytes ready soon.
  void will_need(std::int64_t offset, std::int64_t bytes) const noexcept;

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace fishermask
