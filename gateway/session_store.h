// Where conversations are: the node that each router chose last for a session.
#ifndef OCTOGATE_GATEWAY_SESSION_STORE_H_
#define OCTOGATE_GATEWAY_SESSION_STORE_H_

#include <cstddef>
#include <list>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace octogate::gateway {

struct SessionStoreOptions {
  // Routers of sessions; further ones push out those that were used least recently.
  size_t max_entries = 100'000;
  // After the last query.
  absl::Duration kept_for = absl::Hours(1);
  Clock clock = SystemClock();
};

// Of this process alone: another gateway, or this one after a restart, knows nothing of a session
// and routes its next query by scores. Nothing blocks.
//
// Thread safety: all methods may be called from any thread.
class SessionStore {
 public:
  explicit SessionStore(SessionStoreOptions options);

  // Empty where nothing is known (any more). Sessions of different tenants have nothing in common.
  std::string Find(std::string_view tenant, std::string_view session, std::string_view router);

  void Set(std::string_view tenant, std::string_view session, std::string_view router,
           std::string_view node);

 private:
  struct Entry {
    std::string key;
    std::string node;
    absl::Time used;
  };

  const SessionStoreOptions options_;
  absl::Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // used last first
  absl::flat_hash_map<std::string, std::list<Entry>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SESSION_STORE_H_
