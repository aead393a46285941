#include "gateway/cache/page_admin.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "gateway/node_generation.h"
#include "gateway/peer_error.h"
#include "gateway/replica_set.h"
#include "gateway/tenant.h"
#include "gateway/waiting_time.h"

namespace octogate::gateway {
namespace {

// For replicas.
constexpr absl::Duration kFlushTime = absl::Seconds(10);
constexpr absl::Duration kExplainTime = absl::Seconds(3);

// A peer's numbers are taken as they are, but for those that cannot be.
int64_t Count(int64_t value, int64_t most = std::numeric_limits<int64_t>::max()) {
  return std::clamp<int64_t>(value, 0, most);
}

bool IsTime(double seconds) { return std::isfinite(seconds) && seconds >= 0; }

std::string TimeText(double seconds) {
  return absl::FormatDuration(absl::Ceil(absl::Seconds(seconds), absl::Microseconds(100)));
}

// One sentence of what a replica would have from the store.
std::string ReasonOf(const v1::SharedPagesExplanation& shared) {
  if (shared.lookup_tokens() == 0) return "there is nothing left that the store could have";
  std::string reason =
      shared.has_hit_tokens()
          ? absl::StrCat("the store has ", shared.hit_tokens(), " of ", shared.lookup_tokens(),
                         " tokens that are not in memory")
          : absl::StrCat("the store has not said what it has of ", shared.lookup_tokens(),
                         " tokens that are not in memory (", shared.error(), ")");
  absl::StrAppend(&reason, "; fetching them ",
                  shared.has_fetch_seconds()
                      ? absl::StrCat("is expected to take ", TimeText(shared.fetch_seconds()))
                      : "is not possible now",
                  ", computing them ",
                  shared.has_compute_seconds()
                      ? absl::StrCat("takes ", TimeText(shared.compute_seconds()))
                      : "takes a time that was not measured",
                  ": ");
  switch (shared.choice()) {
    case v1::PAGE_CHOICE_WAIT:
      return reason + "the query waits for what the store has";
    case v1::PAGE_CHOICE_MEET:
      return reason + "they are computed from the first on while others come from the last one on";
    default:
      return reason + "they are computed";
  }
}

void ExplainAtReplica(const std::string& model, const ReplicaExplanation& replica,
                      const absl::StatusOr<v1::WorkerExplainCacheResponse>& said,
                      v1::ExplainCacheResponse* out) {
  v1::CacheExplanation& prefixes = *out->add_caches();
  prefixes.set_kind("prefixes");
  prefixes.set_model(model);
  prefixes.set_replica(replica.address);
  prefixes.set_prefix_bytes(replica.prefix_bytes);
  if (!said.ok()) {
    prefixes.set_hit(replica.chosen && replica.prefix_bytes > 0);
    prefixes.set_reason(absl::StrCat(replica.reason,
                                     "; what it has of the prompt it has not said: ",
                                     PeerError(ToStd(said.status().message()))));
    return;
  }
  const int64_t tokens = Count(said->prompt_tokens());
  const int64_t cached = Count(said->cached_tokens(), tokens);
  prefixes.set_hit(replica.chosen && cached > 0);
  prefixes.set_prompt_tokens(tokens);
  prefixes.set_cached_tokens(cached);
  prefixes.set_reason(
      absl::StrCat(cached, " of ", tokens, " tokens are in its memory; ", replica.reason));
  if (!said->has_shared()) return;
  v1::CacheExplanation& pages = *out->add_caches();
  pages.set_kind("pages");
  pages.set_model(model);
  pages.set_replica(replica.address);
  pages.set_prompt_tokens(tokens);
  v1::SharedPagesExplanation& shared = *pages.mutable_shared();
  shared = said->shared();
  shared.set_lookup_tokens(Count(shared.lookup_tokens(), tokens - cached));
  if (shared.has_hit_tokens()) {
    shared.set_hit_tokens(Count(shared.hit_tokens(), shared.lookup_tokens()));
  }
  shared.set_error(PeerError(shared.error()));
  if (!IsTime(shared.fetch_seconds())) shared.clear_fetch_seconds();
  if (!IsTime(shared.compute_seconds())) shared.clear_compute_seconds();
  pages.set_hit(
      replica.chosen && shared.hit_tokens() > 0 &&
      (shared.choice() == v1::PAGE_CHOICE_WAIT || shared.choice() == v1::PAGE_CHOICE_MEET));
  pages.set_reason(ReasonOf(shared));
}

}  // namespace

absl::Status CheckModel(const GraphState& state, const std::string& model) {
  if (state.models.find(model) != state.models.end()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("model: the graph has no model ", Quoted(model)));
}

void AddModelCaches(const GraphState& state, const std::string& model,
                    v1::GetCacheStatsResponse* out) {
  std::optional<v1::CacheStats> prefixes, pages, drafts;
  const auto of = [&model](const char* kind, std::optional<v1::CacheStats>& stats) {
    if (!stats) {
      stats.emplace().set_kind(kind);
      stats->set_model(model);
    }
    return &*stats;
  };
  for (const v1::ReplicaStatus& replica : state.models.at(model)->Status()) {
    if (!replica.has_info()) continue;
    const v1::WorkerInfoResponse& info = replica.info();
    if (info.pages_total() > 0) {
      v1::CacheStats* const stats = of("prefixes", prefixes);
      stats->set_entries(stats->entries() + Count(info.pages_used()) + Count(info.pages_idle()));
      stats->set_max_entries(stats->max_entries() + Count(info.pages_total()));
      stats->set_lookups(stats->lookups() + Count(info.prefix_query_tokens()));
      stats->set_hits(stats->hits() + Count(info.prefix_hit_tokens()));
    }
    if (info.has_shared_pages()) {
      const v1::SharedPagesUsage& usage = info.shared_pages();
      v1::CacheStats* const stats = of("pages", pages);
      stats->set_lookups(stats->lookups() + Count(usage.lookup_tokens()));
      stats->set_hits(stats->hits() + Count(usage.hit_tokens()));
      stats->set_failures(stats->failures() + Count(usage.abandoned()) +
                          Count(usage.refused_pages()) + Count(usage.dropped_pages()));
    }
    if (info.has_speculation()) {
      const v1::SharedDraftsUsage& usage = info.shared_drafts();
      v1::CacheStats* const stats = of("drafts", drafts);
      stats->set_bytes(stats->bytes() + Count(info.draft_bytes()));
      stats->set_lookups(stats->lookups() + Count(info.speculation().drafted_tokens()));
      stats->set_hits(stats->hits() + Count(info.speculation().accepted_tokens()));
      stats->set_writes(stats->writes() + Count(usage.publications()) + Count(usage.snapshots()));
      stats->set_failures(stats->failures() + Count(usage.refused()) +
                          Count(usage.store_failures()));
    }
  }
  for (const auto* stats : {&prefixes, &pages, &drafts}) {
    if (*stats) *out->add_caches() = **stats;
  }
}

absl::StatusOr<v1::FlushCacheResponse> FlushPages(const v1::FlushCacheRequest& request,
                                                  absl::Time deadline, const GraphState& state) {
  OCTOGATE_RETURN_IF_ERROR(CheckModel(state, request.model()));
  std::random_device random;
  v1::WorkerFlushCacheRequest flush;
  flush.set_id(absl::StrFormat("%08x%08x%08x", random(), random(), random()));
  if (!request.tenant().empty()) {
    flush.set_cache_salt(ServiceTermsOf(request.tenant()).cache_salt());
  }
  v1::FlushCacheResponse response;
  for (v1::ReplicaFlush& replica :
       state.models.at(request.model())->FlushCache(flush, WaitUntil(deadline, kFlushTime))) {
    *response.add_replicas() = std::move(replica);
  }
  return response;
}

void ExplainPages(const GraphState& state, const v1::GenerateRequest& request,
                  const std::string& node, const std::string& input, absl::Time deadline,
                  v1::ExplainCacheResponse* out) {
  const NodeRuntime* const runtime = state.FindNode(node);
  if (runtime == nullptr || runtime->replicas == nullptr) return;
  const auto call = WorkerRequest(*runtime, request, input, {});
  if (!call.ok()) return;
  v1::WorkerExplainCacheRequest question;
  *question.mutable_prompt() = (*call)->prompt();
  question.set_cache_salt((*call)->terms().cache_salt());
  const ReplicaSet& replicas = *runtime->replicas;
  const auto said = replicas.ExplainCache(question, WaitUntil(deadline, kExplainTime));
  const std::vector<ReplicaExplanation> choice =
      replicas.Explain(question.prompt(), question.cache_salt());
  for (size_t i = 0; i < choice.size(); ++i) {
    ExplainAtReplica(replicas.model(), choice[i], said[i], out);
  }
}

}  // namespace octogate::gateway
