// Tells ThreadSanitizer about absl::Mutex, absl::Notification and absl::Status. Debian's libabsl is
// not instrumented, so that without this everything that a Mutex guards looks like a race.
//
// Linked into every program of a ThreadSanitizer build. The definitions here take the place of the
// library's; each calls the one that it has displaced, and states the order that it makes: what
// came before an unlock happened before what comes after the next lock.
//
// While the library runs, reads are ignored: it evaluates conditions of other threads under a lock
// that it knows of and ThreadSanitizer does not.
#include <dlfcn.h>

#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

template <typename Function>
Function* Displaced(const char* symbol) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, symbol));
}

class ReadsIgnored {
 public:
  ReadsIgnored() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~ReadsIgnored() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

}  // namespace

// A member function is a function whose first argument is `this` (Itanium C++ ABI).
#define ABSL_SYMBOL(symbol) "_ZN4absl7debian3" symbol

// Result name(mutex, arguments...) that begins without the lock and ends with it.
#define LOCKS(name, symbol)                                                            \
  extern "C" void name(absl::Mutex* mutex) __asm__(ABSL_SYMBOL(symbol));               \
  extern "C" void name(absl::Mutex* mutex) {                                           \
    static auto* const displaced = Displaced<void(absl::Mutex*)>(ABSL_SYMBOL(symbol)); \
    {                                                                                  \
      ReadsIgnored ignored;                                                            \
      displaced(mutex);                                                                \
    }                                                                                  \
    __tsan_acquire(mutex);                                                             \
  }
#define TRIES(name, symbol)                                                            \
  extern "C" bool name(absl::Mutex* mutex) __asm__(ABSL_SYMBOL(symbol));               \
  extern "C" bool name(absl::Mutex* mutex) {                                           \
    static auto* const displaced = Displaced<bool(absl::Mutex*)>(ABSL_SYMBOL(symbol)); \
    const bool locked = displaced(mutex);                                              \
    if (locked) __tsan_acquire(mutex);                                                 \
    return locked;                                                                     \
  }
#define UNLOCKS(name, symbol)                                                          \
  extern "C" void name(absl::Mutex* mutex) __asm__(ABSL_SYMBOL(symbol));               \
  extern "C" void name(absl::Mutex* mutex) {                                           \
    static auto* const displaced = Displaced<void(absl::Mutex*)>(ABSL_SYMBOL(symbol)); \
    __tsan_release(mutex);                                                             \
    ReadsIgnored ignored;                                                              \
    displaced(mutex);                                                                  \
  }
// Waits on a condition; the lock is held at the end. It may be held at the beginning, and a release
// too many does no harm.
#define AWAITS(Result, name, symbol, Deadline)                                                  \
  extern "C" Result name(absl::Mutex* mutex, const absl::Condition& condition,                  \
                         Deadline deadline) __asm__(ABSL_SYMBOL(symbol));                       \
  extern "C" Result name(absl::Mutex* mutex, const absl::Condition& condition,                  \
                         Deadline deadline) {                                                   \
    static auto* const displaced =                                                              \
        Displaced<Result(absl::Mutex*, const absl::Condition&, Deadline)>(ABSL_SYMBOL(symbol)); \
    __tsan_release(mutex);                                                                      \
    struct Acquire {                                                                            \
      absl::Mutex* mutex;                                                                       \
      ~Acquire() { __tsan_acquire(mutex); }                                                     \
    } acquire{mutex};                                                                           \
    ReadsIgnored ignored;                                                                       \
    return displaced(mutex, condition, deadline);                                               \
  }
#define AWAITS_WITHOUT_END(name, symbol)                                               \
  extern "C" void name(absl::Mutex* mutex,                                             \
                       const absl::Condition& condition) __asm__(ABSL_SYMBOL(symbol)); \
  extern "C" void name(absl::Mutex* mutex, const absl::Condition& condition) {         \
    static auto* const displaced =                                                     \
        Displaced<void(absl::Mutex*, const absl::Condition&)>(ABSL_SYMBOL(symbol));    \
    __tsan_release(mutex);                                                             \
    {                                                                                  \
      ReadsIgnored ignored;                                                            \
      displaced(mutex, condition);                                                     \
    }                                                                                  \
    __tsan_acquire(mutex);                                                             \
  }

LOCKS(OctogateTsanLock, "5Mutex4LockEv")
LOCKS(OctogateTsanReaderLock, "5Mutex10ReaderLockEv")
TRIES(OctogateTsanTryLock, "5Mutex7TryLockEv")
TRIES(OctogateTsanReaderTryLock, "5Mutex13ReaderTryLockEv")
UNLOCKS(OctogateTsanUnlock, "5Mutex6UnlockEv")
UNLOCKS(OctogateTsanReaderUnlock, "5Mutex12ReaderUnlockEv")
AWAITS_WITHOUT_END(OctogateTsanAwait, "5Mutex5AwaitERKNS0_9ConditionE")
AWAITS_WITHOUT_END(OctogateTsanLockWhen, "5Mutex8LockWhenERKNS0_9ConditionE")
AWAITS_WITHOUT_END(OctogateTsanReaderLockWhen, "5Mutex14ReaderLockWhenERKNS0_9ConditionE")
AWAITS(bool, OctogateTsanAwaitTimeout, "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE",
       absl::Duration)
AWAITS(bool, OctogateTsanAwaitDeadline, "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE",
       absl::Time)
AWAITS(bool, OctogateTsanLockWhenTimeout,
       "5Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE", absl::Duration)
AWAITS(bool, OctogateTsanLockWhenDeadline,
       "5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE", absl::Time)

// Condition variables give the lock up and take it again.
#define WAITS(Result, name, symbol, Deadline)                                              \
  extern "C" Result name(absl::CondVar* variable, absl::Mutex* mutex,                      \
                         Deadline deadline) __asm__(ABSL_SYMBOL(symbol));                  \
  extern "C" Result name(absl::CondVar* variable, absl::Mutex* mutex, Deadline deadline) { \
    static auto* const displaced =                                                         \
        Displaced<Result(absl::CondVar*, absl::Mutex*, Deadline)>(ABSL_SYMBOL(symbol));    \
    __tsan_release(mutex);                                                                 \
    const Result result = displaced(variable, mutex, deadline);                            \
    __tsan_acquire(mutex);                                                                 \
    return result;                                                                         \
  }
WAITS(bool, OctogateTsanWaitTimeout, "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE",
      absl::Duration)
WAITS(bool, OctogateTsanWaitDeadline, "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE",
      absl::Time)
extern "C" void OctogateTsanWait(absl::CondVar* variable, absl::Mutex* mutex) __asm__(
    ABSL_SYMBOL("7CondVar4WaitEPNS0_5MutexE"));
extern "C" void OctogateTsanWait(absl::CondVar* variable, absl::Mutex* mutex) {
  static auto* const displaced =
      Displaced<void(absl::CondVar*, absl::Mutex*)>(ABSL_SYMBOL("7CondVar4WaitEPNS0_5MutexE"));
  __tsan_release(mutex);
  displaced(variable, mutex);
  __tsan_acquire(mutex);
}

// Notifications: what came before Notify happened before what comes after a wait that has seen it.
// The flag behind the mutex is an atomic, which HasBeenNotified reads in our own code.
struct NotificationState {
  absl::Mutex mutex;
  bool notified;
};
extern "C" void OctogateTsanNotify(NotificationState* notification) __asm__(
    ABSL_SYMBOL("12Notification6NotifyEv"));
extern "C" void OctogateTsanNotify(NotificationState* notification) {
  static auto* const displaced =
      Displaced<void(NotificationState*)>(ABSL_SYMBOL("12Notification6NotifyEv"));
  __tsan_release(&notification->notified);
  displaced(notification);
}
extern "C" void OctogateTsanAwaitNotification(const NotificationState* notification) __asm__(
    "_ZNK4absl7debian312Notification19WaitForNotificationEv");
extern "C" void OctogateTsanAwaitNotification(const NotificationState* notification) {
  static auto* const displaced = Displaced<void(const NotificationState*)>(
      "_ZNK4absl7debian312Notification19WaitForNotificationEv");
  displaced(notification);
  __tsan_acquire(const_cast<bool*>(&notification->notified));
}
#define AWAITS_NOTIFICATION(name, symbol, Deadline)                                      \
  extern "C" bool name(const NotificationState* notification,                            \
                       Deadline deadline) __asm__("_ZNK4absl7debian3" symbol);           \
  extern "C" bool name(const NotificationState* notification, Deadline deadline) {       \
    static auto* const displaced =                                                       \
        Displaced<bool(const NotificationState*, Deadline)>("_ZNK4absl7debian3" symbol); \
    const bool notified = displaced(notification, deadline);                             \
    if (notified) __tsan_acquire(const_cast<bool*>(&notification->notified));            \
    return notified;                                                                     \
  }
AWAITS_NOTIFICATION(OctogateTsanAwaitNotificationTimeout,
                    "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE", absl::Duration)
AWAITS_NOTIFICATION(OctogateTsanAwaitNotificationDeadline,
                    "12Notification31WaitForNotificationWithDeadlineENS0_4TimeE", absl::Time)

// Shared states of absl::Status count their owners inside the library too: giving one up happened
// before the last owner deletes it.
extern "C" void OctogateTsanUnref(uintptr_t rep) __asm__(ABSL_SYMBOL("6Status15UnrefNonInlinedEm"));
extern "C" void OctogateTsanUnref(uintptr_t rep) {
  static auto* const displaced =
      Displaced<void(uintptr_t)>(ABSL_SYMBOL("6Status15UnrefNonInlinedEm"));
  void* const state = reinterpret_cast<void*>(rep);
  __tsan_release(state);
  __tsan_acquire(state);
  displaced(rep);
}
