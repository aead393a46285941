// Hash slots of a Redis Cluster: which keys share one, and who has them.
//
// Source: the Redis Cluster specification, https://redis.io/docs/reference/cluster-spec/.
#ifndef OCTOGATE_COMMON_REDIS_REDIS_SLOTS_H_
#define OCTOGATE_COMMON_REDIS_REDIS_SLOTS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/redis/redis_client.h"

namespace octogate {

inline constexpr int kRedisSlots = 16384;

// The slot of a key: CRC16 (XMODEM) of it, or of what stands between its first "{" and the next
// "}" where that is not empty.
int RedisSlot(std::string_view key);

// The key that decides where a command is executed; nullopt where any node will do.
std::optional<std::string_view> RedisKeyOf(std::span<const RedisArgument> command);

// Who has the slots.
struct RedisTopology {
  static constexpr size_t kMaxNodes = 256;

  std::vector<RedisAddress> nodes;  // masters first; each once
  size_t masters = 0;
  std::vector<int> owner_of_slot;  // an index into `nodes`, or -1
};

// Of an answer to CLUSTER SLOTS by the node at `asked`, which stands for hosts that it leaves out.
// INTERNAL where it is none, or names more than kMaxNodes.
absl::StatusOr<RedisTopology> ParseRedisTopology(const RedisReply& reply,
                                                 const RedisAddress& asked);

// "MOVED SLOT HOST:PORT" or "ASK SLOT HOST:PORT", where HOST may be left out. nullopt for others.
struct RedisRedirect {
  bool ask = false;
  int slot = 0;
  RedisAddress address;
};
std::optional<RedisRedirect> ParseRedisRedirect(std::string_view words, const RedisAddress& asked);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_REDIS_REDIS_SLOTS_H_
