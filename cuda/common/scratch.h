// Memory that launchers use one after the other: it grows to the largest demand and stays. Work on
// the stream is in order, so that it is free again for whoever launches later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "common/backend.h"
#include "common/recorder.h"

namespace fishermask::cuda {

class Scratch {
 public:
  Scratch(Backend& backend, Recorder& recorder, std::string purpose)
      : backend_(backend), recorder_(recorder), purpose_(std::move(purpose)) {}

  // At least `bytes`, aligned to 256. Errors: OUT_OF_MEMORY; Unrecordable where it has to grow.
  [[nodiscard]] std::byte* of(std::int64_t bytes) {
    if (bytes > bytes_) grow(bytes);
    return memory_.get();
  }

 private:
  void grow(std::int64_t bytes) {
    recorder_.refuse("scratch that has to grow");
    recorder_.outdate();
    memory_.reset();  // first, so that its memory can serve the new one
    bytes_ = 0;
    memory_ = backend_.take(bytes, purpose_);
    bytes_ = bytes;
  }

  Backend& backend_;
  Recorder& recorder_;
  std::string purpose_;
  std::shared_ptr<std::byte> memory_;
  std::int64_t bytes_ = 0;
};

}  // namespace fishermask::cuda
