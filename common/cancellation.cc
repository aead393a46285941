#include "common/cancellation.h"

#include <algorithm>
#include <functional>
#include <thread>
#include <utility>

namespace octogate {
namespace {

uint64_t ThisThread() { return std::hash<std::thread::id>()(std::this_thread::get_id()); }

}  // namespace

Cancellation::Registration& Cancellation::Registration::operator=(Registration&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  owner_ = std::move(other.owner_);
  id_ = std::exchange(other.id_, 0);
  return *this;
}

void Cancellation::Registration::Reset() {
  if (const std::shared_ptr<Cancellation> owner = std::move(owner_)) owner->Unregister(id_);
  owner_.reset();
  id_ = 0;
}

void Cancellation::Cancel() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(cancelled_, true)) return;
    running_thread_ = ThisThread();
  }
  while (true) {
    std::function<void()> callback;
    {
      absl::MutexLock lock(&mutex_);
      running_ = 0;
      if (entries_.empty()) return;
      running_ = entries_.front().id;
      callback = std::move(entries_.front().callback);
      entries_.erase(entries_.begin());
    }
    callback();
  }
}

bool Cancellation::IsCancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

Cancellation::Registration Cancellation::OnCancel(std::function<void()> callback) {
  Registration registration;
  {
    absl::MutexLock lock(&mutex_);
    if (!cancelled_) {
      registration.owner_ = shared_from_this();
      registration.id_ = next_id_++;
      entries_.push_back({registration.id_, std::move(callback)});
      return registration;
    }
  }
  callback();
  return registration;
}

void Cancellation::Unregister(uint64_t id) {
  std::function<void()> dropped;  // Destroyed without the lock.
  absl::MutexLock lock(&mutex_);
  const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                  [id](const Entry& entry) { return entry.id == id; });
  if (entry != entries_.end()) {
    dropped = std::move(entry->callback);
    entries_.erase(entry);
    return;
  }
  if (running_ != id || running_thread_ == ThisThread()) return;
  const auto finished = [this, id]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_ != id; };
  mutex_.Await(absl::Condition(&finished));
}

}  // namespace octogate
