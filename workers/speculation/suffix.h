// Drafts from where the end of the text has occurred before, in the request itself and in what the
// scope has answered (SuffixDecoding, Oliaro et al. 2024, arXiv:2411.04975; SAM-Decoding, Hu et al.
// 2024, arXiv:2411.10666).
//
// Contexts are the longest ends of the text that occurred, in automata of the request's prompt and
// output and of the scope's past outputs, and shorter ones; longest first, of equals the request's.
// What follows a context is drafted in proportion to how often it followed there, except for what
// longer contexts have. A context's share of right drafts is counted by its length, its number of
// occurrences, whether a longer one is there, and whose it is; a node's probability is that share
// times its proportion. The most probable paths are drafted, down to a depth in proportion to the
// length of the match.
//
// An output is added to its scope when its sequence has ended, cut to its last 8192 tokens, a part
// of it whenever another sequence of the scope goes on. A request
// and a scope have two automata, young and old: where the young one is full it becomes the old one,
// which is dropped whole. So between one and two times the capacity is remembered.
#ifndef OCTOGATE_WORKERS_SPECULATION_SUFFIX_H_
#define OCTOGATE_WORKERS_SPECULATION_SUFFIX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "workers/speculation/learned_state.h"
#include "workers/speculation/scope_states.h"

namespace octogate::workers {

struct SuffixOptions {
  // Of the model; 0: not known, and others cannot be told anything.
  int vocab_size = 0;
  // Tokens of an automaton; it takes at most some 250 bytes for each.
  size_t request_tokens = size_t{1} << 15;
  size_t scope_tokens = size_t{1} << 16;
  // Nodes are at most this deep for each token of their context's match, and this deep in any case.
  float depth_per_length = 4;
  int min_depth = 2;
  int max_scopes = kMostScopes;
  uint64_t max_bytes = uint64_t{512} << 20;  // of all scopes, but for those in use
};

class SuffixScope;

// Of what it learns, others are told the last outputs of scopes: as many as an automaton has room
// for, and each once.
class SuffixDrafter : public LearningDrafter {
 public:
  explicit SuffixDrafter(const SuffixOptions& options);

  std::string_view name() const override { return "suffix"; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override;
  uint64_t bytes() const override;

  std::unique_ptr<LearnedState> MakeState() const override;
  bool Has(std::string_view scope) const override { return scopes_.Has(scope); }
  std::string TakeLearned(std::string_view scope, size_t max_bytes) override;
  absl::Status Teach(std::string_view scope, std::string_view bytes) override;

 private:
  std::shared_ptr<SuffixScope> Use(std::string_view scope);

  SuffixOptions options_;
  ScopeStates<SuffixScope> scopes_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SUFFIX_H_
