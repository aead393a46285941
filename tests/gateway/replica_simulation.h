// Many gateways that give the calls of conversations to the same replicas, each by its own view of
// them: the policy is the real one, replicas and time are simulated.
//
// A replica reads prompts one after the other at a fixed speed, all but what it holds, and writes
// any number of answers at the same time. It holds the blocks of prompts it has used last. Gateways
// ask it for its summary and its load once in an interval, each at another time. The next turn of a
// conversation comes some time after the answer, through any gateway.
#ifndef OCTOGATE_TESTS_GATEWAY_REPLICA_SIMULATION_H_
#define OCTOGATE_TESTS_GATEWAY_REPLICA_SIMULATION_H_

#include <cstdint>

namespace octogate::gateway {

enum class SimulatedPolicy {
  kRandom,
  // The fewest calls of this gateway: what is done where nothing is known.
  kFewestOwn,
  // The fewest calls by the replicas' last reports, and nothing else.
  kFewestReported,
  // ChooseReplica.
  kPrefixAndLoad,
};

struct ReplicaSimulation {
  int gateways = 8;
  int replicas = 8;
  int conversations = 256;  // at the same time; one that ends is followed by another
  int calls = 20'000;       // in all; of the first fifth nothing is counted
  int turns = 8;            // of a conversation
  int system_prompts = 4;   // that conversations begin with
  int system_blocks = 16;   // of each
  int turn_blocks = 6;      // that a turn adds, the answer before it included
  int held_blocks = 4096;   // by a replica
  double read_blocks_per_second = 160;
  double answer_seconds = 2;  // in the mean; exponentially distributed
  double pause_seconds = 4;   // between an answer and the next turn; likewise
  double probe_seconds = 5;
  uint64_t seed = 1;
};

struct ReplicaSimulationResult {
  // Of the blocks of prompts, those that a replica held.
  double cached_share = 0;
  // From a call to its first token, in seconds.
  double mean_first_token = 0;
  double p99_first_token = 0;
  // The most loaded replica's calls, over the mean of all; in the mean over all times at which a
  // call comes.
  double peak_to_mean = 0;
};

ReplicaSimulationResult Simulate(const ReplicaSimulation& options, SimulatedPolicy policy);

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_REPLICA_SIMULATION_H_
