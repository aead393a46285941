// A worker tells what its prefix cache holds of the prompts that it has served, and nothing that it
// has lost: with pages of the test's own, and with a real (tiny) model.
#include "workers/server/served_prefixes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "workers/engine/model_runner.h"
#include "workers/server/model_service.h"

namespace octogate::workers {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAreArray;

constexpr int kPageSize = 16;
constexpr int kBlock = static_cast<int>(PromptBlocks::kBlockBytes);

// Four bytes a token: four pages a block.
std::shared_ptr<const PromptBlocks> Blocks(std::vector<uint32_t> hashes) {
  auto blocks = std::make_shared<PromptBlocks>();
  blocks->bytes = static_cast<int64_t>(hashes.size()) * kBlock;
  blocks->hashes = std::move(hashes);
  return blocks;
}
int TokensOf(const PromptBlocks& blocks) { return static_cast<int>(blocks.bytes / 4); }

class ServedPrefixesTest : public testing::Test {
 protected:
  std::vector<StampedPage> Pages(int first, int count) const {
    std::vector<StampedPage> pages;
    for (int32_t page = first; page < first + count; ++page) {
      pages.push_back({page, stamps_->Get(page)});
    }
    return pages;
  }
  void Add(const std::shared_ptr<const PromptBlocks>& blocks, int first_page, int pages) {
    prefixes_.Add(blocks, TokensOf(*blocks), Pages(first_page, pages));
  }

  const std::shared_ptr<PageStamps> stamps_ = std::make_shared<PageStamps>(1000);
  ServedPrefixes prefixes_{stamps_, kPageSize};
};

TEST_F(ServedPrefixesTest, NothingIsKeptUntilSomebodyAsks) {
  Add(Blocks({1, 2}), 0, 8);
  EXPECT_FALSE(prefixes_.wanted());
  EXPECT_THAT(prefixes_.Summary().blocks(), IsEmpty());
  EXPECT_TRUE(prefixes_.wanted());
  Add(Blocks({1, 2}), 0, 8);
  const v1::PrefixSummary summary = prefixes_.Summary();
  EXPECT_THAT(summary.blocks(), ElementsAre(1, 2));
  EXPECT_EQ(summary.block_bytes(), kBlock);
}

TEST_F(ServedPrefixesTest, BlocksWhosePagesAreThereAreToldInAscendingOrder) {
  prefixes_.Summary();
  Add(Blocks({30, 10, 20, 5}), 0, 16);
  EXPECT_THAT(prefixes_.Summary().blocks(), ElementsAre(5, 10, 20, 30));
  // The last page is not full, or was not entered.
  Add(Blocks({31, 32, 33, 34}), 20, 15);
  EXPECT_THAT(prefixes_.Summary().blocks(), ElementsAre(5, 10, 20, 30, 31, 32, 33));
}

TEST_F(ServedPrefixesTest, WhatWasEvictedIsNotTold) {
  prefixes_.Summary();
  Add(Blocks({1, 2, 3, 4}), 0, 16);
  Add(Blocks({1, 2, 7, 8}), 0, 16);
  stamps_->Change(11);  // the last of the third block
  EXPECT_THAT(prefixes_.Summary().blocks(), ElementsAre(1, 2, 4, 8))
      << "pages go from the end of a prompt; this one is the test's";
  for (int32_t page = 0; page < 16; ++page) stamps_->Change(page);
  EXPECT_THAT(prefixes_.Summary().blocks(), IsEmpty());
  // The same pages with other contents are no more the first prompt's.
  Add(Blocks({5, 6}), 0, 8);
  EXPECT_THAT(prefixes_.Summary().blocks(), ElementsAre(5, 6));
}

TEST_F(ServedPrefixesTest, PagesThatChangedBeforeTheyWereEnteredDoNotCount) {
  prefixes_.Summary();
  Add(Blocks({1, 2}), 0, 8);
  stamps_->Change(7);
  EXPECT_THAT(prefixes_.Summary().blocks(), ElementsAre(1));
}

TEST_F(ServedPrefixesTest, TheLeastUsedGoFirstAndEndsBeforeBeginnings) {
  prefixes_.Summary();
  uint32_t next = 1;
  const auto fresh = [&next](size_t count) {
    std::vector<uint32_t> hashes(count);
    std::generate(hashes.begin(), hashes.end(), [&next] { return next++; });
    return hashes;
  };
  const std::vector<uint32_t> first = fresh(100);
  const std::vector<uint32_t> second = fresh(100);
  const auto add = [&](const std::vector<uint32_t>& hashes) {
    // So many pages that every block has one.
    auto blocks = std::make_shared<PromptBlocks>();
    blocks->hashes = hashes;
    blocks->bytes = static_cast<int64_t>(hashes.size()) * kBlock;
    prefixes_.Add(blocks, static_cast<int>(hashes.size()), Pages(0, 300));
  };
  add(first);
  add(second);
  prefixes_.Summary();
  const size_t most = PromptBlocks::kMaxSummaryBlocks;
  for (size_t held = 200; held + 1000 < most - 50; held += 1000) {
    add(fresh(1000));
    prefixes_.Summary();
  }
  add(first);  // is used again
  std::vector<uint32_t> told;
  while (told.size() < most) {
    add(fresh(10));
    const v1::PrefixSummary summary = prefixes_.Summary();
    told.assign(summary.blocks().begin(), summary.blocks().end());
    ASSERT_LE(told.size(), most);
  }
  for (int i = 0; i < 5; ++i) add(fresh(10));
  const v1::PrefixSummary summary = prefixes_.Summary();
  EXPECT_THAT(summary.blocks(), SizeIs(most));
  const auto has = [&](uint32_t hash) {
    return std::binary_search(summary.blocks().begin(), summary.blocks().end(), hash);
  };
  EXPECT_TRUE(std::all_of(first.begin(), first.end(), has));
  EXPECT_TRUE(has(second.front()));
  EXPECT_FALSE(has(second.back()));
}

TEST_F(ServedPrefixesTest, WhatWaitsIsBounded) {
  prefixes_.Summary();
  for (uint32_t i = 0; i < 20'000; ++i) Add(Blocks({i + 1}), 0, 4);
  const v1::PrefixSummary summary = prefixes_.Summary();
  EXPECT_LE(summary.blocks_size(), 4096);
  EXPECT_TRUE(std::binary_search(summary.blocks().begin(), summary.blocks().end(), 20'000U));
}

TEST_F(ServedPrefixesTest, AddsWhileOthersAsk) {
  prefixes_.Summary();
  std::atomic<bool> stop{false};
  std::thread asking([&] {
    while (!stop) {
      const v1::PrefixSummary summary = prefixes_.Summary();
      EXPECT_TRUE(std::is_sorted(summary.blocks().begin(), summary.blocks().end()));
    }
  });
  for (uint32_t i = 0; i < 2000; ++i) {
    Add(Blocks({i, i + 1'000'000}), static_cast<int>(i % 100) * 8, 8);
    stamps_->Change(static_cast<int32_t>(i % 800));
  }
  stop = true;
  asking.join();
}

// A model whose cache holds a few prompts.
class ServedPrefixesOfAModelTest : public testing::Test {
 protected:
  static constexpr int kPages = 96;

  std::unique_ptr<ModelService> Load(bool share_prefixes) {
    LoadOptions options;
    options.device.threads = 1;
    options.engine.page_size = kPageSize;
    options.engine.kv_tokens = kPages * kPageSize;
    options.engine.share_prefixes = share_prefixes;
    auto model = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
    EXPECT_TRUE(model.ok()) << model.status();
    return std::make_unique<ModelService>("tiny", *std::move(model));
  }

  static v1::WorkerGenerateRequest Request(const std::string& query) {
    v1::WorkerGenerateRequest request;
    request.mutable_prompt()->mutable_template_()->set_template_("{query}");
    request.mutable_prompt()->mutable_template_()->set_query(query);
    request.set_max_tokens(2);
    return request;
  }

  static v1::Usage Generate(ModelService& service, const v1::WorkerGenerateRequest& request) {
    v1::Usage usage;
    absl::Notification done;
    const auto started = service.Generate(
        request, absl::Now() + absl::Seconds(60),
        [&](v1::WorkerGenerateResponse message) {
          if (message.has_end()) usage = message.end().usage();
        },
        [&](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          done.Notify();
        });
    EXPECT_TRUE(started.ok()) << started.status();
    if (started.ok()) done.WaitForNotification();
    return usage;
  }

  static std::string RandomWords(std::mt19937& random, size_t bytes) {
    std::string text;
    while (text.size() < bytes) absl::StrAppend(&text, "word", random() % 1000, " ");
    text.resize(bytes);
    return text;
  }
};

// The blocks told of a prompt are tokens that it then does not compute: whatever was evicted.
TEST_F(ServedPrefixesOfAModelTest, WhatIsToldIsFound) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const auto service = Load(/*share_prefixes=*/true);
  EXPECT_THAT(service->Prefixes()->blocks(), IsEmpty());
  std::vector<v1::WorkerGenerateRequest> requests;
  for (int i = 0; i < 12; ++i) requests.push_back(Request(RandomWords(random, 600)));
  int told = 0;
  int missing = 0;
  for (int i = 0; i < 80; ++i) {
    const v1::WorkerGenerateRequest& request = requests[random() % requests.size()];
    const PromptBlocks blocks = HashPrompt(request.prompt(), "");
    const v1::PrefixSummary summary = *service->Prefixes();
    size_t held = 0;
    while (
        held < blocks.hashes.size() &&
        std::binary_search(summary.blocks().begin(), summary.blocks().end(), blocks.hashes[held])) {
      ++held;
    }
    const v1::Usage usage = Generate(*service, request);
    const int64_t tokens =
        usage.prompt_tokens() * static_cast<int64_t>(held) * kBlock / blocks.bytes;
    // Of a prompt that is there as a whole, the last page is computed.
    EXPECT_GE(usage.cached_tokens(), std::min(tokens, usage.prompt_tokens() - kPageSize));
    // And what is found was told, all but what is in the page of the block after it.
    if (held < blocks.hashes.size()) {
      EXPECT_LE(usage.cached_tokens() * blocks.bytes / usage.prompt_tokens(),
                static_cast<int64_t>(held + 1) * kBlock + 2 * kPageSize * 4);
    }
    ++(held > 0 ? told : missing);
  }
  // The cache is smaller than all prompts and larger than one: both happen.
  EXPECT_GT(told, 0);
  EXPECT_GT(missing, 0);
}

TEST_F(ServedPrefixesOfAModelTest, PromptsOfScoresAreToldToo) {
  const auto service = Load(/*share_prefixes=*/true);
  service->Prefixes();
  std::mt19937 random(1);
  v1::WorkerScoreRequest request;
  *request.mutable_prompt() = Request(RandomWords(random, 600)).prompt();
  request.mutable_terms()->set_cache_salt("salt");
  request.set_hidden_state(true);
  absl::Notification done;
  const auto started = service->Score(request, absl::Now() + absl::Seconds(60),
                                      [&](absl::StatusOr<v1::WorkerScoreResponse> response) {
                                        EXPECT_TRUE(response.ok()) << response.status();
                                        done.Notify();
                                      });
  ASSERT_TRUE(started.ok()) << started.status();
  done.WaitForNotification();
  EXPECT_THAT(service->Prefixes()->blocks(),
              UnorderedElementsAreArray(HashPrompt(request.prompt(), "salt").hashes));
}

TEST_F(ServedPrefixesOfAModelTest, NothingIsToldWherePrefixesAreNotShared) {
  const auto service = Load(/*share_prefixes=*/false);
  EXPECT_FALSE(service->Prefixes().has_value());
  std::mt19937 random(1);
  Generate(*service, Request(RandomWords(random, 600)));
  EXPECT_FALSE(service->Prefixes().has_value());
}

}  // namespace
}  // namespace octogate::workers
