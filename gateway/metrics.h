// What the gateway counts, in Prometheus' text format on a port of its own. Names begin with
// `octogate_`.
#ifndef OCTOGATE_GATEWAY_METRICS_H_
#define OCTOGATE_GATEWAY_METRICS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/replica_choice.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // A query was admitted, and has ended.
  void OnQueryStarted();
  void OnQueryDone(absl::StatusCode code, absl::Duration duration);
  // A query was refused before it began: "queue", "tenant" or "deadline".
  void OnQueryRefused(std::string_view reason);
  // Routing of one router node.
  void OnRoute(absl::Duration duration);
  // A conversation stayed at its session's node, although the scores alone would have moved it.
  void OnSessionKept();
  // A choice, vote or verify node has decided, with what status.
  enum class Judging { kChoice, kVote, kVerification };
  void OnJudged(Judging kind, const absl::Status& status);
  // A cache was asked for a decision or an answer, and had it or not.
  // kSharedAnswers, kSharedDecisions: those of other gateways, where this one had none.
  enum class Cache { kDecisions, kAnswers, kSharedAnswers, kSharedDecisions };
  void OnCacheLookup(Cache cache, bool hit);
  // A query has the answer of another one that was under way.
  void OnAnswerShared();
  // The first token of a model node.
  void OnFirstToken(absl::Duration since_entered);
  void OnTokens(const v1::Usage& usage);
  // A link of a catalog, of a retriever node or a client, has ended.
  void OnLink(absl::StatusCode code, absl::Duration duration);
  // A SQL node has run or checked a statement.
  void OnSqlStatement(absl::StatusCode code, absl::Duration duration);
  // A graph was applied, or its application failed.
  void OnGraphApplied(int64_t version);
  void OnGraphRefused();

  // A replica of a model, with what it last said of itself, and the attempts that it was given by
  // ReplicaChoiceReason.
  struct Replica {
    std::string model;
    std::string address;
    v1::WorkerInfoResponse info;
    std::array<int64_t, kReplicaChoiceReasons> choices{};
  };
  // Asked whenever the page is made, from any thread; what it returns is counted by model and
  // replica. Null: nothing is. It is not called any more when this returns.
  void SetReplicas(std::function<std::vector<Replica>()> replicas);

  // What a store over the network says of itself.
  struct Store {
    uint64_t calls = 0;
    uint64_t failures = 0;     // calls that it did not answer
    uint64_t connections = 0;  // that were made to it
    uint64_t pending_bytes = 0;
    bool reachable = false;
  };
  // As SetReplicas. Null: there is none such.
  void SetStore(std::function<Store()> store);

  // What gateways share: values that were read and written.
  struct Shared {
    uint64_t found = 0;
    uint64_t absent = 0;
    uint64_t failed = 0;   // reads that were late or refused
    uint64_t damaged = 0;  // reads of what is not what was written
    uint64_t written = 0;
    uint64_t dropped = 0;  // writes
    uint64_t traces_written = 0;
    uint64_t traces_dropped = 0;
    uint64_t traces_damaged = 0;  // that were read
  };
  // As SetStore.
  void SetShared(std::function<Shared()> shared);

  // Serves http://ADDRESS/metrics until destruction. UNAVAILABLE where the port cannot be had.
  absl::Status Serve(const std::string& address);

  // The page.
  std::string Text() const;

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_METRICS_H_
