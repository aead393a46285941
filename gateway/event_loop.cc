#include "gateway/event_loop.h"

#include <utility>

namespace octogate::gateway {
namespace {

// The loop that this thread runs, if any.
struct CurrentLoop {
  const EventLoops* loops = nullptr;
  size_t index = 0;
  std::vector<Completion> deferred;
  int events_since_deferral = 0;
};
thread_local CurrentLoop current_loop;

}  // namespace

EventLoops::Hold::Hold(EventLoops* loops) : loops_(loops) {
  absl::MutexLock lock(&loops_->mutex_);
  ++loops_->holds_;
}

EventLoops::Hold::~Hold() {
  absl::MutexLock lock(&loops_->mutex_);
  --loops_->holds_;
}

EventLoops::EventLoops(std::vector<std::unique_ptr<grpc::CompletionQueue>> queues)
    : queues_(std::move(queues)) {
  for (size_t i = 0; i < queues_.size(); ++i) threads_.emplace_back([this, i] { Run(i); });
}

std::unique_ptr<EventLoops> EventLoops::Create(size_t count) {
  std::vector<std::unique_ptr<grpc::CompletionQueue>> queues;
  for (size_t i = 0; i < count; ++i) queues.push_back(std::make_unique<grpc::CompletionQueue>());
  return std::make_unique<EventLoops>(std::move(queues));
}

EventLoops::~EventLoops() {
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](size_t* holds) { return *holds == 0; }, &holds_));
  }
  for (const auto& queue : queues_) queue->Shutdown();
  for (std::thread& thread : threads_) thread.join();
}

size_t EventLoops::Pick() {
  if (current_loop.loops == this) return current_loop.index;
  return next_.fetch_add(1, std::memory_order_relaxed) % queues_.size();
}

bool EventLoops::Runs(size_t index) const {
  return current_loop.loops == this && current_loop.index == index;
}

bool EventLoops::Defer(const Completion& completion) {
  if (current_loop.loops != this) return false;
  current_loop.deferred.push_back(completion);
  return true;
}

void EventLoops::RunDeferred() {
  std::vector<Completion> batch;
  batch.swap(current_loop.deferred);
  current_loop.events_since_deferral = 0;
  for (const Completion& completion : batch) completion.run(completion.owner, true);
}

void EventLoops::Run(size_t index) {
  current_loop.loops = this;
  current_loop.index = index;
  grpc::CompletionQueue& queue = *queues_[index];
  void* tag = nullptr;
  bool ok = false;
  for (;;) {
    if (current_loop.deferred.empty()) {
      if (!queue.Next(&tag, &ok)) return;
    } else if (current_loop.events_since_deferral >= kMaxDeferredEvents ||
               queue.AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC)) !=
                   grpc::CompletionQueue::GOT_EVENT) {
      RunDeferred();
      continue;
    }
    const auto* completion = static_cast<const Completion*>(tag);
    completion->run(completion->owner, ok);
    if (!current_loop.deferred.empty()) ++current_loop.events_since_deferral;
  }
}

}  // namespace octogate::gateway
