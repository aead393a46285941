// Values that gateways share, and what queries have waited for in vain, for tests.
#ifndef OCTOGATE_TESTS_GATEWAY_WATCHED_VALUES_H_
#define OCTOGATE_TESTS_GATEWAY_WATCHED_VALUES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/value_cache.h"
#include "gateway/shared_values.h"

namespace octogate::gateway {

class WatchedValues final : public ValueCache {
 public:
  explicit WatchedValues(std::unique_ptr<ValueCache> values) : values_(std::move(values)) {}

  // A read that was not answered. Times are SteadyNow()'s.
  struct Unanswered {
    absl::Time begun;
    absl::Time ended;
    absl::Duration allowed;
  };
  std::vector<Unanswered> unanswered() const {
    absl::MutexLock lock(&mutex_);
    return unanswered_;
  }

  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time deadline) override {
    Unanswered read{.begun = SteadyNow(), .ended = {}, .allowed = deadline - absl::Now()};
    auto values = values_->GetMany(keys, deadline);
    read.ended = SteadyNow();
    const bool unanswered = std::any_of(values.begin(), values.end(), [](const auto& value) {
      return absl::IsUnavailable(value.status()) || absl::IsDeadlineExceeded(value.status());
    });
    absl::MutexLock lock(&mutex_);
    if (unanswered) unanswered_.push_back(read);
    return values;
  }
  size_t ShardOf(std::string_view key) const override { return values_->ShardOf(key); }
  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time deadline) override {
    return values_->PutMany(entries, deadline);
  }

 private:
  const std::unique_ptr<ValueCache> values_;
  mutable absl::Mutex mutex_;
  std::vector<Unanswered> unanswered_ ABSL_GUARDED_BY(mutex_);
};

// Of reads that came one after the other some were not answered, each allowed
// SharedValues::kMaxWait at most, and between two of which the server could be blamed nobody asked
// it for kPause.
inline void ExpectOneWaitAPause(const WatchedValues& values) {
  EXPECT_FALSE(values.unanswered().empty());
  absl::Time ended = absl::InfinitePast();
  for (const WatchedValues::Unanswered& read : values.unanswered()) {
    EXPECT_LE(read.allowed, SharedValues::kMaxWait);
    EXPECT_GE(read.begun, ended + SharedValues::kPause);
    // A busy machine may have left it little time.
    if (read.allowed > SharedValues::kMaxWait / 2) ended = read.ended;
  }
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_WATCHED_VALUES_H_
