#include "workers/engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <span>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace octogate::workers {
namespace {

void InsertInOrder(std::vector<Sequence*>& list, Sequence* sequence) {
  const auto place =
      std::upper_bound(list.begin(), list.end(), sequence,
                       [](const Sequence* a, const Sequence* b) { return RunsBefore(*a, *b); });
  list.insert(place, sequence);
}

bool MayPushOut(const Sequence& sequence, const Sequence& running) {
  return running.priority < sequence.priority && RunsBefore(sequence, running);
}

void Erase(std::vector<Sequence*>& list, Sequence* sequence) {
  list.erase(std::find(list.begin(), list.end(), sequence));
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, int pages)
    : options_(options), allocator_(pages), prefix_cache_(pages) {
  assert(options.max_rows >= options.max_sequences && options.ageing_steps >= 1);
}

int Scheduler::PagesFor(int positions) const {
  return (positions + options_.page_size - 1) / options_.page_size;
}

int64_t Scheduler::LevelOf(const Sequence& sequence) const {
  const int64_t age = step_ - sequence.rank;  // with the bonus for priority; negative for a malus
  const int64_t rounded_down = age < 0 ? options_.ageing_steps - 1 : 0;
  return (age - rounded_down) / options_.ageing_steps;
}

bool Scheduler::ServedBefore(const Sequence& a, const Sequence& b) const {
  const int64_t level_a = LevelOf(a);
  const int64_t level_b = LevelOf(b);
  if (level_a != level_b) return level_a > level_b;
  if (a.account->rows != b.account->rows) return a.account->rows < b.account->rows;
  return a.arrival < b.arrival;
}

void Scheduler::Add(Sequence* sequence) {
  assert(sequence->length() > 0 && sequence->length() <= max_positions());
  sequence->running = false;
  sequence->rank = step_ - sequence->priority * options_.ageing_steps;
  sequence->account = fair_share_.Enter(sequence->tenant);
  sequence->charged = 0;
  InsertInOrder(waiting_, sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  Erase(sequence->running ? running_ : waiting_, sequence);
  ReleasePages(sequence);
  ForgetKept(sequence);
  sequence->saved = nullptr;
  sequence->running = false;
  sequence->account = nullptr;
  fair_share_.Leave(sequence->tenant);
}

void Scheduler::Preempt(Sequence* sequence) {
  Erase(running_, sequence);
  SavePages(sequence);
  ReleasePages(sequence);
  sequence->running = false;
  ++sequence->preemptions;
  ++counters_.preemptions;
  InsertInOrder(waiting_, sequence);
}

void Scheduler::Restart(Sequence* sequence, std::string prefix_context) {
  assert(sequence->running);
  ReleasePages(sequence);
  if (options_.share_prefixes && sequence->use_cached_prefix) {
    counters_.prefix_query_tokens += static_cast<uint64_t>(sequence->length());
  }
  sequence->prefix_context = std::move(prefix_context);
  sequence->arriving = nullptr;
}

void Scheduler::ReleasePages(Sequence* sequence) {
  allocator_.Release(sequence->pages);
  sequence->pages.clear();
  sequence->computed = 0;
  sequence->entered_pages = 0;
  sequence->can_enter_pages = !sequence->flushed;
}

FlushedPages Scheduler::Flush(const ContextFilter& includes) {
  FlushedPages flushed;
  for (const int32_t page : prefix_cache_.ForgetContexts(includes)) {
    allocator_.Discard(page);
    ++(allocator_.owners(page) > 0 ? flushed.in_use : flushed.free);
  }
  for (const std::vector<Sequence*>* list : {&running_, &waiting_}) {
    for (Sequence* const sequence : *list) {
      if (!includes(sequence->prefix_context)) continue;
      ForgetKept(sequence);
      // One that has nothing yet begins after the flush.
      if (sequence->pages.empty() && sequence->saved == nullptr && sequence->arriving == nullptr) {
        continue;
      }
      sequence->flushed = true;
      sequence->can_enter_pages = false;
      sequence->entered_pages = 0;
    }
  }
  return flushed;
}

void Scheduler::SavePages(Sequence* sequence) {
  if (options_.swap == nullptr || sequence->computed == 0) return;
  const int pages = PagesFor(sequence->computed);
  if (options_.recompute_seconds &&
      options_.recompute_seconds(sequence->computed) <= options_.swap->RoundTripSeconds(pages)) {
    return;
  }
  sequence->saved = options_.swap->Save(
      std::span<const int32_t>(sequence->pages).first(static_cast<size_t>(pages)));
  if (sequence->saved == nullptr) {
    ++counters_.preemptions_without_room;
    return;
  }
  sequence->saved_positions = sequence->computed;
  ++counters_.preemptions_saved;
}

void Scheduler::RestorePages(Sequence* sequence) {
  if (sequence->saved == nullptr) return;
  if (sequence->saved_positions > sequence->computed) {
    // What the prefix cache had is in whole pages.
    const int first = sequence->entered_pages;
    options_.swap->Restore(*sequence->saved, first,
                           std::span<const int32_t>(sequence->pages)
                               .subspan(static_cast<size_t>(first),
                                        static_cast<size_t>(sequence->saved->pages() - first)));
    counters_.restored_tokens +=
        static_cast<uint64_t>(sequence->saved_positions - sequence->computed);
    sequence->computed = sequence->saved_positions;
  }
  sequence->saved = nullptr;
}

bool Scheduler::AllocatePages(Sequence* sequence, int count) {
  const size_t before = sequence->pages.size();
  if (!allocator_.Allocate(count, sequence->pages)) return false;
  for (size_t i = before; i < sequence->pages.size(); ++i) prefix_cache_.Forget(sequence->pages[i]);
  return true;
}

int Scheduler::UseCachedPages(Sequence* sequence) {
  if (!options_.share_prefixes || !sequence->use_cached_prefix) return 0;
  const int before = sequence->computed;
  const int page_size = options_.page_size;
  const std::span<const int32_t> tokens = sequence->tokens;
  // Where all that is computed is in entered pages, those that follow may be there already.
  while (sequence->computed == sequence->entered_pages * page_size &&
         sequence->computed + page_size < sequence->length()) {
    const auto index = static_cast<size_t>(sequence->entered_pages);
    const int32_t parent = index == 0 ? PrefixCache::kNone : sequence->pages[index - 1];
    const int32_t page = prefix_cache_.Find(
        sequence->prefix_context, parent,
        tokens.subspan(index * static_cast<size_t>(page_size), static_cast<size_t>(page_size)));
    if (page == PrefixCache::kNone) break;
    allocator_.Share(page);
    if (index < sequence->pages.size()) {
      allocator_.Release({&sequence->pages[index], 1});
      sequence->pages[index] = page;
    } else {
      sequence->pages.push_back(page);
    }
    ++sequence->entered_pages;
    sequence->computed += page_size;
  }
  return sequence->computed - before;
}

void Scheduler::FollowCachedPages(const Sequence& sequence, CachedPrefix& prefix) const {
  if (!options_.share_prefixes) return;
  const PageStamps& stamps = *prefix_cache_.stamps();
  if (prefix.pages > 0 && !stamps.Holds(prefix.last)) prefix = {};
  const auto page_size = static_cast<size_t>(options_.page_size);
  const std::span<const int32_t> tokens = sequence.tokens;
  for (size_t begin = static_cast<size_t>(prefix.pages) * page_size;
       begin + page_size < tokens.size(); begin += page_size) {
    const int32_t page = prefix_cache_.Find(sequence.prefix_context, prefix.last.page,
                                            tokens.subspan(begin, page_size));
    if (page == PrefixCache::kNone) return;
    prefix = {.pages = prefix.pages + 1, .last = {page, stamps.Get(page)}};
  }
}

int Scheduler::CountReused(Sequence* sequence) {
  const int first_time = std::max(sequence->computed - sequence->most_computed, 0);
  sequence->reused += first_time;
  sequence->most_computed += first_time;
  return first_time;
}

void Scheduler::CountHits(Sequence* sequence, int tokens) {
  counters_.prefix_hit_tokens += static_cast<uint64_t>(tokens);
  CountReused(sequence);
}

void Scheduler::CountShared(Sequence* sequence, int tokens) {
  sequence->shared += tokens;
  counters_.shared_tokens += static_cast<uint64_t>(tokens);
}

int Scheduler::KeptPages(const Sequence& sequence) const {
  return (sequence.kept_to - sequence.kept_from) / options_.page_size;
}

void Scheduler::ForgetKept(Sequence* sequence) {
  kept_pages_ -= KeptPages(*sequence);
  sequence->kept_from = sequence->kept_to = 0;
}

int Scheduler::ArrivedNext(const Sequence& sequence, int page_size) {
  if (sequence.computed % page_size != 0) return 0;
  const int first = sequence.computed / page_size;
  const int end = (sequence.length() - 1) / page_size;
  int count = 0;
  for (auto next = sequence.arriving->pages.find(first);
       next != sequence.arriving->pages.end() && next->first == first + count && next->first < end;
       ++next) {
    ++count;
  }
  return count;
}

void Scheduler::CopyArrivedPages(Sequence* sequence) {
  std::map<int, SharedPage>& arrived = sequence->arriving->pages;
  const int count = ArrivedNext(*sequence, options_.page_size);
  if (count > 0) {
    const int first = sequence->computed / options_.page_size;
    std::vector<std::span<const std::byte>> from;
    for (int i = 0; i < count; ++i) from.push_back(arrived.at(first + i).bytes());
    options_.upload(
        from,
        std::span<const int32_t>(sequence->pages).subspan(static_cast<size_t>(first), from.size()));
    sequence->computed += count * options_.page_size;
    EnterPages(sequence);
  }
  // Behind what is computed, nothing is of use any more.
  arrived.erase(arrived.begin(), arrived.lower_bound(PagesFor(sequence->computed)));
}

void Scheduler::UseArrivedPages(Sequence* sequence) {
  if (sequence->arriving == nullptr) return;
  CopyArrivedPages(sequence);
  CountShared(sequence, CountReused(sequence));
  if (sequence->arriving->pages.empty() && sequence->arriving->fetch == nullptr) {
    sequence->arriving = nullptr;
  }
}

void Scheduler::KeepArrivedPages(Sequence* sequence) {
  assert(!sequence->running);
  if (!options_.share_prefixes || sequence->arriving == nullptr || sequence->flushed) return;
  // It owns them as long as this takes, so that they become idle in their order.
  UseCachedPages(sequence);
  const int before = sequence->computed;
  const int count = ArrivedNext(*sequence, options_.page_size);
  const int kept_for_others = kept_pages_ - KeptPages(*sequence);
  if (count > 0 && PagesToAdmit(*sequence) + kept_for_others <= allocator_.available() &&
      AllocatePages(sequence, count)) {
    CopyArrivedPages(sequence);
    if (sequence->kept_to == 0) sequence->kept_from = before;
    sequence->kept_to = sequence->computed;
    kept_pages_ = kept_for_others + KeptPages(*sequence);
  }
  ReleasePages(sequence);
}

void Scheduler::Computed(const ScheduledRows& rows) {
  Sequence& sequence = *rows.sequence;
  assert(sequence.computed == rows.first_position);
  sequence.computed += rows.row_count;
  sequence.most_computed = std::max(sequence.most_computed, sequence.computed);
  EnterPages(&sequence);
}

void Scheduler::EnterPages(Sequence* entered_sequence) {
  if (!options_.share_prefixes) return;
  Sequence& sequence = *entered_sequence;
  const auto page_size = static_cast<size_t>(options_.page_size);
  const std::span<const int32_t> tokens = sequence.tokens;
  while (sequence.can_enter_pages &&
         (sequence.entered_pages + 1) * options_.page_size <= sequence.computed) {
    const auto index = static_cast<size_t>(sequence.entered_pages);
    const int32_t parent = index == 0 ? PrefixCache::kNone : sequence.pages[index - 1];
    int32_t& page = sequence.pages[index];
    const int32_t entered = prefix_cache_.Insert(
        sequence.prefix_context, parent, tokens.subspan(index * page_size, page_size), page);
    if (entered == page) {
      allocator_.Keep(page);
    } else if (entered == PrefixCache::kNone) {
      sequence.can_enter_pages = false;
      return;
    } else {
      // Computed twice at the same time: one copy is enough.
      allocator_.Share(entered);
      allocator_.Release({&page, 1});
      page = entered;
    }
    ++sequence.entered_pages;
  }
}

bool Scheduler::GiveDraftPages(Sequence* sequence, int slots) {
  const int missing =
      PagesFor(sequence->computed + slots) - static_cast<int>(sequence->pages.size());
  return missing <= 0 || AllocatePages(sequence, missing);
}

void Scheduler::ComputedDraft(const ScheduledRows& rows) {
  Computed(rows);
  Sequence& sequence = *rows.sequence;
  if (sequence.computed > sequence.charged) {
    sequence.account->rows += sequence.computed - sequence.charged;
    sequence.charged = sequence.computed;
  }
  const auto needed = static_cast<size_t>(PagesFor(sequence.length()));
  if (sequence.pages.size() <= needed) return;
  allocator_.Release(std::span<const int32_t>(sequence.pages).subspan(needed));
  sequence.pages.resize(needed);
}

void Scheduler::Charge(Sequence* sequence) {
  const int from = std::max(sequence->charged, sequence->computed);
  if (from >= sequence->length()) return;
  sequence->account->rows += sequence->length() - from;
  sequence->charged = sequence->length();
}

bool Scheduler::MakeRoom(const Sequence& sequence, int pages_needed) {
  int available = allocator_.available();
  int slots = options_.max_sequences - running();
  size_t remaining = running_.size();
  absl::flat_hash_map<int32_t, int> released;  // owners of a page that would be gone
  while ((available < pages_needed || slots < 1) && remaining > 0 &&
         MayPushOut(sequence, *running_[remaining - 1])) {
    --remaining;
    for (int32_t page : running_[remaining]->pages) {
      if (++released[page] == allocator_.owners(page)) ++available;
    }
    ++slots;
  }
  if (available < pages_needed || slots < 1) return false;
  while (running_.size() > remaining) Preempt(running_.back());
  return true;
}

int Scheduler::PagesToAdmit(const Sequence& sequence) const {
  const int pages = PagesFor(sequence.length());
  // One page for each running sequence is left to them, lest they push it out again soon.
  const int reserve = std::min(running(), allocator_.total() - pages);
  return pages - static_cast<int>(sequence.pages.size()) + reserve;
}

bool Scheduler::TryAdmit(Sequence* sequence) {
  // Prompts before it in the order may need all rows of the step.
  int rows_before = 0;
  for (const Sequence* other : running_) {
    if (ServedBefore(*other, *sequence)) rows_before += other->uncomputed();
  }
  if (rows_before >= options_.max_rows) return false;
  // Looking for cached pages is not worth while where there can be no slot.
  if (running() == options_.max_sequences && !MayPushOut(*sequence, *running_.back())) return false;

  const int hits = UseCachedPages(sequence);
  if (!MakeRoom(*sequence, PagesToAdmit(*sequence))) {
    ReleasePages(sequence);
    return false;
  }
  Erase(waiting_, sequence);
  AllocatePages(sequence, PagesFor(sequence->length()) - static_cast<int>(sequence->pages.size()));
  sequence->running = true;
  InsertInOrder(running_, sequence);
  if (options_.share_prefixes && sequence->use_cached_prefix) {
    counters_.prefix_query_tokens += static_cast<uint64_t>(sequence->length());
  }
  const int kept = std::max(std::min(hits, sequence->kept_to) - sequence->kept_from, 0);
  CountShared(sequence, kept);
  CountHits(sequence, hits - kept);
  ForgetKept(sequence);
  RestorePages(sequence);
  UseArrivedPages(sequence);
  Charge(sequence);
  return true;
}

void Scheduler::Admit() {
  while (true) {
    Sequence* first = nullptr;
    for (Sequence* sequence : waiting_) {
      if (sequence->held) continue;
      if (first == nullptr || ServedBefore(*sequence, *first)) first = sequence;
    }
    if (first == nullptr || !TryAdmit(first)) return;
  }
}

void Scheduler::GivePages() {
  // Preemption removes sequences behind the one that is looked at, or that one itself.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    CountHits(sequence, UseCachedPages(sequence));
    const int missing = PagesFor(sequence->length()) - static_cast<int>(sequence->pages.size());
    if (missing <= 0) {
      UseArrivedPages(sequence);
      continue;
    }
    while (allocator_.available() < missing && running_.back() != sequence) {
      Preempt(running_.back());
    }
    if (!AllocatePages(sequence, missing)) Preempt(sequence);
  }
}

int Scheduler::RowsToArrived(const Sequence& sequence) const {
  int rows = sequence.uncomputed();
  if (sequence.arriving == nullptr) return rows;
  const int until = sequence.arriving->compute_until;
  if (until > sequence.computed) rows = std::min(rows, until - sequence.computed);
  if (sequence.arriving->pages.empty()) return rows;
  const int64_t position = int64_t{sequence.arriving->pages.begin()->first} * options_.page_size;
  // A page that has come before the sequence was at its beginning is behind it by now.
  if (position <= sequence.computed) return rows;
  return static_cast<int>(std::min<int64_t>(position - sequence.computed, rows));
}

int Scheduler::PromptRows(const std::vector<Sequence*>& served) const {
  StepShape decode{.rows = 0, .sequences = 0, .attended = 0};
  const Sequence* prompt = nullptr;  // the first
  for (const Sequence* sequence : served) {
    if (sequence->uncomputed() == 1) {
      ++decode.rows;
      ++decode.sequences;
      decode.attended += sequence->length();
    } else if (prompt == nullptr) {
      prompt = sequence;
    }
  }
  int rows = options_.max_rows;
  if (prompt != nullptr && decode.rows > 0 && options_.row_budget) {
    rows = std::clamp(options_.row_budget(decode, prompt->computed), decode.rows + 1, rows);
  }
  return rows - decode.rows;
}

std::vector<ScheduledRows> Scheduler::Schedule() {
  ++step_;
  Admit();
  GivePages();
  std::vector<Sequence*> served = running_;
  std::sort(served.begin(), served.end(),
            [this](const Sequence* a, const Sequence* b) { return ServedBefore(*a, *b); });
  int prompt_rows = PromptRows(served);
  std::vector<ScheduledRows> rows;
  for (Sequence* sequence : served) {
    int count = 1;
    if (sequence->uncomputed() > 1) {
      count = std::min(RowsToArrived(*sequence), prompt_rows);
      prompt_rows -= count;
    }
    if (count == 0) continue;
    Charge(sequence);
    rows.push_back({sequence, sequence->computed, count});
  }
  spare_rows_ = prompt_rows;
  return rows;
}

}  // namespace octogate::workers
