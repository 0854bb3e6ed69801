#include "common/batch_uploads.h"

#include <vector>

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kAlignment = 256;

std::int64_t size_of(std::span<const std::byte> part) {
  return (static_cast<std::int64_t>(part.size()) + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

BatchUploads::Staged& BatchUploads::take_turn(std::int64_t bytes) {
  if (lane_ == nullptr) lane_ = std::make_unique<Lane>();
  Staged& staged = lane_->staged[lane_->next];
  lane_->next = (lane_->next + 1) % lane_->staged.size();
  if (staged.bytes < bytes) {
    staged.memory.reset();  // first, so that its memory can serve the new one
    staged.bytes = 0;
    staged.memory = backend_.take(bytes, "a batch on its way to the device");
    staged.bytes = bytes;
    FM_CUDA(cudaEventRecord(staged.read.get(), backend_.stream()));
  }
  FM_CUDA(cudaStreamWaitEvent(lane_->stream.get(), staged.read.get(), 0));
  return staged;
}

void BatchUploads::send(Parts parts, const Reader& read) {
  std::int64_t bytes = 0;
  for (const auto& part : parts) bytes += size_of(part);
  if (bytes == 0) return;
  Staged& staged = take_turn(bytes);
  std::vector<std::byte*> arrived;
  std::byte* to = staged.memory.get();
  for (const auto& part : parts) {
    lane_->ring.copy(to, part.data(), static_cast<std::int64_t>(part.size()));
    arrived.push_back(to);
    to += size_of(part);
  }
  FM_CUDA(cudaEventRecord(staged.copied.get(), lane_->stream.get()));
  FM_CUDA(cudaStreamWaitEvent(backend_.stream(), staged.copied.get(), 0));
  read(arrived);
  FM_CUDA(cudaEventRecord(staged.read.get(), backend_.stream()));
}

void BatchUploads::synchronize() noexcept {
  if (lane_ != nullptr) check_quietly(cudaStreamSynchronize(lane_->stream.get()));
}

}  // namespace fishermask::cuda
