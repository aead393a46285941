// When a sequence waits for pages of a store, and for how long. The store is a script and the clock
// a variable: what is tested is arithmetic.
#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>

#include "gtest/gtest.h"
#include "tests/workers/engine/scripted_store.h"
#include "workers/engine/shared_pages.h"

namespace octogate::workers {
namespace {

constexpr int kPageSize = 4;
using Time = SharedPages::Time;

Time At(double seconds) {
  return Time() +
         std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(seconds));
}

class SharedPagesPolicyTest : public ::testing::Test {
 protected:
  // Computing takes `seconds_per_page`.
  SharedPages Make(double seconds_per_page) {
    return SharedPages(
        std::make_unique<ScriptedStore>(&script_),
        {.page_size = kPageSize,
         .recompute_seconds =
             [seconds_per_page](int positions) { return seconds_per_page * positions / kPageSize; },
         .wake = [] {}});
  }
  static Sequence Prompt(int pages) {
    Sequence sequence;
    sequence.tokens.assign(static_cast<size_t>(pages * kPageSize + 1), 7);
    return sequence;
  }

  Script script_;
};

TEST_F(SharedPagesPolicyTest, WaitsForWhatComesSoonerThanItIsComputed) {
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 0, At(0));
  EXPECT_TRUE(sequence.held);
  EXPECT_EQ(script_.pages_asked, 10);
  script_.come = {{.index = 0, .value = "a"}, {.index = 1, .value = "b"}};
  pages.Poll(sequence, At(0.05));
  EXPECT_TRUE(sequence.held);
  script_.done = true;
  pages.Poll(sequence, At(0.06));
  EXPECT_FALSE(sequence.held);
  EXPECT_EQ(sequence.arriving->pages.size(), 2u);
  EXPECT_EQ(pages.counters().lookups, 1u);
  EXPECT_EQ(pages.counters().lookup_tokens, 40u);
  EXPECT_EQ(pages.counters().abandoned, 0u);
}

TEST_F(SharedPagesPolicyTest, AsksForTheRestWhereThereWasMemoryForSome) {
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  script_.room = 2;
  pages.Begin(sequence, 0, At(0));
  script_.come = {{.index = 0, .value = "a"}, {.index = 1, .value = "b"}};
  script_.done = true;
  pages.Poll(sequence, At(0.05));
  EXPECT_TRUE(sequence.held);
  EXPECT_EQ(script_.first_asked, 2);
  EXPECT_EQ(script_.pages_asked, 8);
  script_.come = {{.index = 2, .value = "c"}};
  pages.Poll(sequence, At(0.1));
  EXPECT_FALSE(sequence.held) << "the store does not have the fourth";
  EXPECT_EQ(script_.fetches, 2);
  EXPECT_EQ(pages.counters().lookups, 1u);

  sequence = Prompt(10);
  pages.Begin(sequence, 0, At(1));
  script_.come = {{.index = 0, .value = "a"}, {.index = 1, .value = "b"}};
  script_.room = 0;
  pages.Poll(sequence, At(1.05));
  EXPECT_TRUE(sequence.held) << "what has come may be copied, and its memory be freed";
  pages.Poll(sequence, At(1.06));
  EXPECT_FALSE(sequence.held) << "nothing has been freed";
}

TEST_F(SharedPagesPolicyTest, AsksForNothingThatItHas) {
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 10, At(0));
  EXPECT_EQ(script_.fetches, 0);
  pages.Begin(sequence, 7, At(0));
  EXPECT_EQ(script_.pages_asked, 3);
  Sequence embedding = Prompt(10);
  embedding.use_cached_prefix = false;
  pages.Begin(embedding, 0, At(0));
  EXPECT_EQ(script_.fetches, 1);
}

TEST_F(SharedPagesPolicyTest, ComputesWhatIsComputedSooner) {
  SharedPages pages = Make(0.001);
  Sequence first = Prompt(10);
  pages.Begin(first, 0, At(1));
  EXPECT_FALSE(first.held);
  // It tries some pages now and then, to notice when that has changed, and waits for none.
  EXPECT_LT(script_.pages_asked, 10);
  Sequence second = Prompt(10);
  pages.Begin(second, 0, At(1.1));
  EXPECT_EQ(script_.fetches, 1);
  EXPECT_EQ(pages.counters().declined, 2u);
  EXPECT_EQ(pages.counters().lookups, 0u);
  script_.fetch = 0.001;
  Sequence third = Prompt(10);
  pages.Begin(third, 0, At(1.2));
  EXPECT_TRUE(third.held);
}

TEST_F(SharedPagesPolicyTest, AbandonsAFetchOfWhichNothingComes) {
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 0, At(0));
  pages.Poll(sequence, At(0.2));  // expected after 0.1 s
  EXPECT_TRUE(sequence.held);
  pages.Poll(sequence, At(0.22));
  EXPECT_FALSE(sequence.held);
  EXPECT_EQ(script_.given_up, 1);
  EXPECT_EQ(pages.counters().abandoned, 1u);
}

TEST_F(SharedPagesPolicyTest, NeverPromisesMoreThanHalfOfComputing) {
  SharedPages pages = Make(0.1);
  script_.fetch = 0.3;
  Sequence half = Prompt(10);
  pages.Begin(half, 0, At(0));
  pages.Poll(half, At(0.49));
  EXPECT_TRUE(half.held);
  pages.Poll(half, At(0.51));
  EXPECT_FALSE(half.held);
}

TEST_F(SharedPagesPolicyTest, WaitsOnWhereWhatIsLeftStillComesSooner) {
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 0, At(0));
  script_.come = {{.index = 0, .value = "a"},
                  {.index = 1, .value = "b"},
                  {.index = 2, .value = "c"},
                  {.index = 3, .value = "d"}};
  pages.Poll(sequence, At(0.22));  // 6 more after 0.33 s; computing takes 0.6 s
  EXPECT_TRUE(sequence.held);
  pages.Poll(sequence, At(0.5));
  EXPECT_TRUE(sequence.held);
  // Nothing has come since.
  pages.Poll(sequence, At(0.58));
  EXPECT_FALSE(sequence.held);
  EXPECT_EQ(sequence.arriving->pages.size(), 4u);
}

TEST_F(SharedPagesPolicyTest, DoesNotWaitForWhatComesTooSlowly) {
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 0, At(0));
  script_.come = {{.index = 0, .value = "a"}, {.index = 1, .value = "b"}};
  pages.Poll(sequence, At(0.22));  // 8 more after 0.88 s; computing takes 0.8 s
  EXPECT_FALSE(sequence.held);
}

TEST_F(SharedPagesPolicyTest, StopsWaitingForMissesThatCost) {
  script_.miss = 0.05;
  script_.done = true;  // and nothing has come
  SharedPages pages = Make(0.1);
  int held = 0;
  Sequence sequence = Prompt(10);
  for (int i = 0; i < 100; ++i) {
    pages.Begin(sequence, 0, At(10 * i));
    held += sequence.held ? 1 : 0;
    pages.Poll(sequence, At(10 * i + 0.01));
    EXPECT_FALSE(sequence.held);
  }
  EXPECT_GT(held, 0);
  EXPECT_LT(held, 50);
  // What is found by trying makes it wait again.
  for (int i = 100; i < 130 && !sequence.held; ++i) {
    script_.come = {{.index = 0, .value = "a"}};
    pages.Begin(sequence, 0, At(10 * i));
    if (!sequence.held) pages.Poll(sequence, At(10 * i + 0.01));
  }
  EXPECT_TRUE(sequence.held);
}

TEST_F(SharedPagesPolicyTest, AStoreThatCannotBeReachedIsNotWaitedFor) {
  script_.fetch = std::numeric_limits<double>::infinity();
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 0, At(0));
  EXPECT_FALSE(sequence.held);
}

TEST_F(SharedPagesPolicyTest, ComputesUntilItMeetsWhatComes) {
  script_.fetch = 0.01;
  script_.fetch_page = 0.1;
  script_.miss = 0.01;
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(20);
  pages.Begin(sequence, 0, At(0));
  EXPECT_FALSE(sequence.held);
  EXPECT_EQ(script_.order, PageOrder::kBackward);
  EXPECT_EQ(script_.pages_asked, 20);
  ASSERT_NE(sequence.arriving, nullptr);
  // After 0.02 s, 10 pages each.
  EXPECT_EQ(sequence.arriving->compute_until, 11 * kPageSize);
  // Those that come are as fast as expected.
  for (int index : {19, 18, 17}) {
    script_.come.push_back({.index = index, .value = "a"});
    pages.Poll(sequence, At(0.12 + 0.1 * (19 - index)));
  }
  EXPECT_EQ(sequence.arriving->compute_until, 11 * kPageSize);
  sequence.computed = 11 * kPageSize;
  script_.come.push_back({.index = 16, .value = "a"});
  pages.Poll(sequence, At(1.12));
  EXPECT_EQ(script_.first_needed, 11);
  // Of the 5 between, it computes more, since they came more slowly in the end.
  EXPECT_GT(sequence.arriving->compute_until, 13 * kPageSize);
  EXPECT_LE(sequence.arriving->compute_until, 16 * kPageSize);
  sequence.computed = 16 * kPageSize;
  pages.Poll(sequence, At(1.5));
  EXPECT_EQ(sequence.arriving->fetch, nullptr);
  EXPECT_EQ(sequence.arriving->compute_until, 0);
  EXPECT_EQ(sequence.arriving->pages.size(), 4u);
  EXPECT_EQ(script_.given_up, 1);
}

TEST_F(SharedPagesPolicyTest, ComputesInFewStepsWhereNothingComes) {
  script_.fetch_page = 0.1;
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(40);
  pages.Begin(sequence, 0, At(0));
  int steps = 0;
  while (sequence.arriving->fetch != nullptr) {
    ASSERT_LT(++steps, 10);
    ASSERT_GT(sequence.arriving->compute_until, sequence.computed);
    sequence.computed = std::min(sequence.arriving->compute_until, 40 * kPageSize);
    pages.Poll(sequence, At(steps));
  }
  EXPECT_EQ(sequence.arriving->compute_until, 0);
}

TEST_F(SharedPagesPolicyTest, SaysWhatItWouldMakeOfASequenceAndAsksForNothing) {
  script_.fetch = 0.1;
  SharedPages pages = Make(0.1);
  const PageOutlook waits = pages.Outlook(Prompt(10), 2);
  EXPECT_EQ(waits.choice, PageChoice::kWait);
  EXPECT_EQ(waits.pages, 8);
  EXPECT_DOUBLE_EQ(waits.fetch_seconds, 0.1);
  EXPECT_DOUBLE_EQ(waits.compute_seconds, 0.8);
  EXPECT_EQ(pages.Outlook(Prompt(10), 10).choice, PageChoice::kNothing);
  EXPECT_EQ(pages.Outlook(Prompt(10), 10).pages, 0);
  script_.fetch_page = 0.1;
  EXPECT_EQ(pages.Outlook(Prompt(20), 0).choice, PageChoice::kMeet);
  script_.fetch = 10;
  EXPECT_EQ(pages.Outlook(Prompt(20), 0).choice, PageChoice::kCompute);
  EXPECT_EQ(script_.fetches, 0);
  EXPECT_EQ(pages.counters().lookups, 0u);
  EXPECT_EQ(pages.counters().declined, 0u);
}

TEST_F(SharedPagesPolicyTest, MeetsTheRestOfWhatComesTooSlowly) {
  script_.fetch = 0.2;
  SharedPages pages = Make(0.1);
  Sequence sequence = Prompt(10);
  pages.Begin(sequence, 0, At(0));
  EXPECT_TRUE(sequence.held);
  script_.come = {{.index = 0, .value = "a"}, {.index = 2, .value = "c"}};
  script_.fetch = 0.1;
  script_.fetch_page = 0.1;
  pages.Poll(sequence, At(0.5));
  EXPECT_FALSE(sequence.held);
  EXPECT_EQ(script_.fetches, 2);
  EXPECT_EQ(script_.order, PageOrder::kBackward);
  EXPECT_EQ(script_.pages_asked, 9);
  EXPECT_EQ(sequence.arriving->pages.size(), 2u);
  EXPECT_EQ(pages.counters().abandoned, 1u);
}

}  // namespace
}  // namespace octogate::workers
