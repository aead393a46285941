#include "gateway/event_loop.h"

#include <utility>

namespace octogate::gateway {
namespace {

// The loop that this thread runs, if any.
struct CurrentLoop {
  const EventLoops* loops = nullptr;
  size_t index = 0;
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

void EventLoops::Run(size_t index) {
  current_loop = {this, index};
  void* tag = nullptr;
  bool ok = false;
  while (queues_[index]->Next(&tag, &ok)) {
    const auto* completion = static_cast<const Completion*>(tag);
    completion->run(completion->owner, ok);
  }
}

}  // namespace octogate::gateway
