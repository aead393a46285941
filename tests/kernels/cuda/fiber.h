// Threads of control that hand over to each other within one thread of the
// host.

#ifndef OCTOGATE_TESTS_KERNELS_CUDA_FIBER_H_
#define OCTOGATE_TESTS_KERNELS_CUDA_FIBER_H_

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>

namespace octogate::kernels::cuda::emulation {

class Fiber {
 public:
  // The caller's own thread of control.
  Fiber();
  // One that calls body(argument) when it is first resumed; `body` never
  // returns.
  Fiber(void (*body)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves `this`, which must be running, and goes on in `next`.
  void SwitchTo(Fiber& next);

 private:
  static void Enter(unsigned high, unsigned low);

  ucontext_t context_;
  jmp_buf jump_;
  bool started_ = true;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  void* stack_ = nullptr;  // lowest address
  size_t stack_bytes_ = 0;
  void* sanitizer_ = nullptr;  // AddressSanitizer's own record
};

}  // namespace octogate::kernels::cuda::emulation

#endif  // OCTOGATE_TESTS_KERNELS_CUDA_FIBER_H_
