#ifndef OCTOGATE_COMMON_STORE_H_
#define OCTOGATE_COMMON_STORE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace octogate {

// Ends when it is destroyed: nothing is called any more then.
class StoreWatch {
 public:
  virtual ~StoreWatch() = default;
};

// Bytes under names, with expiry: the one seam behind which graphs and shared caches are kept.
//
// Keys are 1 to kMaxKeyBytes of any bytes; values are any bytes up to the store's limit. Values
// are hostile until proven: whoever reads one checks it. All calls are thread-safe, may block on
// I/O until `deadline` and then return DEADLINE_EXCEEDED; nothing is changed by a call that
// returns INVALID_ARGUMENT, ABORTED, NOT_FOUND or RESOURCE_EXHAUSTED.
//
// Codes beside those named at the calls: INVALID_ARGUMENT for a bad key, RESOURCE_EXHAUSTED for a
// value over the limit or a full store, DATA_LOSS for bytes that are not what was written,
// UNAVAILABLE for a store that cannot be reached.
class Store {
 public:
  static constexpr size_t kMaxKeyBytes = 1024;

  virtual ~Store() = default;

  // The value. NOT_FOUND if there is none or it has expired.
  virtual absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline) = 0;

  // Sets the value, whatever was there. It is gone at `expires_at`.
  virtual absl::Status Put(std::string_view key, std::string_view value, absl::Time expires_at,
                           absl::Time deadline) = 0;

  // Sets the value if the present one is `expected`, or if there is none and `expected` is
  // nullopt; ABORTED otherwise. Atomic towards every other call on the same store, those of other
  // processes included.
  virtual absl::Status CompareAndSet(std::string_view key, std::optional<std::string_view> expected,
                                     std::string_view value, absl::Time expires_at,
                                     absl::Time deadline) = 0;

  // Names with the prefix in byte order, those greater than `after` only, `limit` at most.
  virtual absl::StatusOr<std::vector<std::string>> List(std::string_view prefix,
                                                        std::string_view after, size_t limit,
                                                        absl::Time deadline) = 0;

  // Removes the value; OK if there was none.
  virtual absl::Status Delete(std::string_view key, absl::Time deadline) = 0;

  // As Get of each key, in their order, at the price of about one round trip: for each what Get
  // would have returned. Not atomic together. All values are in memory at the same time.
  virtual std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string_view> keys,
                                                           absl::Time deadline) {
    std::vector<absl::StatusOr<std::string>> values;
    values.reserve(keys.size());
    for (const std::string_view key : keys) values.push_back(Get(key, deadline));
    return values;
  }

  // As Put of each entry, in their order, at the price of about one round trip: for each what Put
  // would have returned. Not atomic together: each entry is there whole or not at all.
  struct Entry {
    std::string_view key;
    std::string_view value;
    absl::Time expires_at = absl::InfiniteFuture();
  };
  virtual std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time deadline) {
    std::vector<absl::Status> results;
    results.reserve(entries.size());
    for (const Entry& entry : entries) {
      results.push_back(Put(entry.key, entry.value, entry.expires_at, deadline));
    }
    return results;
  }

  // Tells all who watch the topic, those of other processes with the same store included, to look
  // at what it is about. A notification may be lost, late or doubled: whoever watches also polls.
  virtual absl::Status Notify(std::string_view topic, absl::Time deadline) {
    static_cast<void>(topic), static_cast<void>(deadline);
    return absl::OkStatus();
  }

  // Has `on_notified` called for every notification of the topic, and whenever some may have been
  // missed; by any thread. It must be short, and call neither the store nor the end of the watch.
  // Null where the store has no notifications. The store outlives the watch.
  virtual std::unique_ptr<StoreWatch> Watch(std::string_view topic,
                                            std::function<void()> on_notified) {
    static_cast<void>(topic), static_cast<void>(on_notified);
    return nullptr;
  }
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_STORE_H_
