// Which tokens of a vocabulary may come next in a state of the parser.
//
// What a token may be depends, for most, only on the places in rules where the parser stands: whole
// within a rule they are allowed or not whatever called it. So each place has its mask, computed
// once; the few tokens that go past the end of a rule are tried in the state that calls it. A
// state's mask is kept too.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_GRAMMAR_TOKEN_MASKS_H_
#define OCTOGATE_WORKERS_GRAMMAR_TOKEN_MASKS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"
#include "workers/grammar/token_trie.h"

namespace octogate::workers {

class TokenMasks {
 public:
  // All must outlive this. Masks take at most about `max_bytes`.
  TokenMasks(const RuleNetwork* network, const TokenTrie* trie, ParseStates* states,
             size_t max_bytes);

  // Words of 64 bits in a mask; token i is bit i % 64 of word i / 64.
  size_t word_count() const { return word_count_; }
  // Writes the mask of a state: a token is in it exactly where the text can be completed after it;
  // those that end an answer, where it is complete. `words` has word_count() of them. Fails as
  // ParseStates does.
  absl::Status Fill(StateId state, std::span<uint64_t> words);
  // States were dropped, whose ids will mean others.
  void ForgetStates();

  size_t bytes() const { return bytes_; }
  size_t places() const { return place_count_; }

 private:
  // A set of tokens, as a list where that is smaller.
  struct Tokens {
    std::vector<int32_t> list;
    std::vector<uint64_t> words;
  };
  struct PlaceMask {
    Tokens allowed;
    // Nodes of the trie at which the rule may have ended, while their tokens go on.
    std::vector<uint32_t> exits;
  };

  // Computes the mask of a place, if it is not there. Fails as ParseStates does.
  absl::Status Prepare(uint32_t place);
  Tokens Store(std::span<const uint64_t> words) const;
  static void Add(const Tokens& tokens, std::span<uint64_t> words);
  // Allows what is below `node` from `state` on. Where the rest of a rule alone is read, `exits`
  // takes the nodes where it may have ended.
  absl::Status Walk(uint32_t node, StateId state, std::span<uint64_t> words,
                    std::vector<uint32_t>* exits);
  void MakeRoom();

  const RuleNetwork* const network_;
  const TokenTrie* const trie_;
  ParseStates* const states_;
  const size_t word_count_;
  const size_t max_bytes_;
  std::vector<std::unique_ptr<PlaceMask>> place_masks_;
  size_t place_count_ = 0;
  absl::flat_hash_map<StateId, Tokens> state_masks_;
  size_t bytes_ = 0;           // of both
  size_t state_bytes_ = 0;     // of the latter
  std::vector<StateId> path_;  // scratch: the state at each depth of the trie
  std::vector<uint64_t> place_words_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_TOKEN_MASKS_H_
