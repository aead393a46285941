#include "gateway/shared_values.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/clock.h"

namespace octogate::gateway {
namespace {

// One goes on with queries while another one waits for the server.
constexpr int kReaders = 2;

bool IsAnswered(const absl::Status& status) {
  return status.ok() || absl::IsNotFound(status) || absl::IsDataLoss(status);
}

absl::Status CannotBeRead() {
  return absl::UnavailableError("what gateways share cannot be read now");
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

bool SharedValues::IsPaused(std::string_view key, absl::Time now) const {
  if (paused_.empty()) return false;
  const auto paused = paused_.find(cache_.ShardOf(key));
  return paused != paused_.end() && now < paused->second;
}

void SharedValues::Pause(std::string_view key) {
  const absl::Time now = SteadyNow();
  absl::erase_if(paused_, [now](const auto& paused) { return paused.second <= now; });
  paused_[cache_.ShardOf(key)] = now + kPause;
}

void SharedValues::Get(std::vector<std::string> keys, std::function<void(Values values)> done) {
  const absl::Time now = SteadyNow();
  Read read{std::move(keys), std::move(done), now + max_wait_};
  {
    absl::MutexLock lock(&mutex_);
    const bool all_paused =
        std::all_of(read.keys.begin(), read.keys.end(),
                    [&](const std::string& key)
                        ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return IsPaused(key, now); });
    if (!stopped_ && !all_paused && reads_.size() < kMaxReads) {
      reads_.push_back(std::move(read));
      return;
    }
    stats_.failed += read.keys.size();
  }
  Answer(read, CannotBeRead());
}

void SharedValues::Put(std::string key, std::string value, absl::Duration kept_for,
                       bool if_absent) {
  absl::MutexLock lock(&mutex_);
  const auto earlier = writes_.find(key);
  const bool replaces = earlier != writes_.end();
  const size_t bytes = 2 * key.size() + value.size();
  if (replaces) write_bytes_ -= 2 * key.size() + earlier->second.value.size();
  if (stopped_ || (!replaces && order_.size() >= kMaxQueued) ||
      write_bytes_ + bytes > kMaxQueuedBytes) {
    ++stats_.dropped;
    if (!replaces) return;
    // It would have been replaced.
    ++stats_.dropped;
    order_.erase(std::find(order_.begin(), order_.end(), key));
    writes_.erase(earlier);
    return;
  }
  write_bytes_ += bytes;
  if (replaces) {
    earlier->second = {std::move(value), kept_for, if_absent};
    return;
  }
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

SharedValues::Values SharedValues::Ask(const std::vector<std::string>& keys, absl::Time deadline) {
  Values values(keys.size(), CannotBeRead());
  std::vector<size_t> which;  // are asked for
  std::vector<std::string> asked;
  {
    const absl::Time now = SteadyNow();
    absl::MutexLock lock(&mutex_);
    for (size_t i = 0; i < keys.size(); ++i) {
      if (IsPaused(keys[i], now)) continue;
      which.push_back(i);
      asked.push_back(keys[i]);
    }
  }
  // Where little time was left, the server cannot be blamed for what has not come.
  const absl::Duration left = deadline - SteadyNow();
  const bool had_time = left > max_wait_ / 2;
  if (asked.empty()) return values;
  Values read = cache_.GetMany(asked, absl::Now() + left);
  absl::MutexLock lock(&mutex_);
  for (size_t n = 0; n < which.size(); ++n) {
    const absl::Status& status = read[n].status();
    const bool late = absl::IsDeadlineExceeded(status);
    if (!IsAnswered(status) && (had_time || !late)) Pause(asked[n]);
    values[which[n]] = std::move(read[n]);
  }
  return values;
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
    Values values = Ask(keys, batch.front().deadline);
    {
      absl::MutexLock lock(&mutex_);
      for (const absl::StatusOr<std::string>& value : values) {
        uint64_t& count = value.ok()                         ? stats_.found
                          : absl::IsNotFound(value.status()) ? stats_.absent
                          : absl::IsDataLoss(value.status()) ? stats_.damaged
                                                             : stats_.failed;
        ++count;
      }
    }
    auto next = values.begin();
    for (const Read& read : batch) {
      const auto end = next + static_cast<ptrdiff_t>(read.keys.size());
      read.done(Values(std::make_move_iterator(next), std::make_move_iterator(end)));
      next = end;
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
