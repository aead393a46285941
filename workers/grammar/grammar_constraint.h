// Limits an answer of the engine to the texts of a grammar.
//
//   request.constraint = std::make_shared<GrammarConstraint>(GrammarMatcher(grammar));
#ifndef OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_CONSTRAINT_H_
#define OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_CONSTRAINT_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "workers/engine/token_constraint.h"
#include "workers/grammar/compiled_grammar.h"

namespace octogate::workers {

class GrammarConstraint : public TokenConstraint {
 public:
  // `stop_ids` end the answer too, whatever text they have: they are allowed exactly where the text
  // is complete, as the vocabulary's own end tokens are.
  explicit GrammarConstraint(GrammarMatcher matcher, std::vector<int32_t> stop_ids = {})
      : matcher_(std::move(matcher)), stop_ids_(std::move(stop_ids)) {}

  std::unique_ptr<TokenConstraint> Fork() const override {
    auto fork = std::make_unique<GrammarConstraint>(matcher_.Fork(), stop_ids_);
    fork->stopped_ = stopped_;
    return fork;
  }
  size_t mask_words() const override { return matcher_.mask_words(); }
  absl::Status FillMask(std::span<uint64_t> words) const override;
  absl::Status Accept(int32_t id) override;

 private:
  bool IsStop(int32_t id) const {
    return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
  }

  GrammarMatcher matcher_;
  std::vector<int32_t> stop_ids_;
  bool stopped_ = false;  // with one of them
};

inline absl::Status GrammarConstraint::FillMask(std::span<uint64_t> words) const {
  if (stopped_) {
    std::fill(words.begin(), words.end(), 0);
    return absl::OkStatus();
  }
  const absl::Status status = matcher_.FillMask(words);
  if (!status.ok() || stop_ids_.empty()) return status;
  const bool may_end = !matcher_.ended() && matcher_.IsComplete();
  for (const int32_t id : stop_ids_) {
    const auto word = static_cast<size_t>(id) / 64;
    if (id < 0 || word >= words.size()) continue;
    const uint64_t bit = uint64_t{1} << id % 64;
    words[word] = may_end ? words[word] | bit : words[word] & ~bit;
  }
  return status;
}

inline absl::Status GrammarConstraint::Accept(int32_t id) {
  if (!IsStop(id)) {
    if (stopped_) return absl::InvalidArgumentError("the text has ended; nothing may follow");
    return matcher_.AcceptToken(id);
  }
  if (stopped_ || matcher_.ended() || !matcher_.IsComplete()) {
    return absl::InvalidArgumentError("the text may not end here");
  }
  stopped_ = true;
  return absl::OkStatus();
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_CONSTRAINT_H_
