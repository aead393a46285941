#include "gateway/choice/learned_choice.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/choice/outcomes_file.h"
#include "gateway/model_root.h"
#include "router/logistic_fit.h"
#include "router/node_bounds.h"
#include "router/routing_examples.h"

namespace octogate::gateway {
namespace {

// Queries of `outcomes` that tell a domain from others, beside its own examples.
constexpr size_t kExamplesPerDomain = 200;

// What the graph says of answers to queries of a domain; nothing where it says nothing.
std::optional<double> StatedQuality(const v1::Node& node, const std::string& domain) {
  const auto& quality = node.has_replay() ? node.replay().quality() : node.model().quality();
  std::optional<double> otherwise;
  for (const v1::DomainQuality& entry : quality) {
    if (entry.domain() == domain) return entry.accuracy();
    if (entry.domain().empty()) otherwise = entry.accuracy();
  }
  if (otherwise.has_value()) return otherwise;
  const auto& expected = node.has_replay() ? node.replay().expected() : node.model().expected();
  if (expected.empty()) return std::nullopt;
  double sum = 0;
  for (const v1::ExpectedAccuracy& entry : expected) sum += entry.accuracy();
  return sum / expected.size();
}

// Everything that a choice is learned from.
std::string Fingerprint(const v1::Graph& graph, const v1::Node& node,
                        const std::filesystem::path& root) {
  const v1::ChoiceNode& choice = node.choice();
  std::string bytes = absl::StrCat(choice.outcomes(), "|", static_cast<int>(choice.same()));
  if (!choice.outcomes().empty()) {
    std::error_code error;
    const std::filesystem::path file = root / choice.outcomes();
    const auto written = std::filesystem::last_write_time(file, error).time_since_epoch().count();
    absl::StrAppend(&bytes, "|", written, "|", std::filesystem::file_size(file, error));
  }
  for (const std::string& name : choice.members()) {
    const v1::Node* const member = router::FindNode(graph, name);
    absl::StrAppend(&bytes, "|", name);
    const auto& quality =
        member->has_replay() ? member->replay().quality() : member->model().quality();
    const auto& expected =
        member->has_replay() ? member->replay().expected() : member->model().expected();
    for (const auto& entry : quality) absl::StrAppend(&bytes, ";", entry.SerializeAsString());
    for (const auto& entry : expected) absl::StrAppend(&bytes, ";", entry.SerializeAsString());
  }
  for (const v1::QueryDomain& domain : choice.domains()) {
    absl::StrAppend(&bytes, "|", domain.SerializeAsString().size(), ":",
                    domain.SerializeAsString());
  }
  return Sha256Hex(bytes);
}

struct Domains {
  std::vector<std::string> names;
  router::RoutingExamples examples;

  size_t Index(const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) return static_cast<size_t>(found - names.begin());
    names.push_back(name);
    examples.classes.emplace_back();
    return names.size() - 1;
  }
};

Domains DomainsOf(const v1::ChoiceNode& choice, const router::OutcomeSet& outcomes) {
  Domains domains;
  for (const v1::QueryDomain& domain : choice.domains()) {
    std::vector<std::string>& texts = domains.examples.classes[domains.Index(domain.name())];
    texts.insert(texts.end(), domain.examples().begin(), domain.examples().end());
  }
  for (const router::QueryOutcomes& query : outcomes.queries) {
    if (query.domain.empty()) continue;
    std::vector<std::string>& texts = domains.examples.classes[domains.Index(query.domain)];
    if (texts.size() < kExamplesPerDomain) texts.push_back(query.query);
  }
  return domains;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LearnedChoice>> LearnedChoice::Learn(
    const v1::Graph& graph, const v1::Node& node, const std::filesystem::path& root,
    absl::Time deadline) {
  const v1::ChoiceNode& choice = node.choice();
  auto learned = std::make_shared<LearnedChoice>();
  learned->members_.resize(static_cast<size_t>(choice.members_size()));
  router::OutcomeSet outcomes;
  if (!choice.outcomes().empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::filesystem::path file,
                              ResolveBelow(root, choice.outcomes()));
    OCTOGATE_ASSIGN_OR_RETURN(
        outcomes,
        ReadOutcomes(file, choice.outcomes(), {choice.members().begin(), choice.members().end()},
                     choice.same(), deadline));
    OCTOGATE_ASSIGN_OR_RETURN(learned->predictor_,
                              router::OutcomePredictor::Train(outcomes, deadline));
    learned->answers_ =
        std::make_unique<const router::AnswerPredictor>(outcomes, *learned->predictor_);
  }
  bool all_learned = true;
  for (size_t m = 0; m < learned->members_.size(); ++m) {
    Member& member = learned->members_[m];
    member.learned = learned->predictor_ != nullptr && learned->predictor_->knows(m);
    all_learned = all_learned && member.learned;
    double tokens = 0;
    double with_tokens = 0;
    double latency = 0;
    double with_latency = 0;
    for (const router::QueryOutcomes& query : outcomes.queries) {
      const router::MemberOutcome& outcome = query.members[m];
      if (outcome.output_tokens > 0) {
        tokens += static_cast<double>(outcome.output_tokens);
        with_tokens += 1;
      }
      if (outcome.latency_ms >= 0) {
        latency += outcome.latency_ms;
        with_latency += 1;
      }
    }
    if (with_tokens > 0) member.mean_tokens = tokens / with_tokens;
    if (with_latency > 0) member.mean_latency_ms = latency / with_latency;
  }
  learned->stated_.resize(learned->members_.size());
  if (all_learned) return learned;

  const Domains domains = DomainsOf(choice, outcomes);
  for (size_t m = 0; m < learned->members_.size(); ++m) {
    if (learned->members_[m].learned) continue;
    const std::string& name = choice.members(static_cast<int>(m));
    std::vector<std::string> of = domains.names;
    if (of.empty()) of.emplace_back();
    for (const std::string& domain : of) {
      const auto quality = StatedQuality(*router::FindNode(graph, name), domain);
      if (!quality.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "nothing says how often ", Quoted(name), " is right",
            domain.empty() ? "" : absl::StrCat(" on queries of the domain ", Quoted(domain)),
            ": give it a quality, e.g. 'quality: [{accuracy: 0.8}]', or outcomes",
            choice.outcomes().empty() ? "" : absl::StrCat(" in ", Quoted(choice.outcomes()))));
      }
      learned->stated_[m].push_back(*quality);
    }
  }
  if (domains.names.size() < 2) return learned;
  v1::LexicalHead settings;
  settings.set_hash_bits(16);
  settings.set_epochs(40);
  settings.set_seed(1);
  OCTOGATE_ASSIGN_OR_RETURN(learned->domains_,
                            router::LexicalHead::Train(settings, domains.examples, deadline));
  return learned;
}

std::vector<double> LearnedChoice::Logits(std::string_view query) const {
  std::vector<double> logits(members_.size());
  if (predictor_ != nullptr) logits = predictor_->Logits(query);
  router::LexicalHead::Scores scores;
  if (domains_ != nullptr) {
    domains_->Score(query, std::vector<bool>(DomainCount(), true), &scores);
  }
  for (size_t m = 0; m < members_.size(); ++m) {
    if (members_[m].learned) continue;
    const std::vector<double>& stated = stated_[m];
    double probability = stated[0];
    if (domains_ != nullptr) {
      probability = 0;
      for (size_t d = 0; d < stated.size(); ++d) {
        probability += scores.probabilities[d] * stated[d];
      }
    }
    logits[m] = router::Logit(probability);
  }
  return logits;
}

size_t LearnedChoice::DomainCount() const {
  size_t count = 0;
  for (const std::vector<double>& stated : stated_) count = std::max(count, stated.size());
  return count;
}

absl::Status LearnChoices(const v1::Graph& graph, const std::filesystem::path& root,
                          const LearnedChoices* previous, absl::Time deadline,
                          LearnedChoices* choices, LearnedChoices* by_node) {
  for (const v1::Node& node : graph.spec().nodes()) {
    if (!node.has_choice()) continue;
    const std::string fingerprint = Fingerprint(graph, node, root);
    std::shared_ptr<const LearnedChoice>& learned = (*choices)[fingerprint];
    if (learned == nullptr && previous != nullptr) {
      const auto known = previous->find(fingerprint);
      if (known != previous->end()) learned = known->second;
    }
    if (learned == nullptr) {
      auto made = LearnedChoice::Learn(graph, node, root, deadline);
      if (!made.ok()) return Annotate(made.status(), absl::StrCat("node \"", node.name(), "\""));
      learned = *std::move(made);
    }
    by_node->emplace(node.name(), learned);
  }
  return absl::OkStatus();
}

}  // namespace octogate::gateway
