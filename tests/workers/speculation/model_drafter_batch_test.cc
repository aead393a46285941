// A draft model drafts for all sequences of a step in the same passes. Each sequence gets the
// proposals that it gets alone, bit for bit, whatever the others are.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/workers/engine/random_requests.h"
#include "tests/workers/engine/speculating_engines.h"
#include "tests/workers/speculation/draft_paths.h"
#include "workers/model/rope.h"
#include "workers/speculation/model_drafter.h"

namespace octogate::workers {
namespace {

using Ids = std::vector<int32_t>;

// What is asked of a sequence, and what comes of it.
struct Asked {
  SequenceDrafter* sequence = nullptr;
  int max_nodes = 64;
  int max_depth = 16;
  DraftTree tree;
  absl::Duration time;
};

void ProposeAll(Drafter& drafter, std::vector<Asked>& asked) {
  std::vector<DraftCall> calls;
  for (Asked& one : asked) {
    calls.push_back({.sequence = one.sequence,
                     .max_nodes = one.max_nodes,
                     .max_depth = one.max_depth,
                     .tree = &one.tree,
                     .time = &one.time});
  }
  drafter.ProposeAll(calls);
}

class ModelDrafterBatchTest : public ::testing::TestWithParam<const char*>,
                              protected RandomChoices {
 protected:
  void SetUp() override {
    checkpoint_ = OpenCheckpoint(FixturePath(GetParam()));
    ASSERT_NE(checkpoint_, nullptr);
    options_.vocab_size = config().vocab_size;
    options_.page_size = 4;
  }

  const ModelConfig& config() const { return checkpoint_->config(); }
  std::unique_ptr<ModelDrafter> Make(const ModelDrafterOptions& options) {
    auto drafter = ModelDrafter::Create(checkpoint_, backend_.get(), options);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    return drafter.ok() ? *std::move(drafter) : nullptr;
  }
  Ids Text(int count) { return RandomIds(random_, count, config().vocab_size); }
  // One of the paths of a tree, to its end or not.
  Ids PathOf(const DraftTree& tree) { return PathTo(tree, tree.empty() ? -1 : Below(tree.size())); }

  const std::unique_ptr<kernels::Backend> backend_ =
      kernels::MakeCpuBackend({.threads = 1 + Below(2)});
  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelDrafterOptions options_;
};

// A sequence and its twin of another drafter, which are told the same.
struct Twins {
  std::unique_ptr<SequenceDrafter> batched;
  std::unique_ptr<SequenceDrafter> alone;
  Ids text;
  DraftTree last;
};

TEST_P(ModelDrafterBatchTest, ProposesToManyWhatItProposesToEachAlone) {
  options_.passes = 1 + Below(4);
  options_.rows = 1 + Below(12);
  options_.children = 1 + Below(5);
  options_.prompt_rows = 8 + Below(33);
  options_.prompt_passes = 1 + Below(5);
  // For all sequences, or for few of them.
  options_.pages = Chance(50) ? 2000 : 100 + Below(200);
  const auto alone = Make(options_);
  options_.batch_rows = 1 + Below(200);
  options_.batch_ranked_rows = 1 + Below(60);
  const auto batched = Make(options_);
  ASSERT_TRUE(alone != nullptr && batched != nullptr);

  std::vector<Twins> running(static_cast<size_t>(2 + Below(9)));
  int proposed = 0;
  for (int step = 0; step < 25; ++step) {
    const bool plain = step == 0;  // something is proposed in any case
    std::vector<size_t> due;
    for (size_t i = 0; i < running.size(); ++i) {
      Twins& one = running[i];
      const bool evicted = one.batched != nullptr && Chance(5);
      if (one.batched == nullptr || evicted || Chance(3)) {
        if (!evicted) one.text = Text(plain ? 1 + Below(8) : Below(Chance(20) ? 300 : 60));
        // Its pages are free before another one begins.
        one.batched.reset();
        one.alone.reset();
        one.batched = batched->Begin("");
        one.alone = alone->Begin("");
        one.batched->Append(one.text);
        one.alone->Append(one.text);
      } else {
        Ids next = Chance(70) ? PathOf(one.last) : Ids{};
        const Ids more = Text(Chance(10) ? Below(80) : Below(3));
        next.insert(next.end(), more.begin(), more.end());
        // The target has tokens that the draft has not.
        if (Chance(1)) next.push_back(config().vocab_size + Below(3));
        one.batched->Append(next);
        one.alone->Append(next);
        one.text.insert(one.text.end(), next.begin(), next.end());
      }
      one.last = {};
      if (plain || Chance(85)) due.push_back(i);
    }
    std::shuffle(due.begin(), due.end(), random_);
    std::vector<Asked> asked;
    for (const size_t i : due) {
      asked.push_back({.sequence = running[i].batched.get(),
                       .max_nodes = !plain && Chance(5) ? -Below(2) : 1 + Below(140),
                       .max_depth = !plain && Chance(5) ? -Below(2) : 1 + Below(12),
                       .tree = {},
                       .time = {}});
    }
    ProposeAll(*batched, asked);
    for (size_t i = 0; i < due.size(); ++i) {
      DraftTree expected;
      running[due[i]].alone->Propose(asked[i].max_nodes, asked[i].max_depth, expected);
      ASSERT_TRUE(SameBits(asked[i].tree, expected)) << "step " << step << ", sequence " << due[i];
      ASSERT_EQ(running[due[i]].batched->bytes(), running[due[i]].alone->bytes());
      running[due[i]].last = expected;
      proposed += expected.size();
    }
  }
  EXPECT_GT(proposed, 0);
}

TEST_P(ModelDrafterBatchTest, WhoGetsNothingChangesNothingForOthers) {
  options_.prompt_passes = 2;
  const int readable = options_.prompt_rows * options_.prompt_passes;
  options_.pages = 100;
  const auto drafter = Make(options_);
  ASSERT_NE(drafter, nullptr);
  const auto begin = [&](const Ids& text) {
    auto sequence = drafter->Begin("");
    sequence->Append(text);
    return sequence;
  };
  const Ids prompt = Text(1 + Below(60));
  DraftTree expected;
  begin(prompt)->Propose(64, 16, expected);
  ASSERT_FALSE(expected.empty());

  const auto at_end = begin(Text(config().max_position_embeddings));
  const auto foreign = begin({1, config().vocab_size});
  const auto empty = begin({});
  const auto first = begin(prompt);
  const auto unread = begin(Text(readable + 2));
  const auto without_pages = begin(Text(200));
  const auto unasked = begin(prompt);
  const auto last = begin(prompt);
  std::vector<Asked> asked;
  for (const auto* one :
       {&at_end, &foreign, &empty, &first, &unread, &without_pages, &unasked, &last}) {
    asked.push_back({.sequence = one->get(), .tree = {}, .time = {}});
    if (one == &unasked) asked.back().max_nodes = 0;
  }
  ProposeAll(*drafter, asked);
  for (const Asked& one : asked) {
    const bool drafts = one.sequence == first.get() || one.sequence == last.get();
    EXPECT_TRUE(SameBits(one.tree, drafts ? expected : DraftTree{}));
    // Reading takes time, and goes on the next time.
    EXPECT_EQ(one.time > absl::ZeroDuration(), drafts || one.sequence == unread.get());
  }
  DraftTree tree;
  unread->Propose(64, 16, tree);
  EXPECT_EQ(tree.size(), 64);
}

TEST_P(ModelDrafterBatchTest, ManyTakeAsManyPassesAsOne) {
  const Ids prompt = Text(1 + Below(100));
  const auto passes_for = [&](int count, int batch_rows) {
    options_.batch_rows = batch_rows;
    options_.batch_ranked_rows = batch_rows;
    const auto drafter = Make(options_);
    std::vector<std::unique_ptr<SequenceDrafter>> sequences;
    std::vector<Asked> asked;
    for (int i = 0; i < count; ++i) {
      sequences.push_back(drafter->Begin(""));
      sequences.back()->Append(prompt);
      asked.push_back({.sequence = sequences.back().get(), .tree = {}, .time = {}});
    }
    ProposeAll(*drafter, asked);
    for (const Asked& one : asked) EXPECT_EQ(one.tree.size(), 64);
    return drafter->passes();
  };
  const uint64_t one = passes_for(1, 1);
  EXPECT_GE(one, static_cast<uint64_t>(options_.passes));
  EXPECT_EQ(passes_for(9, 1000), one);
  // Two have no room in one pass.
  options_.prompt_rows = 25;
  const uint64_t narrow = passes_for(1, 1);
  const uint64_t in_turns = passes_for(9, 30);
  EXPECT_GT(in_turns, narrow);
  EXPECT_LT(in_turns, 9 * narrow);
}

TEST_P(ModelDrafterBatchTest, TimeIsSharedByRows) {
  const auto drafter = Make(options_);
  ASSERT_NE(drafter, nullptr);
  const auto small = drafter->Begin("");
  small->Append(Text(2));
  // Read in one pass as well: all take part in the same passes.
  const auto large = drafter->Begin("");
  large->Append(Text(options_.prompt_rows));
  const auto other = drafter->Begin("");
  other->Append(Text(2));
  std::vector<Asked> asked;
  for (const auto* one : {&small, &large, &other}) {
    asked.push_back({.sequence = one->get(), .tree = {}, .time = absl::Seconds(1)});
  }
  const auto begin = std::chrono::steady_clock::now();
  ProposeAll(*drafter, asked);
  const absl::Duration all = absl::FromChrono(std::chrono::steady_clock::now() - begin);
  absl::Duration sum;
  for (Asked& one : asked) {
    one.time -= absl::Seconds(1);
    EXPECT_GT(one.time, absl::ZeroDuration());
    sum += one.time;
  }
  EXPECT_LE(sum, all);
  // In no pass it has fewer rows, and in the first one more.
  EXPECT_GT(asked[1].time, asked[0].time);
  EXPECT_EQ(asked[0].time, asked[2].time);
}

// An engine asks for the drafts of all sequences at once.
TEST_P(ModelDrafterBatchTest, AnEngineDraftsForItsSequencesTogether) {
  constexpr int kSequences = 6;
  auto backend = kernels::MakeCpuBackend({.threads = 1});
  auto made = ModelDrafter::Create(checkpoint_, backend.get(), options_);
  ASSERT_TRUE(made.ok()) << made.status();
  const ModelDrafter& drafter = **made;
  Drafters drafters;
  drafters.push_back(*std::move(made));
  auto engine = Engine::Create(
      checkpoint_, OpenTokenizer(FixturePath(GetParam())), std::move(backend),
      {.max_sequences = kSequences, .max_draft_nodes = 20, .verify_all_drafts = true},
      std::move(drafters));
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < kSequences; ++i) requests.push_back(RequestFor(Text(1 + Below(20)), 30));
  RunAll(**engine, requests, true);
  ASSERT_TRUE((*engine)->Drain(absl::Now() + kLong).ok());
  const EngineStats stats = (*engine)->stats();
  EXPECT_GT(stats.speculation->tokens.drafted, 0);
  // What a step finds to read are some tokens.
  EXPECT_LE(drafter.passes(), stats.steps * static_cast<uint64_t>(options_.passes + 1));
  EXPECT_GT(drafter.passes(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Families, ModelDrafterBatchTest,
                         ::testing::Values("llama", "mistral", "qwen3", "phi3_longrope"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace octogate::workers
