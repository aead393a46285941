#include "common/redis/redis_value_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/redis/checked_value.h"
#include "common/strings.h"

namespace octogate {
namespace {

class RedisValueCache final : public ValueCache {
 public:
  RedisValueCache(RedisClient* client, std::string prefix)
      : client_(*client), prefix_(std::move(prefix)) {}

  std::vector<absl::StatusOr<std::string>> GetMany(std::span<const std::string> keys,
                                                   absl::Time deadline) override {
    std::vector<std::string> names;
    names.reserve(keys.size());  // the commands point into them
    RedisClient::Command command;
    std::vector<absl::StatusOr<std::string>> values;
    values.reserve(keys.size());
    client_.TransactEach(
        keys.size(),
        [&](size_t i) {
          names.push_back(prefix_ + keys[i]);
          command.assign({"GET", names.back()});
          return std::span<const RedisClient::Command>(&command, 1);
        },
        [&](size_t i, absl::StatusOr<RedisReply> reply) {
          if (!reply.ok()) {
            // A key that holds no text: somebody else's doing, and the next Put mends it.
            const bool other = reply.status().code() == absl::StatusCode::kInternal;
            values.emplace_back(other ? absl::DataLossError(reply.status().message())
                                      : reply.status());
          } else if (reply->kind != RedisReply::Kind::kText) {
            values.emplace_back(absl::NotFoundError("no such value"));
          } else {
            values.push_back(CheckedRedisValue(keys[i], std::move(reply->text)));
          }
        },
        deadline);
    return values;
  }

  size_t ShardOf(std::string_view key) const override {
    return client_.ShardOf(absl::StrCat(prefix_, ToAbsl(key)));
  }

  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time deadline) override {
    struct Texts {
      std::string name, milliseconds;
      RedisSeal seal;
    };
    std::vector<Texts> texts;
    texts.reserve(entries.size());  // the commands point into them
    RedisClient::Command command;
    std::vector<absl::Status> results;
    results.reserve(entries.size());
    client_.TransactEach(
        entries.size(),
        [&](size_t i) {
          const Entry& entry = entries[i];
          const int64_t left = std::max<int64_t>(absl::ToInt64Milliseconds(entry.kept_for), 1);
          Texts& text = texts.emplace_back(
              Texts{prefix_ + entry.key, std::to_string(left), RedisSeal(entry.key, entry.value)});
          command.assign(
              {"SET", text.name, RedisArgument::Sealed(text.seal), "PX", text.milliseconds});
          if (entry.if_absent) command.emplace_back("NX");
          return std::span<const RedisClient::Command>(&command, 1);
        },
        [&](size_t, const absl::StatusOr<RedisReply>& reply) { results.push_back(reply.status()); },
        deadline);
    return results;
  }

 private:
  RedisClient& client_;
  const std::string prefix_;
};

}  // namespace

std::unique_ptr<ValueCache> MakeRedisValueCache(RedisClient* client, std::string prefix) {
  return std::make_unique<RedisValueCache>(client, std::move(prefix));
}

}  // namespace octogate
