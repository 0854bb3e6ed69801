#include "emulation/block.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "core/parallel.h"

namespace fishermask::emulation {
namespace {

std::string dim_text(const Dim3& dim) {
  return "(" + std::to_string(dim.x) + ", " + std::to_string(dim.y) + ", " + std::to_string(dim.z) +
         ")";
}

}  // namespace

Block& block() {
  thread_local Block one;
  return one;
}

std::string Block::describe(const Thread& thread) const {
  return "block " + dim_text(index_) + ", thread " + std::to_string(thread.number);
}

std::string Block::where() const {
  return current_ == nullptr ? "outside of a kernel" : describe(*current_);
}

void Block::thread_entry() {
  note_entered();
  Block& own = block();
  Thread& thread = *own.current_;
  try {
    (*own.kernel_)();
    if (!thread.copies.empty()) {
      throw EmulationError(own.where() +
                           ": left the kernel with a cp.async that nobody waited for");
    }
  } catch (...) {
    own.failure_ = std::current_exception();
  }
  thread.state = Thread::State::kDone;
  thread.fibre.switch_to(own.scheduler_);
}

void Block::run_thread(Thread& thread) {
  current_ = &thread;
  scheduler_.switch_to(thread.fibre);
  current_ = nullptr;
}

void Block::run(const Dim3& grid, const Dim3& index, const Dim3& threads, std::size_t dynamic_bytes,
                const std::function<void()>& kernel) {
  static std::atomic<std::uint64_t> next_serial = 1;
  grid_ = grid;
  index_ = index;
  threads_dim_ = threads;
  thread_count_ = threads.count();
  kernel_ = &kernel;
  failure_ = nullptr;
  epoch_ = 0;
  serial_ = next_serial++;
  dynamic_bytes_ = dynamic_bytes;
  if (dynamic_.size() < dynamic_bytes) dynamic_.resize(dynamic_bytes);
  while (threads_.size() < thread_count_) threads_.push_back(std::make_unique<Thread>());
  warps_.resize((thread_count_ + 31) / 32);
  for (Warp& warp : warps_) {
    warp.meetings = 0;
    for (auto& group : warp.groups) group->arrived = 0;
  }
  for (std::size_t t = 0; t < thread_count_; ++t) {
    Thread& thread = *threads_[t];
    thread.number = static_cast<int>(t);
    thread.index =
        Dim3(static_cast<unsigned>(t % threads.x), static_cast<unsigned>(t / threads.x % threads.y),
             static_cast<unsigned>(t / threads.x / threads.y));
    thread.state = Thread::State::kReady;
    thread.copies.clear();
    thread.committed_groups = 0;
    thread.fibre.start(&Block::thread_entry);
  }
  std::size_t done = 0;
  while (done < thread_count_) {
    bool progress = false;
    std::size_t at_barrier = 0;
    done = 0;
    for (std::size_t t = 0; t < thread_count_; ++t) {
      Thread& thread = *threads_[t];
      if (thread.state == Thread::State::kReady) {
        run_thread(thread);
        progress = true;
        // The other fibres' stacks are left as they are: kernels own nothing.
        if (failure_ != nullptr) std::rethrow_exception(failure_);
      }
      if (thread.state == Thread::State::kDone) ++done;
      if (thread.state == Thread::State::kAtBarrier) ++at_barrier;
    }
    if (at_barrier == thread_count_) {
      release_barrier();
    } else if (!progress) {
      report_deadlock();
    }
  }
}

void Block::release_barrier() {
  ++epoch_;
  barrier_or_ = 0;
  barrier_count_ = 0;
  for (std::size_t t = 0; t < thread_count_; ++t) {
    Thread& thread = *threads_[t];
    thread.state = Thread::State::kReady;
    barrier_or_ |= thread.barrier_value != 0 ? 1 : 0;
    barrier_count_ += thread.barrier_value != 0 ? 1 : 0;
  }
}

void Block::report_deadlock() const {
  std::string text = "block " + dim_text(index_) + " cannot go on:";
  std::size_t named = 0;
  std::size_t left = 0;
  for (std::size_t t = 0; t < thread_count_; ++t) {
    const Thread& thread = *threads_[t];
    if (thread.state == Thread::State::kDone) {
      ++left;
    } else if (named++ < 4) {
      text += " thread " + std::to_string(thread.number) + " waits at " + thread.waits_for + ";";
    }
  }
  throw EmulationError(text + " " + std::to_string(left) + " threads have left the kernel");
}

void Block::wait(Thread::State state, const char* what) {
  Thread& thread = *current_;
  thread.state = state;
  thread.waits_for = what;
  thread.fibre.switch_to(scheduler_);
}

void Block::barrier() {
  current_->barrier_value = 0;
  wait(Thread::State::kAtBarrier, "__syncthreads");
}

int Block::barrier_or(int value) {
  current_->barrier_value = value;
  wait(Thread::State::kAtBarrier, "__syncthreads_or");
  return barrier_or_;
}

int Block::barrier_count(int value) {
  current_->barrier_value = value;
  wait(Thread::State::kAtBarrier, "__syncthreads_count");
  return barrier_count_;
}

const std::array<Deposit, 32>& Block::meet(unsigned mask, const Deposit& deposit,
                                           const char* operation) {
  Thread& thread = *current_;
  const auto lane = static_cast<unsigned>(thread.lane());
  Warp& warp = warps_[static_cast<std::size_t>(thread.warp())];
  if ((mask >> lane & 1U) == 0) {
    throw EmulationError(where() + ": " + operation + " with a mask that does not name its caller");
  }
  auto found = std::find_if(warp.groups.begin(), warp.groups.end(),
                            [mask](const auto& group) { return group->mask == mask; });
  if (found == warp.groups.end()) {
    warp.groups.push_back(std::make_unique<Meeting>());
    found = std::prev(warp.groups.end());
    (*found)->mask = mask;
  }
  Meeting& meeting = **found;
  if (meeting.arrived == 0) {
    meeting.operation = operation;
  } else if (std::string_view(meeting.operation) != operation) {
    throw EmulationError(where() + ": " + operation + " meets " + meeting.operation +
                         " of another lane");
  }
  auto& deposits = meeting.deposits[meeting.generation % 2];
  deposits[lane] = deposit;
  meeting.arrived |= 1U << lane;
  if (meeting.arrived == mask) {
    meeting.arrived = 0;
    ++meeting.generation;
    ++warp.meetings;
    // The others of this meeting go on.
    const std::size_t first = static_cast<std::size_t>(thread.warp()) * 32;
    for (std::size_t l = 0; l < 32 && first + l < thread_count_; ++l) {
      Thread& other = *threads_[first + l];
      if ((mask >> l & 1U) != 0 && other.state == Thread::State::kAtWarp) {
        other.state = Thread::State::kReady;
      }
    }
  } else {
    // Another group of the warp may have woken this lane.
    const std::uint32_t generation = meeting.generation;
    while (meeting.generation == generation) wait(Thread::State::kAtWarp, operation);
  }
  return deposits;
}

void run_grid(const Dim3& grid, const Dim3& threads, std::size_t dynamic_bytes,
              const std::function<void()>& kernel) {
  parallel_items(static_cast<std::int64_t>(grid.count()), [&](std::int64_t item) {
    const auto number = static_cast<std::size_t>(item);
    const Dim3 index(static_cast<unsigned>(number % grid.x),
                     static_cast<unsigned>(number / grid.x % grid.y),
                     static_cast<unsigned>(number / grid.x / grid.y));
    block().run(grid, index, threads, dynamic_bytes, kernel);
  });
}

}  // namespace fishermask::emulation
