#include "gateway/replica_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/container/inlined_vector.h"

namespace octogate::gateway {
namespace {

constexpr double kMaxUnreadBytes = double{1 << 30};
// Calls of others for each of this gateway's.
constexpr double kMaxOthers = 64;
// Prefixes that differ by no more than this share are as good as each other, so that all replicas
// that hold what many prompts begin with take their part of them.
constexpr double kNearlyAsMuch = 0.9;

// Between 0 and `most`; 0 for what is no number.
double Sane(double value, double most) { return value > 0 ? std::min(value, most) : 0; }

double LoadOf(const ReplicaView& replica) { return Sane(replica.load, 1e9); }

// The mean of all but the largest.
double TrimmedMean(std::span<const ReplicaView> replicas) {
  double sum = 0;
  double largest = 0;
  for (const ReplicaView& replica : replicas) {
    sum += LoadOf(replica);
    largest = std::max(largest, LoadOf(replica));
  }
  return replicas.size() < 2 ? sum : (sum - largest) / static_cast<double>(replicas.size() - 1);
}

// The costs of one call on each replica.
class Costs {
 public:
  Costs(std::span<const ReplicaView> replicas, int64_t prompt_bytes,
        const ReplicaChoiceOptions& options)
      : replicas_(replicas),
        prompt_bytes_(std::max<int64_t>(prompt_bytes, 0)),
        options_(options),
        // Whole calls: with none anywhere, one may come.
        mean_bound_(std::ceil((1 + options.epsilon) * (TrimmedMean(replicas) + 1))) {}

  double Bound(size_t i) const { return std::max(mean_bound_, Sane(replicas_[i].room, 64)); }
  bool WithinBound(size_t i) const { return LoadOf(replicas_[i]) + 1 <= Bound(i); }
  // Of the prompt, what counts.
  double Matched(size_t i) const {
    if (!WithinBound(i)) return 0;
    return static_cast<double>(std::clamp<int64_t>(replicas_[i].matched_bytes, 0, prompt_bytes_));
  }
  double Of(size_t i) const {
    return static_cast<double>(prompt_bytes_) - Matched(i) +
           Sane(replicas_[i].unread_bytes, kMaxUnreadBytes) +
           LoadOf(replicas_[i]) * options_.bytes_per_call;
  }

 private:
  const std::span<const ReplicaView> replicas_;
  const int64_t prompt_bytes_;
  const ReplicaChoiceOptions& options_;
  const double mean_bound_;
};

using Indices = absl::InlinedVector<size_t, 64>;

// Those that are taken for their prefixes: that hold as much of it as any, or nearly so.
Indices Holders(const Costs& costs, size_t count) {
  double longest = 0;
  for (size_t i = 0; i < count; ++i) longest = std::max(longest, costs.Matched(i));
  Indices holders;
  if (longest <= 0) return holders;
  for (size_t i = 0; i < count; ++i) {
    if (costs.Matched(i) >= kNearlyAsMuch * longest) holders.push_back(i);
  }
  return holders;
}

Indices All(size_t count) {
  Indices all(count);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

size_t Cheaper(const Costs& costs, size_t a, size_t b) { return costs.Of(b) < costs.Of(a) ? b : a; }

// The cheaper one of two that are drawn. At least one to draw from.
size_t Draw(const Costs& costs, const Indices& from, uint64_t random) {
  const size_t count = from.size();
  if (count == 1) return from[0];
  // An ordered pair of different ones: all are equally probable, but for 2^-26 or so.
  const size_t first = static_cast<size_t>(random >> 32) % count;
  const size_t second =
      (first + 1 + static_cast<size_t>(random & 0xFFFFFFFF) % (count - 1)) % count;
  return Cheaper(costs, from[first], from[second]);
}

// The probability of each of `count` to be what Draw returns.
std::vector<double> DrawProbabilities(const Costs& costs, const Indices& from, size_t count) {
  std::vector<double> result(count);
  if (from.size() == 1) result[from[0]] = 1;
  const double each = 1 / (static_cast<double>(from.size()) * static_cast<double>(from.size() - 1));
  for (const size_t a : from) {
    for (const size_t b : from) {
      if (a != b) result[Cheaper(costs, a, b)] += each;
    }
  }
  return result;
}

bool TakesHolder(const Costs& costs, size_t holder, size_t drawn) {
  return costs.Of(holder) <= costs.Of(drawn);
}

// Another random number that has nothing to do with this one: the finaliser of SplitMix64 (Steele,
// Lea and Flood 2014).
uint64_t Another(uint64_t random) {
  random += 0x9e3779b97f4a7c15;
  random = (random ^ (random >> 30)) * 0xbf58476d1ce4e5b9;
  random = (random ^ (random >> 27)) * 0x94d049bb133111eb;
  return random ^ (random >> 31);
}

}  // namespace

std::string_view ReplicaChoiceReasonName(ReplicaChoiceReason reason) {
  switch (reason) {
    case ReplicaChoiceReason::kOnly:
      return "only";
    case ReplicaChoiceReason::kPrefix:
      return "prefix";
    case ReplicaChoiceReason::kLoad:
      return "load";
  }
  return "load";
}

ReplicaChoice ChooseReplica(std::span<const ReplicaView> replicas, int64_t prompt_bytes,
                            uint64_t random, const ReplicaChoiceOptions& options) {
  const size_t count = replicas.size();
  if (count < 2) return {0, ReplicaChoiceReason::kOnly};
  const Costs costs(replicas, prompt_bytes, options);
  const size_t drawn = Draw(costs, All(count), random);
  if (const Indices holders = Holders(costs, count); !holders.empty()) {
    const size_t holder = Draw(costs, holders, Another(random));
    if (TakesHolder(costs, holder, drawn)) return {holder, ReplicaChoiceReason::kPrefix};
  }
  return {drawn, ReplicaChoiceReason::kLoad};
}

std::vector<ReplicaAppraisal> AppraiseReplicas(std::span<const ReplicaView> replicas,
                                               int64_t prompt_bytes,
                                               const ReplicaChoiceOptions& options) {
  const size_t count = replicas.size();
  std::vector<ReplicaAppraisal> result(count);
  const Costs costs(replicas, prompt_bytes, options);
  for (size_t i = 0; i < count; ++i) {
    result[i].cost = costs.Of(i);
    result[i].bound = costs.Bound(i);
    result[i].within_bound = costs.WithinBound(i);
  }
  if (count == 1) result[0].probability = 1;
  if (count < 2) return result;
  const std::vector<double> drawn = DrawProbabilities(costs, All(count), count);
  const Indices holders = Holders(costs, count);
  if (holders.empty()) {
    for (size_t i = 0; i < count; ++i) result[i].probability = drawn[i];
    return result;
  }
  const std::vector<double> held = DrawProbabilities(costs, holders, count);
  for (const size_t holder : holders) {
    for (size_t i = 0; i < count; ++i) {
      result[TakesHolder(costs, holder, i) ? holder : i].probability += held[holder] * drawn[i];
    }
  }
  return result;
}

void EstimateLoads(std::span<const ObservedReplica> observed, std::span<ReplicaView> views) {
  struct Others {
    double calls = 0;
    double unread_bytes = 0;
  };
  const auto others_of = [](const ReportedLoad& report) {
    return Others{Sane(Sane(report.calls, kMaxReportedCalls) - report.own_calls, kMaxReportedCalls),
                  Sane(report.unread_bytes - report.own_unread_bytes, kMaxUnreadBytes)};
  };
  // Of all reports but the one of most calls, so that a replica that overstates them does not make
  // all seem loaded.
  Others mean;
  Others largest;
  double largest_own = 0;
  double own = 0;
  double reports = 0;
  for (const ObservedReplica& replica : observed) {
    if (!replica.has_report) continue;
    const Others others = others_of(replica.report);
    mean.calls += others.calls;
    mean.unread_bytes += others.unread_bytes;
    own += replica.report.own_calls;
    reports += 1;
    if (others.calls >= largest.calls) largest_own = replica.report.own_calls;
    largest.calls = std::max(largest.calls, others.calls);
    largest.unread_bytes = std::max(largest.unread_bytes, others.unread_bytes);
  }
  if (reports > 1) {
    mean.calls -= largest.calls;
    mean.unread_bytes -= largest.unread_bytes;
    own -= largest_own;
    reports -= 1;
  }
  const double proportion = own > 0 ? std::min(mean.calls / own, kMaxOthers) : 0;
  if (reports > 0) {
    mean.calls /= reports;
    mean.unread_bytes /= reports;
  }
  for (size_t i = 0; i < observed.size(); ++i) {
    const ObservedReplica& replica = observed[i];
    Others others = mean;
    double since = 0;
    if (replica.has_report) {
      others = others_of(replica.report);
      const double weight = 1 / (1 + Sane(replica.report.age_seconds, 1e6));
      others.calls = mean.calls + (others.calls - mean.calls) * weight;
      others.unread_bytes = mean.unread_bytes + (others.unread_bytes - mean.unread_bytes) * weight;
      since = std::max(replica.own_calls - replica.report.own_calls, 0.0);
    }
    views[i].load = replica.own_calls + others.calls + since * proportion;
    views[i].unread_bytes = replica.own_unread_bytes + others.unread_bytes;
  }
}

}  // namespace octogate::gateway
