// A bounded number of connections to one database, each used by one call at a time.
#ifndef OCTOGATE_GATEWAY_SQL_CONNECTION_POOL_H_
#define OCTOGATE_GATEWAY_SQL_CONNECTION_POOL_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

// Thread-safe; outlives the places taken from it.
template <typename Connection>
class ConnectionPool {
 public:
  // The right to use one connection: an idle one or a new one.
  class Place {
   public:
    Place(Place&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
    Place& operator=(Place&&) = delete;
    ~Place() {
      if (pool_ != nullptr) pool_->Leave();
    }

    // The one that was used last, or null.
    std::unique_ptr<Connection> TakeIdle() { return pool_->TakeIdle(); }
    // For the next call. A connection that is not given back is closed.
    void GiveBack(std::unique_ptr<Connection> connection) {
      pool_->GiveBack(std::move(connection));
    }

   private:
    friend class ConnectionPool;
    explicit Place(ConnectionPool* pool) : pool_(pool) {}
    ConnectionPool* pool_;
  };

  explicit ConnectionPool(size_t places) : free_(places) {}

  // Waits for a free place: DEADLINE_EXCEEDED or CANCELLED.
  absl::StatusOr<Place> Take(const SqlCallOptions& call) {
    bool cancelled = false;  // guarded by mutex_
    Cancellation::Registration registration;
    if (call.cancellation != nullptr) {
      registration = call.cancellation->OnCancel([this, &cancelled] {
        const absl::MutexLock lock(&mutex_);
        cancelled = true;
      });
    }
    const absl::MutexLock lock(&mutex_);
    const auto ready = [this, &cancelled]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return cancelled || free_ > 0; };
    const bool in_time = mutex_.AwaitWithDeadline(absl::Condition(&ready), call.deadline);
    if (cancelled) return absl::CancelledError("the call was cancelled");
    if (!in_time) {
      return absl::DeadlineExceededError("every connection to the database is in use");
    }
    --free_;
    return Place(this);
  }

 private:
  std::unique_ptr<Connection> TakeIdle() {
    const absl::MutexLock lock(&mutex_);
    if (idle_.empty()) return nullptr;
    std::unique_ptr<Connection> connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }
  void GiveBack(std::unique_ptr<Connection> connection) {
    const absl::MutexLock lock(&mutex_);
    idle_.push_back(std::move(connection));
  }
  void Leave() {
    const absl::MutexLock lock(&mutex_);
    ++free_;
  }

  absl::Mutex mutex_;
  size_t free_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_CONNECTION_POOL_H_
