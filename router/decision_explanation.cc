// RoutingSnapshot::Explain.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "router/background_queries.h"
#include "router/encoder_ensemble.h"
#include "router/router.h"
#include "router/routing_step.h"

namespace octogate::router {
namespace {

constexpr char kNone[] = "none";
constexpr size_t kMaxExampleBytes = 1024;

v1::FeatureKind KindOf(LexicalVocabulary::NamedRow::Kind kind) {
  switch (kind) {
    case LexicalVocabulary::NamedRow::kWord:
      return v1::FEATURE_KIND_WORD;
    case LexicalVocabulary::NamedRow::kPair:
      return v1::FEATURE_KIND_PAIR;
    case LexicalVocabulary::NamedRow::kRun:
      return v1::FEATURE_KIND_RUN;
  }
  return v1::FEATURE_KIND_UNSPECIFIED;
}

void AddPart(const char* source, double contribution, v1::HeadExplanation* head) {
  v1::EvidencePart& part = *head->add_parts();
  part.set_source(source);
  part.set_contribution(contribution);
  head->set_log_ratio(head->log_ratio() + contribution);
}

void SetFeatures(const std::vector<LexicalHead::Feature>& features, int limit,
                 v1::HeadExplanation* head) {
  for (const LexicalHead::Feature& feature : features) {
    if (head->features_size() == limit) break;
    v1::FeatureContribution& shown = *head->add_features();
    shown.set_text(feature.text);
    shown.set_kind(KindOf(feature.kind));
    shown.set_count(static_cast<int>(feature.count));
    shown.set_contribution(feature.contribution);
  }
  head->set_further_features(static_cast<int>(features.size()) - head->features_size());
}

// The texts that a router's heads know a node by: its own, and those of all nodes that it may hand
// over to.
std::vector<std::string_view> TextsOf(const RoutingSnapshot& snapshot, const v1::Node& root) {
  std::vector<std::string_view> texts;
  absl::flat_hash_set<const v1::Node*> seen = {&root};
  std::vector<const v1::Node*> open = {&root};
  while (!open.empty()) {
    const v1::Node& node = *open.back();
    open.pop_back();
    if (!node.description().empty()) texts.push_back(node.description());
    texts.insert(texts.end(), node.examples().begin(), node.examples().end());
    texts.insert(texts.end(), node.learned_examples().begin(), node.learned_examples().end());
    for (const std::string& name : node.router().members()) {
      const v1::Node* member = snapshot.FindNode(name);
      if (member != nullptr && seen.insert(member).second) open.push_back(member);
    }
  }
  return texts;
}

struct Near {
  double product;
  std::string_view text;
  std::string_view node;
};

void SetExamples(const RoutingSnapshot& snapshot, const RouterRouting& routing,
                 const ExampleEmbeddings& embeddings, std::span<const float> vector, int limit,
                 v1::HeadExplanation* head) {
  std::vector<Near> near;
  const auto add = [&](std::string_view text, std::string_view node) {
    const float* const other = embeddings.Find(text);
    if (other == nullptr) return;
    double product = 0;
    for (size_t i = 0; i < vector.size(); ++i) product += double{vector[i]} * double{other[i]};
    near.push_back({product, text, node});
  };
  for (const v1::Node* member : routing.members) {
    for (const std::string_view text : TextsOf(snapshot, *member)) add(text, member->name());
  }
  if (std::find(routing.members.begin(), routing.members.end(), routing.fallback) ==
          routing.members.end() &&
      !routing.fallback->has_router()) {
    for (const std::string& text : routing.fallback->examples()) add(text, kNone);
    for (const std::string& text : routing.fallback->learned_examples()) add(text, kNone);
  }
  for (const std::string_view text : BackgroundQueries()) add(text, kNone);
  const auto nearer = [](const Near& a, const Near& b) { return a.product > b.product; };
  std::stable_sort(near.begin(), near.end(), nearer);
  near.resize(std::min(near.size(), static_cast<size_t>(limit)));
  for (const Near& example : near) {
    v1::NearestExample& shown = *head->add_examples();
    shown.set_text(SanitizeUtf8(example.text, kMaxExampleBytes));
    shown.set_node(std::string(example.node));
    shown.set_distance(std::clamp(1 - example.product, 0.0, 2.0));
  }
}

absl::StatusOr<std::vector<float>> Embed(EmbeddingModel& model, std::string_view query,
                                         const CallContext& context) {
  v1::WorkerEmbedRequest request;
  request.add_inputs(std::string(query));
  request.set_cut_long_inputs(true);
  absl::Notification embedded;
  absl::StatusOr<std::vector<float>> vector = absl::UnknownError("no vector");
  model.Embed(request, context, [&](absl::StatusOr<v1::WorkerEmbedResponse> response) {
    if (!response.ok()) {
      vector = response.status();
    } else if (response->embeddings_size() != 1) {
      vector = absl::InternalError("the encoder's answer is not one vector");
    } else {
      const auto& values = response->embeddings(0).values();
      vector = std::vector<float>(values.begin(), values.end());
    }
    embedded.Notify();
  });
  embedded.WaitForNotification();
  return vector;
}

// Compares the best token with what comes next. False where the head could not score.
bool SetCompared(const v1::HeadScore& score, v1::HeadExplanation* head) {
  head->set_head(score.head());
  head->set_threshold(score.threshold());
  if (!score.error().empty() || score.scores().empty()) return false;
  const double live = score.live_probability();
  const double best = score.scores(0).probability() * live;
  const double second = score.scores_size() < 2 ? -1 : score.scores(1).probability() * live;
  head->set_node(score.scores(0).node());
  head->set_confidence(best);
  head->set_against(second >= 1 - live ? score.scores(1).node() : kNone);
  return true;
}

}  // namespace

absl::StatusOr<v1::ExplainedDecision> RoutingSnapshot::Explain(std::string_view router,
                                                               std::string_view query, int limit,
                                                               const CallContext& context) const {
  const auto found = routers_.find(ToAbsl(router));
  if (found == routers_.end()) {
    return absl::NotFoundError(
        absl::StrCat("graph '", graph_.metadata().name(), "' has no router ", Quoted(router)));
  }
  const RouterRouting& routing = *found->second;
  absl::Notification decided;
  absl::StatusOr<v1::Decision> decision = absl::UnknownError("no decision");
  RouteOptions options;
  options.all_heads = true;
  options.context = context;
  Route(router, query, std::move(options), [&](absl::StatusOr<v1::Decision> result) {
    decision = std::move(result);
    decided.Notify();
  });
  decided.WaitForNotification();
  OCTOGATE_RETURN_IF_ERROR(decision.status());

  const auto place_of = [&routing](const std::string& node) {
    const auto member = std::find_if(routing.members.begin(), routing.members.end(),
                                     [&](const v1::Node* other) { return other->name() == node; });
    return static_cast<size_t>(member - routing.members.begin());
  };
  v1::ExplainedDecision explained;
  for (int h = 0; h < decision->heads_size(); ++h) {
    const v1::HeadScore& score = decision->heads(h);
    const RouterRouting::Head& head = routing.heads[static_cast<size_t>(h)];
    v1::HeadExplanation& explanation = *explained.add_heads();
    if (routing.node->router().heads(h).has_risk()) {
      explanation.set_risk(routing.node->router().heads(h).risk());
    }
    if (!SetCompared(score, &explanation)) continue;
    const size_t node = place_of(explanation.node());
    // "none" is behind the members, as in the heads. A member of that name is another.
    const size_t against = explanation.against() == kNone &&
                                   (score.scores_size() < 2 || score.scores(1).node() != kNone)
                               ? routing.members.size()
                               : place_of(explanation.against());
    if (head.lexical != nullptr) {
      explanation.set_temperature(head.lexical->temperature());
      const LexicalHead::Explanation words = head.lexical->Explain(query, node, against);
      double sum = 0;
      for (const LexicalHead::Feature& feature : words.features) sum += feature.contribution;
      AddPart("prior", words.prior, &explanation);
      AddPart("words", sum, &explanation);
      SetFeatures(words.features, limit, &explanation);
    } else if (head.encoder != nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(const std::vector<float> vector,
                                Embed(head.encoder->model(), query, context));
      if (vector.size() != head.embeddings->dimension()) {
        return absl::InternalError("the encoder's vectors differ in length");
      }
      if (const EncoderEnsemble* const ensemble = head.encoder->ensemble(); ensemble != nullptr) {
        explanation.set_temperature(1);
        const EncoderEnsemble::Explanation parts = ensemble->Explain(query, vector, node, against);
        AddPart("words", parts.parts[0], &explanation);
        AddPart("vector", parts.parts[1], &explanation);
        AddPart("examples", parts.parts[2], &explanation);
        // Only where one of the two compared is "none of these".
        if (parts.parts[3] != 0) AddPart("prior", parts.parts[3], &explanation);
        SetFeatures(parts.words, limit, &explanation);
      } else {
        const EmbeddingClassifier& classifier = *head.encoder->classifier();
        const std::vector<float> logits = classifier.Logits(vector);
        explanation.set_temperature(classifier.temperature());
        AddPart("vector", (double{logits[node]} - logits[against]) / classifier.temperature(),
                &explanation);
      }
      SetExamples(*this, routing, *head.embeddings, vector, limit, &explanation);
    } else {
      const double live = score.live_probability();
      const double other =
          against == routing.members.size() ? 1 - live : score.scores(1).probability() * live;
      constexpr double kLeast = 1e-12;
      explanation.set_log_ratio(
          std::log(std::max(explanation.confidence(), kLeast) / std::max(other, kLeast)));
    }
  }
  *explained.mutable_decision() = *std::move(decision);
  return explained;
}

}  // namespace octogate::router
