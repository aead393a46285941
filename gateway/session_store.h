// Where conversations are: the node that each router chose last for a session.
#ifndef OCTOGATE_GATEWAY_SESSION_STORE_H_
#define OCTOGATE_GATEWAY_SESSION_STORE_H_

#include <cstddef>
#include <functional>
#include <list>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/shared_values.h"

namespace octogate::gateway {

struct SessionStoreOptions {
  // Routers of sessions; further ones push out those that were used least recently.
  size_t max_entries = 100'000;
  // After the last query.
  absl::Duration kept_for = absl::Hours(1);
  // What this gateway knows is believed for so long before the others are asked whether they know
  // better: a conversation may go on at any of them.
  absl::Duration believed_for = absl::Seconds(1);
  // The others are told of a node again after so long, though it is the same, lest they forget it.
  absl::Duration renewed_after = absl::Minutes(1);
  Clock clock = SystemClock();
};

// Alone, what this process knows: after a restart nothing. With `shared`, what the gateways that
// share it know: a session goes on at another one. The newest word holds, by the gateways' clocks.
// Where the shared values are late, gone or damaged, what is known here holds. Nothing blocks.
//
// Thread safety: all methods may be called from any thread.
class SessionStore {
 public:
  // `shared` may be null; it outlives the store, and is stopped before.
  explicit SessionStore(SessionStoreOptions options, SharedValues* shared = nullptr);

  // What this gateway knows. Empty where that is nothing (any more). Sessions of different tenants
  // have nothing in common.
  std::string Find(std::string_view tenant, std::string_view session, std::string_view router);

  // What any of them knows. Calls `done` once, possibly before it returns, and no later than a read
  // of the shared values may take.
  void Find(std::string_view tenant, std::string_view session, std::string_view router,
            std::function<void(std::string node)> done);

  void Set(std::string_view tenant, std::string_view session, std::string_view router,
           std::string_view node);

 private:
  struct Entry {
    std::string key;
    std::string node;
    absl::Time used;
    absl::Time checked;                      // when the others knew nothing newer
    absl::Time told = absl::InfinitePast();  // when the others were told of the node
  };
  using Entries = std::list<Entry>;

  // The entry of that key, unless it has expired. Null: none.
  Entry* Look(const std::string& key, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sets the entry, which may be there, as the one that was used last.
  Entry& Place(std::string key, std::string_view node, absl::Time used, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the others say; returns the node that holds.
  std::string OnShared(const std::string& key, const absl::StatusOr<std::string>& value);

  const SessionStoreOptions options_;
  SharedValues* const shared_;
  absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);  // in the order in which they were placed, newest first
  absl::flat_hash_map<std::string, Entries::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SESSION_STORE_H_
