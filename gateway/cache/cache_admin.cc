#include "gateway/cache/cache_admin.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "gateway/cache/answer_lookup.h"
#include "gateway/cache/find_shared.h"
#include "gateway/cache/page_admin.h"
#include "gateway/cache/routing_cache.h"
#include "gateway/decision_course.h"
#include "gateway/query.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

constexpr char kDecisions[] = "decisions";
constexpr char kAnswers[] = "answers";
constexpr char kSharedAnswers[] = "shared-answers";
constexpr char kSharedDecisions[] = "shared-decisions";
// For the store.
constexpr absl::Duration kFlushTime = absl::Seconds(2);

void Fill(const char* kind, const std::string& tenant, const CacheCounts& counts,
          size_t max_entries, v1::CacheStats* stats) {
  stats->set_kind(kind);
  stats->set_tenant(tenant);
  stats->set_entries(counts.entries);
  stats->set_bytes(counts.bytes);
  stats->set_max_entries(static_cast<int64_t>(max_entries));
  stats->set_lookups(counts.lookups);
  stats->set_hits(counts.hits);
  stats->set_writes(counts.writes);
  stats->set_evictions(counts.evictions);
  stats->set_failures(counts.failures);
}

absl::Status NoGraph() {
  return absl::FailedPreconditionError(
      "no graph has been applied yet; apply one with octoctl apply -f");
}

bool Wants(const v1::FlushCacheRequest& request, const char* kind) {
  return request.kinds().empty() ||
         std::find(request.kinds().begin(), request.kinds().end(), kind) != request.kinds().end();
}

// The routers that the query passes as far as their decisions are kept, and the first whose is not;
// where all are kept, the node that they lead to.
void ExplainDecisions(const std::shared_ptr<const GraphState>& graph,
                      const v1::GenerateRequest& request, absl::Time deadline,
                      const DrainList& drained, v1::ExplainCacheResponse* out) {
  std::string name = request.node().empty() ? graph->graph().spec().entry() : request.node();
  std::string argument = UserQueryOf(request);
  for (int routers = 0; routers < kMaxRouters; ++routers) {
    const v1::Node* const node = graph->routing->FindNode(name);
    if (node == nullptr || !node->has_router()) {
      return ExplainPages(*graph, request, name, argument, deadline, out);
    }
    v1::CacheExplanation& explanation = *out->add_caches();
    explanation.set_kind(kDecisions);
    if (request.bypass_cache()) {
      explanation.set_reason("the query bypasses the caches");
      return;
    }
    if (!request.session().empty() &&
        (node->router().hysteresis() > 0 || EndsWithToolResult(request))) {
      explanation.set_reason(absl::StrCat("what router ", Quoted(name),
                                          " decides depends on where the session is then"));
      return;
    }
    router::RouteOptions options;
    options.excluded = *drained.names();
    options.stay = EndsWithToolResult(request);
    options.context.tenant = request.tenant();
    const std::string key = DecisionKey(*graph, name, argument, options);
    if (key.empty()) {
      explanation.set_reason("the graph keeps no decisions: cache.decisions.maxEntries is 0");
      return;
    }
    explanation.set_key(Sha256Hex(key));
    std::optional<v1::Decision> kept = graph->caches->decisions.Peek(key);
    const bool is_own = kept.has_value();
    if (!is_own && graph->caches->shared_decisions != nullptr) {
      const SharedDecisions::Query query{request.tenant(), name, key};
      kept = FindShared(graph, *graph->caches->shared_decisions, query, deadline).value;
    }
    if (!kept.has_value()) {
      explanation.set_reason(absl::StrCat(
          "no decision of router ", Quoted(name), " is kept for this query of tenant ",
          Quoted(request.tenant()), " since version ", graph->version(), " was applied"));
      return;
    }
    explanation.set_hit(true);
    explanation.set_reason(absl::StrCat(
        "router ", Quoted(name), is_own ? "" : " of another gateway, or of this one earlier,",
        " has chosen ", Quoted(kept->node()), " for the same query before"));
    name = kept->node();
    argument = kept->argument();
  }
}

std::string WhyNoAnswer(const GraphState& graph, const v1::GenerateRequest& request) {
  if (!graph.caches->answers.enabled()) {
    return "the graph keeps no answers; 'cache: {answers: {}}' in its spec has it keep them";
  }
  if (request.bypass_cache()) return "the query bypasses the caches";
  return "answers within a session are not kept: where routers send them depends on what came "
         "before";
}

// Waits for the encoder and the routers, where the same words are not known.
void ExplainAnswers(const std::shared_ptr<const GraphState>& graph,
                    const v1::GenerateRequest& request, absl::Time deadline,
                    const DrainList& drained, v1::ExplainCacheResponse* out) {
  v1::CacheExplanation& explanation = *out->add_caches();
  explanation.set_kind(kAnswers);
  const std::optional<AnswerKey> key = AnswerKeyOf(*graph, request, *drained.names());
  if (!key.has_value()) {
    explanation.set_reason(WhyNoAnswer(*graph, request));
    return;
  }
  explanation.set_key(Sha256Hex(key->Common()));
  const AnswerLookup::Found found = FindAnswer(graph, request, *key, *drained.names(), deadline);
  if (found.answer == nullptr) {
    explanation.set_reason(found.reason);
    return;
  }
  explanation.set_hit(true);
  explanation.set_reason(found.reason);
  explanation.mutable_answer()->set_query(found.answer->query);
  explanation.mutable_answer()->set_similarity(found.similarity);
  explanation.mutable_answer()->set_age_ms(
      std::max<int64_t>(absl::ToInt64Milliseconds(absl::Now() - found.answer->given_at), 0));
}

}  // namespace

absl::StatusOr<v1::GetCacheStatsResponse> GetCacheStats(const v1::GetCacheStatsRequest& request,
                                                        const GraphManager& graphs) {
  v1::GetCacheStatsResponse response;
  const std::shared_ptr<const GraphState> state = graphs.state();
  const std::string& tenant = request.tenant();
  if (!request.model().empty()) {
    if (state == nullptr) return NoGraph();
    OCTOGATE_RETURN_IF_ERROR(CheckModel(*state, request.model()));
    AddModelCaches(*state, request.model(), &response);
  } else if (state != nullptr) {
    const QueryCaches& caches = *state->caches;
    Fill(kAnswers, tenant, caches.answers.Counts(tenant),
         static_cast<size_t>(caches.answers.settings().max_entries()), response.add_caches());
    if (caches.shared_answers != nullptr && caches.answers.enabled()) {
      Fill(kSharedAnswers, "", caches.shared_answers->Counts(), 0, response.add_caches());
    }
    Fill(kDecisions, tenant, caches.decisions.Counts(tenant), caches.decisions.max_entries(),
         response.add_caches());
    if (caches.shared_decisions != nullptr) {
      Fill(kSharedDecisions, "", caches.shared_decisions->Counts(), 0, response.add_caches());
    }
    for (const v1::Model& model : state->graph().spec().models()) {
      AddModelCaches(*state, model.name(), &response);
    }
  }
  std::sort(response.mutable_caches()->begin(), response.mutable_caches()->end(),
            [](const v1::CacheStats& a, const v1::CacheStats& b) {
              return std::tie(a.kind(), a.model()) < std::tie(b.kind(), b.model());
            });
  return response;
}

absl::StatusOr<v1::FlushCacheResponse> FlushCache(const v1::FlushCacheRequest& request,
                                                  absl::Time deadline, GraphManager& graphs) {
  const std::shared_ptr<const GraphState> state = graphs.state();
  if (state == nullptr) return NoGraph();
  if (!request.model().empty()) return FlushPages(request, deadline, *state);
  v1::FlushCacheResponse response;
  const auto add = [&](const char* kind, const CacheCounts& flushed) {
    v1::CacheStats& stats = *response.add_flushed();
    stats.set_kind(kind);
    stats.set_tenant(request.tenant());
    stats.set_entries(flushed.entries);
    stats.set_bytes(flushed.bytes);
  };
  deadline = std::min(deadline, absl::Now() + kFlushTime);
  absl::Status shared;
  if (Wants(request, kAnswers)) {
    // First: what is looked for after this gateway's own flush finds nothing from before.
    if (state->caches->shared_answers != nullptr) {
      shared = state->caches->shared_answers->Flush(request.tenant(), deadline);
    }
    add(kAnswers, state->caches->answers.Flush(request.tenant()));
  }
  if (Wants(request, kDecisions)) {
    if (state->caches->shared_decisions != nullptr) {
      shared.Update(state->caches->shared_decisions->Flush(request.tenant(), deadline));
    }
    const absl::StatusOr<CacheCounts> flushed = graphs.FlushDecisions(request.tenant(), deadline);
    if (flushed.ok()) add(kDecisions, *flushed);
    shared.Update(flushed.status());
  }
  if (!shared.ok()) {
    return Annotate(
        shared,
        "this gateway's own are forgotten, but the store has not taken the flush, so that other "
        "gateways may still give what they gave before; flush again when it answers");
  }
  return response;
}

absl::StatusOr<v1::ExplainCacheResponse> ExplainCache(const v1::ExplainCacheRequest& request,
                                                      absl::Time deadline,
                                                      const GraphManager& graphs,
                                                      const DrainList& drained) {
  const std::shared_ptr<const GraphState> state = graphs.state();
  if (state == nullptr) return NoGraph();
  v1::GenerateRequest query = request.request();
  query.set_tenant(TenantOf(query));
  if (!query.node().empty() && state->FindNode(query.node()) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("request.node: the graph has no node ", Quoted(query.node())));
  }
  v1::ExplainCacheResponse response;
  // In this order they are asked: an answer needs no decision.
  ExplainAnswers(state, query, deadline, drained, &response);
  ExplainDecisions(state, query, deadline, drained, &response);
  return response;
}

}  // namespace octogate::gateway
