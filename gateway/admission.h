// Decides which queries run, which wait and which are refused, so that past saturation those that
// are taken still end in time.
//
//   - max_concurrent queries run; up to max_waiting more wait in order of arrival;
//   - one that would still wait at its deadline, or longer than max_wait, is refused at once;
//   - of one tenant at most max_per_tenant run or wait.
//
// A refusal is RESOURCE_EXHAUSTED with a hint when to try again. Where there are many refusals,
// each is given a time behind the one before, so that retries come at a small share of the rate at
// which queries end, and refusing them again takes little from the queries that are taken.
#ifndef OCTOGATE_GATEWAY_ADMISSION_H_
#define OCTOGATE_GATEWAY_ADMISSION_H_

#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gateway/metrics.h"

namespace octogate::gateway {

struct AdmissionOptions {
  int max_concurrent = 512;
  int max_waiting = 1024;
  absl::Duration max_wait = absl::Seconds(2);
  int max_per_tenant = 512;
  // What refusals call them.
  std::string one = "query", many = "queries";
  std::function<absl::Time()> clock = [] { return absl::Now(); };
};

// Thread safety: all methods may be called from any thread. No lock is held while callbacks run.
class Admission {
 public:
  // Called once, on the thread of another query's Release, or of Tick.
  using Callback = std::function<void(const absl::Status&)>;

  // `metrics` may be null.
  Admission(const AdmissionOptions& options, Metrics* metrics);

  // OK: the query may run, and Release is due when it has ended. Nothing: it waits, and `later`
  // gets the decision.
  std::optional<absl::Status> Admit(const std::string& tenant, absl::Time deadline, Callback later);

  // A query that ran since `admitted` has ended.
  void Release(const std::string& tenant, absl::Duration ran);

  // Refuses those that have waited too long. To be called every 100 ms or so.
  void Tick();

  int running() const;
  int waiting() const;

 private:
  struct Waiter {
    std::string tenant;
    absl::Time give_up_at;
    Callback callback;
  };

  // Counts out of the tenant's queries.
  void ForgetTenant(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Time until a query that comes now would run.
  absl::Duration ExpectedWait() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // When to try again: `wait` or later.
  absl::Duration SpreadRetry(absl::Time now, absl::Duration wait)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refuse(const char* reason, const std::string& message, absl::Duration retry_after);

  const AdmissionOptions options_;
  Metrics* const metrics_;
  mutable absl::Mutex mutex_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Waiter> waiting_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, int> per_tenant_ ABSL_GUARDED_BY(mutex_);
  // Moving average.
  absl::Duration mean_run_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
  // The latest time that a refusal was told.
  absl::Time last_retry_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_ADMISSION_H_
