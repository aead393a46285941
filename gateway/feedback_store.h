// What users say of decisions, kept until an operator makes use of it or it expires.
#ifndef OCTOGATE_GATEWAY_FEEDBACK_STORE_H_
#define OCTOGATE_GATEWAY_FEEDBACK_STORE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/store.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

struct FeedbackStoreOptions {
  // Counted, then added to: entries that come at the same moment may exceed these by as many.
  size_t max_entries_per_tenant = 1000;
  size_t max_entries = 10'000;
  absl::Duration kept_for = absl::Hours(30 * 24);
  Clock clock = SystemClock();
};

// Thread safety: all methods may be called from any thread. They block on the store until
// `deadline` at most.
class FeedbackStore {
 public:
  // `store` outlives this object.
  FeedbackStore(Store* store, FeedbackStoreOptions options);

  // Keeps the entry, in place of an earlier one on the same trace of its tenant; sets its time.
  // RESOURCE_EXHAUSTED where there are as many as may be.
  absl::Status Add(v1::FeedbackEntry entry, absl::Time deadline);

  // Entries of a tenant (empty: of all), the newest first. What is damaged is left out.
  absl::StatusOr<std::vector<v1::FeedbackEntry>> List(std::string_view tenant, absl::Time deadline);

  // OK if it is no longer there.
  absl::Status Delete(const v1::FeedbackEntry& entry, absl::Time deadline);

 private:
  absl::StatusOr<std::vector<std::string>> Keys(std::string_view prefix, absl::Time deadline);

  Store& store_;
  const FeedbackStoreOptions options_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_FEEDBACK_STORE_H_
