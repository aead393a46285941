// What comes before a query is admitted: its answer may be kept, or another query may be getting it
// right now.
#ifndef OCTOGATE_GATEWAY_CACHE_ANSWER_LOOKUP_H_
#define OCTOGATE_GATEWAY_CACHE_ANSWER_LOOKUP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/cache/answer_recorder.h"
#include "gateway/drain_list.h"
#include "gateway/graph_state.h"
#include "gateway/metrics.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// One look-up, in this order: the same words, a query under way with the same words
// (single_flight.h), the same words at the gateways that share answers (shared_answers.h), and
// where the graph names an encoder, another query of the same meaning. An answer to other words is
// given only where routers would hand this query to the same node. What another gateway has
// answered is kept here too. Where it is time to ask whether another one has flushed, that comes
// first, together with its answers.
//
// What goes wrong with the encoder, a query that is too long for it, more than kMaxTime, or
// QueryCaches::kMaxByMeaning look-ups by meaning already: the query runs as if nothing had been
// kept.
//
// Thread safety: all methods may be called from any thread.
class AnswerLookup : public std::enable_shared_from_this<AnswerLookup> {
 public:
  // For the encoder.
  static constexpr absl::Duration kMaxTime = absl::Seconds(5);

  struct Result {
    // Not OK: Stop was called, with this.
    absl::Status status;
    // Not null: this is the answer.
    std::shared_ptr<const KeptAnswer> answer;
    double similarity = 1;
    // Else the query is to run with this, which may be null.
    std::unique_ptr<AnswerRecorder> recorder;
    // Whether it was known before Start returned, on the same thread.
    bool at_once = true;
  };
  using Done = std::function<void(Result result)>;

  struct Found {
    std::shared_ptr<const KeptAnswer> answer;  // null: none
    double similarity = 1;
    std::string reason;  // one sentence
  };

  // Null where there is nothing to look for. `request` is valid and names its tenant, and outlives
  // the look-up, as do the others. `metrics` may be null.
  static std::shared_ptr<AnswerLookup> Make(std::shared_ptr<const GraphState> graph,
                                            const v1::GenerateRequest& request,
                                            std::shared_ptr<const DrainList::Names> drained,
                                            absl::Time deadline, Metrics* metrics, Done done);

  // Once. Calls `done` once, possibly before it returns.
  void Start();

  // The caller's, or the end of the graph's time for a query.
  absl::Time deadline() const { return deadline_; }

  // Nobody waits any more: `done` comes soon. Without effect once it has come.
  void Stop(const absl::Status& status);

 private:
  AnswerLookup(std::shared_ptr<const GraphState> graph, const v1::GenerateRequest& request,
               std::shared_ptr<const DrainList::Names> drained, absl::Time deadline,
               Metrics* metrics, AnswerKey key, Done done);

  // Leads, follows, or runs. `asked`: the others' answers have been looked at already.
  void Join(bool asked);
  void Lead(AnswerFlights::Lead lead, bool asked, bool at_once);
  // Whether it has ended here, with an answer that is kept.
  bool FinishKept(bool at_once);
  void AskOthers();
  void OnShared(SharedAnswers::Found found);
  void FindAlike(bool at_once);
  void OnVector(absl::StatusOr<v1::WorkerEmbedResponse> response);
  // The lead is kept here while the encoder and the routers are asked.
  void CheckNode(const std::string& node, const std::string& argument, int routers);
  void Run(bool at_once);
  void Finish(Result result);

  const std::shared_ptr<const GraphState> graph_;
  const v1::GenerateRequest& request_;
  const std::shared_ptr<const DrainList::Names> drained_;
  const absl::Time deadline_;
  Metrics* const metrics_;
  const uint64_t epoch_;  // of the cache, before it was asked
  const Done done_;
  const std::shared_ptr<Cancellation> cancellation_ = std::make_shared<Cancellation>();

  // Of whoever works on it: one after the other.
  AnswerKey key_;
  std::string flight_key_;  // with the epoch: nobody follows a query from before a flush
  AnswerFlights::Lead lead_;
  std::vector<float> vector_;
  AnswerCache::Alike alike_;
  bool by_meaning_ = false;  // counted among QueryCaches::by_meaning

  absl::Mutex mutex_;
  absl::Status stopped_ ABSL_GUARDED_BY(mutex_);
  uint64_t ticket_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What a look-up would find now, for people: blocks for the other gateways' answers, the encoder
// and the routers, until `deadline` at most, and counts as no use.
AnswerLookup::Found FindAnswer(const std::shared_ptr<const GraphState>& graph,
                               const v1::GenerateRequest& request, AnswerKey key,
                               const DrainList::Names& drained, absl::Time deadline);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_ANSWER_LOOKUP_H_
