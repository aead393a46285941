// When what gateways share of one kind was flushed last: by marks in their Redis.
//
// There is a mark for everybody and one for each tenant, which a flush replaces by a new random
// one. A value is written with the marks that were read before its query began, and given only
// where they are those that are read together with it. So nothing from before a flush, and nothing
// of a query that was under way, is found by any gateway once Flush has returned. Where a mark is
// missing (the server was emptied, or has evicted it) a new one is set: all that was written before
// is out of reach.
//
// Thread safety: all methods may be called from any thread. None but Flush blocks.
#ifndef OCTOGATE_GATEWAY_CACHE_SHARED_FLUSHES_H_
#define OCTOGATE_GATEWAY_CACHE_SHARED_FLUSHES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/shared_values.h"

namespace octogate::gateway {

class SharedFlushes {
 public:
  // Whose marks are known; at more all are forgotten, and read again.
  static constexpr size_t kMaxTenants = 4096;
  // More than a value may be.
  static constexpr absl::Duration kMarkKeptFor = absl::Hours(31 * 24);

  // `kind` begins the names of the marks; `values` outlives this object.
  SharedFlushes(std::string kind, SharedValues* values, absl::Duration believed_for, Clock clock);

  // Those of one tenant. A value's name stands before them where they are read together: marks that
  // are read after it are those in force.
  std::vector<std::string> Names(const std::string& tenant) const;
  // The marks that were read under these names, asked for at that time, or set in their place;
  // empty: they cannot be known now.
  std::string Take(const std::string& tenant, absl::Time asked,
                   const absl::StatusOr<std::string>& of_all,
                   const absl::StatusOr<std::string>& of_tenant);

  // What was taken last; empty: nothing yet.
  std::string Marks(const std::string& tenant) const;
  // Whether these were read just now, so that what a gateway has kept with them may be given.
  bool Believes(const std::string& tenant, std::string_view marks) const;

  // Everybody's where `tenant` is empty. UNAVAILABLE or DEADLINE_EXCEEDED where the server has not
  // taken it, or not said so.
  absl::Status Flush(const std::string& tenant, absl::Time deadline);

 private:
  struct Known {
    std::string marks;
    absl::Time asked = absl::InfinitePast();  // when they were
  };

  // The server sees no names of tenants.
  std::string NameOf(const std::string& tenant) const;
  // A mark as it was read, a new one where there is none, or empty where it cannot be known.
  std::string MarkOf(const std::string& name, const absl::StatusOr<std::string>& value);

  const std::string kind_;
  SharedValues& values_;
  const absl::Duration believed_for_;
  const Clock clock_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mutex_);  // by tenant
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SHARED_FLUSHES_H_
