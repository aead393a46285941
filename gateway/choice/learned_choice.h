// What a choice node knows of its members when a graph has been applied.
#ifndef OCTOGATE_GATEWAY_CHOICE_LEARNED_CHOICE_H_
#define OCTOGATE_GATEWAY_CHOICE_LEARNED_CHOICE_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/answer_predictor.h"
#include "router/lexical_head.h"
#include "router/outcome_predictor.h"

namespace octogate::gateway {

// Immutable and thread-safe. Refers to nothing of the graph, so that a later version may use it.
class LearnedChoice {
 public:
  // What is known of a member without a query.
  struct Member {
    bool learned = false;        // From outcomes; otherwise from what the graph states.
    double mean_tokens = 0;      // Of its answers; 0: not known.
    double mean_latency_ms = 0;  // 0: not known.
  };

  // Reads the outcomes of the choice `node` below `root` and learns from them. Errors are those of
  // ResolveBelow, ReadOutcomes and OutcomePredictor; INVALID_ARGUMENT for a member of which neither
  // an outcome nor the graph says how often it is right.
  static absl::StatusOr<std::shared_ptr<const LearnedChoice>> Learn(
      const v1::Graph& graph, const v1::Node& node, const std::filesystem::path& root,
      absl::Time deadline);

  // Log-odds of a right answer to the query by each member.
  std::vector<double> Logits(std::string_view query) const;

  const std::vector<Member>& members() const { return members_; }
  // Null without outcomes.
  const router::AnswerPredictor* answers() const { return answers_.get(); }

 private:
  size_t DomainCount() const;

  std::vector<Member> members_;
  std::shared_ptr<const router::OutcomePredictor> predictor_;  // Null without outcomes.
  std::unique_ptr<const router::AnswerPredictor> answers_;
  std::shared_ptr<const router::LexicalHead> domains_;  // Null with fewer than two domains.
  // What the graph states of each member that is not learned, for each domain; one entry where
  // there are no domains.
  std::vector<std::vector<double>> stated_;
};

// Of a graph's choice nodes, by everything that they were learned from.
using LearnedChoices = std::map<std::string, std::shared_ptr<const LearnedChoice>>;

// Learns those of the graph, or takes them from `previous` (may be null) where nothing that they
// were learned from has changed; `by_node` has them by the nodes' names. Errors have the node's
// name before them.
absl::Status LearnChoices(const v1::Graph& graph, const std::filesystem::path& root,
                          const LearnedChoices* previous, absl::Time deadline,
                          LearnedChoices* choices, LearnedChoices* by_node);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CHOICE_LEARNED_CHOICE_H_
