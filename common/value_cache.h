// Values that may be gone at any time, for several processes together: what nobody needs to list,
// and what can be had again.
#ifndef OCTOGATE_COMMON_VALUE_CACHE_H_
#define OCTOGATE_COMMON_VALUE_CACHE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace octogate {

// Keys and values are any bytes. Values are hostile until proven: whoever reads one checks it.
//
// Thread safety: all methods may be called from any thread. They block until `deadline` at most.
class ValueCache {
 public:
  virtual ~ValueCache() = default;

  // Each key's value, at the price of about one round trip. NOT_FOUND where there is none (any
  // more), DATA_LOSS for bytes that are not what was written, UNAVAILABLE or DEADLINE_EXCEEDED
  // where the server says nothing in time.
  virtual std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                           absl::Time deadline) = 0;

  // What is alike for keys that one server has now: where one of them cannot be read, others
  // cannot.
  virtual size_t ShardOf(std::string_view key) const {
    static_cast<void>(key);
    return 0;
  }

  // Sets the values, whatever was there, at the price of about one round trip. They go after their
  // time at the latest. An OK says that the server has done as it was told.
  struct Entry {
    std::string key;
    std::string value;
    absl::Duration kept_for;
    bool if_absent = false;  // what is there stays, which is no error
  };
  virtual std::vector<absl::Status> PutMany(std::span<const Entry> entries,
                                            absl::Time deadline) = 0;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_VALUE_CACHE_H_
