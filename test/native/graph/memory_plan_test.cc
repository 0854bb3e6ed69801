// The memory plan: whatever lives at the same time shares no byte, and the arena stays small.
#include "graph/memory_plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace fishermask;

namespace {

std::vector<PlannedBuffer> random_buffers(std::mt19937& random) {
  const auto draw = [&](int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random);
  };
  std::vector<PlannedBuffer> buffers(static_cast<std::size_t>(draw(1, 60)));
  const int steps = draw(1, 40);
  for (PlannedBuffer& buffer : buffers) {
    // Some of equal size, some of no multiple of the alignment.
    buffer.bytes = draw(0, 3) == 0 ? 256 : draw(1, 5000);
    buffer.first = draw(0, steps);
    buffer.last = draw(buffer.first, draw(0, 3) == 0 ? steps : std::min(buffer.first + 3, steps));
  }
  return buffers;
}

std::int64_t rounded(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Bytes alive at the busiest step: no plan can do with less.
std::int64_t least_size(const std::vector<PlannedBuffer>& buffers) {
  std::int64_t most = 0;
  for (const PlannedBuffer& at : buffers) {
    std::int64_t alive = 0;
    for (const PlannedBuffer& other : buffers) {
      if (other.first <= at.first && at.first <= other.last) alive += rounded(other.bytes);
    }
    most = std::max(most, alive);
  }
  return most;
}

}  // namespace

TEST_CASE("memory plan: buffers that live together share no byte, for random lifetimes") {
  std::mt19937 random(5);
  std::int64_t pairs = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<PlannedBuffer> buffers = random_buffers(random);
    const std::int64_t size = plan_memory(buffers);
    std::int64_t sum = 0;
    for (std::size_t a = 0; a < buffers.size(); ++a) {
      const PlannedBuffer& one = buffers[a];
      sum += rounded(one.bytes);
      REQUIRE(one.offset >= 0);
      REQUIRE(one.offset % 64 == 0);
      REQUIRE(one.offset + one.bytes <= size);
      for (std::size_t b = 0; b < a; ++b) {
        const PlannedBuffer& other = buffers[b];
        if (one.first > other.last || other.first > one.last) continue;
        ++pairs;
        const bool apart =
            one.offset + one.bytes <= other.offset || other.offset + other.bytes <= one.offset;
        REQUIRE(apart);
      }
    }
    CHECK(size >= least_size(buffers));
    CHECK(size <= sum);
  }
  CHECK(pairs > 10'000);
}

TEST_CASE("memory plan: a chain takes the room of its two largest neighbours") {
  std::vector<PlannedBuffer> buffers;
  for (int i = 0; i < 20; ++i) buffers.push_back({1024, i, i + 1});
  CHECK(plan_memory(buffers) == 2048);
}

TEST_CASE("memory plan: no buffers take no memory") {
  std::vector<PlannedBuffer> buffers;
  CHECK(plan_memory(buffers) == 0);
}
