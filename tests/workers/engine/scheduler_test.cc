#include "workers/engine/scheduler.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

std::unique_ptr<Sequence> MakeSequence(int length, uint64_t arrival, int priority = 0) {
  auto sequence = std::make_unique<Sequence>();
  // Begins as no other does.
  sequence->tokens.assign(static_cast<size_t>(length), static_cast<int32_t>(arrival) + 1);
  sequence->arrival = arrival;
  sequence->priority = priority;
  return sequence;
}

// What the engine does after a step: rows are computed, sequences that reached their end grow.
void Compute(Scheduler& scheduler, const std::vector<ScheduledRows>& step) {
  for (const ScheduledRows& rows : step) {
    const bool completes = rows.completes();
    scheduler.Computed(rows);
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
    Compute(scheduler, step);
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
  Compute(scheduler, scheduler.Schedule());
  scheduler.Add(long_prompt.get());
  for (int i = 0; i < 10; ++i) {
    const auto step = scheduler.Schedule();
    EXPECT_EQ(RowsOf(step, b.get()), 1);
    EXPECT_EQ(RowsOf(step, c.get()), 1);
    EXPECT_EQ(RowsOf(step, long_prompt.get()), 6);
    Compute(scheduler, step);
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
  Scheduler scheduler({.max_sequences = 2, .max_rows = 8, .page_size = 1, .share_prefixes = false},
                      8);
  const auto old = MakeSequence(3, 0);
  const auto young = MakeSequence(3, 1);
  scheduler.Add(old.get());
  scheduler.Add(young.get());
  while (young->preemptions == 0) {
    const auto step = scheduler.Schedule();
    ASSERT_EQ(RowsOf(step, old.get()), old->uncomputed());
    Compute(scheduler, step);
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

// Two sequences that outgrow eight pages of one position together, until the younger one has been
// preempted; copies of pages are counted and hold nothing.
struct Crowd {
  explicit Crowd(uint64_t swap_bytes, std::function<double(int)> recompute_seconds = nullptr)
      : swap(SwapSpace::Make(1, swap_bytes,
                             {.out = [this](int32_t, std::span<std::byte>) { ++out; },
                              .in = [this](std::span<const std::byte>, int32_t) { ++in; }})),
        scheduler({.max_sequences = 2,
                   .max_rows = 8,
                   .page_size = 1,
                   .share_prefixes = false,
                   .swap = swap.get(),
                   .recompute_seconds = std::move(recompute_seconds)},
                  8) {
    scheduler.Add(old.get());
    scheduler.Add(young.get());
    while (young->preemptions == 0) Compute(scheduler, scheduler.Schedule());
  }

  int out = 0;
  int in = 0;
  std::unique_ptr<SwapSpace> swap;
  Scheduler scheduler;
  std::unique_ptr<Sequence> old = MakeSequence(3, 0);
  std::unique_ptr<Sequence> young = MakeSequence(3, 1);
};

TEST(SchedulerTest, APreemptedSequenceGoesOnWhereItWasSaved) {
  Crowd crowd(100);
  const int computed = crowd.young->saved_positions;
  EXPECT_EQ(computed, crowd.young->length() - 1);
  EXPECT_EQ(crowd.out, computed);
  EXPECT_EQ(crowd.swap->used_bytes(), static_cast<uint64_t>(computed));
  crowd.scheduler.Remove(crowd.old.get());
  const auto step = crowd.scheduler.Schedule();
  ASSERT_EQ(step.size(), 1u);
  EXPECT_EQ(step[0].first_position, computed);
  EXPECT_EQ(step[0].row_count, 1);
  EXPECT_EQ(crowd.in, computed);
  EXPECT_EQ(crowd.swap->used_bytes(), 0u);
  EXPECT_EQ(crowd.scheduler.counters().preemptions_saved, 1u);
  EXPECT_EQ(crowd.scheduler.counters().restored_tokens, static_cast<uint64_t>(computed));
  crowd.scheduler.Remove(crowd.young.get());
}

TEST(SchedulerTest, WhatDoesNotFitIntoTheSwapSpaceIsComputedAgain) {
  Crowd crowd(1);
  EXPECT_EQ(crowd.out, 0);
  EXPECT_EQ(crowd.scheduler.counters().preemptions_without_room, 1u);
  crowd.scheduler.Remove(crowd.old.get());
  EXPECT_EQ(RowsOf(crowd.scheduler.Schedule(), crowd.young.get()), crowd.young->length());
  crowd.scheduler.Remove(crowd.young.get());
}

TEST(SchedulerTest, WhatIsSoonComputedAgainIsNotSaved) {
  // A sequence in no time.
  Crowd cheap(100, [](int) { return 0.0; });
  EXPECT_EQ(cheap.out, 0);
  EXPECT_EQ(cheap.scheduler.counters().preemptions_without_room, 0u);
  // A sequence in an hour.
  Crowd expensive(100, [](int positions) { return 3600.0 * positions; });
  EXPECT_GT(expensive.out, 0);
  for (Crowd* crowd : {&cheap, &expensive}) {
    crowd->scheduler.Remove(crowd->old.get());
    crowd->scheduler.Remove(crowd->young.get());
  }
}

TEST(SchedulerTest, ASequenceThatLeavesGivesBackWhatWasSavedOfIt) {
  Crowd crowd(100);
  ASSERT_GT(crowd.swap->used_bytes(), 0u);
  crowd.scheduler.Remove(crowd.young.get());
  EXPECT_EQ(crowd.swap->used_bytes(), 0u);
  crowd.scheduler.Remove(crowd.old.get());
}

TEST(SchedulerTest, HigherPriorityPushesOutLowerOnlyIfThatMakesRoom) {
  Scheduler scheduler({.max_sequences = 3, .max_rows = 16, .page_size = 1}, 14);
  const auto high = MakeSequence(5, 0, 2);
  const auto low = MakeSequence(4, 1, 0);
  scheduler.Add(high.get());
  scheduler.Add(low.get());
  Compute(scheduler, scheduler.Schedule());
  // Twelve pages: the five that are free and the low sequence's four are not enough.
  const auto large = MakeSequence(12, 2, 1);
  scheduler.Add(large.get());
  Compute(scheduler, scheduler.Schedule());
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

TEST(SchedulerTest, APromptIsTakenFromTheCacheButForItsLastRow) {
  Scheduler scheduler({.max_sequences = 2, .max_rows = 64, .page_size = 4}, 100);
  const auto first = MakeSequence(16, 0);
  scheduler.Add(first.get());
  Compute(scheduler, scheduler.Schedule());
  const std::vector<int32_t> pages = first->pages;
  scheduler.Remove(first.get());
  EXPECT_EQ(scheduler.pages().used(), 0);
  EXPECT_EQ(scheduler.pages().idle(), 4);

  const auto second = MakeSequence(16, 0);
  scheduler.Add(second.get());
  const auto step = scheduler.Schedule();
  ASSERT_EQ(step.size(), 1u);
  EXPECT_EQ(step[0].first_position, 12) << "the last page is computed: one row at least has to be";
  EXPECT_EQ(step[0].row_count, 4);
  EXPECT_EQ(std::vector<int32_t>(second->pages.begin(), second->pages.begin() + 3),
            std::vector<int32_t>(pages.begin(), pages.begin() + 3));
  EXPECT_EQ(second->reused, 12);
  EXPECT_EQ(scheduler.counters().prefix_query_tokens, 32u);
  EXPECT_EQ(scheduler.counters().prefix_hit_tokens, 12u);
  Compute(scheduler, step);
  EXPECT_EQ(second->pages[3], pages[3]) << "one copy of what was computed twice is enough";
  scheduler.Remove(second.get());
}

TEST(SchedulerTest, WhatOneComputesSparesTheOthersThatCameWithIt) {
  Scheduler scheduler({.max_sequences = 4, .max_rows = 8, .page_size = 4}, 100);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (uint64_t i = 0; i < 4; ++i) {
    sequences.push_back(MakeSequence(33, 0));
    sequences.back()->arrival = i;
    scheduler.Add(sequences.back().get());
  }
  int rows = 0;
  while (std::any_of(sequences.begin(), sequences.end(),
                     [](const auto& s) { return s->length() == 33; })) {
    const auto step = scheduler.Schedule();
    for (const ScheduledRows& r : step) rows += r.completes() ? 0 : r.row_count;
    Compute(scheduler, step);
  }
  EXPECT_EQ(rows, 32) << "rows but the last of each prompt";
  for (const auto& sequence : sequences) scheduler.Remove(sequence.get());
}

TEST(SchedulerTest, OtherContextsShareNothing) {
  Scheduler scheduler({.max_sequences = 2, .max_rows = 64, .page_size = 4}, 100);
  const auto a = MakeSequence(16, 0);
  a->prefix_context = "a";
  scheduler.Add(a.get());
  Compute(scheduler, scheduler.Schedule());
  const auto b = MakeSequence(16, 0);
  b->arrival = 1;
  b->prefix_context = "b";
  scheduler.Add(b.get());
  EXPECT_EQ(RowsOf(scheduler.Schedule(), b.get()), 16);
  scheduler.Restart(b.get(), "a");
  EXPECT_EQ(RowsOf(scheduler.Schedule(), b.get()), 4);
  scheduler.Remove(a.get());
  scheduler.Remove(b.get());
}

TEST(SchedulerTest, ATenantWithFewRequestsDoesNotWaitForOneWithMany) {
  Scheduler scheduler({.max_sequences = 1, .max_rows = 8, .page_size = 4}, 100);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (uint64_t i = 0; i < 11; ++i) {
    sequences.push_back(MakeSequence(4, i));
    sequences.back()->tenant = i < 10 ? "many" : "few";
    scheduler.Add(sequences.back().get());
  }
  const auto step = scheduler.Schedule();
  Compute(scheduler, step);
  EXPECT_EQ(step[0].sequence, sequences[0].get());
  scheduler.Remove(sequences[0].get());
  EXPECT_EQ(scheduler.Schedule()[0].sequence, sequences[10].get());
  for (size_t i = 1; i < sequences.size(); ++i) scheduler.Remove(sequences[i].get());
}

TEST(SchedulerTest, WaitingRaisesAPriority) {
  constexpr int kAgeing = 50;
  constexpr int kSteps = 3;  // that a sequence runs
  Scheduler scheduler({.max_sequences = 1, .max_rows = 8, .page_size = 4, .ageing_steps = kAgeing},
                      100);
  std::vector<std::unique_ptr<Sequence>> sequences;
  uint64_t arrivals = 0;
  const auto low = MakeSequence(1, arrivals++, 0);
  scheduler.Add(low.get());
  // Sequences of higher priority come faster than they are served.
  int step_count = 0;
  while (low->length() == 1) {
    sequences.push_back(MakeSequence(1, arrivals++, 1));
    scheduler.Add(sequences.back().get());
    const auto step = scheduler.Schedule();
    Compute(scheduler, step);
    ASSERT_EQ(step.size(), 1u);
    for (auto& sequence : sequences) {
      if (sequence != nullptr && sequence->length() > kSteps) {
        scheduler.Remove(sequence.get());
        sequence = nullptr;
      }
    }
    std::erase(sequences, nullptr);
    // Those that came before it had aged go first, and no other.
    ASSERT_LE(++step_count, (kAgeing + 1) * kSteps + 1);
  }
  EXPECT_GT(step_count, kAgeing);
  scheduler.Remove(low.get());
  for (const auto& sequence : sequences) scheduler.Remove(sequence.get());
}

// Two sequences that decode, in a cache with few pages.
struct TwoThatDecode {
  TwoThatDecode() {
    for (Sequence* sequence : {a.get(), b.get()}) scheduler.Add(sequence);
    Compute(scheduler, scheduler.Schedule());
  }
  ~TwoThatDecode() {
    for (Sequence* sequence : {a.get(), b.get()}) scheduler.Remove(sequence);
  }

  const std::unique_ptr<Sequence> a = MakeSequence(3, 0);
  const std::unique_ptr<Sequence> b = MakeSequence(3, 1);
  Scheduler scheduler{{.max_sequences = 2, .max_rows = 16, .page_size = 4}, 5};
};

TEST(SchedulerTest, DraftsGetThePagesThatNobodyNeedsAndGiveThemBack) {
  TwoThatDecode two;
  const auto step = two.scheduler.Schedule();
  ASSERT_EQ(step.size(), 2u);
  EXPECT_EQ(two.scheduler.spare_rows(), 14);
  // Each has one page for its four tokens; three are left.
  EXPECT_EQ(two.scheduler.pages().available(), 3);
  EXPECT_FALSE(two.scheduler.GiveDraftPages(two.a.get(), 14)) << "17 positions need 5 pages";
  EXPECT_EQ(two.a->pages.size(), 1u);
  EXPECT_TRUE(two.scheduler.GiveDraftPages(two.a.get(), 10));
  EXPECT_EQ(two.a->pages.size(), 4u);
  EXPECT_EQ(two.scheduler.counters().preemptions, 0u);
  // The root and one draft are kept, and another token is chosen.
  two.a->tokens.insert(two.a->tokens.end(), {7, 8});
  two.scheduler.ComputedDraft({two.a.get(), 3, 2});
  EXPECT_EQ(two.a->computed, 5);
  EXPECT_EQ(two.a->pages.size(), 2u);
  EXPECT_EQ(two.scheduler.pages().available(), 2);
}

TEST(SchedulerTest, ATenantIsChargedTheDraftsThatWereRight) {
  TwoThatDecode drafting;
  TwoThatDecode plain;
  for (int i = 0; i < 3; ++i) Compute(plain.scheduler, plain.scheduler.Schedule());
  const auto step = drafting.scheduler.Schedule();
  for (const ScheduledRows& rows : step) {
    ASSERT_TRUE(drafting.scheduler.GiveDraftPages(rows.sequence, 6));
    rows.sequence->tokens.insert(rows.sequence->tokens.end(), {0, 0});
    drafting.scheduler.ComputedDraft({rows.sequence, rows.first_position, 2});
  }
  Compute(drafting.scheduler, drafting.scheduler.Schedule());
  EXPECT_EQ(drafting.a->length(), plain.a->length());
  EXPECT_EQ(drafting.a->account->rows, plain.a->account->rows);
}

TEST(SchedulerTest, PromptsComeBeforeDrafts) {
  Scheduler scheduler({.max_sequences = 3, .max_rows = 8, .page_size = 4}, 100);
  const auto decoding = MakeSequence(1, 0);
  scheduler.Add(decoding.get());
  Compute(scheduler, scheduler.Schedule());
  const auto prompt = MakeSequence(10, 1);
  scheduler.Add(prompt.get());
  Compute(scheduler, scheduler.Schedule());
  EXPECT_EQ(scheduler.spare_rows(), 0);
  Compute(scheduler, scheduler.Schedule());
  EXPECT_EQ(scheduler.spare_rows(), 4) << "besides the last three of the prompt";
  for (Sequence* sequence : {decoding.get(), prompt.get()}) scheduler.Remove(sequence);
}

class ArrivedPagesTest : public ::testing::Test {
 protected:
  static constexpr int kPageSize = 4;

  Scheduler MakeScheduler(int pages) {
    return Scheduler(
        {.max_sequences = 4,
         .max_rows = 64,
         .page_size = kPageSize,
         .upload = [this](std::span<const std::span<const std::byte>> from,
                          std::span<const int32_t>) { uploads_.push_back(from.size()); }},
        pages);
  }
  static std::unique_ptr<Sequence> Held(int pages, uint64_t arrival) {
    auto sequence = MakeSequence(pages * kPageSize + 1, arrival);
    sequence->held = true;
    sequence->arriving = std::make_unique<ArrivingPages>();
    return sequence;
  }
  static void Arrive(Sequence& sequence, int from, int to) {
    for (int i = from; i < to; ++i) sequence.arriving->pages[i] = {.index = i, .value = "page"};
  }

  std::vector<size_t> uploads_;
};

TEST_F(ArrivedPagesTest, AreCopiedAsTheyComeAndFoundWhenTheSequenceIsAdmitted) {
  Scheduler scheduler = MakeScheduler(20);
  const auto a = Held(10, 0);
  scheduler.Add(a.get());
  Arrive(*a, 0, 3);
  Arrive(*a, 4, 5);
  scheduler.KeepArrivedPages(a.get());
  EXPECT_EQ(a->arriving->pages.size(), 1u) << "the fourth has not come";
  EXPECT_EQ(scheduler.pages().idle(), 3);
  Arrive(*a, 3, 4);
  scheduler.KeepArrivedPages(a.get());
  Arrive(*a, 5, 7);
  a->held = false;
  const auto step = scheduler.Schedule();
  EXPECT_EQ(uploads_, (std::vector<size_t>{3, 2, 2}));
  ASSERT_EQ(step.size(), 1u);
  EXPECT_EQ(step[0].first_position, 7 * kPageSize);
  EXPECT_EQ(a->shared, 7 * kPageSize);
  EXPECT_EQ(scheduler.counters().shared_tokens, 7u * kPageSize);
  EXPECT_EQ(scheduler.counters().prefix_hit_tokens, 0u);
  scheduler.Remove(a.get());
}

TEST_F(ArrivedPagesTest, TakeNoRoomFromThoseOfOthersThatWait) {
  Scheduler scheduler = MakeScheduler(20);
  const auto a = Held(10, 0);
  const auto b = Held(10, 1);
  scheduler.Add(a.get());
  scheduler.Add(b.get());
  Arrive(*a, 0, 10);
  scheduler.KeepArrivedPages(a.get());
  Arrive(*b, 0, 10);
  scheduler.KeepArrivedPages(b.get());
  EXPECT_EQ(scheduler.pages().idle(), 10) << "of 20, a needs 11 and b as many";
  EXPECT_EQ(b->arriving->pages.size(), 10u);
  scheduler.Remove(a.get());
  scheduler.KeepArrivedPages(b.get());
  EXPECT_TRUE(b->arriving->pages.empty());
  scheduler.Remove(b.get());
}

TEST_F(ArrivedPagesTest, ThatWereGivenToOthersMeanwhileAreComputed) {
  Scheduler scheduler = MakeScheduler(20);
  const auto a = Held(10, 0);
  scheduler.Add(a.get());
  Arrive(*a, 0, 10);
  scheduler.KeepArrivedPages(a.get());
  const auto b = MakeSequence(15 * kPageSize, 1);
  scheduler.Add(b.get());
  Compute(scheduler, scheduler.Schedule());
  scheduler.Remove(b.get());
  a->held = false;
  const auto step = scheduler.Schedule();
  ASSERT_EQ(step.size(), 1u);
  EXPECT_EQ(step[0].first_position, 5 * kPageSize) << "the last ones went first";
  EXPECT_EQ(a->shared, 5 * kPageSize);
  scheduler.Remove(a.get());
}

}  // namespace
}  // namespace octogate::workers
