// wgmma as an emulated block sees it: matrix descriptors are decoded from the PTX ISA's tables
// ("Asynchronous Warpgroup Level Matrix Instructions": matrix descriptor format, canonical layouts,
// accumulator fragments), not from the code that builds them.
//
// As late as the program allows: a product is computed when its group is waited for. Until then the
// accumulators hold a NaN of their own and shared memory is compared with what was there when the
// product was asked for. Reported as errors: operands that nobody wrote, that race, lie outside of
// shared memory, or whose writers have not passed fence.proxy.async; operands overwritten (or
// asked to be) and accumulators touched while products are in flight; wgmma without the wgmma.fence
// that it needs; descriptors that differ between the threads of a warpgroup; misaligned
// descriptors. Not emulated: the order in which the tensor cores add, and what they round on the
// way.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "emulation/shared.h"

namespace fishermask::emulation {

// One wgmma.mma_async of m64nNk16, bf16 operands in shared memory.
struct WgmmaCall {
  int n = 0;
  std::uint64_t a = 0, b = 0;  // matrix descriptors
  bool transpose_a = false, transpose_b = false;
  bool scale_d = true;  // false: d = a·b instead of d += a·b
  [[nodiscard]] bool operator==(const WgmmaCall&) const = default;
};

// What the block's threads have on its way in the asynchronous proxy. Shared memory is counted in
// units of 16 bytes.
class AsyncProxy {
 public:
  // The address of a unit in the shared window, which does not begin where the block's dynamic
  // shared memory begins.
  [[nodiscard]] unsigned address_of(SharedMemory<uint4>& memory, std::int64_t unit);
  // By the running thread: a copy to there was asked for, which may arrive at once; it arrived.
  void note_requested(SharedMemory<uint4>& memory, std::int64_t unit);
  void note_written(SharedMemory<uint4>& memory, std::int64_t unit);

  void proxy_fence();     // fence.proxy.async
  void register_fence();  // wgmma.fence
  void issue(float* d, const WgmmaCall& call);
  void commit();
  void wait(int groups);  // until at most that many of the youngest groups are in flight

 private:
  // A product, shared by the threads of its warpgroup: the first to ask for it reads the operands.
  struct Product {
    WgmmaCall call;
    std::vector<float> a, b;  // (64, 16), (n, 16)
    std::vector<std::pair<std::int64_t, uint4>> read;
    int retired = 0;  // threads
  };
  struct InFlight {
    float* d = nullptr;
    std::size_t product = 0;
    int group = 0;
  };
  struct ThreadState {
    std::vector<InFlight> queue;
    std::vector<std::pair<float*, std::vector<float>>> sums;  // of accumulators in flight
    std::vector<std::int64_t> unfenced;
    std::size_t issued = 0;
    int groups = 0;
    bool fenced = false;
  };

  void enter();
  ThreadState& state();
  void read_operands(Product& product);
  void read_matrix(Product& product, std::uint64_t descriptor, bool mn_major, int size,
                   std::vector<float>& to);
  std::vector<float>& take_over(float* d, int count, ThreadState& own);
  void check_unchanged(const Product& product) const;
  void retire(ThreadState& own, const InFlight& flight);

  std::uint64_t serial_ = 0;
  SharedMemory<uint4>* memory_ = nullptr;
  std::vector<std::int32_t> unfenced_;  // by unit: the thread that wrote it; −1: fenced
  std::vector<std::int32_t> readers_;   // by unit: products in flight that read it
  std::vector<ThreadState> threads_;
  std::vector<std::vector<Product>> products_;  // by warpgroup
};

[[nodiscard]] AsyncProxy& async_proxy();  // of the block that runs on this system thread

}  // namespace fishermask::emulation
