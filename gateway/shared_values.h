// What queries read from, and leave in, a cache that gateways share, without waiting for it.
//
// A read costs a query `max_wait` at most. A key that was late, or whose server was gone, has all
// others that the same server of a cluster has answered at once for kPause: as if nothing were
// there. Reads that come together are one round trip. Writes are queued, a later one of the same
// key in place of an earlier one, and dropped where kMaxQueued of them or kMaxQueuedBytes wait, or
// where the server does not take them.
//
// Thread safety: all methods may be called from any thread.
#ifndef OCTOGATE_GATEWAY_SHARED_VALUES_H_
#define OCTOGATE_GATEWAY_SHARED_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/value_cache.h"

namespace octogate::gateway {

class SharedValues {
 public:
  static constexpr absl::Duration kMaxWait = absl::Milliseconds(20);  // unless told otherwise
  static constexpr absl::Duration kPause = absl::Milliseconds(200);
  static constexpr absl::Duration kMaxWriteTime = absl::Seconds(1);
  static constexpr size_t kMaxReads = 4096;  // that wait
  static constexpr size_t kMaxQueued = 4096;
  static constexpr size_t kMaxQueuedBytes = size_t{16} << 20;
  static constexpr size_t kMaxBatch = 256;

  // `cache` outlives this object.
  explicit SharedValues(ValueCache* cache, absl::Duration max_wait = kMaxWait);
  // As Stop.
  ~SharedValues();

  // Each key's value, or why there is none, as of ValueCache::GetMany. `done` is called once,
  // possibly before this returns; it must not block.
  using Values = std::vector<absl::StatusOr<std::string>>;
  void Get(std::vector<std::string> keys, std::function<void(Values values)> done);

  // `if_absent`: what is there by then stays.
  void Put(std::string key, std::string value, absl::Duration kept_for, bool if_absent = false);

  // Blocks until the server has taken it, or `deadline`. Errors as of ValueCache::PutMany.
  absl::Status PutNow(std::string key, std::string value, absl::Duration kept_for,
                      absl::Time deadline);

  // A value that was read is not what it should be, though it is what somebody wrote.
  void CountRefused();

  // What waits is answered as if nothing were there, as is every read from now on; writes that wait
  // are dropped. Not called by a `done`.
  void Stop();

  struct Stats {
    uint64_t found = 0;
    uint64_t absent = 0;
    uint64_t failed = 0;   // late, refused for want of room, or with the server gone
    uint64_t damaged = 0;  // bytes that are not what was written, or mean nothing
    uint64_t written = 0;
    uint64_t dropped = 0;  // writes
  };
  Stats stats() const;

 private:
  // Times here are SteadyNow()'s.
  struct Read {
    std::vector<std::string> keys;
    std::function<void(Values values)> done;
    absl::Time deadline;
  };
  struct Write {
    std::string value;
    absl::Duration kept_for;
    bool if_absent;
  };

  static void Answer(const Read& read, const absl::Status& status);
  // Whether the server that has the key is not asked now.
  bool IsPaused(std::string_view key, absl::Time now) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void Pause(std::string_view key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Values of keys, UNAVAILABLE where they are not asked for.
  Values Ask(const std::vector<std::string>& keys, absl::Time deadline);
  void RunReads();
  void RunWrites();
  bool HasRead() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopped_ || !reads_.empty(); }
  bool HasWrite() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopped_ || !order_.empty(); }

  ValueCache& cache_;
  const absl::Duration max_wait_;
  mutable absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // By ValueCache::ShardOf, those that were late or gone: until when. Past ones go with the next.
  absl::flat_hash_map<size_t, absl::Time> paused_ ABSL_GUARDED_BY(mutex_);
  std::deque<Read> reads_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> order_ ABSL_GUARDED_BY(mutex_);  // keys of writes_, the oldest first
  absl::flat_hash_map<std::string, Write> writes_ ABSL_GUARDED_BY(mutex_);
  size_t write_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  Stats stats_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SHARED_VALUES_H_
