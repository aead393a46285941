#include "gateway/cache/routing_cache.h"

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "gateway/cache/flights.h"

namespace octogate::gateway {
namespace {

// A decision that is not kept: the router's, or that of an equal query which it is asked for now.
class Routing : public std::enable_shared_from_this<Routing> {
 public:
  Routing(std::shared_ptr<const GraphState> graph, SharedDecisions::Query query, std::string text,
          router::RouteOptions options, uint64_t epoch, Metrics* metrics,
          router::RoutingSnapshot::Done done)
      : graph_(std::move(graph)),
        query_(std::move(query)),
        text_(std::move(text)),
        options_(std::move(options)),
        epoch_(epoch),
        metrics_(metrics),
        flight_key_(absl::StrCat(epoch, ":", query_.key)),
        done_(std::move(done)) {}

  void Start() {
    DecisionFlights& flights = *graph_->caches->decision_flights;
    DecisionFlights::Joined joined = flights.Join(
        flight_key_,
        [self = shared_from_this()](std::optional<v1::Decision> decision,
                                    DecisionFlights::Lead lead) {
          if (decision.has_value()) {
            self->done_(*std::move(decision));
          } else {
            self->Route(std::move(lead));
          }
        },
        options_.context.deadline);
    if (joined.ticket == 0) {
      Route(std::move(joined.lead));
    } else if (options_.context.cancellation != nullptr) {
      // The flight has this alive while it may be left.
      left_ = options_.context.cancellation->OnCancel(
          [weak = weak_from_this(), ticket = joined.ticket] {
            const std::shared_ptr<Routing> self = weak.lock();
            if (self == nullptr) return;
            if (self->graph_->caches->decision_flights->Leave(self->flight_key_, ticket)) {
              self->done_(absl::CancelledError("the query was cancelled"));
            }
          });
    }
  }

 private:
  void Route(DecisionFlights::Lead lead) {
    lead_ = std::move(lead);
    // An equal query may have ended between the look-up and the lead.
    std::optional<v1::Decision> kept = graph_->caches->decisions.Peek(query_.key);
    if (kept.has_value()) {
      Finish(*std::move(kept));
    } else if (SharedDecisions* const shared = graph_->caches->shared_decisions.get()) {
      shared->Get(query_, [self = shared_from_this()](SharedDecisions::Found found) {
        self->OnShared(std::move(found));
      });
    } else {
      AskRouter();
    }
  }

  void OnShared(SharedDecisions::Found found) {
    if (metrics_ != nullptr) {
      metrics_->OnCacheLookup(Metrics::Cache::kSharedDecisions, found.value.has_value());
    }
    marks_ = std::move(found.marks);
    if (!found.value.has_value()) {
      AskRouter();
      return;
    }
    graph_->caches->decisions.Put(query_.tenant, query_.key, *found.value, epoch_);
    Finish(*std::move(found.value));
  }

  // With a decision that was kept somewhere.
  void Finish(v1::Decision decision) {
    if (lead_) lead_.Finish(decision);
    done_(std::move(decision));
  }

  void AskRouter() {
    graph_->routing->Route(query_.router, text_, options_,
                           [self = shared_from_this()](absl::StatusOr<v1::Decision> decision) {
                             self->OnDecision(std::move(decision));
                           });
  }

  void OnDecision(absl::StatusOr<v1::Decision> decision) {
    if (!decision.ok()) {
      lead_.Abandon();
    } else if (!router::IsRepeatable(*decision)) {
      lead_.Release();
    } else {
      QueryCaches& caches = *graph_->caches;
      v1::Decision kept = DecisionCache::AsKept(*decision);
      if (caches.shared_decisions != nullptr) caches.shared_decisions->Put(query_, marks_, kept);
      caches.decisions.Put(query_.tenant, std::move(query_.key), kept, epoch_);
      if (lead_) lead_.Finish(std::move(kept));
    }
    done_(std::move(decision));
  }

  const std::shared_ptr<const GraphState> graph_;
  SharedDecisions::Query query_;
  const std::string text_;
  const router::RouteOptions options_;
  const uint64_t epoch_;
  Metrics* const metrics_;
  const std::string flight_key_;
  const router::RoutingSnapshot::Done done_;
  std::string marks_;  // of what gateways share
  DecisionFlights::Lead lead_;
  Cancellation::Registration left_;
};

}  // namespace

bool ReadsSession(const v1::Node& router, const router::RouteOptions& options) {
  return options.stay || router.router().hysteresis() > 0;
}

std::string DecisionKey(const GraphState& graph, const std::string& router,
                        const std::string& query, const router::RouteOptions& options) {
  if (graph.caches == nullptr || !graph.caches->decisions.enabled()) return "";
  const v1::Node* const node = graph.routing->FindNode(router);
  const bool reads_session = node != nullptr && ReadsSession(*node, options);
  return DecisionCache::KeyOf(options.context.tenant, router, query, options, reads_session);
}

void RouteCached(const std::shared_ptr<const GraphState>& graph, const std::string& router,
                 const std::string& query, router::RouteOptions options, bool bypass,
                 Metrics* metrics, router::RoutingSnapshot::Done done) {
  std::string key;
  if (!bypass && !options.all_heads) key = DecisionKey(*graph, router, query, options);
  if (key.empty()) {
    graph->routing->Route(router, query, std::move(options), std::move(done));
    return;
  }
  const uint64_t epoch = graph->caches->decisions.epoch();
  std::optional<v1::Decision> kept = graph->caches->decisions.Find(key);
  if (metrics != nullptr) metrics->OnCacheLookup(Metrics::Cache::kDecisions, kept.has_value());
  if (kept.has_value()) {
    done(*std::move(kept));
    return;
  }
  SharedDecisions::Query shared{options.context.tenant, router, std::move(key)};
  std::make_shared<Routing>(graph, std::move(shared), query, std::move(options), epoch, metrics,
                            std::move(done))
      ->Start();
}

}  // namespace octogate::gateway
