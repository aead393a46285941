// What ReplicaSet says of a choice to people.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/replica_set.h"
#include "gateway/replica_set_internal.h"

namespace octogate::gateway {

using workers::PromptBlocks;

std::vector<ReplicaExplanation> ReplicaSet::Explain(const v1::WorkerPrompt& prompt,
                                                    std::string_view cache_salt) const {
  const PromptBlocks blocks = workers::HashPrompt(prompt, cache_salt);
  std::vector<ReplicaExplanation> result;
  absl::MutexLock lock(&mutex_);
  for (const auto& replica : replicas_) {
    ReplicaExplanation& one = result.emplace_back();
    one.address = replica->client->address();
    one.prompt_bytes = blocks.bytes;
    one.prefix_bytes =
        static_cast<int64_t>(replica->prefixes.Matched(blocks.hashes) * PromptBlocks::kBlockBytes);
    one.load = replica->in_flight;
    one.reason = absl::StrCat("takes no calls: ", replica->draining ? "it is draining" : "",
                              replica->draining ? "" : "its last ones failed");
  }
  const Candidates candidates = FindCandidates(/*tried=*/0, blocks);
  const size_t count = candidates.replicas.size();
  if (candidates.views.empty()) {
    // As Acquire does it without anything known.
    int fewest = 0;
    for (size_t i = 0; i < count; ++i) {
      const int calls = candidates.replicas[i]->in_flight;
      fewest = i == 0 ? calls : std::min(fewest, calls);
    }
    const auto equal =
        std::count_if(candidates.replicas.begin(), candidates.replicas.end(),
                      [fewest](const Replica* replica) { return replica->in_flight == fewest; });
    for (const Replica* replica : candidates.replicas) {
      ReplicaExplanation& one = result[replica->index];
      one.chosen = replica->in_flight == fewest;
      one.probability = one.chosen ? 1 / static_cast<double>(equal) : 0;
      one.reason = count == 1 ? "the only one that takes calls"
                              : absl::StrCat("has ", replica->in_flight,
                                             " calls of this gateway; no replica says what "
                                             "beginnings of prompts it holds");
    }
    return result;
  }
  const std::vector<ReplicaAppraisal> appraisals =
      AppraiseReplicas(candidates.view_span(), blocks.bytes, choice_);
  double largest = 0;
  for (const ReplicaAppraisal& appraisal : appraisals) {
    largest = std::max(largest, appraisal.probability);
  }
  for (size_t i = 0; i < count; ++i) {
    const Replica& replica = *candidates.replicas[i];
    const ReplicaView& view = candidates.views[i];
    const ReplicaAppraisal& appraisal = appraisals[i];
    ReplicaExplanation& one = result[replica.index];
    one.load = view.load;
    one.probability = appraisal.probability;
    one.chosen = appraisal.probability >= largest;
    one.reason = replica.prefixes.known()
                     ? absl::StrCat("holds ", one.prefix_bytes, " of ", one.prompt_bytes, " bytes")
                     : std::string("does not say what it holds");
    if (!replica.prefix_refusal.empty()) {
      absl::StrAppend(&one.reason, " (", replica.prefix_refusal, ")");
    }
    absl::StrAppend(&one.reason, ", has ", std::llround(view.load), " calls and ",
                    std::llround(view.unread_bytes), " bytes to read: costs ",
                    std::llround(appraisal.cost), " bytes");
    if (one.prefix_bytes > 0 && !appraisal.within_bound) {
      absl::StrAppend(&one.reason, "; its prefix does not count, since it would have more than ",
                      std::llround(appraisal.bound), " calls");
    }
    absl::StrAppend(&one.reason, "; gets ", std::llround(100 * appraisal.probability),
                    " % of such prompts");
  }
  return result;
}

std::vector<absl::StatusOr<v1::WorkerExplainCacheResponse>> ReplicaSet::ExplainCache(
    const v1::WorkerExplainCacheRequest& request, absl::Time deadline) const {
  return AskReplicas<v1::WorkerExplainCacheResponse>(
      replicas_.size(), deadline, [&](size_t index, absl::Time time, auto on_done) {
        replicas_[index]->client->ExplainCache(request, time, std::move(on_done));
      });
}

}  // namespace octogate::gateway
