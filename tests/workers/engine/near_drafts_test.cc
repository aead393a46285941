// Drafts from near matches in a corpus change no answer: token ids, texts, log-probabilities and
// reasons to end are those of plain decoding, bit for bit.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/near_index.h"
#include "tests/retrieval/drafts/store_file.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/model/tokenizer_fingerprint.h"
#include "workers/speculation/drafter_factory.h"
#include "workers/speculation/retrieval_drafter.h"

namespace octogate::workers {
namespace {

class NearDraftsTest : public ::testing::TestWithParam<std::string>, protected RandomChoices {
 protected:
  void SetUp() override {
    plain_ = MakeEngine(FixturePath(GetParam()), {.max_sequences = 1});
    ASSERT_NE(plain_, nullptr);
    checkpoint_ = OpenCheckpoint(FixturePath(GetParam()));
    tokenizer_ = OpenTokenizer(FixturePath(GetParam()));
    ASSERT_NE(tokenizer_, nullptr);
    const int vocab_size = tokenizer_->vocab_size();
    for (int i = 0; i < 8; ++i) {
      GenerateRequest request;
      request.prompt = RandomIds(random_, 3 + Below(12), vocab_size);
      request.max_tokens = 30 + Below(40);
      request.ignore_eos = Chance(80);
      request.sampling.logprobs = 2;
      if (i % 2 == 1) {
        request.sampling.temperature = 1;
        request.sampling.seed = random_();
      }
      requests_.push_back(std::move(request));
    }
    expected_ = RunAll(*plain_, requests_, false);
    // The answers, but for every fifth token or so: six equal ones in a row are rare.
    std::vector<retrieval::Document> documents;
    const auto known = Known(requests_, expected_);
    for (retrieval::Document document : *known) {
      for (size_t at = static_cast<size_t>(Below(4)); at < document.size(); at += 4 + Below(3)) {
        document[at] = Below(vocab_size);
      }
      documents.push_back(std::move(document));
    }
    ASSERT_TRUE(file_
                    .Write(documents, {.tokenizer = TokenizerFingerprint(*tokenizer_),
                                       .vocab_size = vocab_size})
                    .ok());
    ASSERT_TRUE(retrieval::WriteNearIndex(file_.path()).ok());
  }

  void ExpectSame(Drafters drafters, bool accepts) {
    const auto engine = MakeSpeculator(
        GetParam(), {.max_sequences = 4, .max_draft_nodes = 40, .verify_all_drafts = true},
        std::move(drafters), 2);
    ASSERT_NE(engine, nullptr);
    ExpectSameAnswers(RunAll(*engine, requests_, true), expected_);
    ExpectSameAnswers(RunAll(*engine, requests_, false), expected_);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    EXPECT_EQ(engine->stats().malformed_drafts, 0U);
    if (accepts) {
      EXPECT_GT(engine->stats().speculation->tokens.accepted, 0);
    }
  }

  std::unique_ptr<Engine> plain_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<GenerateRequest> requests_;
  std::vector<Outcome> expected_;
  const retrieval::StoreFile file_;
};

TEST_P(NearDraftsTest, AloneTheySaveStepsAndChangeNothing) {
  const std::shared_ptr<const retrieval::DraftStore> store = file_.Open();
  ASSERT_NE(store, nullptr);
  auto near = retrieval::OpenNearMatches(file_.path(), *store);
  ASSERT_TRUE(near.ok()) << near.status();
  // No end of a sequence that is as long is found.
  const retrieval::DraftLookupOptions lookup = {.max_span = 400, .min_span = 300};
  auto drafter = RetrievalDrafter::Create({{.store = store, .near = *std::move(near)}},
                                          {.tokenizer = TokenizerFingerprint(*tokenizer_),
                                           .vocab_size = tokenizer_->vocab_size(),
                                           .lookup = lookup});
  ASSERT_TRUE(drafter.ok()) << drafter.status();
  EXPECT_GT((*drafter)->bytes(), store->bytes());
  Drafters drafters;
  drafters.push_back(*std::move(drafter));
  ExpectSame(std::move(drafters), true);
}

TEST_P(NearDraftsTest, WithAllDraftersTheyChangeNothing) {
  SpeculationOptions speculation = {.drafters = {"lookahead", "recycling", "retrieval", "suffix"},
                                    .datastores = {{file_.path()}},
                                    .near_matches = true,
                                    .open_near_matches = retrieval::OpenNearMatches};
  const DraftedModel model = {.checkpoint = checkpoint_.get(), .tokenizer = tokenizer_.get()};
  auto drafters = MakeDrafters(speculation, model);
  ASSERT_TRUE(drafters.ok()) << drafters.status();
  ExpectSame(*std::move(drafters), true);

  std::filesystem::remove(retrieval::NearIndexPath(file_.path()));
  EXPECT_TRUE(absl::IsNotFound(MakeDrafters(speculation, model).status()));
}

TEST_P(NearDraftsTest, ATenantsDatastoreDraftsForItAlone) {
  auto drafters = MakeDrafters(
      {.drafters = {"retrieval"}, .datastores = {{.path = file_.path(), .tenant = "its"}}},
      {.checkpoint = checkpoint_.get(), .tokenizer = tokenizer_.get()});
  ASSERT_TRUE(drafters.ok()) << drafters.status();
  const auto engine = MakeSpeculator(GetParam(), {.max_draft_nodes = 40, .verify_all_drafts = true},
                                     *std::move(drafters));
  ASSERT_NE(engine, nullptr);
  const auto drafted = [&](const std::string& tenant, const std::string& salt) {
    std::vector<GenerateRequest> requests = requests_;
    for (GenerateRequest& request : requests) {
      request.terms = {.tenant = tenant, .cache_salt = salt};
    }
    const std::vector<Outcome> outcomes = RunAll(*engine, requests, true);
    ExpectSameAnswers(outcomes, expected_);
    int64_t sum = 0;
    for (const Outcome& outcome : outcomes) sum += outcome.drafted;
    return sum;
  };
  EXPECT_GT(drafted("its", "its"), 0);
  EXPECT_GT(drafted("its", ""), 0);
  EXPECT_EQ(drafted("another", "its"), 0);
  EXPECT_EQ(drafted("", ""), 0);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, NearDraftsTest,
                         ::testing::Values("llama", "llama3", "phi3_longrope", "qwen2"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace octogate::workers
