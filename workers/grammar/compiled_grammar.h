// A grammar compiled for a vocabulary, and the matchers that follow it token by token.
//
//   auto grammar = CompiledGrammar::Compile(*ParseGrammar(text), trie, {});
//   GrammarMatcher matcher(*grammar);
//   matcher.FillMask(words);      // what may come next
//   matcher.AcceptToken(id);
//
// What a matcher has accepted can always be completed, and no token is masked after which it could
// be. There is no fall-back: a grammar that matches nothing does not compile, and a limit that is
// reached is an error.
//
// Thread safety: all that matchers of one grammar learn is shared, under a lock; the grammar and
// different matchers may be used from any threads at once. One matcher is for one thread at a time.
#ifndef OCTOGATE_WORKERS_GRAMMAR_COMPILED_GRAMMAR_H_
#define OCTOGATE_WORKERS_GRAMMAR_COMPILED_GRAMMAR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "workers/grammar/grammar.h"
#include "workers/grammar/parse_states.h"
#include "workers/grammar/rule_network.h"
#include "workers/grammar/token_masks.h"
#include "workers/grammar/token_trie.h"

namespace octogate::workers {

struct CompileOptions {
  // Bounds, approximate, on what is kept while matching.
  size_t max_state_bytes = size_t{64} << 20;
  size_t max_mask_bytes = size_t{128} << 20;
  // Work, in items and nodes handled, of which a million takes from 5 to 40 ms. Of one mask or one
  // token; what needs more is RESOURCE_EXHAUSTED. A matcher holds up what waits for it, such as all
  // sequences of a batch, at most so long.
  uint64_t step_work = 2'000'000;
  // Of one matcher, over all its masks and tokens: a credit, of which each is paid, and which each
  // raises by `work_per_step` up to what it was. Without it an answer could take step_work again
  // and again. What earlier texts of the grammar have paid for is kept and costs nothing, or nearly
  // so.
  uint64_t answer_work = 4'000'000;
  uint64_t work_per_step = 100'000;
};

class CompiledGrammar {
 public:
  // INVALID_ARGUMENT for a grammar that matches no text; RESOURCE_EXHAUSTED for one that needs too
  // many states.
  static absl::StatusOr<std::shared_ptr<const CompiledGrammar>> Compile(
      const Grammar& grammar, std::shared_ptr<const TokenTrie> trie,
      const CompileOptions& options = {});

  const TokenTrie& trie() const { return *trie_; }
  const std::shared_ptr<const TokenTrie>& shared_trie() const { return trie_; }
  const RuleNetwork& network() const { return network_; }
  size_t mask_words() const { return mask_words_; }

  struct Stats {
    size_t network_bytes = 0;
    size_t parse_states = 0;
    size_t state_bytes = 0;
    size_t place_masks = 0;  // of network().state_count()
    size_t mask_bytes = 0;
  };
  Stats stats() const;

 private:
  friend class GrammarMatcher;
  CompiledGrammar(RuleNetwork network, std::shared_ptr<const TokenTrie> trie,
                  const CompileOptions& options);
  void Pin(StateId state) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const RuleNetwork network_;
  const std::shared_ptr<const TokenTrie> trie_;
  const uint64_t step_work_;
  const uint64_t answer_work_;
  const uint64_t work_per_step_;
  size_t mask_words_ = 0;
  mutable absl::Mutex mutex_;
  mutable ParseStates states_ ABSL_GUARDED_BY(mutex_);
  mutable TokenMasks masks_ ABSL_GUARDED_BY(mutex_);
  mutable std::vector<uint32_t> pins_ ABSL_GUARDED_BY(mutex_);  // by state
};

// One text, as far as it has come.
class GrammarMatcher {
 public:
  // How many of the last tokens can be taken back.
  static constexpr size_t kMaxRollback = 256;

  explicit GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar);
  ~GrammarMatcher();
  GrammarMatcher(GrammarMatcher&& other) noexcept;
  GrammarMatcher& operator=(GrammarMatcher&& other) noexcept;

  // Another matcher of the same text, which goes its own way from here, with as much work left: a
  // few words to copy. It cannot take back what came before.
  GrammarMatcher Fork() const;

  // The text goes on with a token. INVALID_ARGUMENT where the mask does not hold it: then nothing
  // has happened; RESOURCE_EXHAUSTED where a limit was reached: likewise.
  absl::Status AcceptToken(int32_t id);
  // The same with bytes, which count as one token.
  absl::Status AcceptBytes(std::string_view bytes);
  absl::Status AcceptByte(uint8_t byte) {
    const char c = static_cast<char>(byte);
    return AcceptBytes(std::string_view(&c, 1));
  }
  // Takes back the last `count` tokens; OUT_OF_RANGE where they are not remembered.
  absl::Status Rollback(size_t count);

  // Which tokens AcceptToken would take: token i is bit i % 64 of word i / 64. `words` has
  // mask_words() of the grammar. RESOURCE_EXHAUSTED where a limit was reached.
  absl::Status FillMask(std::span<uint64_t> words) const;

  size_t mask_words() const { return grammar_->mask_words(); }

  // Whether the text is a whole one of the grammar: exactly then it may end.
  bool IsComplete() const;
  // Whether an end-of-sequence token was accepted: nothing may follow it.
  bool ended() const { return ended_; }
  // One of the shortest texts that make it complete; RESOURCE_EXHAUSTED for one past 1 MiB.
  absl::StatusOr<std::string> ShortestCompletion() const;

 private:
  GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar, StateId state, bool ended,
                 uint64_t credit);
  void Unpin();
  // Around all work: limits it, and pays for what was done. `status` is what came of it.
  void BeginWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(grammar_->mutex_);
  absl::Status EndWork(absl::Status status) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(grammar_->mutex_);
  void Advance(StateId state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(grammar_->mutex_);

  std::shared_ptr<const CompiledGrammar> grammar_;  // null once moved from
  StateId state_ = ParseStates::kDead;
  bool ended_ = false;
  mutable uint64_t credit_ = 0;   // work that may still be done
  std::vector<StateId> history_;  // states before each of the last tokens
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_COMPILED_GRAMMAR_H_
