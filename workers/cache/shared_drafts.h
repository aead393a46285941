// What drafters learn, shared by the replicas of a model through a store.
//
// For every model, drafter and scope the store has, under names that tell nothing of the scope but
// a digest:
// - of each replica its last publications, numbered: what it has learned since the one before;
// - a snapshot of all that is known, which any replica writes when the last one has become old, in
//   place of it. It is for replicas that begin, and for those that have missed a publication.
// All of it expires. What is read is checked: an envelope with a keyed digest of what it is for and
// of its bytes, and then the export itself, by the drafter's state. Exports merge in any order and
// any number of times, so nothing depends on who comes first, on clocks, or on what the store
// loses: it is written again. Nothing here depends on wall clocks but when values expire.
#ifndef OCTOGATE_WORKERS_CACHE_SHARED_DRAFTS_H_
#define OCTOGATE_WORKERS_CACHE_SHARED_DRAFTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/store.h"
#include "workers/speculation/draft_keeper.h"
#include "workers/speculation/shared_drafts_stats.h"

namespace octogate::workers {

struct SharedDraftsOptions {
  // What the replicas know in common and others do not: what was written without it is refused, and
  // names cannot be guessed. Empty: whoever can write to the store is trusted.
  std::string secret;
  size_t publication_bytes = size_t{128} << 10;  // about, of one; one of a scope for each Sync
  int publications = 16;                         // of a replica that are there
  absl::Duration publication_expiry = absl::Minutes(2);
  absl::Duration snapshot_interval = absl::Minutes(1);  // shorter while little is known
  absl::Duration snapshot_expiry = absl::Hours(24);
  size_t read_bytes = size_t{16} << 20;            // for each Sync
  absl::Duration max_pause = absl::Seconds(4);     // between looks at what others have learned
  absl::Duration call_timeout = absl::Seconds(2);  // a Sync may take three times as long
  // Fills in what is known of the store; may be empty. Called by any thread.
  std::function<void(SharedDraftsStats&)> tell_store;
};

// Load does nothing. Stats may be asked by any thread.
class SharedDrafts : public DraftPlace {
 public:
  using Stats = SharedDraftsStats;
  virtual Stats stats() const = 0;
  std::optional<SharedDraftsStats> shared_stats() const final { return stats(); }
};

// `store` outlives the result.
std::shared_ptr<SharedDrafts> ShareDrafts(Store* store, SharedDraftsOptions options = {});

// What names of values of this owner begin with, the "/" at the end included.
std::string SharedDraftsPrefix(const DraftOwner& owner, std::string_view secret);
// An export as it is stored.
std::string SealDrafts(const DraftOwner& owner, std::string_view secret, std::string_view exported);
// DATA_LOSS where it is not one of this owner, or was written without the secret.
absl::StatusOr<std::string> OpenDrafts(const DraftOwner& owner, std::string_view secret,
                                       std::string_view sealed);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_SHARED_DRAFTS_H_
