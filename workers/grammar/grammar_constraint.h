// Limits an answer of the engine to the texts of a grammar.
//
//   request.constraint = std::make_shared<GrammarConstraint>(GrammarMatcher(grammar));
#ifndef OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_CONSTRAINT_H_
#define OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_CONSTRAINT_H_

#include <memory>
#include <utility>

#include "workers/engine/token_constraint.h"
#include "workers/grammar/compiled_grammar.h"

namespace octogate::workers {

class GrammarConstraint : public TokenConstraint {
 public:
  explicit GrammarConstraint(GrammarMatcher matcher) : matcher_(std::move(matcher)) {}

  std::unique_ptr<TokenConstraint> Fork() const override {
    return std::make_unique<GrammarConstraint>(matcher_.Fork());
  }
  size_t mask_words() const override { return matcher_.mask_words(); }
  absl::Status FillMask(std::span<uint64_t> words) const override {
    return matcher_.FillMask(words);
  }
  absl::Status Accept(int32_t id) override { return matcher_.AcceptToken(id); }

 private:
  GrammarMatcher matcher_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_CONSTRAINT_H_
