#include "gateway/shared_values.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace octogate::gateway {
namespace {

// One goes on with queries while another one waits for the server.
constexpr int kReaders = 2;

bool IsAnswered(const absl::Status& status) {
  return status.ok() || absl::IsNotFound(status) || absl::IsDataLoss(status);
}

}  // namespace

SharedValues::SharedValues(ValueCache* cache, absl::Duration max_wait)
    : cache_(*cache), max_wait_(max_wait) {
  for (int i = 0; i < kReaders; ++i) threads_.emplace_back([this] { RunReads(); });
  threads_.emplace_back([this] { RunWrites(); });
}

SharedValues::~SharedValues() { Stop(); }

void SharedValues::Answer(const Read& read, const absl::Status& status) {
  read.done(Values(read.keys.size(), status));
}

void SharedValues::Get(std::vector<std::string> keys, std::function<void(Values values)> done) {
  const absl::Time now = absl::Now();
  Read read{std::move(keys), std::move(done), now + max_wait_};
  {
    absl::MutexLock lock(&mutex_);
    if (!stopped_ && now >= read_again_ && reads_.size() < kMaxReads) {
      reads_.push_back(std::move(read));
      return;
    }
    stats_.failed += read.keys.size();
  }
  Answer(read, absl::UnavailableError("what gateways share cannot be read now"));
}

void SharedValues::Put(std::string key, std::string value, absl::Duration kept_for,
                       bool if_absent) {
  absl::MutexLock lock(&mutex_);
  if (const auto found = writes_.find(key); found != writes_.end()) {
    write_bytes_ += value.size();
    write_bytes_ -= found->second.value.size();
    found->second = {std::move(value), kept_for, if_absent};
    return;
  }
  const size_t bytes = 2 * key.size() + value.size();
  if (stopped_ || order_.size() >= kMaxQueued || write_bytes_ + bytes > kMaxQueuedBytes) {
    ++stats_.dropped;
    return;
  }
  write_bytes_ += bytes;
  order_.push_back(key);
  writes_.emplace(std::move(key), Write{std::move(value), kept_for, if_absent});
}

absl::Status SharedValues::PutNow(std::string key, std::string value, absl::Duration kept_for,
                                  absl::Time deadline) {
  const ValueCache::Entry entry{std::move(key), std::move(value), kept_for};
  absl::Status status = cache_.PutMany({&entry, 1}, deadline).front();
  absl::MutexLock lock(&mutex_);
  ++(status.ok() ? stats_.written : stats_.dropped);
  return status;
}

void SharedValues::CountRefused() {
  absl::MutexLock lock(&mutex_);
  ++stats_.damaged;
}

void SharedValues::RunReads() {
  for (;;) {
    std::vector<Read> batch;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &SharedValues::HasRead));
      if (stopped_) return;
      while (!reads_.empty() && batch.size() < kMaxBatch) {
        batch.push_back(std::move(reads_.front()));
        reads_.pop_front();
      }
    }
    std::vector<std::string> keys;
    for (const Read& read : batch) keys.insert(keys.end(), read.keys.begin(), read.keys.end());
    // The first has waited longest.
    Values values = cache_.GetMany(keys, batch.front().deadline);
    bool failed = false;
    {
      absl::MutexLock lock(&mutex_);
      for (const absl::StatusOr<std::string>& value : values) {
        failed = failed || !IsAnswered(value.status());
        uint64_t& count = value.ok()                         ? stats_.found
                          : absl::IsNotFound(value.status()) ? stats_.absent
                          : absl::IsDataLoss(value.status()) ? stats_.damaged
                                                             : stats_.failed;
        ++count;
      }
      if (failed) read_again_ = absl::Now() + kPause;
    }
    auto next = values.begin();
    for (const Read& read : batch) {
      const auto end = next + static_cast<ptrdiff_t>(read.keys.size());
      read.done(Values(std::make_move_iterator(next), std::make_move_iterator(end)));
      next = end;
    }
    if (!failed) continue;
    // What came meanwhile does not wait for the same.
    std::deque<Read> others;
    {
      absl::MutexLock lock(&mutex_);
      others.swap(reads_);
      for (const Read& read : others) stats_.failed += read.keys.size();
    }
    for (const Read& read : others) {
      Answer(read, absl::UnavailableError("what gateways share cannot be read now"));
    }
  }
}

void SharedValues::RunWrites() {
  for (;;) {
    std::vector<ValueCache::Entry> batch;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &SharedValues::HasWrite));
      if (stopped_) {
        stats_.dropped += order_.size();
        return;
      }
      while (!order_.empty() && batch.size() < kMaxBatch) {
        const auto found = writes_.find(order_.front());
        write_bytes_ -= 2 * found->first.size() + found->second.value.size();
        batch.push_back({std::move(order_.front()), std::move(found->second.value),
                         found->second.kept_for, found->second.if_absent});
        writes_.erase(found);
        order_.pop_front();
      }
    }
    const std::vector<absl::Status> results = cache_.PutMany(batch, absl::Now() + kMaxWriteTime);
    const auto written = std::count_if(results.begin(), results.end(),
                                       [](const absl::Status& status) { return status.ok(); });
    absl::MutexLock lock(&mutex_);
    stats_.written += static_cast<uint64_t>(written);
    stats_.dropped += results.size() - static_cast<uint64_t>(written);
  }
}

void SharedValues::Stop() {
  std::deque<Read> left;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    left.swap(reads_);
  }
  for (const Read& read : left) Answer(read, absl::CancelledError("the gateway ends"));
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

SharedValues::Stats SharedValues::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

}  // namespace octogate::gateway
