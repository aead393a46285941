#include "tests/gateway/replica_simulation.h"

#include <algorithm>
#include <limits>
#include <list>
#include <queue>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/replica_choice.h"
#include "gateway/replica_prefixes.h"
#include "workers/server/prompt_blocks.h"

namespace octogate::gateway {
namespace {

constexpr auto kBlockBytes = static_cast<double>(workers::PromptBlocks::kBlockBytes);

// Blocks in the order of use.
class Cache {
 public:
  explicit Cache(int capacity) : capacity_(static_cast<size_t>(capacity)) {}

  // How many of the first blocks are there.
  size_t Matched(std::span<const uint32_t> blocks) const {
    size_t count = 0;
    while (count < blocks.size() && places_.contains(blocks[count])) ++count;
    return count;
  }
  void Use(std::span<const uint32_t> blocks) {
    // From the end, so that beginnings stay longer.
    for (size_t i = blocks.size(); i-- > 0;) {
      if (const auto found = places_.find(blocks[i]); found != places_.end()) {
        order_.erase(found->second);
        places_.erase(found);
      }
      order_.push_front(blocks[i]);
      places_[blocks[i]] = order_.begin();
    }
    while (order_.size() > capacity_) {
      places_.erase(order_.back());
      order_.pop_back();
    }
  }
  ReplicaPrefixes::Blocks Blocks() const { return {order_.begin(), order_.end()}; }

 private:
  const size_t capacity_;
  std::list<uint32_t> order_;
  absl::flat_hash_map<uint32_t, std::list<uint32_t>::iterator> places_;
};

struct Replica {
  explicit Replica(int capacity) : cache(capacity) {}
  Cache cache;
  double reads_until = 0;
  int calls = 0;
  double unread_bytes = 0;
};

// A gateway's view of a replica.
struct View {
  ReplicaPrefixes prefixes;
  ObservedReplica observed;
  double reported_at = 0;
};

struct Conversation {
  std::vector<uint32_t> blocks;
  int turn = 0;
};

enum class Kind { kCall, kRead, kEnd, kProbe };
struct Event {
  double time = 0;
  Kind kind = Kind::kCall;
  size_t gateway = 0;
  size_t replica = 0;
  size_t conversation = 0;
  double unread = 0;  // bytes, as the gateway and the replica count them
  double own_unread = 0;

  bool operator>(const Event& other) const { return time > other.time; }
};

class Simulator {
 public:
  Simulator(const ReplicaSimulation& options, SimulatedPolicy policy)
      : options_(options), policy_(policy), random_(options.seed) {
    for (int r = 0; r < options.replicas; ++r) replicas_.emplace_back(options.held_blocks);
    views_.resize(static_cast<size_t>(options.gateways));
    for (size_t g = 0; g < views_.size(); ++g) {
      views_[g].resize(replicas_.size());
      for (size_t r = 0; r < replicas_.size(); ++r) {
        views_[g][r].prefixes.SetSummary({});
        Push({.time = options.probe_seconds * Unit(),
              .kind = Kind::kProbe,
              .gateway = g,
              .replica = r});
      }
    }
    conversations_.resize(static_cast<size_t>(options.conversations));
    for (size_t c = 0; c < conversations_.size(); ++c) {
      Push({.time = Exponential(options.pause_seconds + options.answer_seconds),
            .kind = Kind::kCall,
            .conversation = c});
    }
  }

  ReplicaSimulationResult Run() {
    while (calls_ < options_.calls) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      Replica& replica = replicas_[event.replica];
      View& view = views_[event.gateway][event.replica];
      switch (event.kind) {
        case Kind::kCall:
          OnCall(event.conversation);
          break;
        case Kind::kRead:
          replica.unread_bytes -= event.unread;
          view.observed.own_unread_bytes -= event.own_unread;
          break;
        case Kind::kEnd:
          --replica.calls;
          --view.observed.own_calls;
          Push({.time = now_ + Exponential(options_.pause_seconds),
                .kind = Kind::kCall,
                .conversation = event.conversation});
          break;
        case Kind::kProbe:
          view.prefixes.SetSummary(replica.cache.Blocks());
          view.observed.has_report = true;
          view.observed.report = {.calls = static_cast<double>(replica.calls),
                                  .unread_bytes = replica.unread_bytes,
                                  .own_calls = view.observed.own_calls,
                                  .own_unread_bytes = view.observed.own_unread_bytes};
          view.reported_at = now_;
          Push({.time = now_ + options_.probe_seconds,
                .kind = Kind::kProbe,
                .gateway = event.gateway,
                .replica = event.replica});
          break;
      }
    }
    std::sort(first_tokens_.begin(), first_tokens_.end());
    double sum = 0;
    for (const double seconds : first_tokens_) sum += seconds;
    const auto count = static_cast<double>(first_tokens_.size());
    return {.cached_share = matched_blocks_ / all_blocks_,
            .mean_first_token = sum / count,
            .p99_first_token = first_tokens_[first_tokens_.size() * 99 / 100],
            .peak_to_mean = peaks_ / count};
  }

 private:
  void Push(const Event& event) { events_.push(event); }
  double Unit() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  double Exponential(double mean) {
    return std::exponential_distribution<double>(1 / mean)(random_);
  }
  size_t Below(size_t count) {
    return std::uniform_int_distribution<size_t>(0, count - 1)(random_);
  }

  void NextTurn(Conversation& conversation) {
    if (conversation.turn++ % options_.turns == 0) {
      conversation.turn = 1;
      const size_t system = Below(static_cast<size_t>(options_.system_prompts));
      conversation.blocks.clear();
      for (int i = 0; i < options_.system_blocks; ++i) {
        conversation.blocks.push_back(static_cast<uint32_t>(system * 1'000 + i));
      }
    }
    for (int i = 0; i < options_.turn_blocks; ++i) conversation.blocks.push_back(next_block_++);
  }

  size_t Choose(std::vector<View>& views, std::span<const uint32_t> blocks) {
    const size_t count = views.size();
    if (policy_ == SimulatedPolicy::kRandom) return Below(count);
    if (policy_ == SimulatedPolicy::kPrefixAndLoad) {
      std::vector<ObservedReplica> observed;
      std::vector<ReplicaView> candidates(count);
      for (size_t r = 0; r < count; ++r) {
        observed.push_back(views[r].observed);
        observed.back().report.age_seconds = now_ - views[r].reported_at;
        candidates[r].matched_bytes = static_cast<int64_t>(kBlockBytes) *
                                      static_cast<int64_t>(views[r].prefixes.Matched(blocks));
        candidates[r].room = 4;
      }
      EstimateLoads(observed, candidates);
      return ChooseReplica(candidates,
                           static_cast<int64_t>(kBlockBytes) * static_cast<int64_t>(blocks.size()),
                           random_())
          .index;
    }
    const auto load = [&](size_t r) {
      return policy_ == SimulatedPolicy::kFewestOwn ? views[r].observed.own_calls
                                                    : views[r].observed.report.calls;
    };
    const size_t start = next_++;
    size_t best = start % count;
    for (size_t i = 1; i < count; ++i) {
      if (load((start + i) % count) < load(best)) best = (start + i) % count;
    }
    return best;
  }

  void OnCall(size_t index) {
    Conversation& conversation = conversations_[index];
    NextTurn(conversation);
    const std::vector<uint32_t>& blocks = conversation.blocks;
    const size_t gateway = Below(views_.size());
    const size_t chosen = Choose(views_[gateway], blocks);
    View& view = views_[gateway][chosen];
    Replica& replica = replicas_[chosen];
    const size_t believed = view.prefixes.Matched(blocks);
    const size_t matched = replica.cache.Matched(blocks);
    const double own_unread = kBlockBytes * static_cast<double>(blocks.size() - believed);
    const double unread = kBlockBytes * static_cast<double>(blocks.size() - matched);
    view.prefixes.OnSent(std::span(blocks).subspan(believed));
    ++view.observed.own_calls;
    view.observed.own_unread_bytes += own_unread;
    replica.cache.Use(blocks);
    ++replica.calls;
    replica.unread_bytes += unread;
    replica.reads_until = std::max(replica.reads_until, now_) +
                          unread / kBlockBytes / options_.read_blocks_per_second;
    const double first_token = replica.reads_until;
    Push({.time = first_token,
          .kind = Kind::kRead,
          .gateway = gateway,
          .replica = chosen,
          .unread = unread,
          .own_unread = own_unread});
    Push({.time = first_token + Exponential(options_.answer_seconds),
          .kind = Kind::kEnd,
          .gateway = gateway,
          .replica = chosen,
          .conversation = index});
    if (++calls_ <= options_.calls / 5) return;
    first_tokens_.push_back(first_token - now_);
    matched_blocks_ += static_cast<double>(matched);
    all_blocks_ += static_cast<double>(blocks.size());
    int most = 0;
    int all = 0;
    for (const Replica& one : replicas_) {
      most = std::max(most, one.calls);
      all += one.calls;
    }
    peaks_ += static_cast<double>(most) * static_cast<double>(replicas_.size()) / all;
  }

  const ReplicaSimulation options_;
  const SimulatedPolicy policy_;
  std::mt19937_64 random_;
  double now_ = 0;
  std::vector<Replica> replicas_;
  std::vector<std::vector<View>> views_;  // by gateway and replica
  std::vector<Conversation> conversations_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint32_t next_block_ = 1'000'000;
  size_t next_ = 0;

  int calls_ = 0;
  std::vector<double> first_tokens_;
  double matched_blocks_ = 0;
  double all_blocks_ = 0;
  double peaks_ = 0;
};

}  // namespace

ReplicaSimulationResult Simulate(const ReplicaSimulation& options, SimulatedPolicy policy) {
  return Simulator(options, policy).Run();
}

}  // namespace octogate::gateway
