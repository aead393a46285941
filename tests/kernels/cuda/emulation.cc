#include "tests/kernels/cuda/emulation.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/launch.h"
#include "tests/kernels/cuda/fiber.h"

namespace octogate::kernels::cuda::emulation {
namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kPage = size_t{4} << 10;
constexpr size_t kCanary = 512;  // bytes before a block's memory that nothing may touch
constexpr size_t kArena = size_t{128} << 10;
static_assert(kMaxSharedBytes + kCanary <= kArena);
constexpr unsigned char kNanByte = 0xFF;  // four of them are a NaN, two also

constexpr size_t kCopyBytes = 16;  // of an asynchronous copy

struct PendingCopy {
  void* shared;
  const void* global;
  bool valid;

  void Do() const {
    if (valid) {
      std::memcpy(shared, global, kCopyBytes);
    } else {
      std::memset(shared, 0, kCopyBytes);
    }
  }
};

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Thread {
  std::unique_ptr<Fiber> fiber;
  State state = State::kDone;
  std::source_location where;  // of the barrier or warp operation it waits at
  LaneArguments arguments{};
  std::vector<PendingCopy> open_group;
  std::deque<std::vector<PendingCopy>> groups;  // committed, oldest first
};

struct WarpState {
  int arrived = 0;
  WarpStep step = nullptr;
};

// One multiprocessor, which runs one block at a time.
class Machine {
 public:
  Machine() : random_(std::random_device{}()), threads_(kMaxThreads) {
    void* memory = mmap(nullptr, kPage + kArena + kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0 ||
        mprotect(static_cast<unsigned char*>(memory) + kPage + kArena, kPage, PROT_NONE) != 0) {
      std::perror("memory for the emulated shared memory");
      std::abort();
    }
    arena_ = static_cast<unsigned char*>(memory) + kPage;
  }
  ~Machine() { munmap(arena_ - kPage, kPage + kArena + kPage); }

  void Seed(uint64_t seed) { random_.seed(seed); }
  uint64_t Random() { return random_(); }

  void RunGrid(const GridSize& grid, int threads, size_t shared_bytes,
               const std::function<void()>& kernel) {
    const std::source_location none;
    if (kernel_ != nullptr) Fail("a kernel launched a kernel", none);
    if (threads <= 0 || threads > kMaxThreads || threads % 32 != 0) {
      Fail("a block has 32 to 1024 threads in whole warps", none);
    }
    if (shared_bytes > kMaxSharedBytes) Fail("a block has too much shared memory", none);
    if (grid.y > 65535 || grid.z > 65535) Fail("a grid has more than 65535 blocks in y or z", none);
    kernel_ = &kernel;
    block_threads_ = threads;
    shared_bytes_ = shared_bytes;
    // Aligned, and as near to the guarded page as that allows.
    shared_ = arena_ + kArena - (shared_bytes + 15) / 16 * 16;
    grid_ = {static_cast<int>(grid.x), static_cast<int>(grid.y), static_cast<int>(grid.z)};
    for (int i = 0; i < threads; ++i) {
      Thread& thread = threads_[static_cast<size_t>(i)];
      if (thread.fiber == nullptr) thread.fiber = std::make_unique<Fiber>(&ThreadBody, this);
    }
    std::vector<uint64_t> blocks(size_t{grid.x} * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), uint64_t{0});
    std::shuffle(blocks.begin(), blocks.end(), random_);
    for (const uint64_t block : blocks) {
      block_ = {static_cast<int>(block % grid.x), static_cast<int>(block / grid.x % grid.y),
                static_cast<int>(block / grid.x / grid.y)};
      RunBlock();
    }
    kernel_ = nullptr;
  }

  int thread_index() const { return current_; }
  int block_threads() const { return block_threads_; }
  Index3 block() const { return block_; }
  Index3 grid() const { return grid_; }
  void* shared() const { return shared_; }

  void Barrier(const std::source_location& where) {
    Wait(State::kAtBarrier, where);
    if (++at_barrier_ < block_threads_) return Yield();
    at_barrier_ = 0;
    for (int i = 0; i < block_threads_; ++i) {
      Thread& thread = threads_[static_cast<size_t>(i)];
      if (thread.where.line() != where.line() ||
          std::strcmp(thread.where.file_name(), where.file_name()) != 0) {
        Fail("threads of a block meet at different barriers", where);
      }
      thread.state = State::kReady;
    }
  }

  void WarpOperation(WarpStep step, const void* in, void* out, const std::source_location& where) {
    WarpState& warp = warps_[current_ / 32];
    Wait(State::kInWarp, where);
    Current().arguments = {in, out};
    if (warp.arrived == 0) warp.step = step;
    if (warp.step != step) Fail("lanes of a warp are in different operations", where);
    if (++warp.arrived < 32) return Yield();
    warp.arrived = 0;
    LaneArguments lanes[32];
    const int first = current_ / 32 * 32;
    for (int l = 0; l < 32; ++l) {
      Thread& thread = threads_[static_cast<size_t>(first + l)];
      lanes[l] = thread.arguments;
      thread.state = State::kReady;
    }
    step(lanes);
  }

  void CopyAsync(const PendingCopy& copy) {
    if ((random_() & 1) != 0) {
      copy.Do();
    } else {
      Current().open_group.push_back(copy);
    }
  }
  void CopyAsyncCommit() {
    Current().groups.push_back(std::move(Current().open_group));
    Current().open_group.clear();
  }
  void CopyAsyncWait(int groups) {
    auto& pending = Current().groups;
    while (pending.size() > static_cast<size_t>(groups)) {
      for (const PendingCopy& copy : pending.front()) copy.Do();
      pending.pop_front();
    }
  }

  void CheckShared(const void* address, size_t bytes, const std::source_location& where) const {
    const auto* at = static_cast<const unsigned char*>(address);
    if (at < shared_ || at + bytes > shared_ + shared_bytes_) {
      Fail("an address is not in the block's shared memory", where);
    }
    CheckAligned(address, bytes, where);
  }
  void CheckAligned(const void* address, size_t bytes, const std::source_location& where) const {
    if (reinterpret_cast<uintptr_t>(address) % bytes != 0) Fail("an address is misaligned", where);
  }

 private:
  Thread& Current() { return threads_[static_cast<size_t>(current_)]; }

  [[noreturn]] void Fail(const char* what, const std::source_location& where) const {
    std::fprintf(stderr, "CUDA emulation: %s (block %d,%d,%d thread %d of %d, %s:%u)\n", what,
                 block_.x, block_.y, block_.z, current_, block_threads_, where.file_name(),
                 static_cast<unsigned>(where.line()));
    std::abort();
  }

  static void ThreadBody(void* machine) {
    auto* self = static_cast<Machine*>(machine);
    for (;;) {
      (*self->kernel_)();
      self->FinishThread();
    }
  }

  void FinishThread() {
    Thread& thread = Current();
    for (const PendingCopy& copy : thread.open_group) copy.Do();
    thread.open_group.clear();
    CopyAsyncWait(0);
    thread.state = State::kDone;
    ++done_;
    Yield();
  }

  void RunBlock() {
    std::fill(shared_ - kCanary, arena_ + kArena, kNanByte);
    ring_.resize(static_cast<size_t>(block_threads_));
    std::iota(ring_.begin(), ring_.end(), 0);
    std::shuffle(ring_.begin(), ring_.end(), random_);
    for (int i = 0; i < block_threads_; ++i) threads_[static_cast<size_t>(i)].state = State::kReady;
    warps_.assign(static_cast<size_t>(block_threads_) / 32, {});
    at_barrier_ = 0;
    done_ = 0;
    ring_position_ = 0;
    current_ = ring_[0];
    host_.SwitchTo(*Current().fiber);
    CheckCanary();
  }

  // Shared memory was written where the block has none.
  void CheckCanary() const {
    const auto is_nan = [](unsigned char byte) { return byte == kNanByte; };
    if (!std::all_of(shared_ - kCanary, shared_, is_nan)) {
      Fail("a write before the block's shared memory", std::source_location());
    }
    if (!std::all_of(shared_ + shared_bytes_, arena_ + kArena, is_nan)) {
      Fail("a write behind the block's shared memory", std::source_location());
    }
  }

  void Wait(State state, const std::source_location& where) {
    if (kernel_ == nullptr) Fail("a device function was called outside of a kernel", where);
    Current().state = state;
    Current().where = where;
  }

  // Goes on in the next thread that can; back to the host behind the last one.
  void Yield() {
    Fiber& from = *Current().fiber;
    if (done_ == block_threads_) return from.SwitchTo(host_);
    const size_t count = ring_.size();
    for (size_t step = 1; step <= count; ++step) {
      const size_t position = (ring_position_ + step) % count;
      if (threads_[static_cast<size_t>(ring_[position])].state != State::kReady) continue;
      ring_position_ = position;
      const int next = ring_[position];
      const bool self = next == current_;
      current_ = next;
      if (!self) from.SwitchTo(*Current().fiber);
      return;
    }
    const Thread* waiting = nullptr;
    for (int i = 0; i < block_threads_; ++i) {
      const Thread& thread = threads_[static_cast<size_t>(i)];
      if (thread.state != State::kDone) waiting = &thread;
    }
    Fail(waiting->state == State::kAtBarrier ? "a barrier that not all threads of the block reach"
                                             : "a warp operation that not all lanes reach",
         waiting->where);
  }

  std::mt19937_64 random_;
  std::vector<Thread> threads_;
  std::vector<WarpState> warps_;
  std::vector<int> ring_;  // the order in which threads take turns
  size_t ring_position_ = 0;
  int current_ = 0;
  int at_barrier_ = 0;
  int done_ = 0;
  Fiber host_;

  const std::function<void()>* kernel_ = nullptr;
  int block_threads_ = 0;
  Index3 block_;
  Index3 grid_;
  unsigned char* arena_;
  unsigned char* shared_ = nullptr;
  size_t shared_bytes_ = 0;
};

Machine& TheMachine() {
  static thread_local Machine machine;
  return machine;
}

}  // namespace

void Run(const GridSize& grid, int threads, size_t shared_bytes,
         const std::function<void()>& kernel) {
  TheMachine().RunGrid(grid, threads, shared_bytes, kernel);
}
void Seed(uint64_t seed) { TheMachine().Seed(seed); }
uint64_t Random() { return TheMachine().Random(); }
int ThreadIndex() { return TheMachine().thread_index(); }
int BlockThreads() { return TheMachine().block_threads(); }
Index3 Block() { return TheMachine().block(); }
Index3 GridShape() { return TheMachine().grid(); }
void* SharedMemory() { return TheMachine().shared(); }
void Barrier(const std::source_location& where) { TheMachine().Barrier(where); }
void WarpOperation(WarpStep step, const void* in, void* out, const std::source_location& where) {
  TheMachine().WarpOperation(step, in, out, where);
}
void CopyAsync(void* shared, const void* global, bool valid, const std::source_location& where) {
  TheMachine().CheckShared(shared, kCopyBytes, where);
  if (valid) TheMachine().CheckAligned(global, kCopyBytes, where);
  TheMachine().CopyAsync({shared, global, valid});
}
void CopyAsyncCommit() { TheMachine().CopyAsyncCommit(); }
void CopyAsyncWait(int groups) { TheMachine().CopyAsyncWait(groups); }
void CheckAligned(const void* address, size_t bytes, const std::source_location& where) {
  TheMachine().CheckAligned(address, bytes, where);
}
void CheckShared(const void* address, size_t bytes, const std::source_location& where) {
  TheMachine().CheckShared(address, bytes, where);
}

}  // namespace octogate::kernels::cuda::emulation
