// Grammars compiled for one model's vocabulary, kept while there is room for them.
//
// The key is what a grammar says; two requests for one grammar that is not there compile it once.
// Everything is bounded: what waits to be compiled, what one grammar may take, what all of them
// take. Grammars are shared by all tenants: who sends one that another tenant has sent finds its
// first token sooner.
//
// Thread safety: every method may be called from any thread.

#ifndef OCTOGATE_WORKERS_SERVER_GRAMMAR_CACHE_H_
#define OCTOGATE_WORKERS_SERVER_GRAMMAR_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "octogate/v1/worker.pb.h"
#include "workers/grammar/compiled_grammar.h"
#include "workers/grammar/token_trie.h"
#include "workers/server/blocking_pool.h"

namespace octogate::workers {

struct GrammarCacheOptions {
  // Of grammars that nothing uses at the moment; the least recently used go first.
  size_t max_idle_bytes = size_t{256} << 20;
  // Of all, those in use included: past it, nothing is compiled.
  size_t max_bytes = size_t{2} << 30;
  // Grammars that are kept though nothing uses them, and those that wait to be compiled.
  size_t max_entries = 256;
  size_t max_waiting = 64;
  int threads = 2;
  CompileOptions compile = {.max_state_bytes = size_t{32} << 20,
                            .max_mask_bytes = size_t{64} << 20};
};

class GrammarCache {
 public:
  using Compiled = std::shared_ptr<const CompiledGrammar>;
  using OnGrammar = std::function<void(absl::StatusOr<Compiled>)>;
  // The model's vocabulary. Called once, when the first grammar is compiled, on its thread.
  using MakeTrie = std::function<absl::StatusOr<TokenTrie>()>;

  explicit GrammarCache(MakeTrie make_trie, const GrammarCacheOptions& options = {});
  // Waits for what is being compiled; what waits for its turn is CANCELLED.
  ~GrammarCache();

  // Calls `on_grammar` once: at once, from here, where the grammar is there; otherwise from another
  // thread when it has been compiled, which takes from milliseconds to some tenths of a second, or
  // when that has failed as ParseWorkerGrammar and CompiledGrammar::Compile do. DEADLINE_EXCEEDED
  // where `deadline` passes before its turn; it is seen between compilations. RESOURCE_EXHAUSTED,
  // with a hint, where too many wait or grammars take too much memory.
  void Get(const v1::WorkerGrammar& grammar, absl::Time deadline, OnGrammar on_grammar);

  struct Stats {
    size_t entries = 0;     // idle ones and those in use
    size_t bytes = 0;       // of these
    uint64_t compiled = 0;  // since the beginning, with those that failed
    uint64_t found = 0;     // calls of Get that needed none to be compiled
  };
  Stats stats() const;

 private:
  struct Waiter {
    absl::Time deadline;
    OnGrammar on_grammar;
  };
  // A grammar that is there, or that is waited for. One that nothing uses may be gone.
  struct Entry {
    Compiled kept;  // null: not kept by the cache, but perhaps by its users
    std::weak_ptr<const CompiledGrammar> used;
    uint64_t last_use = 0;
    bool compiling = false;
    std::vector<Waiter> waiters;
  };

  void Run(const std::string& key, const v1::WorkerGrammar& grammar);
  absl::StatusOr<Compiled> Compile(const v1::WorkerGrammar& grammar);
  absl::StatusOr<std::shared_ptr<const TokenTrie>> Trie();
  // Ends the waits that are overdue.
  void EndOverdue();
  // Lets go of what there is no room for. The bytes of those that remain.
  size_t MakeRoom();

  const MakeTrie make_trie_;
  const GrammarCacheOptions options_;
  absl::Mutex trie_mutex_;
  std::optional<absl::StatusOr<std::shared_ptr<const TokenTrie>>> trie_
      ABSL_GUARDED_BY(trie_mutex_);

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t compiled_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t found_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  BlockingPool pool_;  // last: its threads use everything above
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_GRAMMAR_CACHE_H_
