#include "workers/engine/scheduler.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

std::unique_ptr<Sequence> MakeSequence(int length, uint64_t arrival, int priority = 0) {
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens.assign(static_cast<size_t>(length), 0);
  sequence->arrival = arrival;
  sequence->priority = priority;
  return sequence;
}

// What the engine does after a step: rows are computed, sequences that reached their end grow.
void Compute(const std::vector<ScheduledRows>& step) {
  for (const ScheduledRows& rows : step) {
    const bool completes = rows.completes();
    rows.sequence->computed += rows.row_count;
    if (completes) rows.sequence->tokens.push_back(0);
  }
}

int RowsOf(const std::vector<ScheduledRows>& step, const Sequence* sequence) {
  for (const ScheduledRows& rows : step) {
    if (rows.sequence == sequence) return rows.row_count;
  }
  return 0;
}

TEST(SchedulerTest, CutsAPromptIntoChunksOfTheRowBudget) {
  Scheduler scheduler({.max_sequences = 2, .max_rows = 8, .page_size = 4}, 100);
  const auto a = MakeSequence(20, 0);
  scheduler.Add(a.get());
  for (int expected : {8, 8, 4, 1, 1}) {
    const auto step = scheduler.Schedule();
    ASSERT_EQ(step.size(), 1u);
    EXPECT_EQ(step[0].row_count, expected);
    Compute(step);
  }
  EXPECT_EQ(a->length(), 23);
  scheduler.Remove(a.get());
}

TEST(SchedulerTest, DecodingSequencesKeepTheirRowBesideALongPrompt) {
  Scheduler scheduler({.max_sequences = 3, .max_rows = 8, .page_size = 4}, 100);
  const auto long_prompt = MakeSequence(100, 0);
  const auto b = MakeSequence(1, 1);
  const auto c = MakeSequence(1, 2);
  scheduler.Add(b.get());
  scheduler.Add(c.get());
  Compute(scheduler.Schedule());
  scheduler.Add(long_prompt.get());
  for (int i = 0; i < 10; ++i) {
    const auto step = scheduler.Schedule();
    EXPECT_EQ(RowsOf(step, b.get()), 1);
    EXPECT_EQ(RowsOf(step, c.get()), 1);
    EXPECT_EQ(RowsOf(step, long_prompt.get()), 6);
    Compute(step);
  }
  for (Sequence* s : {b.get(), c.get(), long_prompt.get()}) scheduler.Remove(s);
}

TEST(SchedulerTest, AdmitsInOrderOfPriorityThenArrival) {
  Scheduler scheduler({.max_sequences = 1, .max_rows = 4, .page_size = 4}, 100);
  const auto late_high = MakeSequence(1, 2, 1);
  const auto early_low = MakeSequence(1, 0, 0);
  const auto early_high = MakeSequence(1, 1, 1);
  for (Sequence* s : {late_high.get(), early_low.get(), early_high.get()}) scheduler.Add(s);
  for (Sequence* expected : {early_high.get(), late_high.get(), early_low.get()}) {
    const auto step = scheduler.Schedule();
    ASSERT_EQ(step.size(), 1u);
    EXPECT_EQ(step[0].sequence, expected);
    scheduler.Remove(expected);
  }
}

TEST(SchedulerTest, PreemptsTheYoungestWhenPagesRunOut) {
  Scheduler scheduler({.max_sequences = 2, .max_rows = 8, .page_size = 1}, 8);
  const auto old = MakeSequence(3, 0);
  const auto young = MakeSequence(3, 1);
  scheduler.Add(old.get());
  scheduler.Add(young.get());
  while (young->preemptions == 0) {
    const auto step = scheduler.Schedule();
    ASSERT_EQ(RowsOf(step, old.get()), old->uncomputed());
    Compute(step);
    ASSERT_LT(old->length(), 10);
  }
  EXPECT_EQ(old->preemptions, 0);
  EXPECT_FALSE(young->running);
  EXPECT_TRUE(young->pages.empty());
  EXPECT_EQ(scheduler.waiting(), 1);
  scheduler.Remove(old.get());
  // All its tokens, those of the answer included, are computed again.
  const auto step = scheduler.Schedule();
  EXPECT_EQ(RowsOf(step, young.get()), young->length());
  scheduler.Remove(young.get());
  EXPECT_EQ(scheduler.pages().used(), 0);
}

TEST(SchedulerTest, HigherPriorityPushesOutLowerOnlyIfThatMakesRoom) {
  Scheduler scheduler({.max_sequences = 3, .max_rows = 16, .page_size = 1}, 14);
  const auto high = MakeSequence(5, 0, 2);
  const auto low = MakeSequence(4, 1, 0);
  scheduler.Add(high.get());
  scheduler.Add(low.get());
  Compute(scheduler.Schedule());
  // Twelve pages: the five that are free and the low sequence's four are not enough.
  const auto large = MakeSequence(12, 2, 1);
  scheduler.Add(large.get());
  Compute(scheduler.Schedule());
  EXPECT_FALSE(large->running);
  EXPECT_TRUE(low->running);
  EXPECT_EQ(low->preemptions, 0);
  scheduler.Remove(large.get());

  const auto middle = MakeSequence(6, 3, 1);
  scheduler.Add(middle.get());
  scheduler.Schedule();
  EXPECT_TRUE(high->running);
  EXPECT_TRUE(middle->running);
  EXPECT_FALSE(low->running);
  for (Sequence* s : {high.get(), low.get(), middle.get()}) scheduler.Remove(s);
}

// Random arrivals, growth and removals. After each step every promise of the header is checked.
TEST(SchedulerTest, KeepsItsPromisesUnderRandomLoad) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  uint64_t preemptions = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const int max_sequences = pick(1, 6);
    const SchedulerOptions options{.max_sequences = max_sequences,
                                   .max_rows = max_sequences + pick(0, 20),
                                   .page_size = pick(1, 5)};
    const int pages = pick(2, 30);
    Scheduler scheduler(options, pages);
    const int longest = static_cast<int>(scheduler.max_positions());
    std::vector<std::unique_ptr<Sequence>> live;
    std::map<const Sequence*, int> end;  // the length at which it finishes
    uint64_t arrivals = 0;
    int to_come = 40;
    int idle_steps = 0;
    while (to_come > 0 || !live.empty()) {
      while (to_come > 0 && pick(0, 2) == 0) {
        --to_come;
        const int length = pick(1, longest);
        live.push_back(MakeSequence(length, arrivals++, pick(0, 2)));
        end[live.back().get()] = pick(length, longest);
        scheduler.Add(live.back().get());
      }
      if (live.empty()) continue;
      const auto step = scheduler.Schedule();
      ASSERT_FALSE(step.empty());

      int rows = 0;
      std::set<int32_t> owned;
      for (const ScheduledRows& r : step) {
        rows += r.row_count;
        ASSERT_GE(r.row_count, 1);
        ASSERT_TRUE(r.sequence->running);
        ASSERT_EQ(r.first_position, r.sequence->computed);
        ASSERT_LE(r.first_position + r.row_count, r.sequence->length());
        ASSERT_GE(static_cast<int>(r.sequence->pages.size()) * options.page_size,
                  r.first_position + r.row_count);
      }
      ASSERT_LE(rows, options.max_rows);
      ASSERT_LE(scheduler.running(), options.max_sequences);
      int used = 0;
      const Sequence* first = live[0].get();
      for (const auto& sequence : live) {
        used += static_cast<int>(sequence->pages.size());
        owned.insert(sequence->pages.begin(), sequence->pages.end());
        if (!sequence->running) {
          ASSERT_TRUE(sequence->pages.empty());
          ASSERT_EQ(sequence->computed, 0);
        }
        if (RunsBefore(*sequence, *first)) first = sequence.get();
      }
      ASSERT_EQ(used, static_cast<int>(owned.size()));
      ASSERT_EQ(used, scheduler.pages().used());
      ASSERT_GE(RowsOf(step, first), 1) << "the first in the order does not advance";
      for (const auto& sequence : live) {
        if (sequence->running && sequence->uncomputed() == 1) {
          ASSERT_EQ(RowsOf(step, sequence.get()), 1) << "a decoding sequence has no row";
        }
      }

      Compute(step);
      for (size_t i = live.size(); i-- > 0;) {
        if (live[i]->length() > end[live[i].get()] || pick(0, 60) == 0) {
          scheduler.Remove(live[i].get());
          live.erase(live.begin() + static_cast<ptrdiff_t>(i));
        }
      }
      ASSERT_LT(++idle_steps, 100000) << "does not finish";
    }
    ASSERT_EQ(scheduler.pages().used(), 0);
    ASSERT_EQ(scheduler.running() + scheduler.waiting(), 0);
    preemptions += scheduler.preemptions();
  }
  EXPECT_GT(preemptions, 0u);
}

}  // namespace
}  // namespace octogate::workers
