// Threads that drive gRPC's asynchronous calls: one completion queue per thread.
//
// A query is accepted, routed, sent to its replica and answered on the same thread where that is
// possible, so that a message passes through the gateway without waking another thread.
#ifndef OCTOGATE_GATEWAY_EVENT_LOOP_H_
#define OCTOGATE_GATEWAY_EVENT_LOOP_H_

#include <grpc/support/time.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace octogate::gateway {

// The tag of an operation on a queue: whom to tell that it has ended. Lives at least until then.
struct Completion {
  void (*run)(void* owner, bool ok);
  void* owner;
};

// A completion that calls `owner->Method(ok)`.
template <auto Method, typename Owner>
Completion CompletionFor(Owner* owner) {
  return {[](void* self, bool ok) { (static_cast<Owner*>(self)->*Method)(ok); }, owner};
}

// The time of an alarm that comes at once: one for now comes at the next whole millisecond.
inline gpr_timespec AtOnce() { return gpr_time_0(GPR_CLOCK_MONOTONIC); }

// Thread safety: all methods may be called from any thread.
class EventLoops {
 public:
  // Whoever starts operations on the queues holds one until the last of them has ended.
  class Hold {
   public:
    explicit Hold(EventLoops* loops);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    EventLoops* const loops_;
  };

  // Starts one thread per queue. At least one queue.
  explicit EventLoops(std::vector<std::unique_ptr<grpc::CompletionQueue>> queues);

  // As many plain queues as asked for, for processes that only make calls.
  static std::unique_ptr<EventLoops> Create(size_t count);

  // Waits until nobody holds the loops, then ends the threads. Calls under way must have been
  // cancelled or be bounded by deadlines. Must not run on one of the threads.
  ~EventLoops();

  size_t size() const { return queues_.size(); }
  grpc::CompletionQueue* queue(size_t index) { return queues_[index].get(); }

  // Has `completion` run on the calling thread once it has handled the operations that have ended
  // by now, kMaxDeferredEvents at most: what they add can then be written at once. False, and
  // nothing happens, where the thread is none of these loops.
  static constexpr int kMaxDeferredEvents = 512;
  bool Defer(const Completion& completion);

  // Whether the calling thread runs that loop.
  bool Runs(size_t index) const;

  // The loop that the calling thread runs; for other threads one after the other.
  size_t Pick();

 private:
  void Run(size_t index);
  static void RunDeferred();

  const std::vector<std::unique_ptr<grpc::CompletionQueue>> queues_;
  std::atomic<size_t> next_{0};
  absl::Mutex mutex_;
  size_t holds_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::thread> threads_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_EVENT_LOOP_H_
