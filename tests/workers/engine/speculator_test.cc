// What an engine's speculation makes of the time that drafters take, of steps that take the time
// that the test says.
#include "workers/engine/speculator.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "workers/engine/answer.h"
#include "workers/engine/request.h"

namespace octogate::workers {
namespace {

constexpr int kVocabulary = 100;
constexpr absl::Duration kStep = absl::Milliseconds(20);

// Drafts two tokens, one after the other, and takes long for the first draft of a sequence, or for
// every one.
class SlowDrafter : public Drafter {
 public:
  SlowDrafter(absl::Duration first, absl::Duration later) : first_(first), later_(later) {}

  std::string_view name() const override { return "slow"; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view /*scope*/) override {
    return std::make_unique<Sequence>(first_, later_);
  }
  void BeginPass(std::span<SequenceDrafter* const> verified) override {
    begun += static_cast<int>(verified.size());
  }
  void EndPass() override { ended = begun; }
  uint64_t bytes() const override { return 0; }

  int begun = 0;  // sequences of passes
  int ended = 0;  // of these, those whose pass has ended

 private:
  class Sequence : public SequenceDrafter {
   public:
    Sequence(absl::Duration first, absl::Duration later) : next_(first), later_(later) {}
    void Append(std::span<const int32_t> /*tokens*/) override {}
    void Propose(int /*max_nodes*/, int /*max_depth*/, DraftTree& tree) override {
      absl::SleepFor(std::exchange(next_, later_));
      int node = -1;
      for (int32_t token = 1; token <= 2; ++token) node = tree.Add(node, token, 0.99F, 1);
    }

   private:
    absl::Duration next_;
    const absl::Duration later_;
  };

  const absl::Duration first_;
  const absl::Duration later_;
};

constexpr int kPlainSteps = 4;

// In how many of so many steps a sequence, whose drafts are always right, has some verified; before
// that it takes some steps without.
int StepsWithDrafts(int steps, Drafter& drafter) {
  Speculator speculator({&drafter}, /*shared=*/false, /*prune_below=*/0,
                        {.max_nodes = 20,
                         .seconds =
                             [](const StepLoad& load) {
                               return absl::ToDoubleSeconds(kStep) * (1 + 0.01 * load.rows);
                             }},
                        kVocabulary);
  const GenerateRequest request;
  const Answer answer(&request, {}, nullptr, 1000);
  std::vector<int32_t> tokens = {5, 6, 7};
  const auto speculation = speculator.Begin({}, tokens);
  int with_drafts = 0;
  for (int i = 0; i < kPlainSteps + steps; ++i) {
    const StepLoad load = {
        .rows = 1, .logit_rows = 1, .attended = static_cast<int64_t>(tokens.size())};
    speculator.BeginStep(load, load);
    speculator.Admit(answer,
                     {.max_depth = i < kPlainSteps ? 0 : 16,
                      .context = static_cast<int>(tokens.size()),
                      .free_slots = 64,
                      .most_slots = 64},
                     tokens, *speculation);
    const bool drafts = speculator.PlanStep({.rows = 64, .pages = 10, .page_size = 16});
    speculator.BeginPass();
    speculator.EndPass();
    std::vector<int> accepted;
    std::vector<int32_t> chosen;
    for (int node = 0; node < speculation->tree.size(); ++node) {
      accepted.push_back(node);
      chosen.push_back(speculation->tree.nodes[static_cast<size_t>(node)].token);
    }
    chosen.push_back(50);
    tokens.insert(tokens.end(), chosen.begin(), chosen.end());
    with_drafts += static_cast<int>(drafts);
    speculator.Chosen(*speculation, chosen, accepted, {}, drafts, kStep);
    speculator.EndStep(kStep);
  }
  speculator.End(*speculation);
  return with_drafts;
}

TEST(SpeculatorTest, WhatIsReadForTheFirstDraftSaysNothingOfWhatDraftsCost) {
  SlowDrafter reads(20 * kStep, absl::ZeroDuration());
  EXPECT_EQ(StepsWithDrafts(8, reads), 8);
  EXPECT_EQ(reads.begun, 8) << "no drafter goes on where nothing of it is verified";
  EXPECT_EQ(reads.ended, 8);
}

TEST(SpeculatorTest, DraftsThatTakeLongerThanTheySaveEnd) {
  SlowDrafter slow(20 * kStep, 20 * kStep);
  EXPECT_LE(StepsWithDrafts(8, slow), 2);
}

}  // namespace
}  // namespace octogate::workers
