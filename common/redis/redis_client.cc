#include "common/redis/redis_client.h"

#include <atomic>
#include <utility>

#include "common/redis/redis_cluster.h"
#include "common/redis/redis_errors.h"
#include "common/redis/redis_node.h"

namespace octogate {
namespace {

// Of an answer that is taken before the next ones are awaited.
constexpr size_t kTakenAtOnce = size_t{64} << 10;

class NodeSubscription final : public RedisSubscription {
 public:
  explicit NodeSubscription(std::unique_ptr<RedisNode> node) : node_(std::move(node)) {}

 private:
  const std::unique_ptr<RedisNode> node_;
};

class ServerClient final : public RedisClient {
 public:
  explicit ServerClient(const RedisOptions& options)
      : options_(options), node_(RedisNode::Create(options)) {}

  absl::StatusOr<RedisReply> Call(std::span<const std::string_view> arguments,
                                  RedisTerms terms) override {
    const Command command(arguments.begin(), arguments.end());
    return std::move(CallMany({&command, 1}, terms).front());
  }

  std::vector<absl::StatusOr<RedisReply>> CallMany(std::span<const Command> commands,
                                                   RedisTerms terms) override {
    return RepliesOf(
        commands.size(), [&](size_t i) { return commands.subspan(i, 1); }, terms);
  }

  std::vector<absl::StatusOr<RedisReply>> TransactMany(std::span<const Transaction> transactions,
                                                       RedisTerms terms) override {
    return RepliesOf(
        transactions.size(), [&](size_t i) { return std::span(transactions[i]); }, terms);
  }

  void TransactEach(size_t count, Make make, Take take, RedisTerms terms) override {
    Execute(count, make, take, terms);
  }

  std::vector<ServerReply> CallServers(const Command& command, RedisTerms terms) override {
    return {{.server = RedisServerName(options_),
             .reply = Wait(*node_->Begin({&command, 1}, {.waits = true}, terms))}};
  }

  std::unique_ptr<RedisSubscription> Subscribe(std::string_view channel,
                                               std::function<void()> on_message) override {
    return std::make_unique<NodeSubscription>(RedisNode::Create(
        options_, {.channel = std::string(channel), .on_message = std::move(on_message)}));
  }

  Shard ShardStateOf(std::string_view) const override {
    return {.losses = node_->losses(), .reachable = node_->reachable()};
  }

  Stats stats() const override {
    return {.calls = calls_.load(std::memory_order_relaxed),
            .failures = failures_.load(std::memory_order_relaxed),
            .connections = node_->connections(),
            .losses = node_->losses(),
            .pending_bytes = node_->pending_bytes(),
            .reachable = node_->reachable()};
  }

 private:
  std::vector<absl::StatusOr<RedisReply>> RepliesOf(size_t count, Make commands_of,
                                                    RedisTerms terms) {
    std::vector<absl::StatusOr<RedisReply>> replies;
    replies.reserve(count);
    Execute(
        count, commands_of,
        [&](size_t, absl::StatusOr<RedisReply> reply) { replies.push_back(std::move(reply)); },
        terms);
    return replies;
  }

  // As TransactEach. Where nobody else calls, the caller itself sends what is made before it makes
  // more, and reads while it waits.
  void Execute(size_t count, Make make, Take take, RedisTerms terms) {
    std::vector<std::shared_ptr<RedisCall>> calls;
    calls.reserve(count);
    RedisNode::Hold hold(*node_);
    size_t oldest = 0;  // that is not known to have ended
    for (size_t i = 0; i < count; ++i) {
      const std::span<const Command> commands = make(i);
      const auto begin = [&] {
        return hold.Begin(commands, {.more = i + 1 < count, .waits = true}, terms);
      };
      std::shared_ptr<RedisCall> call = begin();
      for (; call->lacked_room && oldest < calls.size(); ++oldest) {
        hold.Await(*calls[oldest]);
        call = begin();
      }
      calls.push_back(std::move(call));
    }
    // From the last one, with which most others have ended: to be woken by each costs time.
    bool awaited = false;
    const auto await_all = [&] {
      if (std::exchange(awaited, true)) return;
      for (auto call = calls.rbegin(); call != calls.rend(); ++call) hold.Await(**call);
    };
    if (!hold.holds()) await_all();
    for (size_t i = 0; i < count; ++i) {
      hold.Await(*calls[i]);
      absl::StatusOr<RedisReply> reply = Wait(*calls[i]);
      // While large ones are looked at the server could send no more than a part of the next.
      if (reply.ok() && reply->text.size() > kTakenAtOnce) await_all();
      take(i, std::move(reply));
    }
  }

  absl::StatusOr<RedisReply> Wait(RedisCall& call) {
    calls_.fetch_add(1, std::memory_order_relaxed);
    absl::StatusOr<RedisReply> reply = node_->Wait(call);
    if (IsRedisFailure(reply.status())) failures_.fetch_add(1, std::memory_order_relaxed);
    return reply;
  }

  const RedisOptions options_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> failures_{0};
  const std::unique_ptr<RedisNode> node_;
};

}  // namespace

std::unique_ptr<RedisClient> RedisClient::Create(RedisOptions options) {
  if (options.cluster) return MakeRedisClusterClient(std::move(options));
  return std::make_unique<ServerClient>(options);
}

}  // namespace octogate
