#include "gateway/cache/answer_recorder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "router/router.h"

namespace octogate::gateway {
namespace {

bool IsRepeatable(const v1::Node& node, const v1::GenerateRequest& request) {
  if (node.has_router() || node.has_replay()) return true;
  if (!node.has_model()) return false;
  const v1::SamplingParameters& sampling =
      request.has_sampling() ? request.sampling() : node.model().sampling();
  if (sampling.temperature() > 0 && !sampling.has_seed()) return false;
  return request.has_grammar() || !node.model().grammar().has_sql();
}

}  // namespace

std::optional<AnswerKey> AnswerKeyOf(const GraphState& graph, const v1::GenerateRequest& request,
                                     const DrainList::Names& drained) {
  if (graph.caches == nullptr || !graph.caches->answers.enabled()) return std::nullopt;
  if (request.bypass_cache() || !request.session().empty()) return std::nullopt;
  AnswerKey key{.tenant = request.tenant(), .rest = {}, .query = {}};
  if (graph.caches->shared_answers != nullptr) {
    key.marks = graph.caches->shared_answers->Marks(key.tenant);
  }
  const bool whole = request.events() == v1::EVENT_LEVEL_RESULT;
  key.rest =
      absl::StrCat(key.tenant.size(), ":", key.tenant, whole ? "w" : "t", drained.size(), ";");
  for (const std::string& name : drained) absl::StrAppend(&key.rest, name.size(), ":", name);
  v1::GenerateRequest rest = request;
  rest.clear_tenant();
  rest.clear_events();
  v1::Message& last = *rest.mutable_messages(rest.messages_size() - 1);
  key.query = std::move(*last.mutable_content());
  last.clear_content();
  rest.AppendToString(&key.rest);
  return key;
}

void AnswerRecorder::GiveUp() {
  keeps_ = false;
  tokens_.Clear();
  lead_.Release();
}

void AnswerRecorder::OnRoute(const DrainList::Names& drained) {
  // Drained, or put back, since the answer was looked for: it would be another key's.
  if (keeps_ && drained != *drained_) GiveUp();
}

void AnswerRecorder::OnNode(const v1::Node& node, const v1::GenerateRequest& request) {
  if (first_node_.empty() && !node.has_router()) first_node_ = node.name();
  if (keeps_ && !IsRepeatable(node, request)) GiveUp();
}

void AnswerRecorder::OnDecision(const v1::Decision& decision) {
  if (keeps_ && !router::IsRepeatable(decision)) GiveUp();
}

void AnswerRecorder::OnNodeLeft(const absl::Status& status, v1::FinishReason finish_reason) {
  if (!keeps_ || (status.ok() && finish_reason == v1::FINISH_REASON_STOP)) return;
  // A failure may end the query, and then somebody else leads.
  keeps_ = false;
  tokens_.Clear();
  if (status.ok()) lead_.Release();
}

void AnswerRecorder::OnEvent(const v1::GenerateResponse& event) {
  if (!keeps_ || !event.has_tokens()) return;
  bytes_ += event.ByteSizeLong();
  if (bytes_ > AnswerCache::kMaxEntryBytes) {
    GiveUp();
    return;
  }
  tokens_.set_node(event.tokens().node());
  tokens_.mutable_text()->append(event.tokens().text());
  tokens_.mutable_ids()->MergeFrom(event.tokens().ids());
  tokens_.mutable_logprobs()->MergeFrom(event.tokens().logprobs());
}

void AnswerRecorder::OnDone(const absl::Status& status, const v1::GenerateResponse& finished) {
  if (!status.ok()) {
    lead_.Abandon();
    return;
  }
  if (!keeps_ || finished.finished().finish_reason() != v1::FINISH_REASON_STOP) {
    lead_.Release();
    return;
  }
  auto answer = std::make_shared<KeptAnswer>();
  answer->query = key_.query;
  answer->first_node = std::move(first_node_);
  answer->tokens = std::move(tokens_);
  answer->tokens.set_node(finished.finished().node());
  if (!finished.finished().text().empty()) answer->tokens.set_text(finished.finished().text());
  answer->finish_reason = finished.finished().finish_reason();
  answer->given_at = absl::Now();
  QueryCaches& caches = *graph_->caches;
  if (caches.answers.Put(key_, answer, std::move(vector_), epoch_) &&
      caches.shared_answers != nullptr) {
    caches.shared_answers->Put(key_, *answer);
  }
  lead_.Finish({std::move(answer), 1});
}

}  // namespace octogate::gateway
