// One running generation, as far as scheduling is concerned.
#ifndef OCTOGATE_WORKERS_ENGINE_SEQUENCE_H_
#define OCTOGATE_WORKERS_ENGINE_SEQUENCE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "workers/engine/fair_share.h"
#include "workers/engine/page_store.h"
#include "workers/engine/swap_space.h"

namespace octogate::workers {

// What a sequence gets from the store that engines share.
struct ArrivingPages {
  std::unique_ptr<PageFetch> fetch;  // null: no more will come
  std::map<int, SharedPage> pages;   // that have come and are not used yet, by their index
  int first = 0;                     // the index of the first that was asked for
  int expected = 0;                  // pages, if the store has all of them
  int asked = 0;                     // of them, so far; the others as memory for them comes free
  int came = 0;                      // pages
  int came_before = 0;               // when the promise was last extended
  double recompute = 0;              // seconds that all of them would take
  // Pages come from the last one on while the sequence computes from the first: until it is known
  // where they meet, it computes no further than to this position. 0: as far as there is to.
  int compute_until = 0;
  bool meets = false;
  double seconds_per_page = 0;  // that come, as expected
  int came_at_step = 0;         // pages, when compute_until was last set
  std::chrono::steady_clock::time_point first_came;
  std::chrono::steady_clock::time_point begun;
  std::chrono::steady_clock::time_point hold_until;
};

struct Sequence {
  // Set by whoever adds it to the scheduler.
  int priority = 0;
  uint64_t arrival = 0;  // unique
  std::string tenant;
  // The prompt and the answer so far.
  std::vector<int32_t> tokens;
  // Pages are shared with sequences of the same context: see PrefixCache.
  std::string prefix_context;
  // False: computes each of its rows itself.
  bool use_cached_prefix = true;

  // It waits for pages that are to arrive: it is not admitted, and others pass it.
  bool held = false;
  // May be null; the scheduler uses what has arrived.
  std::unique_ptr<ArrivingPages> arriving;
  // Positions that have arrived and wait in the prefix cache for it to be admitted.
  int kept_from = 0;
  int kept_to = 0;

  // Kept by the scheduler. The keys and values of positions [0, computed) are in `pages`.
  int computed = 0;
  std::vector<int32_t> pages;
  int entered_pages = 0;        // pages at the beginning that are in the prefix cache
  bool can_enter_pages = true;  // until the prefix cache refuses one
  bool flushed = false;         // what it has is not to be found by others: it enters no pages
  int most_computed = 0;        // of all times: rows below it are computed again
  int reused = 0;               // positions below that which were found, not computed
  int shared = 0;               // of `reused`, those that a store had
  // Of one that was preempted: the keys and values of positions [0, saved_positions). May be null.
  std::unique_ptr<SwapSpace::Saved> saved;
  int saved_positions = 0;
  bool running = false;  // or waiting
  int preemptions = 0;
  int64_t rank = 0;  // see RunsBefore
  FairShare::Account* account = nullptr;
  int charged = 0;  // positions that the tenant was charged

  int length() const { return static_cast<int>(tokens.size()); }
  int uncomputed() const { return length() - computed; }
};

// The order in which pages are given, which never changes between two sequences: by rank, which is
// the time of arrival less a bonus for priority, then by arrival.
inline bool RunsBefore(const Sequence& a, const Sequence& b) {
  if (a.rank != b.rank) return a.rank < b.rank;
  return a.arrival < b.arrival;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SEQUENCE_H_
