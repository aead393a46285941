#include "router/router.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"
#include "router/candidate_softmax.h"
#include "router/cascade_rules.h"
#include "router/causal_rows.h"
#include "router/causal_vectors.h"
#include "router/encoder_ensemble.h"
#include "router/lexical_learner.h"
#include "router/routing_step.h"

namespace octogate::router {
namespace {

// Members that learn after the others were trained, of very many members. More are trained together
// with them.
constexpr size_t kMaxLearnedOfMany = 32;

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

// Of each row that is learned after a head of the name `trained`, and of the head with all of them.
// A row depends on all before it.
std::vector<std::string> Fingerprints(const std::string& trained, const LearnedClasses& learned) {
  std::vector<std::string> chain;
  std::string bytes = trained;
  for (const LearnedClasses::Row& row : learned.rows) {
    const std::string place =
        row.place == learned.trained.size() ? "none" : absl::StrCat(learned.trained[row.place]);
    absl::StrAppend(&bytes, "|", place, ";", row.texts.size());
    for (const std::string& text : row.texts) absl::StrAppend(&bytes, ",", text.size(), ":", text);
    bytes = Sha256Hex(bytes);
    chain.push_back(bytes);
  }
  absl::StrAppend(&bytes, "|head");
  for (const int place : learned.trained) absl::StrAppend(&bytes, ",", place);
  for (const LearnedClasses::Row& row : learned.rows) absl::StrAppend(&bytes, ";", row.place);
  chain.push_back(Sha256Hex(bytes));
  return chain;
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
      routing->places.emplace(name, routing->members.size());
      routing->members.push_back(member);
    }
    OCTOGATE_ASSIGN_OR_RETURN(routing->fallback, Find(node.router().fallback()));
    OCTOGATE_RETURN_IF_ERROR(FindBelow(*routing));
    std::vector<CascadeHead> cascade;
    std::string trained;  // The names of the heads that learn.
    for (const v1::Head& head : node.router().heads()) {
      CascadeHead& learner = cascade.emplace_back();
      learner.settings = &head;
      std::string name;
      RouterRouting::Head& built = routing->heads.emplace_back();
      built.coverage = head.coverage();
      if (head.has_lexical()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.lexical, BuildLexical(head.lexical(), *routing, &name));
      } else if (head.has_encoder()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.encoder,
                                  BuildEncoder(head.encoder(), *routing, &built.embeddings, &name));
        learner.embeddings = built.embeddings.get();
      } else if (head.has_causal()) {
        OCTOGATE_ASSIGN_OR_RETURN(built.causal, BuildCausal(head.causal(), *routing));
      } else {
        return absl::InvalidArgumentError("a head is neither lexical, encoder nor causal");
      }
      absl::StrAppend(&trained, name, ";");
    }
    OCTOGATE_ASSIGN_OR_RETURN(const auto thresholds, BuildThresholds(cascade, trained, *routing));
    for (size_t h = 0; h < thresholds->size(); ++h) routing->heads[h].threshold = (*thresholds)[h];
    routing->rewritten.assign(routing->members.size(), false);
    if (!node.router().has_rewrite()) return routing;
    const v1::Rewrite& rewrite = node.router().rewrite();
    const absl::flat_hash_set<std::string> names(rewrite.members().begin(),
                                                 rewrite.members().end());
    for (size_t i = 0; i < routing->members.size(); ++i) {
      routing->rewritten[i] = names.contains(routing->members[i]->name());
    }
    OCTOGATE_ASSIGN_OR_RETURN(routing->rewrite,
                              BuildCausal(rewrite.causal(), *routing, routing->rewritten));
    return routing;
  }

 private:
  absl::StatusOr<const v1::Node*> Find(const std::string& name) const {
    const v1::Node* node = snapshot_.FindNode(name);
    if (node != nullptr) return node;
    return absl::InvalidArgumentError(absl::StrCat("there is no node ", Quoted(name)));
  }

  // Texts of a node and, for a router, of all nodes that it may hand over to.
  struct NodeTexts {
    std::vector<std::string> examples;  // with descriptions
    std::vector<std::string> learned;
    bool has_examples = false;  // not descriptions alone
  };
  static NodeTexts TextsOf(const std::vector<const v1::Node*>& nodes) {
    NodeTexts texts;
    for (const v1::Node* node : nodes) {
      if (!node->description().empty()) texts.examples.push_back(node->description());
      texts.examples.insert(texts.examples.end(), node->examples().begin(), node->examples().end());
      texts.learned.insert(texts.learned.end(), node->learned_examples().begin(),
                           node->learned_examples().end());
      texts.has_examples = texts.has_examples || node->examples_size() > 0;
    }
    return texts;
  }

  // Finds the nodes whose texts are those of each member: itself and all below it. A node below
  // many sub-routers is there many times, so that a small graph may mean very many texts.
  absl::Status FindBelow(const RouterRouting& routing) {
    below_.clear();
    size_t texts = 0;
    size_t bytes = 0;
    size_t visited = 0;
    const auto count = [&](const auto& some) {
      texts += static_cast<size_t>(some.size());
      for (const std::string& text : some) bytes += text.size();
    };
    for (const v1::Node* root : routing.members) {
      std::vector<const v1::Node*>& nodes = below_.emplace_back();
      absl::flat_hash_set<const v1::Node*> seen = {root};
      std::vector<const v1::Node*> open = {root};
      while (!open.empty()) {
        const v1::Node& node = *open.back();
        open.pop_back();
        nodes.push_back(&node);
        ++texts;
        bytes += node.description().size();
        count(node.examples());
        count(node.learned_examples());
        if (texts > kMaxRouterTexts || bytes > kMaxRouterTextBytes) {
          return absl::InvalidArgumentError(absl::StrCat(
              "its members and the nodes below them have more than ", kMaxRouterTexts,
              " examples and descriptions, or ", kMaxRouterTextBytes >> 20,
              " MiB of them, where a node counts for every member that leads to it; give them "
              "fewer examples, or let fewer of its sub-routers lead to the same nodes"));
        }
        // Seldom, so that a graph of which all is kept can be built without any time.
        constexpr size_t kNodesPerLook = 256;
        if (++visited % kNodesPerLook == 0 && absl::Now() >= deadline_) {
          return absl::DeadlineExceededError("looked for its members' examples until the deadline");
        }
        for (const std::string& name : node.router().members()) {
          const v1::Node* member = snapshot_.FindNode(name);
          if (member != nullptr && seen.insert(member).second) open.push_back(member);
        }
      }
    }
    return absl::OkStatus();
  }

  // What a router's heads learn, and when.
  struct Lessons {
    RoutingExamples examples;
    LearnedClasses learned;
  };

  // Members with examples are trained together, with their descriptions. So a member that has come
  // with a description alone changes nothing for them: like all learned examples, it is learned
  // afterwards. Where no member has examples, all descriptions are trained together.
  Lessons LessonsOf(const RouterRouting& routing) const {
    Lessons separate = SeparateLessonsOf(routing);
    // Of very many members, each row that was learned costs every decision something, and with few
    // trained classes there would be nothing to learn beside.
    if (routing.members.size() < kManyClasses ||
        (separate.learned.rows.size() <= kMaxLearnedOfMany &&
         separate.examples.classes.size() >= kManyClasses)) {
      return separate;
    }
    Lessons lessons = {.examples = AllExamplesOf(routing), .learned = {}};
    lessons.learned.trained.resize(lessons.examples.classes.size());
    std::iota(lessons.learned.trained.begin(), lessons.learned.trained.end(), 0);
    return lessons;
  }

  // For a causal head, those with a token `in_vocabulary`, which need not be trained, are trained
  // ones too.
  Lessons SeparateLessonsOf(const RouterRouting& routing,
                            const std::vector<bool>& in_vocabulary = {}) const {
    std::vector<NodeTexts> texts;
    bool any_examples = false;
    bool fallback_is_member = false;
    for (const v1::Node* member : routing.members) {
      texts.push_back(TextsOf(below_[texts.size()]));
      any_examples = any_examples || texts.back().has_examples ||
                     (!in_vocabulary.empty() && in_vocabulary[texts.size() - 1]);
      fallback_is_member = fallback_is_member || member == routing.fallback;
    }
    Lessons lessons;
    LearnedClasses& learned = lessons.learned;
    for (size_t i = 0; i < texts.size(); ++i) {
      const bool known = !in_vocabulary.empty() && in_vocabulary[i];
      const bool trained =
          known || texts[i].has_examples || (!any_examples && !texts[i].examples.empty());
      std::vector<std::string> later = std::move(texts[i].learned);
      if (trained) {
        learned.trained.push_back(static_cast<int>(lessons.examples.classes.size()));
        lessons.examples.classes.push_back(std::move(texts[i].examples));
      } else {
        learned.trained.push_back(-1);
        later.insert(later.begin(), texts[i].examples.begin(), texts[i].examples.end());
      }
      if (!later.empty()) learned.rows.push_back({.place = i, .texts = std::move(later)});
    }
    // What belongs to the fallback belongs to no member. A fallback that is tried for anything,
    // e.g. another router, would claim the members' own examples.
    if (!fallback_is_member && !routing.fallback->has_router()) {
      const v1::Node& fallback = *routing.fallback;
      lessons.examples.none = {fallback.examples().begin(), fallback.examples().end()};
      if (fallback.learned_examples_size() > 0) {
        learned.rows.push_back(
            {.place = texts.size(),
             .texts = {fallback.learned_examples().begin(), fallback.learned_examples().end()}});
      }
    }
    // A head has a class at least, even if nothing is known of it.
    if (lessons.examples.classes.empty()) {
      lessons.examples.classes.resize(1);
      learned.trained.front() = 0;
    }
    return lessons;
  }

  // All that SeparateLessonsOf has, to be trained together.
  RoutingExamples AllExamplesOf(const RouterRouting& routing) const {
    Lessons lessons = SeparateLessonsOf(routing);
    RoutingExamples together;
    together.none = std::move(lessons.examples.none);
    for (const int place : lessons.learned.trained) {
      std::vector<std::string>& own = together.classes.emplace_back();
      if (place >= 0) own = std::move(lessons.examples.classes[static_cast<size_t>(place)]);
    }
    for (LearnedClasses::Row& row : lessons.learned.rows) {
      std::vector<std::string>& own =
          row.place == together.classes.size() ? together.none : together.classes[row.place];
      own.insert(own.end(), row.texts.begin(), row.texts.end());
    }
    return together;
  }

  // Those of examples that are trained together: what is learned later moves no threshold.
  // `trained` names the heads that learn.
  absl::StatusOr<std::shared_ptr<const std::vector<double>>> BuildThresholds(
      const std::vector<CascadeHead>& cascade, const std::string& trained,
      const RouterRouting& routing) {
    std::string bytes = trained;
    for (const CascadeHead& head : cascade) {
      const std::string settings = head.settings->SerializeAsString();
      absl::StrAppend(&bytes, settings.size(), ":", settings);
    }
    const std::string name = Sha256Hex(bytes);
    auto thresholds = Take(name, known_.thresholds, &used_.thresholds);
    if (thresholds == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(std::vector<double> chosen,
                                ChooseThresholds(cascade, LessonsOf(routing).examples, deadline_));
      thresholds = std::make_shared<const std::vector<double>>(std::move(chosen));
      used_.thresholds[name] = thresholds;
    }
    return thresholds;
  }

  // Sets `name` to what names the head before it has learned anything.
  absl::StatusOr<std::shared_ptr<const LexicalHead>> BuildLexical(const v1::LexicalHead& settings,
                                                                  const RouterRouting& routing,
                                                                  std::string* name) {
    const Lessons lessons = LessonsOf(routing);
    std::string fingerprint = Fingerprint(settings, lessons.examples);
    *name = fingerprint;
    std::shared_ptr<const LexicalHead> trained = Take(fingerprint, known_.lexical, &used_.lexical);
    if (trained == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(trained, LexicalHead::Train(settings, lessons.examples, deadline_));
      used_.lexical[fingerprint] = trained;
    }
    const LearnedClasses& learned = lessons.learned;
    if (learned.IsIdentity(lessons.examples.classes.size())) return trained;
    const std::vector<std::string> chain = Fingerprints(fingerprint, learned);
    std::shared_ptr<const LexicalHead> head = Take(chain.back(), known_.lexical, &used_.lexical);
    std::vector<LexicalRow> rows;
    for (size_t i = 0; i < learned.rows.size(); ++i) {
      rows.push_back(Take(chain[i], known_.lexical_rows, &used_.lexical_rows));
    }
    if (head != nullptr) return head;
    OCTOGATE_ASSIGN_OR_RETURN(
        head, LearnLexical(trained, settings, lessons.examples, learned, deadline_, &rows));
    for (size_t i = 0; i < rows.size(); ++i) used_.lexical_rows[chain[i]] = rows[i];
    used_.lexical[chain.back()] = head;
    return head;
  }

  // Sets `used` to the examples' vectors, `name` as BuildLexical.
  absl::StatusOr<std::shared_ptr<const EncoderHead>> BuildEncoder(
      const v1::EncoderHead& settings, const RouterRouting& routing,
      std::shared_ptr<const ExampleEmbeddings>* used, std::string* name) {
    if (find_.embedding == nullptr) {
      return absl::FailedPreconditionError("encoder heads need a model that embeds");
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<EmbeddingModel> model,
                              find_.embedding(settings.model()));
    OCTOGATE_ASSIGN_OR_RETURN(const std::string weights, model->Fingerprint(deadline_));
    const Lessons lessons = LessonsOf(routing);
    const LearnedClasses& learned = lessons.learned;
    OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const ExampleEmbeddings> embeddings,
                              VectorsOf(lessons, weights, *model));
    *used = embeddings;
    *name = Fingerprint(settings, weights, lessons.examples);
    if (settings.ensemble()) {
      OCTOGATE_ASSIGN_OR_RETURN(auto ensemble,
                                BuildEnsemble(settings, routing, lessons, weights, *embeddings));
      return std::make_shared<const EncoderHead>(std::move(ensemble), std::move(model));
    }
    const std::string fingerprint = *name;
    auto classifier = Take(fingerprint, known_.classifiers, &used_.classifiers);
    if (classifier == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(classifier, EmbeddingClassifier::Train(settings, lessons.examples,
                                                                       *embeddings, deadline_));
      used_.classifiers[fingerprint] = classifier;
    }
    if (!learned.IsIdentity(lessons.examples.classes.size())) {
      const std::vector<std::string> chain = Fingerprints(fingerprint, learned);
      std::vector<EmbeddingClassifier::Row> rows;
      for (size_t i = 0; i < learned.rows.size(); ++i) {
        rows.push_back(Take(chain[i], known_.encoder_rows, &used_.encoder_rows));
      }
      OCTOGATE_ASSIGN_OR_RETURN(
          classifier, EmbeddingClassifier::Learn(*classifier, settings, lessons.examples, learned,
                                                 *embeddings, deadline_, &rows));
      for (size_t i = 0; i < rows.size(); ++i) used_.encoder_rows[chain[i]] = rows[i];
    }
    return std::make_shared<const EncoderHead>(classifier, std::move(model));
  }

  // Of few members everything is trained together: that is more often right than learning
  // afterwards, and takes seconds.
  absl::StatusOr<std::shared_ptr<const EncoderEnsemble>> BuildEnsemble(
      const v1::EncoderHead& settings, const RouterRouting& routing, const Lessons& lessons,
      const std::string& weights, const ExampleEmbeddings& embeddings) {
    const bool together = routing.members.size() < kManyClasses;
    const RoutingExamples examples = together ? AllExamplesOf(routing) : lessons.examples;
    const std::string fingerprint = Fingerprint(settings, weights, examples);
    auto ensemble = Take(fingerprint, known_.ensembles, &used_.ensembles);
    if (ensemble == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(ensemble,
                                EncoderEnsemble::Train(settings, examples, embeddings, deadline_));
      used_.ensembles[fingerprint] = ensemble;
    }
    const LearnedClasses& learned = lessons.learned;
    if (together || learned.IsIdentity(examples.classes.size())) return ensemble;
    const std::vector<std::string> chain = Fingerprints(fingerprint + "|ensemble", learned);
    std::vector<LexicalRow> lexical_rows;
    std::vector<EmbeddingClassifier::Row> encoder_rows;
    for (size_t i = 0; i < learned.rows.size(); ++i) {
      lexical_rows.push_back(Take(chain[i], known_.lexical_rows, &used_.lexical_rows));
      encoder_rows.push_back(Take(chain[i], known_.encoder_rows, &used_.encoder_rows));
    }
    OCTOGATE_ASSIGN_OR_RETURN(
        ensemble, EncoderEnsemble::Learn(*ensemble, settings, examples, learned, embeddings,
                                         deadline_, &lexical_rows, &encoder_rows));
    for (size_t i = 0; i < learned.rows.size(); ++i) {
      used_.lexical_rows[chain[i]] = lexical_rows[i];
      used_.encoder_rows[chain[i]] = encoder_rows[i];
    }
    return ensemble;
  }

  // What this snapshot or the one before has under that name, kept for the next; or nothing.
  template <typename Map>
  static typename Map::mapped_type Take(const std::string& name, const Map& known, Map* used) {
    if (const auto found = used->find(name); found != used->end()) return found->second;
    const auto found = known.find(name);
    if (found == known.end()) return {};
    return used->emplace(name, found->second).first->second;
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

  // `writes_for` has the members that it writes for, where those are not all.
  absl::StatusOr<std::shared_ptr<const CausalHead>> BuildCausal(
      const v1::CausalHead& settings, const RouterRouting& routing,
      const std::vector<bool>& writes_for = {}) {
    if (find_.causal == nullptr) {
      return absl::FailedPreconditionError("causal heads need a language model");
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<CausalModel> model, find_.causal(settings.model()));
    std::vector<CausalHead::Member> members;
    for (const v1::Node* member : routing.members) {
      const bool needed = writes_for.empty() || writes_for[members.size()];
      members.push_back({.name = member->name(), .token = member->token(), .needed = needed});
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<const CausalHead> head,
                              CausalHead::Create(settings, members, std::move(model), deadline_));
    if (!settings.learned_rows()) return head;
    OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<const CausalRows> rows, BuildRows(*head, routing));
    return head->WithRows(std::move(rows));
  }

  absl::StatusOr<std::shared_ptr<const CausalRows>> BuildRows(const CausalHead& head,
                                                              const RouterRouting& routing) {
    CausalVectors& model = *head.vectors();
    OCTOGATE_ASSIGN_OR_RETURN(const std::string weights, model.Fingerprint(deadline_));
    const Lessons lessons = SeparateLessonsOf(routing, head.in_vocabulary());
    const LearnedClasses& learned = lessons.learned;
    OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const ExampleEmbeddings> vectors,
                              VectorsOf(lessons, weights, model));
    std::vector<int> native(lessons.examples.classes.size(), CausalRows::kNoToken);
    int tokens = 0;
    for (size_t i = 0; i < learned.trained.size(); ++i) {
      if (head.in_vocabulary()[i]) native[static_cast<size_t>(learned.trained[i])] = tokens++;
    }
    std::string bytes = weights;
    for (const int place : native) absl::StrAppend(&bytes, ",", place);
    AppendTexts(lessons.examples, &bytes);
    const std::string name = Sha256Hex(bytes);
    auto rows = Take(name, known_.causal, &used_.causal);
    if (rows == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(rows, CausalRows::Train(std::move(native), model.token_values(),
                                                        lessons.examples, *vectors, deadline_));
      used_.causal[name] = rows;
    }
    if (learned.IsIdentity(lessons.examples.classes.size())) return rows;
    const std::vector<std::string> chain = Fingerprints(name, learned);
    std::vector<CausalRows::Row> fitted;
    for (size_t i = 0; i < learned.rows.size(); ++i) {
      fitted.push_back(Take(chain[i], known_.causal_rows, &used_.causal_rows));
    }
    OCTOGATE_ASSIGN_OR_RETURN(
        rows, CausalRows::Learn(*rows, lessons.examples, learned, *vectors, deadline_, &fitted));
    for (size_t i = 0; i < fitted.size(); ++i) used_.causal_rows[chain[i]] = fitted[i];
    return rows;
  }

  // Of all texts of the lessons by the model of that fingerprint. Kept in any case, for the next
  // version.
  absl::StatusOr<std::shared_ptr<const ExampleEmbeddings>> VectorsOf(const Lessons& lessons,
                                                                     const std::string& weights,
                                                                     EmbeddingModel& model) {
    std::vector<std::string_view> texts = EmbeddingClassifier::TextsOf(lessons.examples);
    for (const LearnedClasses::Row& row : lessons.learned.rows) {
      texts.insert(texts.end(), row.texts.begin(), row.texts.end());
    }
    OCTOGATE_ASSIGN_OR_RETURN(
        std::shared_ptr<const ExampleEmbeddings> vectors,
        ExampleEmbeddings::Make(texts, model, deadline_, EmbeddingsBy(weights)));
    used_.embeddings[weights].push_back(vectors);
    return vectors;
  }

  const RoutingSnapshot& snapshot_;
  const ModelFinder& find_;
  const absl::Time deadline_;
  const RoutingSnapshot::Trained known_;
  RoutingSnapshot::Trained& used_;
  // Of each member of the router that is built.
  std::vector<std::vector<const v1::Node*>> below_;
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
