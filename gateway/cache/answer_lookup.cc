#include "gateway/cache/answer_lookup.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "gateway/cache/find_shared.h"
#include "gateway/cache/routing_cache.h"
#include "gateway/decision_course.h"
#include "gateway/replica_embedding_model.h"

namespace octogate::gateway {
namespace {

// Of Euclidean length 1; empty where there is no direction.
std::vector<float> Normalized(const v1::Embedding& embedding) {
  double square = 0;
  for (const float value : embedding.values()) square += double{value} * value;
  if (!(square > 0) || !std::isfinite(square)) return {};
  const auto scale = static_cast<float>(1 / std::sqrt(square));
  std::vector<float> vector;
  vector.reserve(static_cast<size_t>(embedding.values_size()));
  for (const float value : embedding.values()) vector.push_back(value * scale);
  return vector;
}

// Blocks.
absl::StatusOr<std::vector<float>> EmbedWhole(router::EmbeddingModel& model,
                                              const std::string& text,
                                              const router::CallContext& context) {
  v1::WorkerEmbedRequest request;
  request.add_inputs(text);
  absl::Notification embedded;
  absl::StatusOr<v1::WorkerEmbedResponse> response = absl::UnknownError("no vector");
  model.Embed(request, context, [&](absl::StatusOr<v1::WorkerEmbedResponse> result) {
    response = std::move(result);
    embedded.Notify();
  });
  embedded.WaitForNotification();
  if (!response.ok()) return response.status();
  if (response->embeddings_size() != 1) return absl::InternalError("it is not one vector");
  std::vector<float> vector = Normalized(response->embeddings(0));
  if (vector.empty()) return absl::InternalError("it has no direction");
  return vector;
}

// The node that routers hand the query to, without keeping their decisions; or an error.
absl::StatusOr<std::string> NodeFor(const GraphState& graph, const v1::GenerateRequest& request,
                                    const std::string& query, const DrainList::Names& drained,
                                    const router::CallContext& context) {
  std::string name = request.node().empty() ? graph.graph().spec().entry() : request.node();
  std::string argument = query;
  for (int routers = 0; routers < kMaxRouters; ++routers) {
    const NodeRuntime* const node = graph.FindNode(name);
    if (node == nullptr || !node->node->has_router()) return name;
    router::RouteOptions options;
    options.excluded = drained;
    options.context = context;
    absl::Notification decided;
    absl::StatusOr<v1::Decision> decision = absl::UnknownError("no decision");
    graph.routing->Route(name, argument, std::move(options),
                         [&](absl::StatusOr<v1::Decision> result) {
                           decision = std::move(result);
                           decided.Notify();
                         });
    decided.WaitForNotification();
    if (!decision.ok()) return decision.status();
    name = decision->node();
    argument = decision->argument();
  }
  return name;
}

}  // namespace

AnswerLookup::Found FindAnswer(const std::shared_ptr<const GraphState>& graph,
                               const v1::GenerateRequest& request, AnswerKey key,
                               const DrainList::Names& drained, absl::Time deadline) {
  const AnswerCache& answers = graph->caches->answers;
  SharedAnswers::Found others;
  if (graph->caches->shared_answers != nullptr) {
    others = FindShared(graph, *graph->caches->shared_answers, key, deadline);
  }
  if (!others.marks.empty()) key.marks = others.marks;
  if (auto answer = answers.Peek(key); answer != nullptr) {
    return {.answer = std::move(answer), .reason = "the same query has been answered before"};
  }
  if (others.value.has_value()) {
    return {.answer = std::make_shared<const KeptAnswer>(*std::move(others.value)),
            .reason = "found in another gateway's answers, or in those that this one has let go"};
  }
  const auto model = graph->models.find(answers.settings().encoder());
  if (model == graph->models.end()) {
    return {.answer = nullptr,
            .reason = absl::StrCat("no answer to the same words of tenant ", Quoted(key.tenant),
                                   " is kept; without 'encoder' other words find none")};
  }
  router::CallContext context;
  context.deadline = std::min(deadline, absl::Now() + AnswerLookup::kMaxTime);
  context.tenant = key.tenant;
  ReplicaEmbeddingModel encoder(model->second);
  const absl::StatusOr<std::vector<float>> vector = EmbedWhole(encoder, key.query, context);
  if (!vector.ok()) {
    return {.answer = nullptr,
            .reason = absl::StrCat("the encoder gives no vector: ", vector.status().message())};
  }
  AnswerCache::Alike alike = answers.FindAlike(key, *vector);
  if (alike.answer == nullptr) {
    return {.answer = nullptr,
            .reason = absl::StrCat("no kept query is ", answers.settings().threshold(),
                                   " like this one in the same conversation and settings")};
  }
  const absl::StatusOr<std::string> node = NodeFor(*graph, request, key.query, drained, context);
  if (!node.ok() || *node != alike.answer->first_node) {
    return {.answer = nullptr,
            .reason = absl::StrCat(
                "a kept query is ", alike.similarity, " like this one, but went to ",
                Quoted(alike.answer->first_node), ", and this one ",
                node.ok() ? absl::StrCat("would go to ", Quoted(*node)) : "cannot be routed")};
  }
  return {.answer = std::move(alike.answer),
          .similarity = alike.similarity,
          .reason = absl::StrCat(
              "a query of the same meaning has been answered before: ", alike.similarity,
              " like this one, ", answers.settings().threshold(), " needed")};
}

std::shared_ptr<AnswerLookup> AnswerLookup::Make(std::shared_ptr<const GraphState> graph,
                                                 const v1::GenerateRequest& request,
                                                 std::shared_ptr<const DrainList::Names> drained,
                                                 absl::Time deadline, Metrics* metrics, Done done) {
  if (graph == nullptr) return nullptr;
  std::optional<AnswerKey> key = AnswerKeyOf(*graph, request, *drained);
  if (!key.has_value()) return nullptr;
  const absl::Time limit =
      absl::Now() + absl::Milliseconds(graph->graph().spec().limits().timeout_ms());
  return std::shared_ptr<AnswerLookup>(
      new AnswerLookup(std::move(graph), request, std::move(drained), std::min(deadline, limit),
                       metrics, *std::move(key), std::move(done)));
}

AnswerLookup::AnswerLookup(std::shared_ptr<const GraphState> graph,
                           const v1::GenerateRequest& request,
                           std::shared_ptr<const DrainList::Names> drained, absl::Time deadline,
                           Metrics* metrics, AnswerKey key, Done done)
    : graph_(std::move(graph)),
      request_(request),
      drained_(std::move(drained)),
      deadline_(deadline),
      metrics_(metrics),
      epoch_(graph_->caches->answers.epoch()),
      done_(std::move(done)),
      key_(std::move(key)) {}

void AnswerLookup::Start() {
  const SharedAnswers* const shared = graph_->caches->shared_answers.get();
  if (shared != nullptr && !shared->Believes(key_)) {
    // What is kept, or under way, may be from before a flush.
    graph_->caches->answers.CountLookup();
    AskOthers();
    return;
  }
  if (auto answer = graph_->caches->answers.Find(key_); answer != nullptr) {
    if (metrics_ != nullptr) metrics_->OnCacheLookup(Metrics::Cache::kAnswers, true);
    Finish({.status = {}, .answer = std::move(answer), .recorder = nullptr});
    return;
  }
  Join(/*asked=*/false);
}

void AnswerLookup::Join(bool asked) {
  flight_key_ = absl::StrCat(epoch_, ":", key_.Whole());
  AnswerFlights::Joined joined;
  {
    // Held, so that an outcome that comes at once finds the ticket.
    absl::MutexLock lock(&mutex_);
    if (stopped_.ok()) {
      joined = graph_->caches->answer_flights->Join(
          flight_key_,
          [self = shared_from_this()](AnswerCache::Alike found, AnswerFlights::Lead lead) {
            {
              absl::MutexLock outcome_lock(&self->mutex_);
              self->ticket_ = 0;
            }
            if (found.answer != nullptr) {
              if (self->metrics_ != nullptr) self->metrics_->OnAnswerShared();
              self->Finish({.status = {},
                            .answer = std::move(found.answer),
                            .similarity = found.similarity,
                            .recorder = nullptr,
                            .at_once = false});
            } else if (lead) {
              self->Lead(std::move(lead), /*asked=*/false, /*at_once=*/false);
            } else {
              self->Run(/*at_once=*/false);
            }
          });
      ticket_ = joined.ticket;
    }
  }
  if (joined.ticket != 0) return;
  if (joined.lead) {
    Lead(std::move(joined.lead), asked, /*at_once=*/!asked);
  } else {
    Run(/*at_once=*/!asked);
  }
}

void AnswerLookup::Stop(const absl::Status& status) {
  uint64_t ticket = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (!stopped_.ok()) return;
    stopped_ = status;
    ticket = std::exchange(ticket_, 0);
  }
  cancellation_->Cancel();
  if (ticket != 0 && graph_->caches->answer_flights->Leave(flight_key_, ticket)) {
    Run(/*at_once=*/false);  // which sees that it was stopped
  }
}

void AnswerLookup::Lead(AnswerFlights::Lead lead, bool asked, bool at_once) {
  lead_ = std::move(lead);
  // An equal query may have ended between the look-up and the lead.
  if (FinishKept(at_once)) return;
  if (asked || graph_->caches->shared_answers == nullptr) {
    FindAlike(at_once);
  } else {
    AskOthers();
  }
}

void AnswerLookup::AskOthers() {
  graph_->caches->shared_answers->Get(key_,
                                      [self = shared_from_this()](SharedAnswers::Found found) {
                                        self->OnShared(std::move(found));
                                      });
}

bool AnswerLookup::FinishKept(bool at_once) {
  auto answer = graph_->caches->answers.Peek(key_);
  if (answer == nullptr) return false;
  graph_->caches->answers.CountUse(key_, *answer);
  if (metrics_ != nullptr) metrics_->OnCacheLookup(Metrics::Cache::kAnswers, true);
  lead_.Finish({answer, 1});
  Finish({.status = {}, .answer = std::move(answer), .recorder = nullptr, .at_once = at_once});
  return true;
}

void AnswerLookup::OnShared(SharedAnswers::Found found) {
  if (!found.marks.empty()) key_.marks = std::move(found.marks);
  if (FinishKept(/*at_once=*/false)) return;
  if (metrics_ != nullptr) {
    metrics_->OnCacheLookup(Metrics::Cache::kSharedAnswers, found.value.has_value());
  }
  if (!found.value.has_value()) {
    if (lead_) {
      FindAlike(/*at_once=*/false);
    } else {
      Join(/*asked=*/true);
    }
    return;
  }
  if (metrics_ != nullptr) metrics_->OnCacheLookup(Metrics::Cache::kAnswers, false);
  auto answer = std::make_shared<const KeptAnswer>(*std::move(found.value));
  graph_->caches->answers.Put(key_, answer, {}, epoch_);
  lead_.Finish({answer, 1});
  Finish({.status = {}, .answer = std::move(answer), .recorder = nullptr, .at_once = false});
}

void AnswerLookup::FindAlike(bool at_once) {
  const std::string& encoder = graph_->caches->answers.settings().encoder();
  const auto model = graph_->models.find(encoder);
  const bool by_meaning = !encoder.empty() && model != graph_->models.end() &&
                          request_.messages(request_.messages_size() - 1).role() == "user";
  if (!by_meaning) {
    Run(at_once);
    return;
  }
  // Admission comes later, so this is what bounds the work before it.
  if (graph_->caches->by_meaning.fetch_add(1) >= QueryCaches::kMaxByMeaning) {
    graph_->caches->by_meaning.fetch_sub(1);
    Run(at_once);
    return;
  }
  by_meaning_ = true;
  v1::WorkerEmbedRequest request;
  // Not cut: what the encoder has not read would make no difference.
  request.add_inputs(key_.query);
  router::CallContext context;
  context.deadline = std::min(deadline_, absl::Now() + kMaxTime);
  context.cancellation = cancellation_;
  context.tenant = key_.tenant;
  ReplicaEmbeddingModel(model->second)
      .Embed(request, context,
             [self = shared_from_this()](absl::StatusOr<v1::WorkerEmbedResponse> response) {
               self->OnVector(std::move(response));
             });
}

void AnswerLookup::OnVector(absl::StatusOr<v1::WorkerEmbedResponse> response) {
  if (response.ok() && response->embeddings_size() == 1) {
    vector_ = Normalized(response->embeddings(0));
  }
  if (!vector_.empty()) alike_ = graph_->caches->answers.FindAlike(key_, vector_);
  if (alike_.answer == nullptr) {
    Run(/*at_once=*/false);
    return;
  }
  const std::string& entry = graph_->graph().spec().entry();
  CheckNode(request_.node().empty() ? entry : request_.node(), key_.query, 0);
}

void AnswerLookup::CheckNode(const std::string& node, const std::string& argument, int routers) {
  const NodeRuntime* const runtime = graph_->FindNode(node);
  if (runtime == nullptr || routers == kMaxRouters) {
    Run(/*at_once=*/false);
    return;
  }
  if (!runtime->node->has_router()) {
    if (node != alike_.answer->first_node) {
      Run(/*at_once=*/false);
      return;
    }
    graph_->caches->answers.CountUse(key_, *alike_.answer);
    if (metrics_ != nullptr) metrics_->OnCacheLookup(Metrics::Cache::kAnswers, true);
    lead_.Finish(alike_);
    Finish({.status = {},
            .answer = std::move(alike_.answer),
            .similarity = alike_.similarity,
            .recorder = nullptr,
            .at_once = false});
    return;
  }
  router::RouteOptions options;
  options.excluded = *drained_;
  options.context.deadline = deadline_;
  options.context.cancellation = cancellation_;
  options.context.tenant = key_.tenant;
  RouteCached(graph_, node, argument, std::move(options), /*bypass=*/false, metrics_,
              [self = shared_from_this(), routers](absl::StatusOr<v1::Decision> decision) {
                if (!decision.ok()) {
                  self->Run(/*at_once=*/false);
                  return;
                }
                self->CheckNode(decision->node(), decision->argument(), routers + 1);
              });
}

void AnswerLookup::Run(bool at_once) {
  if (metrics_ != nullptr) metrics_->OnCacheLookup(Metrics::Cache::kAnswers, false);
  Finish({.status = {},
          .answer = nullptr,
          .recorder = std::make_unique<AnswerRecorder>(
              graph_, std::move(key_), drained_, std::move(vector_), epoch_, std::move(lead_)),
          .at_once = at_once});
}

void AnswerLookup::Finish(Result result) {
  if (std::exchange(by_meaning_, false)) graph_->caches->by_meaning.fetch_sub(1);
  {
    absl::MutexLock lock(&mutex_);
    result.status = stopped_;
  }
  if (!result.status.ok()) {
    result.answer = nullptr;
    result.recorder = nullptr;
  }
  done_(std::move(result));
}

}  // namespace octogate::gateway
