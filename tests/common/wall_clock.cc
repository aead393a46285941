// The functions of the C library by which Abseil and the standard library read the wall clock, and
// by which Abseil waits until a time of it, in the place of the library's.
#include "tests/common/wall_clock.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>

#include "absl/time/clock.h"

namespace {

std::atomic<int64_t> ahead_seconds = 0;

using Syscall = long (*)(long, ...);

Syscall RealSyscall() {
  static const auto real = reinterpret_cast<Syscall>(::dlsym(RTLD_NEXT, "syscall"));
  return real;
}

bool HasPassed(const timespec& time) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec > time.tv_sec || (now.tv_sec == time.tv_sec && now.tv_nsec >= time.tv_nsec);
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const long result = RealSyscall()(SYS_clock_gettime, clock, time);
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += ahead_seconds;
  return static_cast<int>(result);
}

// Of a wait until a time of the wall clock pieces are waited for, after which that is asked again.
long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  const auto* const until = reinterpret_cast<const timespec*>(a[3]);
  const long until_wall = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
  if (number != SYS_futex || (a[1] & ~FUTEX_PRIVATE_FLAG) != until_wall || until == nullptr) {
    return RealSyscall()(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
  for (;;) {
    timespec piece{};
    RealSyscall()(SYS_clock_gettime, CLOCK_MONOTONIC, &piece);
    piece.tv_nsec += 2'000'000;
    if (piece.tv_nsec >= 1'000'000'000) {
      piece.tv_nsec -= 1'000'000'000;
      ++piece.tv_sec;
    }
    const long result =
        RealSyscall()(number, a[0], a[1] & ~long{FUTEX_CLOCK_REALTIME}, a[2], &piece, a[4], a[5]);
    if (result == 0 || errno != ETIMEDOUT || HasPassed(*until)) return result;
  }
}

}  // extern "C"

namespace octogate {

void SetWallClockAhead(absl::Duration ahead) {
  ahead_seconds = absl::ToInt64Seconds(ahead);
  timespec now{};
  do {
    absl::SleepFor(absl::Milliseconds(1));
    ::clock_gettime(CLOCK_REALTIME, &now);
  } while (absl::AbsDuration(absl::Now() - absl::TimeFromTimespec(now)) > absl::Seconds(1));
}

}  // namespace octogate
