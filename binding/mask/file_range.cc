#include "mask/file_range.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace fishermask {
namespace {

[[noreturn]] void fail_io(const char* action, const std::string& path) {
  fail(ErrorCode::kIO, "could not ", action, " ", path, ": ", std::strerror(errno));
}

}  // namespace

RangeFile::RangeFile(std::string path, Mode mode) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), (mode == Mode::kRead ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
  if (descriptor_ < 0) fail_io("open", path_);
}

RangeFile::RangeFile(RangeFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

RangeFile::~RangeFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void RangeFile::read(std::int64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io("read", path_);
    FM_CHECK(got > 0, BAD_FILE, "Expected ", to.size(), " bytes at offset ", offset, " of ", path_,
             " but received its end");
    to = to.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
}

void RangeFile::write(std::int64_t offset, std::span<const std::byte> from) const {
  while (!from.empty()) {
    const ssize_t put = ::pwrite(descriptor_, from.data(), from.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_io("write", path_);
    from = from.subspan(static_cast<std::size_t>(put));
    offset += put;
  }
}

void RangeFile::will_need(std::int64_t offset, std::int64_t bytes) const noexcept {
#if defined(POSIX_FADV_WILLNEED)
  // Advice: a system that declines it reads all the same.
  (void)::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                        POSIX_FADV_WILLNEED);
#else
  (void)offset;
  (void)bytes;
#endif
}

}  // namespace fishermask
