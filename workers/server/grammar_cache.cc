#include "workers/server/grammar_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "workers/server/worker_grammar.h"

namespace octogate::workers {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);
// Grammars grow while they are used: now and then room is made without a new one.
constexpr uint64_t kUsesBetweenLooks = 256;

size_t BytesOf(const CompiledGrammar& grammar) {
  const CompiledGrammar::Stats stats = grammar.stats();
  return stats.network_bytes + stats.state_bytes + stats.mask_bytes;
}

}  // namespace

GrammarCache::GrammarCache(MakeTrie make_trie, const GrammarCacheOptions& options)
    : make_trie_(std::move(make_trie)),
      options_(options),
      pool_(options.threads, options.max_waiting) {}

GrammarCache::~GrammarCache() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
}

void GrammarCache::Get(const v1::WorkerGrammar& grammar, absl::Time deadline,
                       OnGrammar on_grammar) {
  std::string key = WorkerGrammarKey(grammar);
  Compiled found;
  bool look = false;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_[key];
    entry.last_use = ++uses_;
    look = uses_ % kUsesBetweenLooks == 0;
    if (entry.kept == nullptr) entry.kept = entry.used.lock();
    if (entry.kept != nullptr) {
      ++found_;
      found = entry.kept;
    } else {
      entry.waiters.push_back({deadline, std::move(on_grammar)});
      if (entry.compiling) {
        ++found_;
        return;
      }
      entry.compiling = true;
    }
  }
  if (found != nullptr) {
    if (look) (void)pool_.Submit([this] { MakeRoom(); });
    on_grammar(std::move(found));
    return;
  }
  if (pool_.Submit([this, key, grammar] { Run(key, grammar); })) return;
  // Others may have joined meanwhile: they are refused together.
  std::vector<Waiter> refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = std::move(entries_[key].waiters);
    entries_.erase(key);
  }
  for (const Waiter& waiter : refused) {
    waiter.on_grammar(WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", options_.max_waiting,
                                                  " grammars wait to be compiled already")),
        kRetryAfter));
  }
}

void GrammarCache::Run(const std::string& key, const v1::WorkerGrammar& grammar) {
  EndOverdue();
  bool wanted = false;
  bool stopping = false;
  {
    absl::MutexLock lock(&mutex_);
    stopping = stopping_;
    Entry& entry = entries_[key];
    wanted = !entry.waiters.empty();
    if (!wanted) {
      entries_.erase(key);
    } else if (!stopping) {
      ++compiled_;
    }
  }
  if (!wanted) return;
  absl::StatusOr<Compiled> compiled = absl::CancelledError("the worker is shutting down");
  if (!stopping) {
    if (MakeRoom() < options_.max_bytes) {
      compiled = Compile(grammar);
    } else {
      compiled = WithRetryAfter(
          absl::ResourceExhaustedError(absl::StrCat("the grammars in use take more than ",
                                                    options_.max_bytes, " bytes; try again later")),
          kRetryAfter);
    }
  }
  std::vector<Waiter> waiters;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_[key];
    waiters = std::move(entry.waiters);
    entry.waiters.clear();
    entry.compiling = false;
    if (compiled.ok()) {
      entry.kept = *compiled;
      entry.used = *compiled;
    } else {
      entries_.erase(key);
    }
  }
  for (const Waiter& waiter : waiters) waiter.on_grammar(compiled);
  waiters.clear();
  compiled = absl::CancelledError();  // not in use by this thread
  MakeRoom();
}

absl::StatusOr<GrammarCache::Compiled> GrammarCache::Compile(const v1::WorkerGrammar& grammar) {
  OCTOGATE_ASSIGN_OR_RETURN(const Grammar parsed, ParseWorkerGrammar(grammar));
  OCTOGATE_ASSIGN_OR_RETURN(std::shared_ptr<const TokenTrie> trie, Trie());
  return CompiledGrammar::Compile(parsed, std::move(trie), options_.compile);
}

absl::StatusOr<std::shared_ptr<const TokenTrie>> GrammarCache::Trie() {
  absl::MutexLock lock(&trie_mutex_);
  if (!trie_.has_value()) {
    absl::StatusOr<TokenTrie> trie = make_trie_();
    if (trie.ok()) {
      trie_ = std::make_shared<const TokenTrie>(*std::move(trie));
    } else {
      trie_ = trie.status();
    }
  }
  return *trie_;
}

void GrammarCache::EndOverdue() {
  const absl::Time now = absl::Now();
  std::vector<Waiter> overdue;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [key, entry] : entries_) {
      const auto late =
          std::stable_partition(entry.waiters.begin(), entry.waiters.end(),
                                [now](const Waiter& waiter) { return waiter.deadline > now; });
      std::move(late, entry.waiters.end(), std::back_inserter(overdue));
      entry.waiters.erase(late, entry.waiters.end());
    }
  }
  for (const Waiter& waiter : overdue) {
    waiter.on_grammar(
        absl::DeadlineExceededError("the deadline passed while the grammar waited to be compiled"));
  }
}

size_t GrammarCache::MakeRoom() {
  struct Known {
    std::string key;
    Compiled grammar;
    uint64_t last_use;
    size_t bytes;
    bool idle;
  };
  // A grammar may be locked by a step of the engine: it is asked for its size outside of the lock.
  std::vector<Known> known;
  {
    absl::MutexLock lock(&mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      Compiled grammar = entry->second.kept;
      if (grammar == nullptr) grammar = entry->second.used.lock();
      if (grammar != nullptr) {
        // Held by the entry and by this function.
        const bool idle = entry->second.kept != nullptr && grammar.use_count() == 2;
        known.push_back({entry->first, std::move(grammar), entry->second.last_use, 0, idle});
      } else if (!entry->second.compiling) {
        entries_.erase(entry++);
        continue;
      }
      ++entry;
    }
  }
  std::sort(known.begin(), known.end(),
            [](const Known& a, const Known& b) { return a.last_use > b.last_use; });
  size_t idle_bytes = 0;
  size_t bytes = 0;
  size_t entries = 0;
  for (Known& grammar : known) {
    grammar.bytes = BytesOf(*grammar.grammar) + grammar.key.size();
    const bool fits =
        idle_bytes + grammar.bytes <= options_.max_idle_bytes && entries < options_.max_entries;
    if (fits || !grammar.idle) {
      bytes += grammar.bytes;
      ++entries;
      if (grammar.idle) idle_bytes += grammar.bytes;
      if (fits) continue;
    }
    absl::MutexLock lock(&mutex_);
    const auto entry = entries_.find(grammar.key);
    if (entry != entries_.end() && entry->second.last_use == grammar.last_use) {
      entry->second.kept = nullptr;
      if (grammar.idle && !entry->second.compiling) entries_.erase(entry);
    }
  }
  return bytes;
}

GrammarCache::Stats GrammarCache::stats() const {
  Stats stats;
  std::vector<Compiled> grammars;
  {
    absl::MutexLock lock(&mutex_);
    stats.compiled = compiled_;
    stats.found = found_;
    for (const auto& [key, entry] : entries_) {
      Compiled grammar = entry.kept;
      if (grammar == nullptr) grammar = entry.used.lock();
      if (grammar != nullptr) grammars.push_back(std::move(grammar));
    }
  }
  stats.entries = grammars.size();
  for (const Compiled& grammar : grammars) stats.bytes += BytesOf(*grammar);
  return stats;
}

}  // namespace octogate::workers
