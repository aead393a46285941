#include "workers/engine/shared_pages.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace octogate::workers {
namespace {

// The weight of the last lookup in the hit rate.
constexpr double kNewest = 0.1;
// What the threads between a store and an engine may take to be scheduled.
constexpr double kGrace = 0.01;
// What fetching has to save of the time that computing takes.
constexpr double kLeastGain = 0.1;
// Without a measured cost of computing.
constexpr double kLongestHold = 5;
constexpr auto kProbeInterval = std::chrono::milliseconds(200);

SharedPages::Time After(SharedPages::Time now, double seconds) {
  return now + std::chrono::duration_cast<SharedPages::Time::duration>(
                   std::chrono::duration<double>(seconds));
}

}  // namespace

SharedPages::SharedPages(std::unique_ptr<PageStore> store, Options options)
    : options_(std::move(options)), store_(std::move(store)) {}

double SharedPages::RecomputeSeconds(int from, int to) const {
  if (!options_.recompute_seconds) return std::numeric_limits<double>::infinity();
  return options_.recompute_seconds(to) - options_.recompute_seconds(from);
}

void SharedPages::Begin(Sequence& sequence, int cached_pages, Time now) {
  // A row of the last token has to be computed in any case.
  const int pages = (sequence.length() - 1) / options_.page_size;
  if (!sequence.use_cached_prefix || pages <= cached_pages) return;
  PageChain chain{.context = sequence.prefix_context,
                  .tokens = sequence.tokens,
                  .first = cached_pages,
                  .count = pages - cached_pages};
  const double recompute =
      RecomputeSeconds(cached_pages * options_.page_size, pages * options_.page_size);
  const double fetch = store_->FetchSeconds(chain.count);
  const double gain = hit_rate_ * (recompute - fetch);
  const bool hold =
      fetch < (1 - kLeastGain) * recompute && gain > (1 - hit_rate_) * store_->MissSeconds();
  if (!hold) {
    ++counters_.declined;
    if (now < next_probe_) return;
    next_probe_ = now + kProbeInterval;
    chain.count = 1;
  }
  auto shared = std::make_unique<ArrivingPages>();
  shared->fetch = store_->Fetch(chain, options_.wake);
  if (shared->fetch == nullptr) return;
  if (hold) {
    ++counters_.lookups;
    counters_.lookup_tokens += static_cast<uint64_t>(chain.count * options_.page_size);
    const double promise = options_.recompute_seconds
                               ? std::min(2 * fetch + kGrace, std::max(fetch, recompute / 2))
                               : kLongestHold;
    shared->begun = now;
    shared->hold_until = After(now, promise);
    shared->expected = chain.count;
    shared->recompute = recompute;
    sequence.held = true;
  }
  sequence.arriving = std::move(shared);
}

void SharedPages::Learn(bool hit) { hit_rate_ += kNewest * ((hit ? 1 : 0) - hit_rate_); }

bool SharedPages::Extend(ArrivingPages& arriving, Time now) const {
  if (!options_.recompute_seconds || arriving.came == arriving.came_before) return false;
  const int rest = arriving.expected - arriving.came;
  const double elapsed = std::chrono::duration<double>(now - arriving.begun).count();
  const double fetch = elapsed * rest / arriving.came;
  if (fetch >= arriving.recompute * rest / arriving.expected) return false;
  arriving.came_before = arriving.came;
  arriving.hold_until = After(now, fetch + kGrace);
  return true;
}

void SharedPages::Poll(Sequence& sequence, Time now) {
  ArrivingPages* const arriving = sequence.arriving.get();
  if (arriving == nullptr || arriving->fetch == nullptr) return;
  arrived_.clear();
  const bool done = arriving->fetch->Take(arrived_);
  arriving->came += static_cast<int>(arrived_.size());
  for (SharedPage& page : arrived_) {
    const int index = page.index;
    arriving->pages.insert_or_assign(index, std::move(page));
  }
  const bool overdue =
      sequence.held && now >= arriving->hold_until && (done || !Extend(*arriving, now));
  if (overdue && !done) ++counters_.abandoned;
  if (done || overdue) {
    Learn(arriving->came > 0);
    sequence.held = false;
    arriving->fetch = nullptr;
  }
}

void SharedPages::Offer(const Sequence& sequence, int pages, const PageStore::ReadPages& read) {
  if (pages == 0) return;
  store_->Write(
      {.context = sequence.prefix_context, .tokens = sequence.tokens, .first = 0, .count = pages},
      read);
}

}  // namespace octogate::workers
