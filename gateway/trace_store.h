// Keeps what happened to recent queries, for people who ask why: here, and where gateways share
// streams, in these too, so that any of them can be asked about a query that another one has had.
#ifndef OCTOGATE_GATEWAY_TRACE_STORE_H_
#define OCTOGATE_GATEWAY_TRACE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/record_streams.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// Random, 32 hexadecimal digits.
std::string NewTraceId();

struct TraceStoreOptions {
  size_t max_traces = 1000;
  size_t max_bytes = size_t{64} << 20;
  // Queries traced per second; further ones are not. At a rate that people can follow all are.
  double traces_per_second = 100;
  std::function<absl::Time()> clock = [] { return absl::Now(); };
  // One stream per tenant. Null: no other gateway learns of a trace. Outlives the store.
  RecordStreams* shared = nullptr;
};

// Traces are written to the shared streams behind, by a thread of the store's own. Where
// kMaxQueued of them or kMaxQueuedBytes wait, further ones are dropped there, as are those that the
// server does not take in time.
//
// Thread safety: all methods may be called from any thread.
class TraceStore {
 public:
  static constexpr size_t kMaxQueued = 512;
  static constexpr size_t kMaxQueuedBytes = size_t{16} << 20;
  // Of a trace that is shared, as it is written.
  static constexpr size_t kMaxSharedBytes = size_t{1} << 20;
  static constexpr absl::Duration kMaxReadTime = absl::Seconds(2);
  // That List takes from the streams at most.
  static constexpr size_t kMaxListed = 1000;
  static constexpr size_t kMaxListedBytes = size_t{32} << 20;

  explicit TraceStore(const TraceStoreOptions& options);
  ~TraceStore();

  // Whether a query that begins now is to be traced.
  bool Sample();

  // The oldest ones make room.
  void Add(v1::Trace trace);

  // NOT_FOUND where there is none of that id (any more). "last" is the one added last. One that is
  // not here is looked for in the shared streams until `deadline`, kMaxReadTime at most; where they
  // do not answer, that is UNAVAILABLE.
  absl::StatusOr<std::shared_ptr<const v1::Trace>> Get(
      const std::string& trace_id, absl::Time deadline = absl::InfinitePast()) const;

  // The newest ones first, at most `limit`; only those that entered `node` unless it is empty. With
  // those of the shared streams, where they answer until `deadline`.
  std::vector<std::shared_ptr<const v1::Trace>> List(
      size_t limit, std::string_view node, absl::Time deadline = absl::InfinitePast()) const;

  // Traces for the shared streams.
  struct Stats {
    uint64_t written = 0;
    uint64_t dropped = 0;
    uint64_t damaged = 0;  // that were read, and were not what they should be
  };
  Stats stats() const;

 private:
  struct Entry {
    std::shared_ptr<const v1::Trace> trace;
    size_t bytes;
  };

  using Traces = std::vector<std::shared_ptr<const v1::Trace>>;

  // Writes what is queued, until the end.
  void Share();
  bool HasQueued() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || !queue_.empty(); }
  // A record's trace; null where it is none.
  std::shared_ptr<const v1::Trace> TraceOf(const RecordStreams::Record& record) const;
  // The newest of all gateways, this one's included.
  Traces Together(Traces own, size_t limit, absl::Time deadline) const;

  const TraceStoreOptions options_;
  mutable absl::Mutex mutex_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // oldest first
  absl::flat_hash_map<std::string, std::shared_ptr<const v1::Trace>> by_id_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  double tokens_ ABSL_GUARDED_BY(mutex_);
  absl::Time refilled_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mutex_);  // for the shared streams
  size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable Stats stats_ ABSL_GUARDED_BY(mutex_);
  std::thread sharing_;
};

// Collects the events of one query. Consecutive tokens of one node are joined, and texts are cut
// where a trace would exceed its limit.
//
// Not thread-safe.
class TraceRecorder {
 public:
  // Bytes of all texts of one trace.
  static constexpr size_t kMaxTextBytes = size_t{128} << 10;
  static constexpr size_t kMaxQueryBytes = 4096;

  TraceRecorder(std::string trace_id, absl::Time started, std::string_view query,
                std::string_view tenant, int64_t graph_version);

  void Record(absl::Duration since_start, const v1::GenerateResponse& event);

  // The trace. Nothing may be recorded afterwards.
  v1::Trace Finish(absl::Duration duration, const absl::Status& status);

 private:
  v1::Trace trace_;
  size_t text_bytes_ = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TRACE_STORE_H_
