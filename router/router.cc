#include "router/router.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"
#include "router/cascade_rules.h"
#include "router/encoder_ensemble.h"
#include "router/routing_step.h"

namespace octogate::router {
namespace {

void AppendTexts(const RoutingExamples& examples, std::string* bytes) {
  absl::StrAppend(bytes, ",", examples.classes.size());
  const auto append = [bytes](const std::vector<std::string>& texts) {
    absl::StrAppend(bytes, ";", texts.size());
    for (const std::string& text : texts) absl::StrAppend(bytes, ",", text.size(), ":", text);
  };
  for (const std::vector<std::string>& texts : examples.classes) append(texts);
  append(examples.none);
}

// Name what a head was trained from: equal names, equal heads.
std::string Fingerprint(const v1::LexicalHead& settings, const RoutingExamples& examples) {
  std::string bytes =
      absl::StrCat(settings.hash_bits(), ",", settings.epochs(), ",", settings.seed());
  AppendTexts(examples, &bytes);
  return Sha256Hex(bytes);
}

std::string Fingerprint(const v1::EncoderHead& settings, const std::string& model,
                        const RoutingExamples& examples) {
  std::string bytes = absl::StrCat(model, ",", settings.epochs(), ",", settings.seed());
  AppendTexts(examples, &bytes);
  return Sha256Hex(bytes);
}

}  // namespace

// Makes the routers of a snapshot.
class RoutingBuilder {
 public:
  RoutingBuilder(RoutingSnapshot& snapshot, const ModelFinder& find, absl::Time deadline,
                 const RoutingSnapshot* previous)
      : snapshot_(snapshot),
        find_(find),
        deadline_(deadline),
        known_(previous == nullptr ? RoutingSnapshot::Trained() : previous->trained_),
        used_(snapshot.trained_) {}

  absl::StatusOr<std::shared_ptr<const RouterRouting>> Build(const v1::Node& node) {
    auto routing = std::make_shared<RouterRouting>();
    routing->node = &node;
    for (const std::string& name : node.router().members()) {
      OCTOGATE_ASSIGN_OR_RETURN(const v1::Node* member, Find(name));
      routing->members.push_back(member);
    }
    OCTOGATE_ASSIGN_OR_RETURN(routing->fallback, Find(node.router().fallback()));
    std::vector<CascadeHead> cascade;
    for (const v1::Head& head : node.router().heads()) {
      cascade.push_back({.settings = &head});
      RouterRouting::Head& built = routing->heads.emplace_back();
      if (head.has_lexical()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.lexical, BuildLexical(head.lexical(), *routing));
      } else if (head.has_encoder()) {
        OCTOGATE_ASSIGN_OR_RETURN(
            built.encoder, BuildEncoder(head.encoder(), *routing, &cascade.back().embeddings));
      } else if (head.has_causal()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.causal, BuildCausal(head.causal(), *routing));
      } else {
        return absl::InvalidArgumentError("a head is neither lexical, encoder nor causal");
      }
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<double> thresholds,
                              ChooseThresholds(cascade, ExamplesOf(*routing), deadline_));
    for (size_t h = 0; h < thresholds.size(); ++h) routing->heads[h].threshold = thresholds[h];
    routing->rewritten.assign(routing->members.size(), false);
    if (!node.router().has_rewrite()) return routing;
    const v1::Rewrite& rewrite = node.router().rewrite();
    OCTOGATE_ASSIGN_OR_RETURN(routing->rewrite, BuildCausal(rewrite.causal(), *routing));
    const absl::flat_hash_set<std::string> names(rewrite.members().begin(),
                                                 rewrite.members().end());
    for (size_t i = 0; i < routing->members.size(); ++i) {
      routing->rewritten[i] = names.contains(routing->members[i]->name());
    }
    return routing;
  }

 private:
  absl::StatusOr<const v1::Node*> Find(const std::string& name) const {
    const v1::Node* node = snapshot_.FindNode(name);
    if (node != nullptr) return node;
    return absl::InvalidArgumentError(absl::StrCat("there is no node ", Quoted(name)));
  }

  // Descriptions and examples of a node and, for a router, of all nodes that it may hand over to.
  std::vector<std::string> TextsOf(const v1::Node& root) const {
    std::vector<std::string> texts;
    absl::flat_hash_set<const v1::Node*> seen = {&root};
    std::vector<const v1::Node*> open = {&root};
    while (!open.empty()) {
      const v1::Node& node = *open.back();
      open.pop_back();
      if (!node.description().empty()) texts.push_back(node.description());
      texts.insert(texts.end(), node.examples().begin(), node.examples().end());
      for (const std::string& name : node.router().members()) {
        const v1::Node* member = snapshot_.FindNode(name);
        if (member != nullptr && seen.insert(member).second) open.push_back(member);
      }
    }
    return texts;
  }

  RoutingExamples ExamplesOf(const RouterRouting& routing) const {
    RoutingExamples examples;
    bool fallback_is_member = false;
    for (const v1::Node* member : routing.members) {
      examples.classes.push_back(TextsOf(*member));
      fallback_is_member = fallback_is_member || member == routing.fallback;
    }
    // What belongs to the fallback belongs to no member. A fallback that is tried for anything,
    // e.g. another router, would claim the members' own examples.
    if (!fallback_is_member && !routing.fallback->has_router()) {
      examples.none = {routing.fallback->examples().begin(), routing.fallback->examples().end()};
    }
    return examples;
  }

  absl::StatusOr<std::shared_ptr<const LexicalHead>> BuildLexical(const v1::LexicalHead& settings,
                                                                  const RouterRouting& routing) {
    const RoutingExamples examples = ExamplesOf(routing);
    const std::string fingerprint = Fingerprint(settings, examples);
    std::shared_ptr<const LexicalHead>& head = used_.lexical[fingerprint];
    if (head != nullptr) return head;
    if (const auto known = known_.lexical.find(fingerprint); known != known_.lexical.end()) {
      head = known->second;
      return head;
    }
    OCTOGATE_ASSIGN_OR_RETURN(head, LexicalHead::Train(settings, examples, deadline_));
    return head;
  }

  absl::StatusOr<std::shared_ptr<const EncoderHead>> BuildEncoder(const v1::EncoderHead& settings,
                                                                  const RouterRouting& routing,
                                                                  const ExampleEmbeddings** used) {
    if (find_.embedding == nullptr) {
      return absl::FailedPreconditionError("encoder heads need a model that embeds");
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingModel> model,
                              find_.embedding(settings.model()));
    OCTOGATE_ASSIGN_OR_RETURN(const std::string weights, model->Fingerprint(deadline_));
    const RoutingExamples examples = ExamplesOf(routing);
    const std::string fingerprint = Fingerprint(settings, weights, examples);
    // Kept in any case, for the next version.
    OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const ExampleEmbeddings> embeddings,
                              ExampleEmbeddings::Make(EmbeddingClassifier::TextsOf(examples),
                                                      *model, deadline_, EmbeddingsBy(weights)));
    used_.embeddings[weights].push_back(embeddings);
    *used = embeddings.get();
    if (settings.ensemble()) {
      std::shared_ptr<const EncoderEnsemble>& ensemble = used_.ensembles[fingerprint];
      const auto known = known_.ensembles.find(fingerprint);
      if (ensemble == nullptr && known != known_.ensembles.end()) ensemble = known->second;
      if (ensemble == nullptr) {
        OCTOGATE_ASSIGN_OR_RETURN(
            ensemble, EncoderEnsemble::Train(settings, examples, *embeddings, deadline_));
      }
      return std::make_shared<const EncoderHead>(ensemble, std::move(model));
    }
    std::shared_ptr<const EmbeddingClassifier>& classifier = used_.classifiers[fingerprint];
    if (classifier == nullptr) {
      if (const auto known = known_.classifiers.find(fingerprint);
          known != known_.classifiers.end()) {
        classifier = known->second;
      } else {
        OCTOGATE_ASSIGN_OR_RETURN(
            classifier, EmbeddingClassifier::Train(settings, examples, *embeddings, deadline_));
      }
    }
    return std::make_shared<const EncoderHead>(classifier, std::move(model));
  }

  // All vectors that there are by the model of that fingerprint.
  std::vector<std::shared_ptr<const ExampleEmbeddings>> EmbeddingsBy(
      const std::string& weights) const {
    std::vector<std::shared_ptr<const ExampleEmbeddings>> all;
    const RoutingSnapshot::Trained* const sources[] = {&used_, &known_};
    for (const RoutingSnapshot::Trained* source : sources) {
      const auto found = source->embeddings.find(weights);
      if (found != source->embeddings.end()) {
        all.insert(all.end(), found->second.begin(), found->second.end());
      }
    }
    return all;
  }

  absl::StatusOr<std::shared_ptr<const CausalHead>> BuildCausal(const v1::CausalHead& settings,
                                                                const RouterRouting& routing) {
    if (find_.causal == nullptr) {
      return absl::FailedPreconditionError("causal heads need a language model");
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<CausalModel> model, find_.causal(settings.model()));
    std::vector<CausalHead::Member> members;
    for (const v1::Node* member : routing.members) {
      members.push_back({member->name(), member->token()});
    }
    return CausalHead::Create(settings, members, std::move(model), deadline_);
  }

  const RoutingSnapshot& snapshot_;
  const ModelFinder& find_;
  const absl::Time deadline_;
  const RoutingSnapshot::Trained known_;
  RoutingSnapshot::Trained& used_;
};

RoutingSnapshot::RoutingSnapshot(v1::Graph graph, int64_t version)
    : graph_(std::move(graph)), version_(version) {
  for (const v1::Node& node : graph_.spec().nodes()) nodes_.emplace(node.name(), &node);
}

RoutingSnapshot::~RoutingSnapshot() = default;

absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> RoutingSnapshot::Build(
    v1::Graph graph, int64_t version, const ModelFinder& find, absl::Time deadline,
    const RoutingSnapshot* previous) {
  const std::shared_ptr<RoutingSnapshot> snapshot(new RoutingSnapshot(std::move(graph), version));
  RoutingBuilder builder(*snapshot, find, deadline, previous);
  for (const v1::Node& node : snapshot->graph_.spec().nodes()) {
    if (!node.has_router()) continue;
    absl::StatusOr<std::shared_ptr<const RouterRouting>> routing = builder.Build(node);
    if (!routing.ok()) {
      return Annotate(routing.status(), absl::StrCat("router ", Quoted(node.name())));
    }
    snapshot->routers_.emplace(node.name(), *std::move(routing));
  }
  return snapshot;
}

void RoutingSnapshot::Route(std::string_view router, std::string_view query, RouteOptions options,
                            Done done) const {
  const auto routing = routers_.find(ToAbsl(router));
  if (routing == routers_.end()) {
    return done(absl::NotFoundError(
        absl::StrCat("graph '", graph_.metadata().name(), "' has no router ", Quoted(router))));
  }
  RunRoutingStep(shared_from_this(), *routing->second, std::string(query), std::move(options),
                 std::move(done));
}

const v1::Node* RoutingSnapshot::FindNode(std::string_view name) const {
  const auto node = nodes_.find(ToAbsl(name));
  return node == nodes_.end() ? nullptr : node->second;
}

}  // namespace octogate::router
