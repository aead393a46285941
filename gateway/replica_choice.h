// Which replica of a model gets a call: a pure function of what is known of them.
//
// What a call costs on a replica is estimated in bytes of prompts to be read: those of its own that
// the replica does not hold, those that wait there, and for each call there what its answer costs.
//
// Three rules keep replicas evenly loaded, also where what is known is old, wrong or a lie:
//   * The cheaper one of two replicas that are drawn from all gets the call, or of two that are
//   drawn
//     from those which hold most of the prompt's beginning, whichever costs less. Whoever sees the
//     same numbers then does not choose the same replica (the power of two choices: Mitzenmacher
//     2001, "The power of two choices in randomized load balancing"; with old numbers: Mitzenmacher
//     2000, "How useful is old information?").
//   * A replica is not taken for its prefix where that would bring it above 1 + epsilon times the
//     mean load (Mirrokni, Thorup and Zadimoghaddam 2018, "Consistent hashing with bounded loads",
//     SODA), nor is its prefix counted then. The mean leaves the most loaded replica out, so that
//     one which overstates its load does not make room for others.
//   * Every replica is drawn from all with the same probability, and gets the call where it costs
//     least of those drawn.
#ifndef OCTOGATE_GATEWAY_REPLICA_CHOICE_H_
#define OCTOGATE_GATEWAY_REPLICA_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace octogate::gateway {

struct ReplicaChoiceOptions {
  // By how much more than the mean a replica may be loaded by calls that come for its prefix.
  double epsilon = 0.25;
  // What a call under way costs the others of its replica, in bytes of prompts: an answer of some
  // 256 tokens of four bytes, each of which takes about as long as one of a prompt. Where replicas
  // say what their steps cost, the set takes what that comes to (gateway/call_cost.h).
  double bytes_per_call = 1024;
};

// What is known of a replica that can take the call.
struct ReplicaView {
  // Calls under way there.
  double load = 0;
  // Of prompts that wait there to be read, as far as they have to be.
  double unread_bytes = 0;
  // Of the prompt's beginning, what it would not have to read.
  int64_t matched_bytes = 0;
  // Up to this load, the call included, it has room whatever the mean is: it computes several
  // answers at a time for little more than one.
  double room = 2;
};

enum class ReplicaChoiceReason {
  kOnly,    // there was no other
  kPrefix,  // it holds a beginning of the prompt
  kLoad,    // it costs less than others
};
inline constexpr int kReplicaChoiceReasons = 3;
// "only", "prefix" or "load".
std::string_view ReplicaChoiceReasonName(ReplicaChoiceReason reason);

struct ReplicaChoice {
  size_t index = 0;
  ReplicaChoiceReason reason = ReplicaChoiceReason::kOnly;
};

// At least one replica. The same arguments give the same choice; `random` is uniformly distributed.
// Numbers that are negative, infinite or none are taken for the nearest that make sense.
ReplicaChoice ChooseReplica(std::span<const ReplicaView> replicas, int64_t prompt_bytes,
                            uint64_t random, const ReplicaChoiceOptions& options = {});

// The same for people.
struct ReplicaAppraisal {
  double cost = 0;  // in bytes of prompts
  // The load that its prefix may bring it to, the call included, and whether that is kept.
  double bound = 0;
  bool within_bound = false;
  // Over all that may be drawn.
  double probability = 0;
};
std::vector<ReplicaAppraisal> AppraiseReplicas(std::span<const ReplicaView> replicas,
                                               int64_t prompt_bytes,
                                               const ReplicaChoiceOptions& options = {});

// What a replica has said of its load, and what this gateway had there when it was asked.
struct ReportedLoad {
  double calls = 0;
  double unread_bytes = 0;
  double own_calls = 0;
  double own_unread_bytes = 0;
  double age_seconds = 0;
};

// One replica as this gateway sees it.
struct ObservedReplica {
  double own_calls = 0;
  double own_unread_bytes = 0;
  bool has_report = false;
  ReportedLoad report;
};

// Fills in load and unread_bytes of views[i] from observed[i]: its own calls, which are known, and
// those of other gateways as they were reported. As reports grow old, they are drawn to the mean
// of all of them; and others are taken to have sent since then what this gateway has, in the
// proportion of their calls to its own. Reports are bounded: a replica that lies is taken to have
// at most kMaxReportedCalls.
inline constexpr double kMaxReportedCalls = 1 << 16;
void EstimateLoads(std::span<const ObservedReplica> observed, std::span<ReplicaView> views);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLICA_CHOICE_H_
