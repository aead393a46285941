// Grammars compiled for one model's vocabulary, kept while there is room for them.
//
// The key is what a grammar says; two requests for one grammar that is not there compile it once.
// Everything is bounded: what waits to be compiled, who waits for it, what one grammar may take,
// what all of them take. Grammars grow while they are used; whenever one is no longer used, those
// that there is no room for are let go. Grammars are shared by all tenants: who sends one that
// another tenant has sent finds its first token sooner.
//
// Thread safety: every method may be called from any thread.

#ifndef OCTOGATE_WORKERS_SERVER_GRAMMAR_CACHE_H_
#define OCTOGATE_WORKERS_SERVER_GRAMMAR_CACHE_H_

#include <atomic>
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
  // Calls of Get that wait, for all grammars together.
  size_t max_waiters = 1024;
  int threads = 2;
  CompileOptions compile = {.max_state_bytes = size_t{32} << 20,
                            .max_mask_bytes = size_t{64} << 20};
};

// For a model that writes so many answers at a time: each may have a grammar of its own, and there
// is room for one more. Up to 20 answers a grammar may take 96 MiB; with more of them it is less,
// but never below 24 MiB, 8 of these for states: with these, BIRD's gold queries are read under SQL
// grammars of their databases without reaching a limit (shipped_grammars_test).
// Past 84 answers with as many grammars, all of them large, max_bytes refuses more.
GrammarCacheOptions OptionsFor(int max_sequences);

class GrammarCache {
 public:
  // Shared by all that the cache gave it to. A caller keeps it, or copies of it, for as long as it
  // matches with the grammar: the last one that goes tells the cache.
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
  // where `deadline` passes before its turn, CANCELLED where `gone` says that nobody wants the
  // answer any more: both are seen between compilations, and nothing is compiled for such calls
  // alone. RESOURCE_EXHAUSTED, with a hint, where too many wait or grammars take too much memory.
  // `gone` may be null; it is called from any thread, under a lock, and must only look.
  void Get(const v1::WorkerGrammar& grammar, absl::Time deadline, OnGrammar on_grammar,
           std::function<bool()> gone = nullptr);

  // Until no call waits: the callbacks of all have returned. False where some wait at `deadline`.
  bool AwaitNoWaiters(absl::Time deadline) const;

  struct Stats {
    size_t entries = 0;     // idle ones and those in use
    size_t bytes = 0;       // of these
    uint64_t compiled = 0;  // since the beginning, with those that failed
    uint64_t found = 0;     // calls of Get that needed none to be compiled
    size_t waiters = 0;     // calls of Get that wait
  };
  Stats stats() const;

 private:
  struct Waiter {
    absl::Time deadline;
    OnGrammar on_grammar;
    std::function<bool()> gone;
  };
  // Through it what was given away tells the cache, if that is still there.
  struct Notice {
    absl::Mutex mutex;
    GrammarCache* cache ABSL_GUARDED_BY(mutex) = nullptr;  // null: gone
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
  // Ends the waits that are overdue or whose callers are gone.
  void EndOverdue();
  // Calls back, and counts them no longer.
  void Answer(std::vector<Waiter> waiters, const absl::StatusOr<Compiled>& compiled);
  // What a caller is given.
  Compiled Lend(Compiled compiled) const;
  // Makes room, soon, from another thread.
  void Released();
  // Lets go of what there is no room for. The bytes of those that remain.
  size_t MakeRoom();

  const MakeTrie make_trie_;
  const GrammarCacheOptions options_;
  const std::shared_ptr<Notice> notice_ = std::make_shared<Notice>();
  std::atomic<bool> will_look_{false};  // MakeRoom is queued
  absl::Mutex trie_mutex_;
  std::optional<absl::StatusOr<std::shared_ptr<const TokenTrie>>> trie_
      ABSL_GUARDED_BY(trie_mutex_);

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t waiters_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t compiled_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t found_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  BlockingPool pool_;  // last: its threads use everything above
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_GRAMMAR_CACHE_H_
