// Lookahead's retrieval of drafts from tries (Zhao et al. 2023, "Lookahead", arXiv:2312.12728).
//
// A trie has what followed each token, `branch` tokens deep, with the number of times: one of the
// request's prompt, and one of all outputs of the scope, those of running sequences included.
// Drafts come from the node of the last two tokens and, if that has fewer than `branch` nodes below
// it, also from that of the last one. What follows there is weighed as in the paper: once for each
// time in the prompt, a ten thousandth for each in outputs.
//
// The share of right drafts is counted by the length of the context and by whether the prompt has
// it; a node's probability is that share times its proportion of the weights. The most probable
// paths are drafted.
//
// Of what it learns, others are told the last outputs of scopes, each once, cut to their last 8192
// tokens.
//
// Where a trie is nearly full all counts are halved and what has less than one is dropped, little
// by little, as often as it takes to be at most half full: what is not seen again fades.
#ifndef OCTOGATE_WORKERS_SPECULATION_LOOKAHEAD_H_
#define OCTOGATE_WORKERS_SPECULATION_LOOKAHEAD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "workers/speculation/learned_state.h"
#include "workers/speculation/scope_states.h"

namespace octogate::workers {

struct LookaheadOptions {
  // Of the model; 0: not known, and others cannot be told anything.
  int vocab_size = 0;
  int branch = 12;  // at least 1
  // Of a trie; each takes at most some 80 bytes.
  size_t prompt_nodes = size_t{1} << 16;
  size_t scope_nodes = size_t{1} << 18;
  int max_scopes = kMostScopes;
  uint64_t max_bytes = uint64_t{512} << 20;  // of all scopes, but for those in use
};

class LookaheadScope;

class LookaheadDrafter : public LearningDrafter {
 public:
  explicit LookaheadDrafter(const LookaheadOptions& options);

  std::string_view name() const override { return "lookahead"; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override;
  uint64_t bytes() const override;

  std::unique_ptr<LearnedState> MakeState() const override;
  bool Has(std::string_view scope) const override { return scopes_.Has(scope); }
  std::string TakeLearned(std::string_view scope, size_t max_bytes) override;
  absl::Status Teach(std::string_view scope, std::string_view bytes) override;

 private:
  std::shared_ptr<LookaheadScope> Use(std::string_view scope);

  LookaheadOptions options_;
  ScopeStates<LookaheadScope> scopes_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_LOOKAHEAD_H_
