// Decides which pages of a prompt an engine fetches from a store rather than computes, and lets
// sequences wait for them no longer than that is worth.
//
// A sequence of which the store may have pages is held: it waits for them, and occupies no step. It
// is let go when all have come or none will come any more, or when it has waited for as long as
// was promised; then what has come is used and the rest is computed. What is weighed is
//
//   recompute  seconds of the steps that would compute the pages, by the measured cost of steps and
//              how much longer they take lately;
//   fetch      seconds that the store is expected to take for them;
//   hit rate   the share of the lookups lately that found anything, recent ones weighing more.
//
// A sequence is held where fetching is much faster than computing and hit rate * (recompute -
// fetch) exceeds what a miss costs, (1 - hit rate) * miss. Where fetching is not so fast that there
// is nothing left to compute meanwhile, both meet: pages come from the last one on, which do not
// depend on who computes those before them, while the sequence computes from the first. It computes
// no further in a step than to where they are expected to meet, which is reckoned again after every
// step by what has come; where nothing has come since the step before, it does not go by that any
// more. Where neither is worth it, the lookup is declined; but now and then one is made all the
// same without holding the sequence, of few pages, so that it is noticed when the store has become
// of use.
//
// What is promised is twice the expected time and a little more for the scheduling of threads, but
// not more than half of `recompute`. When it has passed, a
// sequence waits on only where pages have come since the last promise and the others, at the pace
// of those, would come sooner than they could be computed. So what was waited for never exceeds
// what the pages that came have saved by more than the last promise, and a store that dies costs a
// request one promise, and only those that were waiting: what is under way for long makes the store
// expect more of others. Where something has come, the rest of what was waited for is met instead.
//
// Not thread-safe, but for CountStored, Flush and store_stats; of the engine's thread.
#ifndef OCTOGATE_WORKERS_ENGINE_SHARED_PAGES_H_
#define OCTOGATE_WORKERS_ENGINE_SHARED_PAGES_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/engine/page_explanation.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/page_store.h"
#include "workers/engine/sequence.h"

namespace octogate::workers {

class SharedPages {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Options {
    int page_size = 1;
    // Seconds that it takes to compute the first so many positions of a sequence. Empty: not known,
    // and whatever the store has is waited for, for five seconds at most.
    std::function<double(int positions)> recompute_seconds;
    // Called on any thread when Poll has something to do.
    std::function<void()> wake;
  };

  struct Counters {
    uint64_t lookups = 0;
    uint64_t lookup_tokens = 0;
    uint64_t declined = 0;   // lookups that were not made
    uint64_t abandoned = 0;  // fetches that took longer than promised
  };

  SharedPages(std::unique_ptr<PageStore> store, Options options);

  // Looks for the pages of a sequence that is about to wait for its turn behind `cached_pages`,
  // those at its beginning that the prefix cache has. May hold the sequence.
  void Begin(Sequence& sequence, int cached_pages, Time now);
  // What Begin would make of it.
  PageOutlook Outlook(const Sequence& sequence, int cached_pages) const {
    return PlanFor(sequence, cached_pages).outlook;
  }
  // Hands a sequence what has come, and lets it go where it need not wait any longer.
  void Poll(Sequence& sequence, Time now);
  // Offers the store the first `pages` of a sequence.
  void Offer(const Sequence& sequence, int pages, const PageStore::ReadPages& read);

  // See PageStore; of `pages` pages from `first` on. The first two may be called by any thread.
  absl::StatusOr<int> CountStored(const Sequence& sequence, int first, int pages,
                                  absl::Time deadline) {
    return store_->CountStored(ChainOf(sequence, first, first + pages), deadline);
  }
  absl::Status Flush(const PageFlush& flush, absl::Time deadline) {
    return store_->Flush(flush, deadline);
  }
  ContextFilter TakeFlushed() { return store_->TakeFlushed(); }

  const Counters& counters() const { return counters_; }
  PageStoreStats store_stats() const { return store_->stats(); }

 private:
  struct Plan {
    PageOutlook outlook;
    std::unique_ptr<ArrivingPages> meeting;  // of PageChoice::kMeet; see PlanMeeting
  };

  Plan PlanFor(const Sequence& sequence, int cached_pages) const;
  double RecomputeSeconds(int from, int to) const;
  PageChain ChainOf(const Sequence& sequence, int first, int pages) const;
  // Pages from `first` on that are computed before the others have come, where `seconds` pass until
  // the first of them comes; a fraction of a page counts.
  double PagesToMeeting(const ArrivingPages& arriving, int gap, double seconds) const;
  // How pages from `first` on would come from the back; null where that is not worth it.
  std::unique_ptr<ArrivingPages> PlanMeeting(int first, int pages) const;
  // Lets them come so. Returns whether they do: not where the plan is null.
  bool BeginMeeting(Sequence& sequence, std::unique_ptr<ArrivingPages> meeting);
  // Returns whether no more will come.
  bool TakeArrived(ArrivingPages& arriving, int first_needed);
  void PollMeeting(Sequence& sequence, Time now);
  // Asks for what there was no memory for, if that is still worth waiting for, and returns whether
  // it did.
  bool Continue(Sequence& sequence, Time now);
  // What a sequence waits at most for what takes so many seconds to fetch, or to compute.
  double PromiseFor(double fetch, double recompute) const;
  // Whether a sequence that has waited for as long as was promised waits on.
  bool Extend(ArrivingPages& arriving, Time now) const;
  void Learn(bool hit);

  const Options options_;
  const std::unique_ptr<PageStore> store_;
  double hit_rate_ = 0.5;
  Time next_probe_;
  std::vector<SharedPage> arrived_;  // scratch
  Counters counters_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SHARED_PAGES_H_
