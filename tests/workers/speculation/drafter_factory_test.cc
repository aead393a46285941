// From what people ask for to drafters of a model.
#include "workers/speculation/drafter_factory.h"

#include <stdlib.h>

#include <filesystem>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/run_requests.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

std::filesystem::path Fixture(const std::string& name) {
  return std::filesystem::path(OCTOGATE_FIXTURES) / "checkpoints" / name;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const SpeculationOptions& options,
                                                  bool verify_all = false) {
  LoadOptions load;
  load.engine.kv_tokens = 1024;
  load.engine.verify_all_drafts = verify_all;
  load.speculation = SetUpSpeculation(options);
  return LoadModel(Fixture("llama3"), load);
}

std::vector<int32_t> Answer(LoadedModel& model) {
  GenerateRequest request;
  request.prompt = {1, 2, 3, 4};
  request.max_tokens = 30;
  request.ignore_eos = true;
  request.deadline = absl::Now() + absl::Minutes(5);
  const auto text = Generate(*model.engine, std::move(request));
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? text->ids : std::vector<int32_t>();
}

TEST(DrafterFactoryTest, OptionsAreCheckedAndUnknownNamesAreRefused) {
  EXPECT_TRUE(ValidateSpeculation({}).ok());
  EXPECT_TRUE(ValidateSpeculation({.drafters = {"a", "b"}, .max_draft_nodes = 127}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.drafters = {"a", "b", "a"}})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.max_draft_nodes = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.max_draft_nodes = 128})));
  SpeculationOptions many;
  for (int i = 0; i <= kMaxDrafters; ++i) many.drafters.push_back(std::to_string(i));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation(many)));
  const absl::Status unknown = Load({.drafters = {"oracle"}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(unknown)) << unknown;
  EXPECT_NE(unknown.message().find("oracle"), std::string::npos);
  EXPECT_NE(unknown.message().find("hidden, lookahead, model, recycling"), std::string::npos)
      << unknown;
}

TEST(DrafterFactoryTest, WhatNeedsFilesSaysSo) {
  const absl::Status store = Load({.drafters = {"retrieval"}}).status();
  EXPECT_NE(store.message().find("octoctl drafts build"), std::string::npos) << store;
  EXPECT_TRUE(absl::IsNotFound(Load({.datastores = {{"/none"}}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpeculation({.near_matches = true})));
  const absl::Status near = Load({.datastores = {{"/none"}}, .near_matches = true}).status();
  EXPECT_TRUE(absl::IsUnimplemented(near)) << near;
  EXPECT_NE(near.message().find("without FAISS"), std::string::npos) << near;
  const absl::Status draft = Load({.drafters = {"model"}}).status();
  EXPECT_NE(draft.message().find("draft model"), std::string::npos) << draft;
  EXPECT_FALSE(Load({.draft_model = "/none"}).ok());
}

TEST(DrafterFactoryTest, AnswersAreThoseWithoutDrafters) {
  auto plain = LoadModel(Fixture("llama3"), {.engine = {.kv_tokens = 1024}});
  ASSERT_TRUE(plain.ok()) << plain.status();
  const std::vector<int32_t> expected = Answer(**plain);
  SpeculationOptions options{.drafters = {"lookahead", "model", "recycling", "suffix"}};
  options.draft_model = Fixture("llama3");  // its own draft model: always right
  auto model = Load(options);
  ASSERT_TRUE(model.ok()) << model.status();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Answer(**model), expected);
  const auto usage = (*model)->engine->stats().speculation;
  ASSERT_TRUE(usage.has_value());
  ASSERT_EQ(usage->drafters.size(), 4U);
  EXPECT_EQ(usage->drafters[1].drafter, "model");
  EXPECT_GT(usage->drafters[1].tokens.accepted, 0);
}

TEST(DrafterFactoryTest, ADraftModelOnThreadsOfItsOwnChangesNoAnswer) {
  auto plain = LoadModel(Fixture("llama3"), {.engine = {.kv_tokens = 1024}});
  ASSERT_TRUE(plain.ok()) << plain.status();
  SpeculationOptions options{.drafters = {"model"}};
  options.draft_model = Fixture("llama3");
  options.draft_threads = 1;
  auto model = Load(options, /*verify_all=*/true);
  ASSERT_TRUE(model.ok()) << model.status();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Answer(**model), Answer(**plain));
  EXPECT_GT((*model)->engine->stats().speculation->tokens.accepted, 0);
}

// Tokens of drafts that the second of two tenants accepts who ask the same.
int64_t AcceptedBySecond(const SpeculationOptions& options) {
  auto model = Load(options, /*verify_all=*/true);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return -1;
  GenerateRequest request = RequestFor({1, 2, 3, 4}, 40);
  request.sampling.temperature = 1;  // no token again and again, which one answer would tell
  request.sampling.seed = 5;
  std::vector<GenerateRequest> requests(2, request);
  requests[0].terms.tenant = "first";
  requests[1].terms.tenant = "second";
  return RunAll(*(*model)->engine, requests, false)[1].accepted;
}

TEST(DrafterFactoryTest, TenantsHaveWhatOthersTaughtOnlyWhereTheyShare) {
  for (const char* drafter : {"lookahead", "recycling", "suffix"}) {
    SpeculationOptions options{.drafters = {drafter}};
    const int64_t alone = AcceptedBySecond(options);
    options.share_between_tenants = true;
    const int64_t shared = AcceptedBySecond(options);
    EXPECT_GT(shared, alone + 10) << drafter;
  }
}

// Of 40 tenants that have asked something once, those of which the drafter knows anything.
int Remembered(const std::string& drafter, uint64_t memory_bytes, uint64_t* bytes) {
  auto checkpoint = Checkpoint::Open(Fixture("llama3"));
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok()) return -1;
  auto drafters = MakeDrafters({.drafters = {drafter}, .memory_bytes = memory_bytes},
                               {.checkpoint = &*checkpoint});
  EXPECT_TRUE(drafters.ok()) << drafters.status();
  if (!drafters.ok()) return -1;
  constexpr int kTenants = 40;
  const std::vector<int32_t> text = {5, 6, 7, 8, 9, 10};
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    const auto sequence = drafters->front()->Begin(std::to_string(tenant));
    sequence->Append(std::vector<int32_t>{4});
    sequence->Append(text);
  }
  *bytes = drafters->front()->bytes();
  int remembered = 0;
  // The last to begin first: whoever is forgotten is so already.
  for (int tenant = kTenants - 1; tenant >= 0; --tenant) {
    const auto sequence = drafters->front()->Begin(std::to_string(tenant));
    sequence->Append(std::vector<int32_t>{5, 6});
    DraftTree tree;
    sequence->Propose(8, 4, tree);
    remembered += tree.empty() ? 0 : 1;
  }
  return remembered;
}

TEST(DrafterFactoryTest, MemoryAndNotTheirNumberDecidesWhichTenantsAreForgotten) {
  for (const char* drafter : {"lookahead", "recycling", "suffix"}) {
    SCOPED_TRACE(drafter);
    uint64_t all = 0;
    EXPECT_EQ(Remembered(drafter, SpeculationOptions().memory_bytes, &all), 40);
    uint64_t bytes = 0;
    const int some = Remembered(drafter, all / 4, &bytes);
    EXPECT_LE(bytes, all / 4 + all / 20);
    EXPECT_GE(some, 5);
    EXPECT_LE(some, 11);
  }
}

TEST(DrafterFactoryTest, RecyclingHasTheTreesAndCandidatesThatAreAskedFor) {
  std::vector<GenerateRequest> requests;
  for (int32_t i = 1; i <= 4; ++i) requests.push_back(RequestFor({i, 2, 3, 4}, 30, "", 2));
  auto plain = LoadModel(Fixture("llama3"), {.engine = {.kv_tokens = 1024}});
  ASSERT_TRUE(plain.ok()) << plain.status();
  const std::vector<Outcome> expected = RunAll(*(*plain)->engine, requests, false);
  uint64_t bytes = 0;
  for (const int candidates : {1, 8, 32}) {
    std::set<int64_t> drafted;  // tokens, by each of the trees
    for (const std::string_view tree : RecyclingTreeNames()) {
      SCOPED_TRACE(::testing::Message() << tree << " of " << candidates);
      SpeculationOptions options{.drafters = {"recycling"}};
      options.recycling_candidates = candidates;
      options.recycling_tree = tree;
      auto model = Load(options, /*verify_all=*/true);
      ASSERT_TRUE(model.ok()) << model.status();
      for (int i = 0; i < 3; ++i) {
        ExpectSameAnswers(RunAll(*(*model)->engine, requests, true), expected);
      }
      ASSERT_TRUE((*model)->engine->Drain(absl::Now() + absl::Minutes(5)).ok());
      const EngineStats stats = (*model)->engine->stats();
      EXPECT_GT(stats.speculation->tokens.accepted, 0);
      drafted.insert(stats.speculation->tokens.drafted);
      if (tree != RecyclingTreeNames().front()) continue;
      EXPECT_GT(stats.draft_bytes, bytes) << candidates;
      bytes = stats.draft_bytes;
    }
    EXPECT_EQ(drafted.size(), RecyclingTreeNames().size()) << "each drafts something else";
  }
}

TEST(DrafterFactoryTest, RecyclingKeepsAsManyPairsAsAreAskedFor) {
  const GenerateRequest request = RequestFor({1, 2, 3, 4}, 30, "", 2);
  auto plain = LoadModel(Fixture("llama3"), {.engine = {.kv_tokens = 1024}});
  ASSERT_TRUE(plain.ok()) << plain.status();
  const std::vector<Outcome> expected = RunAll(*(*plain)->engine, {request}, false);
  const auto bytes = [&](int pairs) {
    SpeculationOptions options{.drafters = {"recycling"}};
    options.recycling_candidates = 4;
    options.recycling_pairs = pairs;
    auto model = Load(options, /*verify_all=*/true);
    EXPECT_TRUE(model.ok()) << model.status();
    if (!model.ok()) return uint64_t{0};
    for (int i = 0; i < 2; ++i) {
      ExpectSameAnswers(RunAll(*(*model)->engine, {request}, false), expected);
    }
    EXPECT_TRUE((*model)->engine->Drain(absl::Now() + absl::Minutes(5)).ok());
    EXPECT_GT((*model)->engine->stats().speculation->tokens.accepted, 0);
    return (*model)->engine->stats().draft_bytes;
  };
  const uint64_t none = bytes(0);
  // As many bytes as are promised, and a bit for each that has changed.
  EXPECT_EQ(bytes(6400) - none, 6400U * (16 + 4 * 4) + 6400 / 8);
}

TEST(DrafterFactoryTest, WhatIsWrongWithOptionsOfDraftersIsSaid) {
  const auto message = [](const SpeculationOptions& options) {
    const absl::Status status = ValidateSpeculation(options);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  SpeculationOptions options;
  options.recycling_candidates = 33;
  EXPECT_NE(message(options).find("1 to 32"), std::string::npos);
  options.recycling_candidates = 4;
  EXPECT_TRUE(ValidateSpeculation(options).ok());
  options.drafters = {"suffix"};
  EXPECT_NE(message(options).find("\"recycling\""), std::string::npos);
  options = {};
  for (const int pairs : {-1, kMaxRecyclingPairs + 1}) {
    options.recycling_pairs = pairs;
    EXPECT_NE(message(options).find("0 to 1048576 pairs"), std::string::npos);
  }
  options.recycling_pairs = 0;
  EXPECT_TRUE(ValidateSpeculation(options).ok());
  options.drafters = {"suffix"};
  EXPECT_NE(message(options).find("\"recycling\""), std::string::npos);
  options = {};
  options.recycling_tree = "square";
  EXPECT_NE(message(options).find("best-first, fixed, planned"), std::string::npos);
  options.recycling_tree = "planned";
  EXPECT_TRUE(ValidateSpeculation(options).ok());
  options = {};
  options.prune_retrieved_below = 0.1F;
  EXPECT_NE(message(options).find("draft model"), std::string::npos);
  options.datastores = {{"store"}};
  options.draft_model = "model";
  EXPECT_TRUE(ValidateSpeculation(options).ok());
  options.datastores[0].tenant = "a";
  EXPECT_TRUE(ValidateSpeculation(options).ok());
  options.share_between_tenants = true;
  EXPECT_NE(message(options).find("no datastore of their own"), std::string::npos);
  options.share_between_tenants = false;
  options.prune_retrieved_below = 1;
  EXPECT_NE(message(options).find("below 1"), std::string::npos);
  options = {};
  options.draft_threads = 1;
  EXPECT_NE(message(options).find("draft model"), std::string::npos);
  options.draft_model = "model";
  EXPECT_TRUE(ValidateSpeculation(options).ok());
  options.draft_threads = 1025;
  EXPECT_NE(message(options).find("1025"), std::string::npos);
  options = {.drafters = {"suffix"}};
  options.draft_head = "head";
  EXPECT_NE(message(options).find("\"hidden\""), std::string::npos);
}

TEST(DrafterFactoryTest, AHeadIsOpenedBeforeItIsSaidThatNothingDraftsWithIt) {
  const absl::Status none = Load({.drafters = {"hidden"}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(none)) << none;
  SpeculationOptions options;
  options.draft_head = "/none";
  EXPECT_TRUE(absl::IsNotFound(Load(options).status()));
  // A whole model is no head of another one.
  options.draft_head = Fixture("llama");
  const absl::Status model = Load(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(model)) << model;
}

TEST(DrafterFactoryTest, AnotherTokenizersDraftModelIsRefused) {
  SpeculationOptions options;
  options.draft_model = Fixture("qwen2");
  const absl::Status status = Load(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(status.message().find("qwen2"), std::string::npos) << status;
}

}  // namespace
}  // namespace octogate::workers
