// Decides which rows each step computes: continuous batching at token granularity (Yu et al. 2022,
// "Orca", OSDI) over a paged KV cache (Kwon et al. 2023, "PagedAttention", SOSP), prompts cut into
// chunks that share steps with decoding sequences (Agrawal et al. 2024, "Sarathi-Serve", OSDI).
//
// Two orders rule it.
//
// Order of pages. A sequence that arrives at step t with priority p has rank t - p * ageing_steps;
// lower rank first, then earlier arrival. It never changes, so that two sequences never take pages
// from each other in turn.
//
// Order of service. The level of a sequence is its priority plus one for each ageing_steps since it
// arrived. Higher level first; in a level the tenant first that was charged the fewest rows (see
// FairShare); then earlier arrival.
//
// In each step
//   1. waiting sequences are admitted in the order of service while there is a slot, pages for all
//      their tokens and rows to give them. Full pages that the prefix cache has are taken from
//      there, all but the last token's, of which a row has to be computed. One that finds no room
//      may push out running sequences of lower priority behind it in the order of pages, if that
//      makes room; else nobody behind it is admitted either;
//   2. every running sequence gets pages for all its tokens, in the order of pages; where none is
//      available, the last in that order is preempted: it loses its pages and waits. What they held
//      is copied to the swap space where that is expected to take less time than to compute it
//      again, and there is room. When it is admitted again, it has what the prefix cache has, then
//      what was saved, and computes the rest again;
//   3. every decoding sequence gets its row; prompts share the rest of the rows in the order of
//      service: of max_rows, or of row_budget where sequences decode.
//
// A sequence that is held waits for pages from elsewhere, within a bounded time: the order of
// service begins behind it as if it were not there. Pages that have arrived are copied in when it
// is admitted, or when it has come to them, and are in the prefix cache from then on. Those at its
// beginning may be there before: nobody owns them, and where they are given to others, which takes
// all that was used longer ago first, they are computed like any.
//
// Every sequence finishes. Only sequences that arrive within a bounded time can have a lower rank,
// so that sooner or later a sequence has the lowest there is and is of the highest level, together
// with finitely many others. The first in the order of pages is never preempted, fits alone
// (`max_positions`) and gets a row as soon as it decodes; the first in the order of service gets
// rows as long as it is a prompt; nobody is admitted past it.
//
// Fairness. Between tenants that both have sequences waiting, of one level, the rows charged differ
// by at most max_sequences * (tokens of the longest sequence): whoever has been charged more is
// not admitted, but what runs may go on.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_ENGINE_SCHEDULER_H_
#define OCTOGATE_WORKERS_ENGINE_SCHEDULER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "workers/engine/fair_share.h"
#include "workers/engine/page_allocator.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/prefix_cache.h"
#include "workers/engine/sequence.h"
#include "workers/engine/step_cost.h"
#include "workers/engine/swap_space.h"

namespace octogate::workers {

struct SchedulerOptions {
  int max_sequences = 1;  // running at the same time
  int max_rows = 1;       // in one step; at least max_sequences
  int page_size = 1;      // positions
  bool share_prefixes = true;
  int64_t ageing_steps = 2000;  // at least 1
  // Rows that a step may have in all where prompts share it with `decode`, the sequences that
  // decode; the prompt that is served first attends to `prompt_context` positions already. Clamped
  // to [rows of decode + 1, max_rows]. Empty: max_rows.
  std::function<int(const StepShape& decode, int64_t prompt_context)> row_budget;
  // Where preempted sequences leave what they have computed; null: nowhere. Outlives the scheduler
  // and its sequences.
  SwapSpace* swap = nullptr;
  // Seconds that it takes to compute the first so many positions of a sequence again. Empty: not
  // known, and whatever there is room for is saved.
  std::function<double(int positions)> recompute_seconds;
  // Copies what has arrived for a sequence into pages, and returns when that is done; needed where
  // anything arrives.
  std::function<void(std::span<const std::span<const std::byte>> from,
                     std::span<const int32_t> pages)>
      upload;
};

// Rows [first_position, first_position + row_count) of a sequence. The step yields logits for its
// last row where that is the sequence's last token.
struct ScheduledRows {
  Sequence* sequence = nullptr;
  int first_position = 0;
  int row_count = 0;

  bool completes() const { return first_position + row_count == sequence->length(); }
};

class Scheduler {
 public:
  struct Counters {
    uint64_t preemptions = 0;
    // Of these: what was computed has been saved; would have been, had there been room.
    uint64_t preemptions_saved = 0;
    uint64_t preemptions_without_room = 0;
    // Tokens whose keys and values came back from the swap space.
    uint64_t restored_tokens = 0;
    // Tokens of sequences that were admitted or began anew, and those of them whose keys and values
    // were found in the prefix cache.
    uint64_t prefix_query_tokens = 0;
    uint64_t prefix_hit_tokens = 0;
    // Tokens whose keys and values have arrived from a store, and were used.
    uint64_t shared_tokens = 0;
  };

  Scheduler(const SchedulerOptions& options, int pages);

  // Lets a sequence wait for its turn. It must have at least one token, at most max_positions()
  // tokens for as long as it is here, and stay alive until Remove.
  void Add(Sequence* sequence);
  // Forgets a sequence and releases its pages and what was saved of it.
  void Remove(Sequence* sequence);

  // The rows of the next step, sequences in order of service; empty only where there is no
  // sequence that is not held. Their pages are allocated.
  std::vector<ScheduledRows> Schedule();
  // Rows that drafts may take in the step that Schedule has planned last: those that nothing else
  // would have, of max_rows or row_budget.
  int spare_rows() const { return spare_rows_; }
  // Lets a decoding sequence of that step have pages for `slots` positions from the first one that
  // is not computed, as long as the step lasts. Returns false, and gives none, where there are not
  // as many: nobody is preempted for drafts. What the prefix cache keeps may have to go.
  bool GiveDraftPages(Sequence* sequence, int slots);

  // The rows are computed: others may use the pages that they fill. Comes before the sequence
  // grows.
  void Computed(const ScheduledRows& rows);
  // The same of a decoding sequence whose step held drafts: rows.row_count of its rows are part of
  // it, and it has grown already. Gives back pages that it does not need now. Its tenant is charged
  // these rows, as if they had been decoded one by one, and none for drafts that were wrong: they
  // took no rows from others, and are there because they make all tokens come sooner.
  void ComputedDraft(const ScheduledRows& rows);
  // What a running sequence has computed is of no use any more: it begins anew in `prefix_context`.
  void Restart(Sequence* sequence, std::string prefix_context);

  // Leaves what has arrived for a sequence that waits in the prefix cache, as far as it continues
  // what that has, and there is room for it and for what is kept for others.
  void KeepArrivedPages(Sequence* sequence);
  // Forgets the pages of the contexts: no sequence finds them any more, those that run keep theirs
  // until they end, and enter none into the prefix cache.
  FlushedPages Flush(const ContextFilter& includes);

  // Full pages at the beginning of a sequence that the prefix cache has, all but that of the last
  // token: goes on from those that it had before, where it still has the last of them.
  void FollowCachedPages(const Sequence& sequence, CachedPrefix& prefix) const;

  // Positions that the whole cache holds.
  int64_t max_positions() const { return int64_t{allocator_.total()} * options_.page_size; }
  const PageAllocator& pages() const { return allocator_; }
  const PrefixCache& prefix_cache() const { return prefix_cache_; }
  const Counters& counters() const { return counters_; }
  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const { return static_cast<int>(waiting_.size()); }

 private:
  int PagesFor(int positions) const;
  int64_t LevelOf(const Sequence& sequence) const;
  bool ServedBefore(const Sequence& a, const Sequence& b) const;

  void Admit();
  bool TryAdmit(Sequence* sequence);
  // Pushes out sequences until `pages_needed` are available and a slot is; returns whether that is
  // so. Pushes out none where it would not help.
  bool MakeRoom(const Sequence& sequence, int pages_needed);
  // Pages that have to be available for it to be admitted beside those that it has.
  int PagesToAdmit(const Sequence& sequence) const;
  // Lets every running sequence have pages for all its tokens, and preempts where there are none.
  void GivePages();
  // Takes what the prefix cache has of the tokens that come next; returns how many those are.
  int UseCachedPages(Sequence* sequence);
  // Pages that have arrived and come next in a sequence.
  static int ArrivedNext(const Sequence& sequence, int page_size);
  // Copies them into the sequence's pages and enters them.
  void CopyArrivedPages(Sequence* sequence);
  void UseArrivedPages(Sequence* sequence);
  // Rows of a prompt up to the first page that has arrived, or all that are left.
  int RowsToArrived(const Sequence& sequence) const;
  // Enters what is computed into the prefix cache.
  void EnterPages(Sequence* sequence);
  void CountHits(Sequence* sequence, int tokens);
  void CountShared(Sequence* sequence, int tokens);
  int KeptPages(const Sequence& sequence) const;
  // Nothing waits for a sequence in the prefix cache any more.
  void ForgetKept(Sequence* sequence);
  // Positions below `computed` that were not computed: returns how many are new.
  int CountReused(Sequence* sequence);
  bool AllocatePages(Sequence* sequence, int count);
  void ReleasePages(Sequence* sequence);
  // Saves what a sequence that is about to lose its pages has computed, if that pays.
  void SavePages(Sequence* sequence);
  // Copies what was saved, and the prefix cache did not have, into the sequence's pages.
  void RestorePages(Sequence* sequence);
  void Preempt(Sequence* sequence);
  void Charge(Sequence* sequence);
  // Rows of a step that decoding leaves for prompts, or without any for drafts.
  int PromptRows(const std::vector<Sequence*>& served) const;

  const SchedulerOptions options_;
  PageAllocator allocator_;
  PrefixCache prefix_cache_;
  FairShare fair_share_;
  std::vector<Sequence*> running_;  // both in the order of pages
  std::vector<Sequence*> waiting_;
  int64_t step_ = 0;
  int spare_rows_ = 0;
  int kept_pages_ = 0;  // that have arrived for sequences that wait, and are idle
  Counters counters_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SCHEDULER_H_
