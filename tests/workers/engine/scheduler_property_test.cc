// The scheduler as pure data under random load: every promise of its header is checked after each
// step, against a cache in which a position holds the name of what was computed there.
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/engine/scheduler.h"

namespace octogate::workers {
namespace {

// Keys and values are a function of the context and of all tokens up to their position.
using KeyValue = std::pair<std::string, std::vector<int32_t>>;

KeyValue KeyValueAt(const Sequence& sequence, int position) {
  return {sequence.prefix_context,
          {sequence.tokens.begin(), sequence.tokens.begin() + position + 1}};
}

int FloorDiv(int a, int b) { return a / b - (a % b < 0 ? 1 : 0); }

class Simulation {
 public:
  // Up to `swap_pages` pages of preempted sequences are saved.
  Simulation(std::mt19937& random, const SchedulerOptions& options, int pages, int swap_pages)
      : random_(random),
        options_(options),
        cache_(static_cast<size_t>(pages * options.page_size)),
        swap_(SwapSpace::Make(
            sizeof(size_t), static_cast<uint64_t>(swap_pages) * sizeof(size_t),
            {.out = [this](int32_t page, std::span<std::byte> to) { CopyOut(page, to); },
             .in = [this](std::span<const std::byte> from, int32_t page) { CopyIn(from, page); }})),
        scheduler_(WithCopies(options), pages) {}

  int Pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  void Arrive() {
    const int longest = static_cast<int>(scheduler_.max_positions());
    auto sequence = std::make_unique<Sequence>();
    // Few tokens, few different ones: beginnings are often the same.
    const int length = Pick(1, longest);
    const int same = Pick(0, length);
    for (int i = 0; i < length; ++i) sequence->tokens.push_back(i < same ? 1 : Pick(1, 2));
    sequence->arrival = arrivals_++;
    sequence->priority = Pick(-1, 1);
    sequence->tenant = std::string(1, static_cast<char>('a' + Pick(0, 2)));
    sequence->prefix_context = Pick(0, 3) == 0 ? "other" : "";
    sequence->use_cached_prefix = Pick(0, 5) > 0;
    added_[sequence.get()] = step_;
    end_[sequence.get()] = Pick(length, longest);
    if (options_.share_prefixes && sequence->use_cached_prefix && Pick(0, 2) == 0) {
      sequence->arriving = std::make_unique<ArrivingPages>();
      sequence->held = true;
    }
    scheduler_.Add(sequence.get());
    live_.push_back(std::move(sequence));
  }

  // Pages come for sequences that are held, most of them in their order, until they are let go.
  void PagesCome() {
    for (const auto& sequence : live_) {
      if (!sequence->held) continue;
      const int pages = (sequence->length() - 1) / options_.page_size;
      for (int count = Pick(0, 3); count > 0 && next_page_[sequence.get()] < pages; --count) {
        int& next = next_page_[sequence.get()];
        if (Pick(0, 9) > 0) sequence->arriving->pages[next] = PageOf(*sequence, next);
        ++next;
      }
      scheduler_.KeepArrivedPages(sequence.get());
      CheckPages();
      if (Pick(0, 3) == 0) sequence->held = false;
    }
  }

  // Nobody finds anything of before any more, and who has something goes on with it.
  void Flush() {
    const std::string context = Pick(0, 1) == 0 ? "other" : "";
    const bool all = Pick(0, 1) == 0;
    scheduler_.Flush([&](std::string_view other) { return all || other == context; });
    flushed_ = true;
    CheckPages();
    if (!all) return;
    EXPECT_EQ(scheduler_.prefix_cache().size(), 0);
    EXPECT_EQ(scheduler_.pages().idle(), 0);
  }

  void Step() {
    std::set<const Sequence*> ran;
    for (const auto& sequence : live_) {
      if (sequence->running) ran.insert(sequence.get());
    }
    ++step_;
    const std::vector<ScheduledRows> step = scheduler_.Schedule();
    const bool all_held = std::all_of(live_.begin(), live_.end(),
                                      [](const auto& sequence) { return sequence->held; });
    ASSERT_EQ(step.empty(), all_held);
    if (step.empty()) return;
    CheckRows(step);
    CheckPages();
    CheckOrder(ran, step);
    Compute(step);
    CheckPages();
    for (size_t i = live_.size(); i-- > 0;) {
      if (live_[i]->length() > end_[live_[i].get()] || Pick(0, 60) == 0) Leave(i);
    }
    CheckPages();
  }

  bool empty() const { return live_.empty(); }
  const Scheduler& scheduler() const { return scheduler_; }
  const SwapSpace& swap() const { return *swap_; }

 private:
  SchedulerOptions WithCopies(SchedulerOptions options) {
    options.swap = swap_.get();
    options.upload = [this](std::span<const std::span<const std::byte>> from,
                            std::span<const int32_t> pages) {
      ASSERT_EQ(from.size(), pages.size());
      for (size_t i = 0; i < from.size(); ++i) CopyIn(from[i], pages[i]);
    };
    // Any choice is right, if not good.
    options.recompute_seconds = [this](int positions) {
      EXPECT_GT(positions, 0);
      return Pick(0, 3) > 0 ? 1e9 : 0;
    };
    return options;
  }

  // What a slot of the swap space holds is the name of a copy.
  void CopyOut(int32_t page, std::span<std::byte> to) {
    const size_t name = copies_.size();
    const auto begin = cache_.begin() + static_cast<ptrdiff_t>(page) * options_.page_size;
    copies_.emplace_back(begin, begin + options_.page_size);
    ASSERT_EQ(to.size(), sizeof(name));
    std::memcpy(to.data(), &name, sizeof(name));
  }
  void CopyIn(std::span<const std::byte> from, int32_t page) {
    size_t name = 0;
    ASSERT_EQ(from.size(), sizeof(name));
    std::memcpy(&name, from.data(), sizeof(name));
    ASSERT_LT(name, copies_.size());
    std::copy(copies_[name].begin(), copies_[name].end(),
              cache_.begin() + static_cast<ptrdiff_t>(page) * options_.page_size);
  }

  // The name of a copy of what a page of a sequence holds once it is computed.
  SharedPage PageOf(const Sequence& sequence, int index) {
    const size_t name = copies_.size();
    std::vector<KeyValue>& copy = copies_.emplace_back();
    for (int i = 0; i < options_.page_size; ++i) {
      copy.push_back(KeyValueAt(sequence, index * options_.page_size + i));
    }
    return {.index = index,
            .value = std::string(reinterpret_cast<const char*>(&name), sizeof(name))};
  }

  void Leave(size_t index) {
    scheduler_.Remove(live_[index].get());
    next_page_.erase(live_[index].get());
    added_.erase(live_[index].get());
    end_.erase(live_[index].get());
    live_.erase(live_.begin() + static_cast<ptrdiff_t>(index));
  }

  int LevelOf(const Sequence& sequence) {
    const auto ageing = static_cast<int>(options_.ageing_steps);
    return sequence.priority + FloorDiv(step_ - added_[&sequence], ageing);
  }

  void CheckRows(const std::vector<ScheduledRows>& step) {
    int rows = 0;
    std::set<const Sequence*> served;
    for (const ScheduledRows& r : step) {
      rows += r.row_count;
      EXPECT_TRUE(served.insert(r.sequence).second);
      ASSERT_GE(r.row_count, 1);
      ASSERT_TRUE(r.sequence->running);
      ASSERT_EQ(r.first_position, r.sequence->computed);
      ASSERT_LE(r.first_position + r.row_count, r.sequence->length());
      ASSERT_GE(static_cast<int>(r.sequence->pages.size()) * options_.page_size,
                r.first_position + r.row_count);
    }
    EXPECT_LE(rows, options_.max_rows);
    EXPECT_LE(scheduler_.running(), options_.max_sequences);
    for (const auto& sequence : live_) {
      if (sequence->running && sequence->uncomputed() == 1) {
        EXPECT_TRUE(served.contains(sequence.get())) << "a decoding sequence has no row";
      }
    }
  }

  void CheckPages() {
    std::map<int32_t, std::vector<const Sequence*>> owners;
    int running = 0;
    int saved = 0;
    for (const auto& sequence : live_) {
      running += sequence->running ? 1 : 0;
      if (sequence->saved != nullptr) {
        ASSERT_FALSE(sequence->running);
        ASSERT_LT(sequence->saved_positions, sequence->length());
        saved += sequence->saved->pages();
      }
      if (!sequence->running) {
        ASSERT_TRUE(sequence->pages.empty());
        ASSERT_EQ(sequence->computed, 0);
      }
      for (int32_t page : sequence->pages) owners[page].push_back(sequence.get());
      for (int i = 0; i < sequence->computed; ++i) {
        ASSERT_EQ(cache_[Slot(*sequence, i)], KeyValueAt(*sequence, i));
      }
    }
    ASSERT_EQ(swap_->used_bytes(), static_cast<uint64_t>(saved) * sizeof(size_t));
    ASSERT_EQ(running, scheduler_.running());
    ASSERT_EQ(live_.size(), static_cast<size_t>(scheduler_.running() + scheduler_.waiting()));
    const PageAllocator& pages = scheduler_.pages();
    int entered = 0;
    int idle = 0;
    for (int32_t page = 0; page < pages.total(); ++page) {
      const auto place = owners.find(page);
      const auto count = place == owners.end() ? size_t{0} : place->second.size();
      ASSERT_EQ(pages.owners(page), static_cast<int>(count));
      const bool is_entered = scheduler_.prefix_cache().contains(page);
      ASSERT_EQ(pages.kept(page), is_entered);
      if (!is_entered && !flushed_) {
        ASSERT_LE(count, 1u) << "a page that may be written is shared";
      }
      entered += is_entered ? 1 : 0;
      idle += count == 0 && is_entered ? 1 : 0;
    }
    ASSERT_EQ(scheduler_.prefix_cache().size(), entered);
    ASSERT_EQ(pages.idle(), idle);
    ASSERT_EQ(pages.used(), static_cast<int>(owners.size()));
  }

  void CheckOrder(const std::set<const Sequence*>& ran, const std::vector<ScheduledRows>& step) {
    const Sequence* first = live_[0].get();
    for (const auto& sequence : live_) {
      if (RunsBefore(*sequence, *first)) first = sequence.get();
    }
    if (ran.contains(first)) {
      EXPECT_TRUE(first->running) << "the first in the order of pages was preempted";
    }
    for (const auto& admitted : live_) {
      if (!admitted->running || ran.contains(admitted.get())) continue;
      for (const auto& waiting : live_) {
        if (!waiting->running && !waiting->held) {
          EXPECT_LE(LevelOf(*waiting), LevelOf(*admitted));
        }
      }
    }
    // The first of the prompts in the order of service gets rows.
    const Sequence* first_prompt = nullptr;
    bool served = false;
    for (const auto& sequence : live_) {
      if (!sequence->running || sequence->uncomputed() == 1) continue;
      if (first_prompt == nullptr || LevelOf(*sequence) > LevelOf(*first_prompt)) {
        first_prompt = sequence.get();
      }
    }
    for (const ScheduledRows& rows : step) {
      served |= first_prompt != nullptr && LevelOf(*rows.sequence) >= LevelOf(*first_prompt);
    }
    EXPECT_TRUE(first_prompt == nullptr || served);
  }

  size_t Slot(const Sequence& sequence, int position) const {
    const int page = sequence.pages[static_cast<size_t>(position / options_.page_size)];
    return static_cast<size_t>(page * options_.page_size + position % options_.page_size);
  }

  void Compute(const std::vector<ScheduledRows>& step) {
    // As a pass of the model does: all is written before anything is read.
    for (const ScheduledRows& rows : step) {
      for (int i = 0; i < rows.row_count; ++i) {
        const int position = rows.first_position + i;
        cache_[Slot(*rows.sequence, position)] = KeyValueAt(*rows.sequence, position);
      }
    }
    for (const ScheduledRows& rows : step) {
      for (int i = 0; i < rows.first_position + rows.row_count; ++i) {
        ASSERT_EQ(cache_[Slot(*rows.sequence, i)], KeyValueAt(*rows.sequence, i));
      }
    }
    for (const ScheduledRows& rows : step) {
      const bool completes = rows.completes();
      scheduler_.Computed(rows);
      if (!completes) continue;
      rows.sequence->tokens.push_back(Pick(1, 2));
      if (rows.sequence->length() <= end_[rows.sequence] && Pick(0, 30) == 0) {
        scheduler_.Restart(rows.sequence, Pick(0, 1) == 0 ? "other" : "");
      }
    }
  }

  std::mt19937& random_;
  const SchedulerOptions options_;
  std::vector<KeyValue> cache_;
  std::vector<std::vector<KeyValue>> copies_;
  std::unique_ptr<SwapSpace> swap_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<Sequence>> live_;
  std::map<const Sequence*, int> end_;  // the length at which it finishes
  std::map<const Sequence*, int> added_;
  std::map<const Sequence*, int> next_page_;  // that may come
  uint64_t arrivals_ = 0;
  int step_ = 0;
  bool flushed_ = false;  // there may be pages that several have and nobody finds
};

TEST(SchedulerPropertyTest, KeepsItsPromisesUnderRandomLoad) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  uint64_t preemptions = 0;
  uint64_t restored = 0;
  uint64_t without_room = 0;
  uint64_t hits = 0;
  uint64_t shared = 0;
  for (int trial = 0; trial < 60 && !::testing::Test::HasFailure(); ++trial) {
    const auto pick = [&](int from, int to) {
      return std::uniform_int_distribution<int>(from, to)(random);
    };
    const int max_sequences = pick(1, 6);
    SchedulerOptions options{.max_sequences = max_sequences,
                             .max_rows = max_sequences + pick(0, 20),
                             .page_size = pick(1, 5),
                             .share_prefixes = pick(0, 4) > 0,
                             .ageing_steps = pick(0, 1) == 0 ? pick(1, 20) : 1000};
    // Any budget is right, if not good.
    if (pick(0, 1) == 0) {
      options.row_budget = [&pick](const StepShape& decode, int64_t prompt_context) {
        EXPECT_GE(decode.attended, decode.rows);
        EXPECT_GE(prompt_context, 0);
        return pick(-5, 40);
      };
    }
    Simulation simulation(random, options, pick(2, 30), pick(0, 2) * pick(0, 10));
    const bool flushes = pick(0, 2) == 0;
    int to_come = 40;
    int steps = 0;
    while ((to_come > 0 || !simulation.empty()) && !::testing::Test::HasFatalFailure()) {
      while (to_come > 0 && pick(0, 2) == 0) {
        --to_come;
        simulation.Arrive();
      }
      simulation.PagesCome();
      if (flushes && pick(0, 15) == 0) simulation.Flush();
      simulation.Step();
      ASSERT_LT(++steps, 100000) << "does not finish";
    }
    const Scheduler& scheduler = simulation.scheduler();
    EXPECT_EQ(scheduler.pages().used(), 0);
    EXPECT_EQ(scheduler.running() + scheduler.waiting(), 0);
    EXPECT_LE(scheduler.counters().prefix_hit_tokens + scheduler.counters().shared_tokens,
              scheduler.counters().prefix_query_tokens);
    EXPECT_EQ(simulation.swap().used_bytes(), 0u);
    EXPECT_LE(
        scheduler.counters().preemptions_saved + scheduler.counters().preemptions_without_room,
        scheduler.counters().preemptions);
    preemptions += scheduler.counters().preemptions;
    restored += scheduler.counters().restored_tokens;
    without_room += scheduler.counters().preemptions_without_room;
    hits += scheduler.counters().prefix_hit_tokens;
    shared += scheduler.counters().shared_tokens;
  }
  EXPECT_GT(preemptions, 0u);
  EXPECT_GT(restored, 0u);
  EXPECT_GT(without_room, 0u);
  EXPECT_GT(hits, 0u);
  EXPECT_GT(shared, 0u);
}

// Tenants that always have something waiting, with requests of very different sizes and numbers.
TEST(SchedulerPropertyTest, TenantsWithWorkWaitingAreChargedTheSameUpToTheStatedBound) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  for (int trial = 0; trial < 20; ++trial) {
    const int max_sequences = pick(1, 5);
    const SchedulerOptions options{.max_sequences = max_sequences,
                                   .max_rows = max_sequences + pick(0, 30),
                                   .page_size = pick(1, 8),
                                   .ageing_steps = int64_t{1} << 30};
    const int pages = pick(40, 100);
    Scheduler scheduler(options, pages);
    const std::vector<std::string> tenants = {"short", "long", "many"};
    const int most = static_cast<int>(scheduler.max_positions());
    const std::vector<int> longest = {5, std::min(most, 120), 20};
    const std::vector<int> backlog = {1, 1, 12};
    const int64_t bound =
        int64_t{max_sequences} * *std::max_element(longest.begin(), longest.end());
    std::vector<std::unique_ptr<Sequence>> live;
    std::map<const Sequence*, int> end;
    std::vector<int64_t> computed(tenants.size());
    uint64_t arrivals = 0;
    int32_t unique = 0;
    const auto index_of = [&](const Sequence* sequence) {
      return static_cast<size_t>(std::find(tenants.begin(), tenants.end(), sequence->tenant) -
                                 tenants.begin());
    };
    for (int step_count = 0; step_count < 1500; ++step_count) {
      for (size_t t = 0; t < tenants.size(); ++t) {
        auto waiting = std::count_if(live.begin(), live.end(), [&](const auto& sequence) {
          return !sequence->running && index_of(sequence.get()) == t;
        });
        // Before each step more wait than can be admitted.
        for (; waiting < backlog[t] + max_sequences; ++waiting) {
          auto sequence = std::make_unique<Sequence>();
          sequence->tokens.assign(static_cast<size_t>(pick(1, longest[t])), ++unique);
          sequence->arrival = arrivals++;
          sequence->tenant = tenants[t];
          end[sequence.get()] = pick(sequence->length(), longest[t]);
          scheduler.Add(sequence.get());
          live.push_back(std::move(sequence));
        }
      }
      for (const ScheduledRows& rows : scheduler.Schedule()) {
        const int fresh = rows.first_position + rows.row_count - rows.sequence->most_computed;
        computed[index_of(rows.sequence)] += std::max(fresh, 0);
        const bool completes = rows.completes();
        scheduler.Computed(rows);
        if (completes) rows.sequence->tokens.push_back(0);
      }
      std::map<std::string, int64_t> charged;
      for (const auto& sequence : live) charged[sequence->tenant] = sequence->account->rows;
      ASSERT_EQ(charged.size(), tenants.size());
      for (size_t a = 0; a < tenants.size(); ++a) {
        for (size_t b = 0; b < a; ++b) {
          ASSERT_LE(std::abs(charged[tenants[a]] - charged[tenants[b]]), bound);
          // A prompt is charged when it is admitted and computed later.
          ASSERT_LE(std::abs(computed[a] - computed[b]), 2 * bound);
        }
      }
      for (size_t i = live.size(); i-- > 0;) {
        if (live[i]->length() <= end[live[i].get()]) continue;
        scheduler.Remove(live[i].get());
        end.erase(live[i].get());
        live.erase(live.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    for (const auto& sequence : live) scheduler.Remove(sequence.get());
    EXPECT_GT(*std::min_element(computed.begin(), computed.end()), 0);
  }
}

}  // namespace
}  // namespace octogate::workers
