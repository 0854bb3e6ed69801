// One device's cuBLASLt, where it is installed: found at run time, never linked.
#pragma once

#include <memory>
#include <string>

#include "ops/gemm.h"

namespace fishermask::cuda {

class Cublas {
 public:
  // Null where the library is absent, lacks a function, or is turned off by
  // FISHERMASK_CUBLASLT=off. The environment variable may also name the library's file; in the
  // emulation nothing else does.
  [[nodiscard]] static std::unique_ptr<Cublas> open();
  // "cuBLASLt 13.1.0", of the library that open would load; empty: none.
  [[nodiscard]] static std::string installed();

  ~Cublas();
  Cublas(const Cublas&) = delete;
  Cublas& operator=(const Cublas&) = delete;

  // Whether it has a handle, made at the first call on the current device.
  [[nodiscard]] bool ready();
  // Whether cuBLASLt took the call. It takes strided batches of one term; sizes or layouts for
  // which it offers no algorithm are left to own kernels, as are calls that ask for a tile.
  // Errors: OUT_OF_MEMORY for its workspace.
  [[nodiscard]] bool multiply(Backend& backend, const GemmCall& call) const;

 private:
  struct State;
  explicit Cublas(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fishermask::cuda
