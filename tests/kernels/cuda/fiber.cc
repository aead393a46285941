#include "tests/kernels/cuda/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define OCTOGATE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OCTOGATE_ASAN 1
#endif
#endif
#ifdef OCTOGATE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace octogate::kernels::cuda::emulation {
namespace {

constexpr size_t kStackBytes = size_t{128} << 10;
constexpr size_t kGuardBytes = size_t{4} << 10;

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::abort();
}

// Where the fiber that was left keeps its record, for FinishSwitch.
[[maybe_unused]] thread_local void* arriving = nullptr;

void FinishSwitch() {
#ifdef OCTOGATE_ASAN
  __sanitizer_finish_switch_fiber(arriving, nullptr, nullptr);
#endif
}

}  // namespace

Fiber::Fiber() {
#ifdef OCTOGATE_ASAN
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) Fail("pthread_getattr_np");
  pthread_attr_getstack(&attributes, &stack_, &stack_bytes_);
  pthread_attr_destroy(&attributes);
#endif
}

Fiber::Fiber(void (*body)(void*), void* argument)
    : started_(false), body_(body), argument_(argument), stack_bytes_(kStackBytes) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) Fail("memory for a fiber's stack");
  if (mprotect(memory, kGuardBytes, PROT_NONE) != 0) Fail("guarding a fiber's stack");
  stack_ = static_cast<char*>(memory) + kGuardBytes;
  if (getcontext(&context_) != 0) Fail("getcontext");
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(Enter), 2, static_cast<unsigned>(self >> 32),
              static_cast<unsigned>(self));
}

Fiber::~Fiber() {
  if (body_ != nullptr) {
    munmap(static_cast<char*>(stack_) - kGuardBytes, kGuardBytes + kStackBytes);
  }
}

void Fiber::Enter(unsigned high, unsigned low) {
  FinishSwitch();
  auto* self = reinterpret_cast<Fiber*>(uintptr_t{high} << 32 | uintptr_t{low});
  self->body_(self->argument_);
  std::abort();  // a body never returns
}

#ifdef OCTOGATE_ASAN
void Fiber::SwitchTo(Fiber& next) {
  arriving = next.sanitizer_;
  __sanitizer_start_switch_fiber(&sanitizer_, next.stack_, next.stack_bytes_);
  swapcontext(&context_, &next.context_);
  FinishSwitch();
}
#else
// swapcontext enters the kernel to save the signal mask; a jump does not.
void Fiber::SwitchTo(Fiber& next) {
  if (_setjmp(jump_) != 0) return;
  if (next.started_) _longjmp(next.jump_, 1);
  next.started_ = true;
  setcontext(&next.context_);
  Fail("setcontext");
}
#endif

}  // namespace octogate::kernels::cuda::emulation
