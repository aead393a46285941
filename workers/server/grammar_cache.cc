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
constexpr size_t kMostBytes = size_t{96} << 20;  // of one grammar
constexpr size_t kLeastBytes = size_t{24} << 20;

size_t BytesOf(const CompiledGrammar& grammar) {
  const CompiledGrammar::Stats stats = grammar.stats();
  return stats.network_bytes + stats.state_bytes + stats.mask_bytes;
}

}  // namespace

GrammarCacheOptions OptionsFor(int max_sequences) {
  GrammarCacheOptions options;
  const size_t grammars = static_cast<size_t>(std::max(max_sequences, 0)) + 1;
  const size_t bytes = std::clamp(options.max_bytes / grammars, kLeastBytes, kMostBytes);
  options.compile.max_state_bytes = bytes / 3;
  options.compile.max_mask_bytes = bytes - bytes / 3;
  return options;
}

GrammarCache::GrammarCache(MakeTrie make_trie, const GrammarCacheOptions& options)
    : make_trie_(std::move(make_trie)),
      options_(options),
      pool_(options.threads, options.max_waiting) {
  absl::MutexLock lock(&notice_->mutex);
  notice_->cache = this;
}

GrammarCache::~GrammarCache() {
  {
    absl::MutexLock lock(&notice_->mutex);
    notice_->cache = nullptr;
  }
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
}

void GrammarCache::Get(const v1::WorkerGrammar& grammar, absl::Time deadline, OnGrammar on_grammar,
                       std::function<bool()> gone) {
  std::string key = WorkerGrammarKey(grammar);
  Compiled found;
  bool too_many = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto known = entries_.find(key);
    if (known != entries_.end()) {
      Entry& entry = known->second;
      entry.last_use = ++uses_;
      if (entry.kept == nullptr) entry.kept = entry.used.lock();
      found = entry.kept;
    }
    too_many = found == nullptr && waiters_ >= options_.max_waiters;
    if (found != nullptr) {
      ++found_;
    } else if (!too_many) {
      Entry& entry = entries_[key];
      entry.last_use = ++uses_;
      entry.waiters.push_back({deadline, std::move(on_grammar), std::move(gone)});
      ++waiters_;
      if (entry.compiling) {
        ++found_;
        return;
      }
      entry.compiling = true;
    }
  }
  if (found != nullptr) return on_grammar(Lend(std::move(found)));
  if (too_many) {
    return on_grammar(WithRetryAfter(
        absl::ResourceExhaustedError(absl::StrCat(
            options_.max_waiters, " requests wait for their grammars already; try again later")),
        kRetryAfter));
  }
  if (pool_.Submit([this, key, grammar] { Run(key, grammar); })) return;
  // Others may have joined meanwhile: they are refused together.
  std::vector<Waiter> refused;
  {
    absl::MutexLock lock(&mutex_);
    refused = std::move(entries_[key].waiters);
    entries_.erase(key);
  }
  Answer(std::move(refused), WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                                                "the queue is full: ", options_.max_waiting,
                                                " grammars wait to be compiled already")),
                                            kRetryAfter));
}

void GrammarCache::Answer(std::vector<Waiter> waiters, const absl::StatusOr<Compiled>& compiled) {
  const size_t count = waiters.size();
  for (const Waiter& waiter : waiters) {
    if (compiled.ok()) {
      waiter.on_grammar(Lend(*compiled));
    } else {
      waiter.on_grammar(compiled);
    }
  }
  waiters.clear();
  absl::MutexLock lock(&mutex_);
  waiters_ -= count;
}

bool GrammarCache::AwaitNoWaiters(absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return waiters_ == 0; };
  return mutex_.AwaitWithDeadline(absl::Condition(&none), deadline);
}

GrammarCache::Compiled GrammarCache::Lend(Compiled compiled) const {
  const CompiledGrammar* const grammar = compiled.get();
  return {grammar,
          [compiled = std::move(compiled), notice = notice_](const CompiledGrammar*) mutable {
            compiled = nullptr;
            absl::MutexLock lock(&notice->mutex);
            if (notice->cache != nullptr) notice->cache->Released();
          }};
}

void GrammarCache::Released() {
  if (will_look_.exchange(true)) return;
  const bool queued = pool_.Submit([this] {
    will_look_ = false;  // what is released from here on is looked at again
    MakeRoom();
  });
  // Where the queue is full, room is made before and after each compilation.
  if (!queued) will_look_ = false;
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
  Answer(std::move(waiters), compiled);
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
  std::vector<Waiter> gone;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [key, entry] : entries_) {
      std::erase_if(entry.waiters, [&](Waiter& waiter) {
        if (waiter.gone != nullptr && waiter.gone()) {
          gone.push_back(std::move(waiter));
          return true;
        }
        if (waiter.deadline > now) return false;
        overdue.push_back(std::move(waiter));
        return true;
      });
    }
  }
  Answer(std::move(gone), absl::CancelledError("the caller cancelled the request"));
  Answer(std::move(overdue), absl::DeadlineExceededError(
                                 "the deadline passed while the grammar waited to be compiled"));
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
    stats.waiters = waiters_;
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
