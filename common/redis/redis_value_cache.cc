#include "common/redis/redis_value_cache.h"

#include <algorithm>
#include <utility>

#include "common/redis/checked_value.h"

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
    std::vector<RedisClient::Command> commands;
    commands.reserve(keys.size());
    for (const std::string& key : keys) {
      names.push_back(prefix_ + key);
      commands.push_back({"GET", names.back()});
    }
    std::vector<absl::StatusOr<RedisReply>> replies = client_.CallMany(commands, deadline);
    std::vector<absl::StatusOr<std::string>> values;
    values.reserve(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      absl::StatusOr<RedisReply>& reply = replies[i];
      if (!reply.ok()) {
        // A key that holds no text: somebody else's doing, and the next Put mends it.
        const bool other = reply.status().code() == absl::StatusCode::kInternal;
        values.emplace_back(other ? absl::DataLossError(reply.status().message()) : reply.status());
      } else if (reply->kind != RedisReply::Kind::kText) {
        values.emplace_back(absl::NotFoundError("no such value"));
      } else {
        values.push_back(CheckedRedisValue(keys[i], std::move(reply->text)));
      }
    }
    return values;
  }

  std::vector<absl::Status> PutMany(std::span<const Entry> entries, absl::Time deadline) override {
    struct Texts {
      std::string name, trailer, milliseconds;
    };
    std::vector<Texts> texts;
    texts.reserve(entries.size());  // the commands point into them
    std::vector<RedisClient::Command> commands;
    commands.reserve(entries.size());
    for (const Entry& entry : entries) {
      const int64_t left = std::max<int64_t>(absl::ToInt64Milliseconds(entry.kept_for), 1);
      texts.push_back(
          {prefix_ + entry.key, RedisTrailer(entry.key, entry.value), std::to_string(left)});
      commands.push_back({"SET", texts.back().name,
                          RedisArgument::Joined(entry.value, texts.back().trailer), "PX",
                          texts.back().milliseconds});
      if (entry.if_absent) commands.back().emplace_back("NX");
    }
    std::vector<absl::Status> results;
    results.reserve(entries.size());
    for (const auto& reply : client_.CallMany(commands, deadline)) {
      results.push_back(reply.status());
    }
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
