// The suffix automaton of a growing collection of texts (Blumer et al. 1985), which finds in O(1)
// per token where the end of a text has occurred before (SAM-Decoding, Hu et al. 2024,
// arXiv:2411.10666), with the number of times that each of its contexts occurred.
//
// A state stands for contexts that end at the same places; its length is that of the longest, and
// its link the state of the longest context that is shorter and ends at more places. State 0 is the
// empty context. Texts of n tokens together have at most 2n states and 3n transitions.
//
// Thread safety: none.
#ifndef OCTOGATE_WORKERS_SPECULATION_SUFFIX_AUTOMATON_H_
#define OCTOGATE_WORKERS_SPECULATION_SUFFIX_AUTOMATON_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace octogate::workers {

class SuffixAutomaton {
 public:
  struct Transition {
    int32_t token = 0;
    int32_t target = 0;
    int32_t next = -1;  // of the same state; -1: the last
  };

  // A token counts in this many of the contexts that it ends, longest first, so that texts of one
  // repeated token take no quadratic time. Contexts that had more of them at their end count fewer
  // occurrences than there are.
  explicit SuffixAutomaton(int counted_contexts = 32);

  // Amortised O(1) for a bounded number of different tokens after a context. At most 2^30 tokens.
  void Append(int32_t token);
  // What comes next is another text.
  void Break() { last_ = 0; }

  size_t tokens() const { return tokens_; }
  size_t states() const { return states_.size(); }
  // The state of the whole text. Its link is that of its longest end that occurred before, if there
  // was no Break.
  int32_t last() const { return last_; }
  // The state of a state's contexts with `token` behind; -1: they have not occurred.
  int32_t Next(int32_t state, int32_t token) const;
  // Begins to fetch what Next looks at, and what is told of a state.
  void Prefetch(int32_t state, int32_t token) const { places_.prefetch(Key(state, token)); }
  void Prefetch(int32_t state) const { __builtin_prefetch(&At(state)); }
  int32_t Link(int32_t state) const { return At(state).link; }  // -1 of state 0
  int32_t Length(int32_t state) const { return At(state).length; }
  int32_t Count(int32_t state) const { return At(state).count; }
  // For a loop over a state's transitions; -1: none.
  int32_t First(int32_t state) const { return At(state).first; }
  const Transition& transition(int32_t transition) const {
    return transitions_[static_cast<size_t>(transition)];
  }

  uint64_t bytes() const;

 private:
  struct State {
    int32_t link = -1;
    int32_t length = 0;
    int32_t count = 0;
    int32_t first = -1;
  };

  State& At(int32_t state) { return states_[static_cast<size_t>(state)]; }
  const State& At(int32_t state) const { return states_[static_cast<size_t>(state)]; }
  int32_t AddState(const State& state);
  void AddTransition(int32_t state, int32_t token, int32_t target);
  // Splits from `whole`, the target of `state`, the contexts that are one longer than `state`'s.
  int32_t Clone(int32_t state, int32_t token, int32_t whole);
  static uint64_t Key(int32_t state, int32_t token) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(state)) << 32) |
           static_cast<uint32_t>(token);
  }

  int counted_contexts_;
  size_t tokens_ = 0;
  int32_t last_ = 0;
  std::vector<State> states_;
  std::vector<Transition> transitions_;
  absl::flat_hash_map<uint64_t, int32_t> places_;  // of transitions
};

// The longest end of a text that occurs in an automaton, which may grow in the meantime.
struct SuffixMatch {
  int32_t state = 0;
  int32_t length = 0;

  // The text goes on. Texts of many tokens take no more than so many steps; one token alone can
  // take as many as there are tokens. What takes more than `max_links` is no match.
  void Advance(const SuffixAutomaton& automaton, int32_t token,
               int max_links = std::numeric_limits<int>::max());
  // Of the same context where its state was split since.
  void Normalize(const SuffixAutomaton& automaton);
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SUFFIX_AUTOMATON_H_
