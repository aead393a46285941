// Values of one kind that gateways share in their Redis, found until they are flushed: by the
// queries of one version of a graph.
//
// A value is found by its key and by the same graph: its version and the digest of its manifest are
// part of the name that it stands under, of which the server sees a digest alone. What is read is
// hostile: it is bounded, compared byte by byte with what was asked for, and the rest is checked by
// whoever reads it.
//
// Flushes are marks, one for everybody and one for each tenant, which a flush replaces by a new
// random one. A value is written with the marks that were read before its query began, and given
// only where they are those that are read together with it. So nothing from before a flush, and
// nothing of a query that was under way, is found by any gateway once Flush has returned. Where a
// mark is missing (the server was emptied, or has evicted it) a new one is set: all that was
// written before is out of reach. All versions of a graph have the same marks.
//
// Thread safety: all methods may be called from any thread. None but Flush blocks.
#ifndef OCTOGATE_GATEWAY_CACHE_FLUSHABLE_VALUES_H_
#define OCTOGATE_GATEWAY_CACHE_FLUSHABLE_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/cache/cache_counts.h"
#include "gateway/shared_values.h"

namespace octogate::gateway {

class FlushableValues {
 public:
  // More than a value may be kept.
  static constexpr absl::Duration kMarkKeptFor = absl::Hours(31 * 24);

  // `kind` begins all names. `max_bytes`: of a value with its key, as it is written; longer ones
  // are not shared. `values` outlives this object.
  FlushableValues(std::string kind, size_t max_bytes, SharedValues* values, int64_t version,
                  std::string_view manifest);

  template <typename Value>
  struct Found {
    std::string marks;  // that what is made instead is put with; empty: they cannot be known now
    std::optional<Value> value;
  };
  // `parse` makes a value of what was put: NOT_FOUND where it holds no longer, DATA_LOSS where it
  // is none. `done` is called once, possibly before this returns, within the time of a read of the
  // shared values; it must not block.
  template <typename Value>
  void Get(const std::string& tenant, const std::string& key,
           std::function<absl::StatusOr<Value>(std::string_view content)> parse,
           std::function<void(Found<Value> found)> done) {
    auto value = std::make_shared<std::optional<Value>>();
    Read(
        tenant, key,
        [value, parse = std::move(parse)](std::string_view content) {
          absl::StatusOr<Value> parsed = parse(content);
          if (parsed.ok()) *value = *std::move(parsed);
          return parsed.status();
        },
        [value, done = std::move(done)](std::string marks) {
          done({.marks = std::move(marks), .value = std::move(*value)});
        });
  }

  // Written behind; without marks, or where it is too long, not.
  void Put(const std::string& key, const std::string& marks, std::string_view content,
           absl::Duration kept_for);

  // Everybody's where `tenant` is empty. UNAVAILABLE or DEADLINE_EXCEEDED where the server has not
  // taken it, or not said so.
  absl::Status Flush(const std::string& tenant, absl::Time deadline);

  // Failures: reads without an answer of the server, or of what is no value.
  CacheCounts Counts() const;

 private:
  // Get, without what becomes of a value: `parse` says whether it is one.
  void Read(const std::string& tenant, const std::string& key,
            std::function<absl::Status(std::string_view content)> parse,
            std::function<void(std::string marks)> done);
  std::string NameOf(const std::string& key) const;
  // The server sees no names of tenants.
  std::string MarkNameOf(const std::string& tenant) const;
  // A mark as it was read, a new one where there is none, or empty where it cannot be known.
  std::string MarkOf(const std::string& tenant, const absl::StatusOr<std::string>& value);

  const std::string kind_;
  const size_t max_bytes_;
  SharedValues& values_;
  const std::string identity_;  // of the graph and the format
  mutable absl::Mutex mutex_;
  CacheCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_FLUSHABLE_VALUES_H_
