#include "workers/engine/shared_pages.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace octogate::workers {
namespace {

// The weight of the last lookup in the hit rate.
constexpr double kNewest = 0.1;
// What the threads between a store and an engine may take to be scheduled.
constexpr double kGrace = 0.01;
// Where fetching takes more of the time that computing takes, the one is done beside the other.
constexpr double kMostHeld = 0.4;
// What meeting has to save of that time, and in pages.
constexpr double kLeastGain = 0.05;
constexpr int kLeastMet = 2;
// Pages of a step after which nothing has come.
constexpr int kLeastStep = 4;
// Without a measured cost of computing.
constexpr double kLongestHold = 5;
constexpr int kProbePages = 4;
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

PageChain SharedPages::ChainOf(const Sequence& sequence, int first, int pages) const {
  return {.context = sequence.prefix_context,
          .tokens = sequence.tokens,
          .first = first,
          .count = pages - first,
          .sequence = sequence.arrival};
}

SharedPages::Plan SharedPages::PlanFor(const Sequence& sequence, int cached_pages) const {
  // A row of the last token has to be computed in any case.
  const int pages = (sequence.length() - 1) / options_.page_size;
  if (!sequence.use_cached_prefix || pages <= cached_pages) return {};
  const double recompute =
      RecomputeSeconds(cached_pages * options_.page_size, pages * options_.page_size);
  const double fetch = store_->FetchSeconds(pages - cached_pages);
  const double gain = hit_rate_ * (recompute - fetch);
  Plan plan{.outlook = {.pages = pages - cached_pages,
                        .fetch_seconds = fetch,
                        .compute_seconds = recompute,
                        .choice = PageChoice::kCompute},
            .meeting = nullptr};
  if (fetch < kMostHeld * recompute && gain > (1 - hit_rate_) * store_->MissSeconds()) {
    plan.outlook.choice = PageChoice::kWait;
  } else if (plan.meeting = PlanMeeting(cached_pages, pages); plan.meeting != nullptr) {
    plan.outlook.choice = PageChoice::kMeet;
  }
  return plan;
}

void SharedPages::Begin(Sequence& sequence, int cached_pages, Time now) {
  Plan plan = PlanFor(sequence, cached_pages);
  const PageOutlook& outlook = plan.outlook;
  if (outlook.choice == PageChoice::kNothing) return;
  const int pages = cached_pages + outlook.pages;
  PageChain chain = ChainOf(sequence, cached_pages, pages);
  const bool hold = outlook.choice == PageChoice::kWait;
  if (!hold) {
    if (BeginMeeting(sequence, std::move(plan.meeting))) return;
    ++counters_.declined;
    if (now < next_probe_) return;
    next_probe_ = now + kProbeInterval;
    chain.count = std::min(chain.count, kProbePages);
  }
  auto shared = std::make_unique<ArrivingPages>();
  shared->fetch = store_->Fetch(chain, PageOrder::kForward, options_.wake);
  if (shared->fetch == nullptr) return;
  if (hold) {
    ++counters_.lookups;
    counters_.lookup_tokens += static_cast<uint64_t>(chain.count * options_.page_size);
    shared->begun = now;
    shared->first = cached_pages;
    shared->asked = shared->fetch->pages();
    shared->hold_until = After(now, PromiseFor(outlook.fetch_seconds, outlook.compute_seconds));
    shared->expected = chain.count;
    shared->recompute = outlook.compute_seconds;
    sequence.held = true;
  }
  sequence.arriving = std::move(shared);
}

double SharedPages::PromiseFor(double fetch, double recompute) const {
  return options_.recompute_seconds ? std::min(2 * fetch + kGrace, recompute / 2) : kLongestHold;
}

bool SharedPages::Continue(Sequence& sequence, Time now) {
  ArrivingPages& arriving = *sequence.arriving;
  const int next = arriving.first + arriving.asked;
  const int end = arriving.first + arriving.expected;
  const double recompute = RecomputeSeconds(next * options_.page_size, end * options_.page_size);
  const double fetch = store_->FetchSeconds(end - next);
  if (fetch >= kMostHeld * recompute) return false;
  auto more = store_->Fetch(ChainOf(sequence, next, end), PageOrder::kForward, options_.wake);
  if (more == nullptr) return false;
  arriving.asked += more->pages();
  arriving.fetch = std::move(more);
  arriving.came_before = arriving.came;
  arriving.hold_until = After(now, PromiseFor(fetch, recompute));
  return true;
}

double SharedPages::PagesToMeeting(const ArrivingPages& arriving, int gap, double seconds) const {
  const double fetch = arriving.seconds_per_page;
  const double compute = arriving.recompute / arriving.expected;
  return (seconds + fetch * gap) / (compute + fetch);
}

std::unique_ptr<ArrivingPages> SharedPages::PlanMeeting(int first, int pages) const {
  const int count = pages - first;
  const double fetch = store_->FetchSeconds(count);
  if (!options_.recompute_seconds || std::isinf(fetch) || count < kLeastMet) return nullptr;
  const double miss = store_->MissSeconds();
  auto meeting = std::make_unique<ArrivingPages>();
  meeting->meets = true;
  meeting->first = first;
  meeting->expected = count;
  meeting->recompute = RecomputeSeconds(first * options_.page_size, pages * options_.page_size);
  // What is under way already comes first.
  const double one = store_->FetchSeconds(1);
  meeting->seconds_per_page = count > 1 ? std::max(fetch - one, 0.0) / (count - 1) : fetch;
  // Whether the store has them is asked first.
  const double delay = miss + std::max(one - meeting->seconds_per_page, 0.0);
  const double met = count - PagesToMeeting(*meeting, count, delay);
  if (met < kLeastMet || hit_rate_ * met < kLeastGain * count) return nullptr;
  meeting->compute_until = (first + static_cast<int>(std::ceil(count - met))) * options_.page_size;
  return meeting;
}

bool SharedPages::BeginMeeting(Sequence& sequence, std::unique_ptr<ArrivingPages> meeting) {
  if (meeting == nullptr) return false;
  meeting->fetch =
      store_->Fetch(ChainOf(sequence, meeting->first, meeting->first + meeting->expected),
                    PageOrder::kBackward, options_.wake);
  if (meeting->fetch == nullptr) return false;
  ++counters_.lookups;
  counters_.lookup_tokens += static_cast<uint64_t>(meeting->expected * options_.page_size);
  if (sequence.arriving != nullptr) meeting->pages = std::move(sequence.arriving->pages);
  sequence.arriving = std::move(meeting);
  return true;
}

void SharedPages::PollMeeting(Sequence& sequence, Time now) {
  ArrivingPages& meeting = *sequence.arriving;
  const int page_size = options_.page_size;
  int front = (sequence.computed + page_size - 1) / page_size;
  const int before = meeting.came;
  const bool done = TakeArrived(meeting, front);
  if (meeting.came > before) {
    // The first ones tell when they began to come.
    if (before == 0) {
      meeting.came_before = meeting.came;
      meeting.first_came = now;
    } else {
      meeting.seconds_per_page = std::chrono::duration<double>(now - meeting.first_came).count() /
                                 (meeting.came - meeting.came_before);
    }
  }
  // Where they come in another order, there may be some to come behind those that are reached.
  while (meeting.pages.contains(front)) ++front;
  const auto next = meeting.pages.lower_bound(front);
  const int end = next == meeting.pages.end() ? (sequence.length() - 1) / page_size : next->first;
  if (done || front >= end) {
    Learn(meeting.came > 0);
    meeting.fetch = nullptr;
    meeting.compute_until = 0;
    return;
  }
  // Steps end at pages until then: what is beyond has been computed since.
  if (sequence.computed < meeting.compute_until) return;
  // Where nothing comes, few steps are made for it.
  const int pages = meeting.came == meeting.came_at_step
                        ? std::max((end - front) / 2, kLeastStep)
                        : static_cast<int>(std::ceil(PagesToMeeting(meeting, end - front, 0)));
  meeting.compute_until = (front + std::max(pages, 1)) * page_size;
  meeting.came_at_step = meeting.came;
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

bool SharedPages::TakeArrived(ArrivingPages& arriving, int first_needed) {
  arrived_.clear();
  const bool done = arriving.fetch->Take(first_needed, arrived_);
  arriving.came += static_cast<int>(arrived_.size());
  for (SharedPage& page : arrived_) {
    const int index = page.index;
    arriving.pages.insert_or_assign(index, std::move(page));
  }
  return done;
}

void SharedPages::Poll(Sequence& sequence, Time now) {
  ArrivingPages* const arriving = sequence.arriving.get();
  if (arriving == nullptr || arriving->fetch == nullptr) return;
  if (arriving->meets) {
    PollMeeting(sequence, now);
    return;
  }
  const int before = arriving->came;
  const bool done = TakeArrived(*arriving, 0);
  const bool overdue =
      sequence.held && now >= arriving->hold_until && (done || !Extend(*arriving, now));
  if (!done && !overdue) return;
  if (done && sequence.held && arriving->came == arriving->asked &&
      arriving->asked < arriving->expected) {
    if (Continue(sequence, now)) return;
    if (arriving->came > before) {
      options_.wake();  // once that is copied, there is memory again
      return;
    }
  }
  Learn(arriving->came > 0);
  sequence.held = false;
  arriving->fetch = nullptr;
  if (done) return;
  ++counters_.abandoned;
  if (arriving->came == 0) return;
  int first = std::max(arriving->first, sequence.kept_to / options_.page_size);
  while (arriving->pages.contains(first)) ++first;
  const int pages = (sequence.length() - 1) / options_.page_size;
  BeginMeeting(sequence, PlanMeeting(first, pages));
}

void SharedPages::Offer(const Sequence& sequence, int pages, const PageStore::ReadPages& read) {
  if (pages == 0) return;
  store_->Write(ChainOf(sequence, 0, pages), read);
}

}  // namespace octogate::workers
