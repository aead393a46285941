// Keeps what happened to recent queries, for people who ask why.
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
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
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
};

// Thread safety: all methods may be called from any thread.
class TraceStore {
 public:
  explicit TraceStore(const TraceStoreOptions& options);

  // Whether a query that begins now is to be traced.
  bool Sample();

  // The oldest ones make room.
  void Add(v1::Trace trace);

  // NOT_FOUND where there is none of that id (any more). "last" is the one added last.
  absl::StatusOr<std::shared_ptr<const v1::Trace>> Get(const std::string& trace_id) const;

  // The newest ones first, at most `limit`; only those that entered `node` unless it is empty.
  std::vector<std::shared_ptr<const v1::Trace>> List(size_t limit, std::string_view node) const;

 private:
  struct Entry {
    std::shared_ptr<const v1::Trace> trace;
    size_t bytes;
  };

  const TraceStoreOptions options_;
  mutable absl::Mutex mutex_;
  std::deque<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // oldest first
  absl::flat_hash_map<std::string, std::shared_ptr<const v1::Trace>> by_id_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  double tokens_ ABSL_GUARDED_BY(mutex_);
  absl::Time refilled_ ABSL_GUARDED_BY(mutex_);
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
