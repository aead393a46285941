// The marks of flushes (flush_marks.h) that the engines of a format share in a Redis server or
// cluster, as one engine knows them.
//
// A thread of its own reads them every `interval`, and at once, but not again and again, where they
// are asked for over connections that are new, and writes them back where they are behind, damaged
// or gone. What is known of a server before a connection was lost is not known of it after: it may
// have been set back since.
#ifndef OCTOGATE_WORKERS_CACHE_SHARED_FLUSH_MARKS_H_
#define OCTOGATE_WORKERS_CACHE_SHARED_FLUSH_MARKS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/redis/redis_client.h"
#include "common/steady_event.h"
#include "workers/cache/flush_marks.h"
#include "workers/engine/page_flush.h"

namespace octogate::workers {

// Thread-safe, but for Take.
class SharedFlushMarks {
 public:
  struct Options {
    std::string name;  // in the store
    std::string secret;
    absl::Duration interval;
    absl::Duration timeout;  // of a read, and the longest that the constructor waits for the first
  };

  SharedFlushMarks(std::shared_ptr<RedisClient> client, Options options);
  // Waits for a call that is under way.
  ~SharedFlushMarks();
  SharedFlushMarks(const SharedFlushMarks&) = delete;
  SharedFlushMarks& operator=(const SharedFlushMarks&) = delete;

  // See PageStore. ABORTED where the marks were changed by others each time.
  absl::Status Flush(const PageFlush& flush, absl::Time deadline) { return Sync(&flush, deadline); }
  // See PageStore::TakeFlushed.
  ContextFilter Take();
  // Whether marks have been taken, and were read over the connections that there are to the server
  // that has them now.
  bool IsCurrent() const;
  // EpochOf the marks that were taken last; none: "".
  std::string EpochOfTaken(std::string_view context) const;
  // The thread ends soon.
  void Stop();

 private:
  // Takes over the marks that are stored, adds a flush where there is one, and stores what is new.
  absl::Status Sync(const PageFlush* flush, absl::Time deadline);
  void Watch();

  const std::shared_ptr<RedisClient> client_;
  const Options options_;
  mutable absl::Mutex mutex_;
  std::optional<FlushMarks> known_ ABSL_GUARDED_BY(mutex_);
  std::optional<FlushMarks> taken_ ABSL_GUARDED_BY(mutex_);
  std::optional<RedisClient::Shard> read_from_ ABSL_GUARDED_BY(mutex_);  // last
  std::optional<RedisClient::Shard> tried_ ABSL_GUARDED_BY(mutex_);      // by the thread, last
  absl::Time written_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::atomic<bool> changed_{false};  // known_ is not taken_
  std::atomic<bool> stopping_{false};
  mutable SteadyEvent due_;
  SteadyEvent asked_;
  std::thread thread_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_SHARED_FLUSH_MARKS_H_
