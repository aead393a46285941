// A PageStore in a Redis server or cluster.
//
// Every page is a value of its own, complete by itself, so that a server may evict any of them
// (`maxmemory-policy allkeys-lru`) and expires those that nobody has written again. Fetches are
// MGETs of bounded size, several under way at a time; what comes is proven by PageCodec on the
// threads of the store. Writes wait in a bounded queue; what has no room, or what the server
// refuses, is dropped and counted. A server that is out of memory is left alone for a second; one
// that cannot be reached for as long as the client finds it so, and the others of its cluster go
// on. Names that are known to be there are remembered, and forgotten when the connection is made
// anew, since the server may have lost them.
//
// Flushes (flush_marks.h) are looked for every `flush_interval`, and before anything is fetched or
// written over a connection that is new, for which an engine waits at its start, for `timeout` at
// most. Of a cluster one server has the marks: while it cannot be reached, nothing is shared. What
// stands where nobody looks any more goes when it expires, or is evicted.
#ifndef OCTOGATE_WORKERS_CACHE_REDIS_PAGE_STORE_H_
#define OCTOGATE_WORKERS_CACHE_REDIS_PAGE_STORE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/redis/redis_client.h"
#include "workers/engine/page_store.h"

namespace octogate::workers {

struct RedisPageStoreOptions {
  std::string prefix = "octogate:kv:";
  // Known to those who share, and to nobody else; see PageCodec. Empty: none.
  std::string secret;
  // How long a page is kept after it was written. Workers that compute it write it again after
  // half of that.
  absl::Duration expiry = absl::Hours(1);
  // Of values in one MGET, which has one value at least; and how many are under way.
  size_t chunk_bytes = size_t{1} << 20;
  int readers = 8;
  int writers = 1;
  // A page is written when so many sequences of this engine have had it: what no other will ever
  // ask for is not worth what writing it takes.
  int write_from_use = 2;
  // Of pages that were asked for and are not used yet; and of those that wait to be written.
  size_t max_fetch_bytes = size_t{256} << 20;
  size_t max_write_bytes = size_t{64} << 20;
  // A command that has no answer by then has failed.
  absl::Duration timeout = absl::Seconds(2);
  // After which it is asked whether others have flushed.
  absl::Duration flush_interval = absl::Seconds(1);
};

// Engines with larger pages, headers included, share none: a few of them would be all that may be
// under way. From 8 MiB on the server's allocator makes them slow, which whether to fetch goes by.
inline constexpr size_t kMaxSharedPageBytes = (size_t{16} << 20) + (size_t{4} << 10);

// INVALID_ARGUMENT, with what would be right, for a format whose pages are larger than that.
absl::Status CheckSharedPageSize(const PageFormat& format);

// Every engine gets threads of its own, which end with its store: at most `timeout` later.
MakePageStore ShareThroughRedis(std::shared_ptr<RedisClient> client,
                                RedisPageStoreOptions options = {});

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_REDIS_PAGE_STORE_H_
