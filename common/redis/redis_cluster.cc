#include "common/redis/redis_cluster.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/redis/redis_errors.h"
#include "common/redis/redis_node.h"
#include "common/redis/redis_slots.h"
#include "common/steady_event.h"
#include "common/strings.h"

namespace octogate {
namespace {

constexpr int kMaxRedirects = 5;
// How often nodes are looked after, also those of subscriptions: any may be gone.
constexpr absl::Duration kLookInterval = absl::Seconds(1);
// Nodes that are asked for the topology at a time, one after the other.
constexpr size_t kMaxAsked = 6;

// A node with its address. Calls hold it while they are under way, so that it can leave the
// cluster meanwhile.
struct Member {
  Member(const RedisAddress& its_address, RedisOptions options) : address(its_address) {
    options.host = address.host;
    options.port = address.port;
    node = RedisNode::Create(std::move(options));
  }
  const RedisAddress address;
  const size_t shard = std::hash<std::string>()(address.ToString());
  std::unique_ptr<RedisNode> node;
};

class ClusterClient final : public RedisClient {
 public:
  explicit ClusterClient(RedisOptions options)
      : options_(std::move(options)), owners_(kRedisSlots) {
    known_.push_back({options_.host, options_.port});
    known_.insert(known_.end(), options_.more_nodes.begin(), options_.more_nodes.end());
    seeds_ = known_;
    wanted_.Set();
    thread_ = std::thread([this] { Run(); });
  }

  ~ClusterClient() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    wanted_.Set();
    stopped_.Set();
    thread_.join();
  }

  absl::StatusOr<RedisReply> Call(std::span<const std::string_view> arguments,
                                  RedisTerms terms) override {
    const Command command(arguments.begin(), arguments.end());
    Step step{.commands = {&command, 1}};
    Execute({&step, 1}, terms);
    return std::move(step.result);
  }

  std::vector<absl::StatusOr<RedisReply>> CallMany(std::span<const Command> commands,
                                                   RedisTerms terms) override {
    std::vector<Step> steps(commands.size());
    for (size_t i = 0; i < commands.size(); ++i) steps[i].commands = commands.subspan(i, 1);
    return ResultsOf(steps, terms);
  }

  std::vector<absl::StatusOr<RedisReply>> TransactMany(std::span<const Transaction> transactions,
                                                       RedisTerms terms) override {
    std::vector<Step> steps(transactions.size());
    for (size_t i = 0; i < transactions.size(); ++i) steps[i].commands = transactions[i];
    return ResultsOf(steps, terms);
  }

  void TransactEach(size_t count, Make make, Take take, RedisTerms terms) override {
    // All of them are kept: any may have to be sent again, to another node.
    std::vector<Transaction> transactions;
    transactions.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const std::span<const Command> made = make(i);
      transactions.emplace_back(made.begin(), made.end());
    }
    std::vector<absl::StatusOr<RedisReply>> replies = TransactMany(transactions, terms);
    for (size_t i = 0; i < count; ++i) take(i, std::move(replies[i]));
  }

  std::vector<ServerReply> CallServers(const Command& command, RedisTerms terms) override {
    const absl::Status known = AwaitTopology(terms.steady_deadline);
    if (!known.ok()) return {{.server = "the Redis Cluster", .reply = known}};
    std::map<std::string, MemberPtr> masters;
    {
      absl::MutexLock lock(&mutex_);
      for (const MemberPtr& owner : owners_) {
        if (owner != nullptr) masters.emplace(owner->address.ToString(), owner);
      }
    }
    calls_.fetch_add(masters.size(), std::memory_order_relaxed);
    std::vector<std::shared_ptr<RedisCall>> calls;
    calls.reserve(masters.size());
    for (const auto& [name, master] : masters) {
      calls.push_back(master->node->Begin({&command, 1}, {}, terms));
    }
    std::vector<ServerReply> replies;
    for (const auto& [name, master] : masters) {
      replies.push_back(
          {.server = "Redis at " + name, .reply = master->node->Wait(*calls[replies.size()])});
      if (!IsRedisFailure(replies.back().reply.status())) continue;
      failures_.fetch_add(1, std::memory_order_relaxed);
      RequestRefresh();
    }
    return replies;
  }

  std::unique_ptr<RedisSubscription> Subscribe(std::string_view channel,
                                               std::function<void()> on_message) override {
    auto subscription = std::make_unique<ClusterSubscription>(this);
    subscription->channel = std::string(channel);
    subscription->on_message = std::move(on_message);
    {
      absl::MutexLock lock(&subscriptions_mutex_);
      subscriptions_.push_back(subscription.get());
      Follow(*subscription);
    }
    RequestRefresh();  // which looks after it
    return subscription;
  }

  size_t ShardOf(std::string_view key) const override {
    absl::MutexLock lock(&mutex_);
    const MemberPtr& owner = owners_[static_cast<size_t>(RedisSlot(key))];
    return owner == nullptr ? 0 : owner->shard;
  }

  Shard ShardStateOf(std::string_view key) const override {
    absl::MutexLock lock(&mutex_);
    const MemberPtr& owner = owners_[static_cast<size_t>(RedisSlot(key))];
    if (owner == nullptr) return {.losses = past_losses_};
    return {.number = owner->shard,
            .losses = past_losses_ + owner->node->losses(),
            .reachable = owner->node->reachable()};
  }

  Stats stats() const override {
    absl::MutexLock lock(&mutex_);
    Stats stats{.calls = calls_.load(std::memory_order_relaxed),
                .failures = failures_.load(std::memory_order_relaxed),
                .connections = past_connections_,
                .losses = past_losses_,
                .reachable = known_topology_ && AllReachable()};
    for (const auto& [name, member] : members_) {
      stats.connections += member->node->connections();
      stats.losses += member->node->losses();
      stats.pending_bytes += member->node->pending_bytes();
    }
    return stats;
  }

 private:
  using MemberPtr = std::shared_ptr<Member>;

  bool AllReachable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::all_of(members_.begin(), members_.end(),
                       [](const auto& member) { return member.second->node->reachable(); });
  }

  // A command, or a transaction, on its way.
  struct Step {
    std::span<const Command> commands;
    bool done = false;
    bool asking = false;
    MemberPtr target;  // null: the owner of the slot
    std::shared_ptr<RedisCall> call;
    absl::StatusOr<RedisReply> result = absl::UnknownError("no answer yet");
  };

  class ClusterSubscription final : public RedisSubscription {
   public:
    explicit ClusterSubscription(ClusterClient* client) : client_(*client) {}
    ~ClusterSubscription() override {
      absl::MutexLock lock(&client_.subscriptions_mutex_);
      std::erase(client_.subscriptions_, this);
      node = nullptr;
    }
    std::string channel;
    std::function<void()> on_message;
    RedisAddress address;
    std::unique_ptr<RedisNode> node;

   private:
    ClusterClient& client_;
  };

  std::vector<absl::StatusOr<RedisReply>> ResultsOf(std::vector<Step>& steps, RedisTerms terms) {
    Execute(steps, terms);
    std::vector<absl::StatusOr<RedisReply>> replies;
    replies.reserve(steps.size());
    for (Step& step : steps) replies.push_back(std::move(step.result));
    return replies;
  }

  // Ends every step, by the deadline at most.
  void Execute(std::span<Step> steps, RedisTerms terms) {
    calls_.fetch_add(steps.size(), std::memory_order_relaxed);
    const absl::Status known = AwaitTopology(terms.steady_deadline);
    for (int redirects = 0; known.ok(); ++redirects) {
      const bool last = redirects == kMaxRedirects;
      if (!Round(steps, last, terms)) break;
    }
    for (Step& step : steps) {
      if (!known.ok()) step.result = known;
      if (IsRedisFailure(step.result.status())) failures_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  // Sends what is not done and takes the answers. Whether there is something to send again.
  bool Round(std::span<Step> steps, bool last, RedisTerms terms) {
    for (Step& step : steps) {
      if (!step.done && step.target == nullptr) step.target = OwnerOf(step.commands[0]);
    }
    size_t oldest = 0;
    for (size_t i = 0; i < steps.size(); ++i) {
      Step& step = steps[i];
      if (step.done) continue;
      if (step.target == nullptr) {
        step.result = absl::UnavailableError("no node of the Redis Cluster has this slot");
        step.done = true;
        RequestRefresh();
        continue;
      }
      const bool more =
          i + 1 < steps.size() && !steps[i + 1].done && steps[i + 1].target == step.target;
      const auto begin = [&] {
        step.call = step.target->node->Begin(
            step.commands, {.asking = step.asking, .more = more, .waits = steps.size() == 1},
            terms);
      };
      for (begin(); step.call->lacked_room && oldest < i; ++oldest) {
        if (steps[oldest].done) continue;
        steps[oldest].target->node->Await(*steps[oldest].call);
        begin();
      }
    }
    // From the last one, with which most others have ended: to be woken by each costs time.
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      if (!step->done) step->target->node->Await(*step->call);
    }
    bool again = false;
    for (Step& step : steps) {
      if (step.done) continue;
      step.result = step.target->node->Wait(*step.call);
      step.call = nullptr;
      step.done = !Redirect(step, last);
      again = again || !step.done;
    }
    return again;
  }

  // Whether the answer sends the step elsewhere, which is where it goes next.
  bool Redirect(Step& step, bool last) {
    const absl::optional<absl::Cord> words = step.result.status().GetPayload(kRedisRedirect);
    if (!words) {
      if (absl::IsUnavailable(step.result.status())) RequestRefresh();
      return false;
    }
    const std::string text(*words);
    const std::optional<RedisRedirect> redirect = ParseRedisRedirect(text, step.target->address);
    if (!redirect) {
      step.result = absl::InternalError(absl::StrCat("Redis answers ", Quoted(text, 200)));
      return false;
    }
    if (!redirect->ask) RequestRefresh();
    if (last) {
      step.result = absl::UnavailableError("the Redis Cluster sends a command from node to node");
      return false;
    }
    const MemberPtr target = MemberAt(redirect->address);
    if (target == nullptr) {
      step.result = absl::UnavailableError("the Redis Cluster has too many nodes");
      return false;
    }
    step.target = target;
    step.asking = redirect->ask;
    if (!redirect->ask) {
      absl::MutexLock lock(&mutex_);
      owners_[static_cast<size_t>(redirect->slot)] = target;
    }
    return true;
  }

  absl::Status AwaitTopology(absl::Time deadline) {
    {
      absl::MutexLock lock(&mutex_);
      if (known_topology_) return absl::OkStatus();
    }
    wanted_.Set();
    if (!decided_.WaitUntil(deadline)) {
      return absl::DeadlineExceededError("the Redis Cluster has not answered in time");
    }
    absl::MutexLock lock(&mutex_);
    return known_topology_ ? absl::OkStatus() : refusal_;
  }

  MemberPtr OwnerOf(std::span<const RedisArgument> command) {
    const std::optional<std::string_view> key = RedisKeyOf(command);
    absl::MutexLock lock(&mutex_);
    if (key) return owners_[static_cast<size_t>(RedisSlot(*key))];
    MemberPtr any;
    for (const auto& [name, member] : members_) {
      if (any == nullptr || member->node->reachable()) any = member;
      if (any->node->reachable()) break;
    }
    return any;
  }

  MemberPtr MemberAt(const RedisAddress& address) {
    absl::MutexLock lock(&mutex_);
    const std::string name = address.ToString();
    const auto known = members_.find(name);
    if (known != members_.end()) return known->second;
    if (members_.size() >= RedisTopology::kMaxNodes) return nullptr;
    return members_.emplace(name, std::make_shared<Member>(address, options_)).first->second;
  }

  void RequestRefresh() { wanted_.Set(); }

  // From here on: the thread that keeps the topology.

  void Run() {
    absl::Duration pause = options_.first_backoff;
    absl::Time refresh_at = SteadyNow();
    for (;;) {
      LookAfterSubscriptions();
      bool wanted = wanted_.WaitFor(std::min(refresh_at - SteadyNow(), kLookInterval));
      {
        absl::MutexLock lock(&mutex_);
        if (stopping_) return;
        // Who calls none that is gone would never learn who has taken its place.
        wanted = wanted || !AllReachable();
      }
      if (!wanted && SteadyNow() < refresh_at) continue;
      const Outcome outcome = Refresh();
      std::erase_if(retired_, [](const MemberPtr& member) { return member.use_count() == 1; });
      // What had been quiet is looked at again soon; a cluster that is gone is not.
      const bool quiet = outcome == Outcome::kChanged || (outcome == Outcome::kSame && !wanted);
      pause = quiet ? options_.first_backoff : std::min(2 * pause, options_.max_backoff);
      const double share = std::uniform_real_distribution<double>(0.5, 1)(random_);
      refresh_at = SteadyNow() + (outcome == Outcome::kFailed ? share * pause
                                                              : share * options_.topology_interval);
      if (stopped_.WaitFor(share * pause)) return;
    }
  }

  enum class Outcome { kFailed, kSame, kChanged };

  // Asks nodes until one says who has which slot.
  Outcome Refresh() {
    std::vector<RedisAddress> asked = Candidates();
    absl::Status wrong;
    for (const RedisAddress& address : asked) {
      {
        absl::MutexLock lock(&mutex_);
        if (stopping_) return Outcome::kFailed;
      }
      const MemberPtr member = Find(address);
      const MemberPtr node = member ? member : std::make_shared<Member>(address, options_);
      const Command command{"CLUSTER", "SLOTS"};
      const std::shared_ptr<RedisCall> call =
          node->node->Begin({&command, 1}, {.waits = true},
                            absl::Now() + options_.timeouts.connect + options_.timeouts.small);
      const absl::StatusOr<RedisReply> reply = node->node->Wait(*call);
      wrong = reply.status();
      if (!reply.ok()) continue;
      absl::StatusOr<RedisTopology> topology = ParseRedisTopology(*reply, address);
      if (topology.ok()) return Adopt(*topology, node) ? Outcome::kChanged : Outcome::kSame;
      wrong = topology.status();
    }
    absl::MutexLock lock(&mutex_);
    if (!known_topology_) {
      refusal_ = absl::UnavailableError(absl::StrCat("the Redis Cluster at ", seeds_[0].ToString(),
                                                     ": ", wrong.message(), "; trying again"));
      decided_.Notify();
    }
    return Outcome::kFailed;
  }

  // Whom to ask, the most promising first.
  std::vector<RedisAddress> Candidates() {
    std::vector<RedisAddress> reachable;
    std::vector<RedisAddress> others;
    std::shuffle(known_.begin(), known_.end(), random_);
    {
      absl::MutexLock lock(&mutex_);
      for (const RedisAddress& address : known_) {
        const auto member = members_.find(address.ToString());
        const bool good = member != members_.end() && member->second->node->reachable();
        (good ? reachable : others).push_back(address);
      }
    }
    std::vector<RedisAddress> asked = std::move(reachable);
    asked.insert(asked.end(), others.begin(), others.end());
    if (asked.size() > kMaxAsked) asked.resize(kMaxAsked);
    // Where all that was known is gone, what was given may not be.
    asked.push_back(seeds_[std::uniform_int_distribution<size_t>(0, seeds_.size() - 1)(random_)]);
    return asked;
  }

  MemberPtr Find(const RedisAddress& address) {
    absl::MutexLock lock(&mutex_);
    const auto found = members_.find(address.ToString());
    return found == members_.end() ? nullptr : found->second;
  }

  // Whether a slot has another owner now.
  bool Adopt(const RedisTopology& topology, const MemberPtr& asked) {
    std::map<std::string, MemberPtr> gone;
    bool changed = false;
    absl::MutexLock lock(&mutex_);
    std::vector<MemberPtr> masters;
    std::map<std::string, MemberPtr> members;
    for (size_t i = 0; i < topology.masters; ++i) {
      const std::string name = topology.nodes[i].ToString();
      const auto known = members_.find(name);
      MemberPtr member = known != members_.end() ? known->second
                         : asked->address.ToString() == name
                             ? asked
                             : std::make_shared<Member>(topology.nodes[i], options_);
      members.emplace(name, member);
      masters.push_back(std::move(member));
    }
    for (size_t slot = 0; slot < owners_.size(); ++slot) {
      const int owner = topology.owner_of_slot[slot];
      MemberPtr member = owner < 0 ? nullptr : masters[static_cast<size_t>(owner)];
      changed = changed || member != owners_[slot];
      owners_[slot] = std::move(member);
    }
    gone.swap(members_);
    members_ = std::move(members);
    for (const auto& [name, member] : gone) {
      if (members_.contains(name)) continue;
      past_connections_ += member->node->connections();
      past_losses_ += member->node->losses() + 1;
      retired_.push_back(member);
    }
    known_ = topology.nodes;
    known_topology_ = true;
    refusal_ = absl::OkStatus();
    decided_.Notify();
    return changed;
  }

  // A subscription goes to any node, since what is published at one reaches all; where that has
  // failed, to another.
  void LookAfterSubscriptions() {
    absl::MutexLock lock(&subscriptions_mutex_);
    for (ClusterSubscription* subscription : subscriptions_) {
      if (subscription->node == nullptr || !subscription->node->reachable()) Follow(*subscription);
    }
  }

  void Follow(ClusterSubscription& subscription)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(subscriptions_mutex_) {
    std::optional<RedisAddress> best;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [name, member] : members_) {
        if (!member->node->reachable()) continue;
        best = member->address;
        if (name != subscription.address.ToString()) break;
      }
    }
    // A connection to the same node is made again without help.
    if (!best ||
        (subscription.node != nullptr && best->ToString() == subscription.address.ToString())) {
      return;
    }
    subscription.node = nullptr;
    subscription.address = *best;
    RedisOptions options = options_;
    options.host = best->host;
    options.port = best->port;
    subscription.node =
        RedisNode::Create(std::move(options),
                          {.channel = subscription.channel, .on_message = subscription.on_message});
  }

  const RedisOptions options_;
  std::vector<RedisAddress> seeds_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<uint64_t> failures_{0};

  SteadyEvent wanted_;          // a look at the topology
  SteadyEvent stopped_;         // no longer a pause after one
  SteadyNotification decided_;  // the topology is known, or why it is not

  mutable absl::Mutex mutex_;
  std::map<std::string, MemberPtr> members_ ABSL_GUARDED_BY(mutex_);  // masters, by address
  std::vector<MemberPtr> owners_ ABSL_GUARDED_BY(mutex_);             // by slot; null: nobody
  bool known_topology_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);  // while it is not known
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t past_connections_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t past_losses_ ABSL_GUARDED_BY(mutex_) = 0;

  // Taken before `mutex_`. Held while a subscription's node ends: its callback takes neither.
  absl::Mutex subscriptions_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::vector<ClusterSubscription*> subscriptions_ ABSL_GUARDED_BY(subscriptions_mutex_);

  // The thread's.
  std::vector<RedisAddress> known_;
  // Members that have left, until no call holds them: the end of a node may take as long as looking
  // up its name, which neither a call nor `mutex_` may wait for.
  std::vector<MemberPtr> retired_;
  std::mt19937_64 random_{std::random_device{}()};
  std::thread thread_;
};

}  // namespace

std::unique_ptr<RedisClient> MakeRedisClusterClient(RedisOptions options) {
  return std::make_unique<ClusterClient>(std::move(options));
}

}  // namespace octogate
