#ifndef OCTOGATE_ROUTER_CAUSAL_HEAD_H_
#define OCTOGATE_ROUTER_CAUSAL_HEAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/causal_model.h"
#include "router/causal_rows.h"
#include "router/causal_vectors.h"
#include "router/functional_token.h"

namespace octogate::router {

// A language model that was trained to write functional tokens (Octopus v2, arXiv 2404.01744, and
// v4, arXiv 2404.19296): scores the tokens of a router's members by its next-token logits, and
// writes the argument of a token. Immutable and thread-safe; must be owned by a shared_ptr.
class CausalHead : public std::enable_shared_from_this<CausalHead> {
 public:
  // A router's member, and its token where the checkpoint has no spelling of its own for it.
  struct Member {
    std::string name;
    std::string token;
    // False: its token need not be in the vocabulary, as the head never writes after it.
    bool needed = true;
  };
  struct Scores {
    // Of each member, among those that are live: they sum to 1.
    std::vector<float> probabilities;
    // What the model gives to the live members' tokens together, out of its whole vocabulary; with
    // rows, as HeadScores.
    double live_probability = 0;
    v1::Usage usage;
  };
  struct Argument {
    // As written; only for kComplete is it what the model meant.
    FunctionalToken token;
    v1::Usage usage;
  };

  // Asks the model's vocabulary: FAILED_PRECONDITION names every token that it lacks, and the
  // members they belong to. `settings` is valid and has its defaults; members without a token in
  // the vocabulary cannot be chosen, hence the error. With learned_rows they can, once WithRows has
  // given them rows, and only a spelling that `settings` gives must be in the vocabulary.
  static absl::StatusOr<std::shared_ptr<const CausalHead>> Create(
      const v1::CausalHead& settings, const std::vector<Member>& members,
      std::shared_ptr<CausalModel> model, absl::Time deadline);

  // Of each member, whether its token is in the vocabulary.
  const std::vector<bool>& in_vocabulary() const { return in_vocabulary_; }
  // What rows are learned from: vectors of queries. Null without learned_rows. Those of members in
  // the vocabulary are its tokens, in their order.
  const std::shared_ptr<CausalVectors>& vectors() const { return vectors_; }
  // This head with rows that were learned from vectors(), of its members in their order.
  std::shared_ptr<const CausalHead> WithRows(std::shared_ptr<const CausalRows> rows) const;

  // Scores the members with live[i]; at least one is.
  void Score(std::string_view query, const std::vector<bool>& live, const CallContext& context,
             std::function<void(absl::StatusOr<Scores>)> done) const;

  // Whether an argument goes with a decision of this head for member `i`. None goes with a learned
  // row: the model knows no token after which to write it.
  bool WritesArgument(size_t i) const {
    return settings_.argument_style() != v1::ARGUMENT_STYLE_NONE && in_vocabulary_[i];
  }
  // What an argument must have kept; see argument_check.h. WriteArgument does not look at it.
  v1::ArgumentCheck argument_check() const { return settings_.argument_check(); }

  // Has the model write the argument of member `i`. Only where WritesArgument(i).
  void WriteArgument(std::string_view query, size_t i, const CallContext& context,
                     std::function<void(absl::StatusOr<Argument>)> done) const;

  // The checkpoint's spelling of member `i`.
  const std::string& token(size_t i) const { return tokens_[i]; }

 private:
  CausalHead(v1::CausalHead settings, std::vector<std::string> tokens,
             std::vector<bool> in_vocabulary, std::shared_ptr<CausalModel> model,
             FunctionalTokenSyntax syntax);
  CausalHead(const CausalHead& other, std::shared_ptr<const CausalRows> rows);

  void ScoreByRows(std::string_view query, const std::vector<bool>& live,
                   const CallContext& context,
                   std::function<void(absl::StatusOr<Scores>)> done) const;

  const v1::CausalHead settings_;
  const std::vector<std::string> tokens_;
  const std::vector<bool> in_vocabulary_;
  const std::shared_ptr<CausalModel> model_;
  const FunctionalTokenSyntax syntax_;
  std::shared_ptr<CausalVectors> vectors_;        // Null without learned_rows.
  const std::shared_ptr<const CausalRows> rows_;  // The same.
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CAUSAL_HEAD_H_
