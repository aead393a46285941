#include "workers/speculation/planner.h"

#include <algorithm>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

constexpr int kManyTokens = 1000;

class PlannerTest : public ::testing::Test {
 protected:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  DraftTree RandomTree(int size) {
    DraftTree tree;
    while (tree.size() < size) {
      tree.Add(Below(tree.size() + 1) - 1, Below(kManyTokens), static_cast<float>(Below(101)) / 100,
               1);
    }
    return tree;
  }

  const uint32_t seed_ = std::random_device{}();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::mt19937 random_{seed_};
};

double Gain(const DraftTree& tree) {
  std::vector<double> paths;
  double gain = 0;
  for (const DraftNode& node : tree.nodes) {
    const double before = node.parent < 0 ? 1 : paths[static_cast<size_t>(node.parent)];
    paths.push_back(before * node.probability);
    gain += paths.back();
  }
  return gain;
}

bool IsBreadthFirst(const DraftTree& tree) {
  for (int i = 1; i < tree.size(); ++i) {
    const DraftNode& a = tree.nodes[static_cast<size_t>(i - 1)];
    const DraftNode& b = tree.nodes[static_cast<size_t>(i)];
    if (b.depth < a.depth || (b.depth == a.depth && b.parent < a.parent)) return false;
  }
  return true;
}

// A step is bound by memory up to `free` rows, then by arithmetic.
DraftPlanner::Options Bend(int free, double slope) {
  return {.max_nodes = kMaxDraftNodes, .seconds = [free, slope](const StepLoad& load) {
            return 1 + slope * std::max(0, load.rows - free) + 1e-6 * load.attended;
          }};
}

TEST_F(PlannerTest, PlansKeepEveryLimitAndAreTreesBreadthFirst) {
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<DraftTree> trees;
    std::vector<PlannedSequence> sequences;
    const int count = 1 + Below(6);
    for (int i = 0; i < count; ++i) trees.push_back(RandomTree(Below(40)));
    const auto proposed = trees;
    for (DraftTree& tree : trees) {
      sequences.push_back({.tree = &tree,
                           .context = Below(100),
                           .free_slots = Below(5),
                           .most_slots = Below(60),
                           .spends = Below(2) == 0});
    }
    const DraftRoom room{.rows = Below(60), .pages = Below(8), .page_size = 1 + Below(8)};
    const int max_nodes = 1 + Below(30);
    DraftPlanner planner(
        {.max_nodes = max_nodes, .ignore_cost = Below(2) == 0, .seconds = nullptr});
    const StepLoad step{.rows = count, .logit_rows = count, .attended = 50 * count};
    planner.Plan(step, step, room, sequences);
    int rows = 0;
    int pages = 0;
    for (size_t i = 0; i < trees.size(); ++i) {
      EXPECT_TRUE(CheckDraftTree(trees[i], kManyTokens).ok());
      EXPECT_TRUE(IsBreadthFirst(trees[i]));
      EXPECT_LE(trees[i].size(), std::min(max_nodes, sequences[i].most_slots));
      rows += trees[i].size();
      const int beyond = std::max(0, trees[i].size() - sequences[i].free_slots);
      pages += (beyond + room.page_size - 1) / room.page_size;
      // Nothing that was not proposed.
      std::vector<int> places;  // in what was proposed
      for (const DraftNode& node : trees[i].nodes) {
        const int parent = node.parent < 0 ? -1 : places[static_cast<size_t>(node.parent)];
        places.push_back(proposed[i].Child(parent, node.token));
        ASSERT_GE(places.back(), 0);
      }
    }
    EXPECT_LE(rows, room.rows);
    EXPECT_LE(pages, room.pages);
  }
}

// Of one that drafts beside others that do not. Never longer than in plain decoding, by what is
// expected; and no longer than with any other number of the most probable nodes.
TEST_F(PlannerTest, TheExpectedWaitForATokenIsTheShortest) {
  for (int trial = 0; trial < 200; ++trial) {
    const DraftTree proposed = RandomTree(1 + Below(60));
    const int others = Below(2) * Below(20);
    const auto options = Bend(1 + Below(30), Below(100) / 500.0);
    DraftPlanner planner(options);
    const StepLoad step{.rows = 1 + others, .logit_rows = 1 + others, .attended = 10};
    DraftTree tree = proposed;
    PlannedSequence sequence{
        .tree = &tree, .context = 10, .free_slots = 500, .most_slots = 500, .spends = true};
    planner.Plan(step, step, {.rows = 500, .pages = 0, .page_size = 1}, {&sequence, 1});
    const auto wait = [&](const DraftTree& drafts) {
      return (others + 1 / (1 + Gain(drafts))) *
             options.seconds({.rows = step.rows + drafts.size(),
                              .logit_rows = 0,
                              .attended = 10 + 10 * drafts.size()});
    };
    EXPECT_LE(wait(tree), wait({}));
    for (int count = 0; count <= proposed.size(); ++count) {
      DraftTree other = proposed;
      PruneDraftTree(count, other);
      // What is hardly better than nothing is not worth while.
      EXPECT_LE(wait(tree), wait(other) * (tree.empty() ? 1.0101 : 1.0000001));
    }
  }
}

TEST_F(PlannerTest, MoreTokensPerSecondForOneAreNotWorthALongWaitOfTheOthers) {
  constexpr int kSequences = 4;
  const auto plan = [&](int drafting) {
    DraftPlanner planner(Bend(kSequences, 0.15));
    std::vector<DraftTree> trees(static_cast<size_t>(drafting));
    std::vector<PlannedSequence> sequences;
    for (DraftTree& tree : trees) {
      for (int i = 0; i < 8; ++i) tree.Add(i - 1, i, 1, 1);
      sequences.push_back({.tree = &tree, .free_slots = 500, .most_slots = 500, .spends = true});
    }
    const StepLoad step{.rows = kSequences, .logit_rows = kSequences, .attended = 0};
    planner.Plan(step, step, {.rows = 500}, sequences);
    int nodes = 0;
    for (const DraftTree& tree : trees) nodes += tree.size();
    return nodes;
  };
  // 12 tokens for the time of 2.2 passes are more than 4 a pass. But three sequences would wait.
  EXPECT_LE(plan(1), 1);
  EXPECT_EQ(plan(kSequences), 8 * kSequences) << "nobody waits for others where all gain";
}

TEST_F(PlannerTest, WhatSequencesHaveAlreadyCountsLess) {
  // Two rows are free: two equal sequences have one each.
  DraftPlanner planner(Bend(4, 100));
  std::vector<DraftTree> trees(2);
  std::vector<PlannedSequence> sequences;
  for (DraftTree& tree : trees) {
    tree.Add(tree.Add(-1, 1, 0.9F, 1), 2, 0.9F, 1);
    sequences.push_back({.tree = &tree, .free_slots = 500, .most_slots = 500});
  }
  const StepLoad step{.rows = 2, .logit_rows = 2, .attended = 0};
  planner.Plan(step, step, {.rows = 500}, sequences);
  for (const DraftTree& tree : trees) EXPECT_EQ(tree.size(), 1);
}

TEST_F(PlannerTest, HighLoadLeavesNothingAndLowLoadBringsItBack) {
  DraftPlanner planner(Bend(16, 0.05));
  for (const auto& [batch, drafts] :
       {std::pair(1, true), std::pair(64, false), std::pair(1, true)}) {
    std::vector<DraftTree> trees(static_cast<size_t>(batch));
    std::vector<PlannedSequence> sequences;
    for (DraftTree& tree : trees) {
      tree.Add(tree.Add(-1, 1, 0.5, 1), 2, 0.5, 1);
      sequences.push_back({.tree = &tree, .free_slots = 500, .most_slots = 500});
    }
    const StepLoad step{.rows = batch, .logit_rows = batch, .attended = 0};
    planner.Plan(step, step, {.rows = 500}, sequences);
    for (const DraftTree& tree : trees) EXPECT_EQ(!tree.empty(), drafts) << batch;
  }
}

TEST_F(PlannerTest, StepsThatTakeLongerThanExpectedMakeDraftsDearer) {
  DraftPlanner planner(Bend(16, 0.05));
  const auto plan = [&] {
    DraftTree tree;
    tree.Add(-1, 1, 0.5, 1);
    PlannedSequence sequence{.tree = &tree, .free_slots = 500, .most_slots = 500};
    const StepLoad step{.rows = 1, .logit_rows = 1, .attended = 0};
    planner.Plan(step, step, {.rows = 500}, {&sequence, 1});
    return tree.size();
  };
  const StepLoad with_drafts{.rows = 2, .logit_rows = 2, .attended = 0};
  const StepLoad without{.rows = 1, .logit_rows = 1, .attended = 0};
  EXPECT_EQ(plan(), 1);
  for (int i = 0; i < 10; ++i) planner.Measured(without, false, 3.0);
  for (int i = 0; i < 10; ++i) planner.Measured(with_drafts, true, 3.0);
  EXPECT_EQ(plan(), 1) << "all steps are slower alike";
  EXPECT_NEAR(planner.AddedSeconds(with_drafts, without), 0, 1e-9);
  for (int i = 0; i < 100; ++i) planner.Measured(with_drafts, true, 6.0);
  EXPECT_EQ(plan(), 0);
  EXPECT_NEAR(planner.AddedSeconds(with_drafts, without), 3, 0.05);
  for (int i = 0; i < 1000; ++i) planner.Measured(without, false, 3.0);
  EXPECT_EQ(plan(), 1) << "it is tried again some time";
}

TEST_F(PlannerTest, DraftsThatGiveLessThanTheyPromiseHaveToPromiseMore) {
  DraftPlanner planner(Bend(1, 0.2));
  const StepLoad step{.rows = 1, .logit_rows = 1, .attended = 0};
  const auto plan = [&](float probability) {
    DraftTree tree;
    tree.Add(-1, 1, probability, 1);
    PlannedSequence sequence{.tree = &tree, .free_slots = 500, .most_slots = 500, .spends = true};
    planner.Plan(step, step, {.rows = 500}, {&sequence, 1});
    return tree.size();
  };
  EXPECT_EQ(plan(0.4F), 1);
  // As often right as promised.
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(plan(0.4F), 1) << i;
    planner.Accepted(i % 5 < 2 ? 1 : 0);
  }
  // A quarter of what was promised, which does not pay.
  int steps = 0;
  while (plan(0.4F) == 1 && steps < 1000) planner.Accepted(steps++ % 10 == 0 ? 1 : 0);
  EXPECT_LT(steps, 200);
  EXPECT_EQ(plan(0.95F), 1) << "what promises much more is tried";
  for (int i = 0; i < 2000; ++i) planner.Measured(step, false, 1.0);
  EXPECT_EQ(plan(0.4F), 1) << "it is tried again some time";
}

TEST_F(PlannerTest, TellsHowProbableTheLeastProbablePathsOfItsPlansAre) {
  // A row costs half a step: paths of 0.9 and 0.81 are worth it, and one of 0.08 is not.
  DraftPlanner planner(Bend(1, 0.5));
  EXPECT_EQ(planner.least_path(), 0);
  const auto plan = [&](int rows) {
    DraftTree tree;
    const int first = tree.Add(-1, 1, 0.9F, 1);
    tree.Add(first, 2, 0.9F, 1);
    tree.Add(first, 3, 0.09F, 1);
    PlannedSequence sequence{.tree = &tree, .context = 0, .free_slots = 9, .most_slots = 9};
    const StepLoad step{.rows = 1, .logit_rows = 1, .attended = 0};
    planner.Plan(step, step, {.rows = rows, .pages = 0, .page_size = 1}, {&sequence, 1});
    return tree.size();
  };
  for (int i = 0; i < 100; ++i) ASSERT_EQ(plan(9), 2);
  EXPECT_NEAR(planner.least_path(), 0.81, 1e-3);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(plan(1), 1);
  EXPECT_NEAR(planner.least_path(), 0.9, 1e-3);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(plan(0), 0);
  EXPECT_NEAR(planner.least_path(), 0, 1e-3);
}

TEST_F(PlannerTest, WhoSpendsGoesOnForLessThanWhoBegins) {
  const auto plan = [](float probability, bool spends) {
    DraftPlanner planner(Bend(1, 0.2));
    DraftTree tree;
    tree.Add(-1, 1, probability, 1);
    PlannedSequence sequence{.tree = &tree, .free_slots = 500, .most_slots = 500, .spends = spends};
    const StepLoad step{.rows = 1, .logit_rows = 1, .attended = 0};
    planner.Plan(step, step, {.rows = 500}, {&sequence, 1});
    return tree.size();
  };
  // A row costs a fifth of a pass.
  for (const bool spends : {false, true}) {
    EXPECT_EQ(plan(0.19F, spends), 0);
    EXPECT_EQ(plan(0.225F, spends), spends ? 1 : 0);
    EXPECT_EQ(plan(0.26F, spends), 1);
  }
}

TEST_F(PlannerTest, WhatIsNotTakenIsDraftedRarelyAndComesBackWhenTheLoadFalls) {
  DraftPace pace;
  int drafted = 0;
  for (int step = 0; step < 330; ++step) {
    if (!pace.Due(32)) continue;
    ++drafted;
    pace.Drafted(false, false, 32);
  }
  EXPECT_GE(drafted, 10);
  EXPECT_LE(drafted, 20);
  EXPECT_TRUE(pace.Due(16));
  pace.Drafted(true, false, 16);
  for (int step = 0; step < 10; ++step) EXPECT_TRUE(pace.Due(16));
  pace.Drafted(false, true, 16);
  EXPECT_TRUE(pace.Due(16)) << "what is cheap needs not be rare";
}

}  // namespace
}  // namespace octogate::workers
