#include "emulation/wgmma.h"

#include <algorithm>
#include <string>

namespace fishermask::emulation {
namespace {

constexpr int kThreads = 128;  // of a warpgroup
constexpr int kRows = 64, kDepth = 16;
// Where dynamic shared memory begins in the shared window: aligned to 128 bytes and to no more.
constexpr unsigned kWindow = 1024 + 256;
constexpr std::uint32_t kInFlightBits = 0x7FC0DEADU;

[[noreturn]] void fail(const std::string& what) {
  throw EmulationError(block().where() + ": " + what);
}

bool is_in_flight(float value) { return __float_as_uint(value) == kInFlightBits; }

float bf16(const uint4& unit, unsigned element) {
  std::uint16_t halves[8];
  std::memcpy(halves, &unit, sizeof unit);
  return __uint_as_float(static_cast<std::uint32_t>(halves[element]) << 16U);
}

// PTX ISA, "Matrix Descriptor Format".
struct Descriptor {
  unsigned start, leading, stride, base_offset, mode;
  explicit Descriptor(std::uint64_t bits)
      : start(static_cast<unsigned>(bits & 0x3FFFU) << 4U),
        leading(static_cast<unsigned>(bits >> 16U & 0x3FFFU) << 4U),
        stride(static_cast<unsigned>(bits >> 32U & 0x3FFFU) << 4U),
        base_offset(static_cast<unsigned>(bits >> 49U & 7U)),
        mode(static_cast<unsigned>(bits >> 62U)) {
    constexpr std::uint64_t kUsed = 0xC00E3FFF3FFF3FFFU;
    if ((bits & ~kUsed) != 0) fail("a matrix descriptor with bits that mean nothing");
    if (base_offset != 0) fail("a matrix descriptor with a base offset, which is not emulated");
    if (start % pattern_bytes() != 0) {
      fail("a matrix descriptor whose swizzling pattern begins at byte " + std::to_string(start));
    }
  }
  // Units of 16 bytes that a row of the pattern has: 128-, 64-, 32-byte swizzling, none.
  [[nodiscard]] unsigned units() const { return mode == 0 ? 1 : 16U >> mode; }
  [[nodiscard]] unsigned pattern_bytes() const { return mode == 0 ? 16 : units() * 128; }

  // PTX ISA, "Canonical Layouts" for elements of 16 bits: T = 8 of them in 128 bits.
  [[nodiscard]] unsigned address(bool mn_major, unsigned mn, unsigned k) const {
    constexpr unsigned kT = 8, kBytes = 2;
    const unsigned x = units();
    unsigned at = start;
    if (mn_major && mode == 0) {  // ((T,1,m),(8,k)) : ((1,T,SBO),(1T,LBO))
      at += kBytes * (mn % kT + k % 8 * kT) + mn / kT * stride + k / 8 * leading;
    } else if (mn_major) {  // ((T,x,m),(8,k)) : ((1,T,LBO),(xT,SBO))
      at += kBytes * (mn % (kT * x) + k % 8 * (x * kT)) + mn / (kT * x) * leading + k / 8 * stride;
    } else if (mode == 0) {  // ((8,m),(T,2k)) : ((1T,SBO),(1,LBO))
      at += kBytes * (mn % 8 * kT + k % kT) + mn / 8 * stride + k / kT * leading;
    } else {  // ((8,m),(T,2k)) : ((xT,SBO),(1,T))
      at += kBytes * (mn % 8 * (x * kT) + k) + mn / 8 * stride;
    }
    // Swizzle<b, 4, 3>: of the address, bits 4 … 4 + b − 1 change where bits 7 … 7 + b − 1 are set.
    return at ^ ((at >> 3U) & ((x - 1) << 4U));
  }
};

}  // namespace

AsyncProxy& async_proxy() {
  thread_local AsyncProxy one;
  return one;
}

void AsyncProxy::enter() {
  if (serial_ == block().serial()) return;
  serial_ = block().serial();
  memory_ = nullptr;
  threads_.assign(block().threads().count(), {});
  products_.assign((threads_.size() + kThreads - 1) / kThreads, {});
}

AsyncProxy::ThreadState& AsyncProxy::state() {
  enter();
  return threads_[static_cast<std::size_t>(self().number)];
}

unsigned AsyncProxy::address_of(SharedMemory<uint4>& memory, std::int64_t unit) {
  enter();
  if (memory_ == nullptr) {
    memory_ = &memory;
    unfenced_.assign(static_cast<std::size_t>(memory.count()), -1);
    readers_.assign(static_cast<std::size_t>(memory.count()), 0);
  }
  if (memory_ != &memory) fail("wgmma's operands lie in two arrays, which is not emulated");
  const auto first = reinterpret_cast<std::byte*>(memory.at(0)) - block().dynamic_shared();
  return kWindow + static_cast<unsigned>(first) + static_cast<unsigned>(16 * unit);
}

void AsyncProxy::note_requested(SharedMemory<uint4>& memory, std::int64_t unit) {
  (void)address_of(memory, unit);
  if (readers_[static_cast<std::size_t>(unit)] > 0) {
    memory.fail(unit, "is asked to be overwritten while a wgmma that reads it is in flight");
  }
}

void AsyncProxy::note_written(SharedMemory<uint4>& memory, std::int64_t unit) {
  (void)address_of(memory, unit);
  unfenced_[static_cast<std::size_t>(unit)] = self().number;
  state().unfenced.push_back(unit);
}

void AsyncProxy::proxy_fence() {
  ThreadState& own = state();
  for (const std::int64_t unit : own.unfenced) {
    std::int32_t& writer = unfenced_[static_cast<std::size_t>(unit)];
    if (writer == self().number) writer = -1;
  }
  own.unfenced.clear();
}

void AsyncProxy::register_fence() { state().fenced = true; }

void AsyncProxy::read_matrix(Product& product, std::uint64_t descriptor, bool mn_major, int size,
                             std::vector<float>& to) {
  const Descriptor matrix(descriptor);
  if (memory_ == nullptr) fail("wgmma reads shared memory whose address nobody took");
  const unsigned first = address_of(*memory_, 0);
  to.resize(static_cast<std::size_t>(size) * kDepth);
  std::vector<bool> seen(static_cast<std::size_t>(memory_->count()), false);
  for (int mn = 0; mn < size; ++mn) {
    for (int k = 0; k < kDepth; ++k) {
      const unsigned address =
          matrix.address(mn_major, static_cast<unsigned>(mn), static_cast<unsigned>(k));
      const std::int64_t unit = (static_cast<std::int64_t>(address) - first) / 16;
      if (address < first || unit >= memory_->count()) {
        fail("wgmma reads byte " + std::to_string(address) + " outside of its shared memory");
      }
      const auto u = static_cast<std::size_t>(unit);
      if (!seen[u]) {
        seen[u] = true;
        memory_->note_read(unit);
        if (unfenced_[u] >= 0) {
          memory_->fail(unit, "is read by wgmma, but thread " + std::to_string(unfenced_[u]) +
                                  " wrote it without a fence.proxy.async behind that");
        }
        product.read.emplace_back(unit, *memory_->at(unit));
        ++readers_[u];
      }
      to[static_cast<std::size_t>(mn) * kDepth + static_cast<std::size_t>(k)] =
          bf16(*memory_->at(unit), (address - first) % 16 / 2);
    }
  }
}

void AsyncProxy::read_operands(Product& product) {
  const WgmmaCall& call = product.call;
  if (call.n < 8 || call.n > 256 || call.n % 8 != 0) fail("wgmma with such an n does not exist");
  read_matrix(product, call.a, call.transpose_a, kRows, product.a);
  read_matrix(product, call.b, call.transpose_b, call.n, product.b);
}

// The sums behind an accumulator, which belongs to the asynchronous proxy from now on.
std::vector<float>& AsyncProxy::take_over(float* d, int count, ThreadState& own) {
  for (auto& [memory, sums] : own.sums) {
    if (memory != d) continue;
    if (static_cast<int>(sums.size()) != count) fail("wgmma of two shapes on one accumulator");
    if (!std::all_of(d, d + count, is_in_flight)) {
      fail("an accumulator was written while a wgmma on it was in flight");
    }
    return sums;
  }
  if (!own.fenced) fail("wgmma on registers that no wgmma.fence is behind");
  own.sums.emplace_back(d, std::vector<float>(d, d + count));
  std::fill(d, d + count, __uint_as_float(kInFlightBits));
  return own.sums.back().second;
}

void AsyncProxy::issue(float* d, const WgmmaCall& call) {
  ThreadState& own = state();
  auto& products = products_[static_cast<std::size_t>(self().number / kThreads)];
  if (own.issued == products.size()) {
    products.push_back({});
    products.back().call = call;
    read_operands(products.back());
  } else if (products[own.issued].call != call) {
    fail("a wgmma that differs from that of another thread of its warpgroup");
  }
  (void)take_over(d, call.n / 2, own);
  own.queue.push_back({d, own.issued++, own.groups});
}

void AsyncProxy::commit() { ++state().groups; }

void AsyncProxy::check_unchanged(const Product& product) const {
  for (const auto& [unit, value] : product.read) {
    if (std::memcmp(memory_->at(unit), &value, sizeof value) != 0) {
      memory_->fail(unit, "was overwritten while a wgmma that reads it was in flight");
    }
  }
}

void AsyncProxy::retire(ThreadState& own, const InFlight& flight) {
  const int member = self().number % kThreads;
  Product& product = products_[static_cast<std::size_t>(self().number / kThreads)][flight.product];
  if (member == 0 || member == kThreads - 1) check_unchanged(product);
  std::vector<float>& sums = take_over(flight.d, product.call.n / 2, own);
  // PTX ISA, "Register Fragments" of m64nNk16: a warp has 16 rows, a thread pairs of columns.
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const std::size_t row = static_cast<std::size_t>(member) / 32 * 16 +
                            static_cast<std::size_t>(member) % 32 / 4 + i / 2 % 2 * 8;
    const std::size_t column = i / 4 * 8 + static_cast<std::size_t>(member) % 4 * 2 + i % 2;
    float sum = product.call.scale_d ? sums[i] : 0.0F;
    for (std::size_t k = 0; k < kDepth; ++k) {
      sum += product.a[row * kDepth + k] * product.b[column * kDepth + k];
    }
    sums[i] = sum;
  }
  if (++product.retired == kThreads) {
    for (const auto& [unit, value] : product.read) --readers_[static_cast<std::size_t>(unit)];
    // The list would grow with the depth of the kernel.
    product.a = {};
    product.b = {};
    product.read = {};
  }
}

void AsyncProxy::wait(int groups) {
  ThreadState& own = state();
  std::size_t done = 0;
  while (done < own.queue.size() && own.queue[done].group < own.groups - groups) {
    retire(own, own.queue[done++]);
  }
  own.queue.erase(own.queue.begin(), own.queue.begin() + static_cast<std::ptrdiff_t>(done));
  // Accumulators that nothing is on its way to are the thread's again.
  std::erase_if(own.sums, [&](const auto& entry) {
    const bool pending = std::any_of(own.queue.begin(), own.queue.end(),
                                     [&](const InFlight& f) { return f.d == entry.first; });
    if (!pending) {
      std::copy(entry.second.begin(), entry.second.end(), entry.first);
      own.fenced = false;
    }
    return !pending;
  });
}

}  // namespace fishermask::emulation
