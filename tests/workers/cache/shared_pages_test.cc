// Two engines share pages through a real redis-server: answers are those without it, bit for bit.
#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/cache/shared_engines.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/cache/page_codec.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

// Prompts of which many begin as others do.
std::vector<GenerateRequest> Requests(std::mt19937& random, int count, int vocab_size,
                                      int longest) {
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  const std::vector<std::vector<int32_t>> texts = {RandomIds(random, longest, vocab_size),
                                                   RandomIds(random, longest, vocab_size)};
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < count; ++i) {
    const std::vector<int32_t>& text = texts[static_cast<size_t>(pick(0, 1))];
    std::vector<int32_t> prompt(text.begin(), text.begin() + pick(longest / 2, longest));
    const auto own = RandomIds(random, longest - static_cast<int>(prompt.size()), vocab_size);
    prompt.insert(prompt.end(), own.begin(), own.end());
    requests.push_back(SharedRequest(std::move(prompt), pick(1, 30), pick(0, 3) == 0 ? "s" : ""));
    if (pick(0, 1) == 0) {
      requests.back().sampling.temperature = 0.9f;
      requests.back().sampling.seed = random();
    }
  }
  return requests;
}

int SharedTokens(const std::vector<Outcome>& outcomes) {
  int tokens = 0;
  for (const Outcome& outcome : outcomes) tokens += outcome.shared_tokens;
  return tokens;
}

using Parameter = std::tuple<std::string, kernels::DType>;
class SharedPagesTest : public ::testing::TestWithParam<Parameter> {};

TEST_P(SharedPagesTest, AnswersAreThoseWithoutAStore) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto folder = FixturePath(std::get<0>(GetParam()));
  EngineOptions options{.max_sequences = 1,
                        .page_size = 5,
                        .share_prefixes = false,
                        .kv_dtype = std::get<1>(GetParam())};
  const auto alone = MakeEngine(folder, options);
  ASSERT_NE(alone, nullptr);
  const int longest = std::min(alone->context() - 40, 150);
  const auto requests = Requests(random, 20, alone->config().vocab_size, longest);
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);

  RedisServer server;
  options.share_prefixes = true;
  options.max_sequences = 4;
  options.max_rows_per_step = 23;
  // Cold; with little memory, so that sequences are preempted.
  options.kv_tokens = 2 * longest;
  const auto first = MakeEngine(folder, Sharing(server, options));
  ExpectSameAnswers(RunAll(*first, requests, true), expected);
  AwaitStored(server, longest / 5);
  // Warm, though nothing is in its own cache; one after the other, and together.
  for (const bool together : {false, true}) {
    const auto second = MakeEngine(folder, Sharing(server, options), 2);
    const std::vector<Outcome> warm = RunAll(*second, requests, together);
    ExpectSameAnswers(warm, expected);
    EXPECT_GT(SharedTokens(warm), 0);
    EXPECT_TRUE(second->Drain(absl::Now() + kLong).ok());
    const EngineStats stats = second->stats();
    EXPECT_EQ(stats.pages_used, 0);
    EXPECT_GT(stats.sharing->store.read_bytes, 0u);
    EXPECT_EQ(stats.sharing->store.refused_pages, 0u);
    EXPECT_GE(stats.sharing->hit_tokens, static_cast<uint64_t>(SharedTokens(warm)));
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SharedPagesTest,
                         ::testing::Values(Parameter{"llama", kernels::DType::kF32},
                                           Parameter{"llama", kernels::DType::kBF16},
                                           Parameter{"qwen3", kernels::DType::kI8},
                                           Parameter{"mistral", kernels::DType::kF8E4M3},
                                           Parameter{"phi3_longrope", kernels::DType::kF32}),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" +
                                  std::to_string(static_cast<int>(std::get<1>(info.param)));
                         });

TEST(SharedPagesEngineTest, APromptOfAnotherEngineIsNotComputedAgain) {
  RedisServer server;
  const auto prompt = std::vector<int32_t>(61, 9);
  const auto first = MakeEngine(FixturePath("llama"), Sharing(server, {.page_size = 4}));
  const auto answer = Generate(*first, SharedRequest(prompt, 12));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->usage.shared_tokens, 0);
  AwaitStored(server, 18);  // of 72 computed tokens: what was generated is there too

  const auto second = MakeEngine(FixturePath("llama"), Sharing(server, {.page_size = 4}));
  const auto same = Generate(*second, SharedRequest(prompt, 12));
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->usage.cached_tokens, 60);
  EXPECT_EQ(same->usage.shared_tokens, 60);
  EXPECT_EQ(same->ids, answer->ids);
  // The next time they are in the engine's own cache.
  const auto again = Generate(*second, SharedRequest(prompt, 12));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->usage.cached_tokens, 60);
  EXPECT_EQ(again->usage.shared_tokens, 0);
  const EngineStats::Sharing sharing = SharingOf(*second);
  EXPECT_EQ(sharing.lookups, 1u);
  EXPECT_EQ(sharing.lookup_tokens, 60u);
  EXPECT_EQ(sharing.hit_tokens, 60u);
}

TEST(SharedPagesEngineTest, SaltsAndFormatsAreApart) {
  RedisServer server;
  const auto prompt = std::vector<int32_t>(41, 9);
  const auto first = MakeEngine(FixturePath("llama"), Sharing(server, {.page_size = 4}));
  ASSERT_TRUE(Generate(*first, SharedRequest(prompt, 1, "a")).ok());
  AwaitStored(server, 10);
  const auto shared_tokens = [&](const EngineOptions& options, const std::string& salt,
                                 const std::string& secret, const char* model = "llama") {
    const auto engine =
        MakeEngine(FixturePath(model), Sharing(server, options, {.secret = secret}));
    const auto answer = Generate(*engine, SharedRequest(prompt, 1, salt));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? answer->usage.shared_tokens : -1;
  };
  EXPECT_EQ(shared_tokens({.page_size = 4}, "b", ""), 0);
  EXPECT_EQ(shared_tokens({.page_size = 4}, "", ""), 0);
  EXPECT_EQ(shared_tokens({.page_size = 4}, "a", "a secret of others"), 0);
  EXPECT_EQ(shared_tokens({.page_size = 2}, "a", ""), 0);
  EXPECT_EQ(shared_tokens({.page_size = 4, .kv_dtype = kernels::DType::kF16}, "a", ""), 0);
  EXPECT_EQ(shared_tokens({.page_size = 4}, "a", "", "mistral"), 0);
  EXPECT_EQ(shared_tokens({.page_size = 4}, "a", ""), 40);
}

// That another tenant has had a prompt shows in nothing that costs time: what the store is asked
// and answers, and what the engine computes, though both have the other's pages.
TEST(SharedPagesEngineTest, WhatOthersHaveAskedCannotBeTimed) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  constexpr int kPages = 15;
  RedisServer server;
  const auto client = RedisClient::Create(server.options());
  const auto redis = [&](std::initializer_list<std::string_view> command) {
    const auto reply = client->Call(command, absl::Now() + absl::Seconds(60));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->text : std::string();
  };
  const EngineOptions options =
      Sharing(server, {.page_size = 4}, {.flush_interval = absl::Hours(1)});
  const auto engine = MakeEngine(FixturePath("llama"), options);
  const auto prompt = [&] {
    return RandomIds(random, 4 * kPages + 1, engine->config().vocab_size);
  };
  const absl::Time give_up = absl::Now() + kLong;
  // What it asks to learn how fast the store is, at last.
  while (!absl::StrContains(redis({"INFO", "commandstats"}), "cmdstat_echo") &&
         absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  // Of each command of the store how often it was made, keys that were found and missed, bytes that
  // were read, and steps.
  int64_t stored = 0;
  const auto costs = [&](const std::vector<int32_t>& ids, const std::string& salt) {
    redis({"CONFIG", "RESETSTAT"});
    const EngineStats before = engine->stats();
    const std::vector<Outcome> answer = RunAll(*engine, {SharedRequest(ids, 3, salt)}, false);
    EXPECT_EQ(answer[0].cached_tokens, 0);
    while (engine->stats().requests_finished == before.requests_finished && absl::Now() < give_up) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    const EngineStats after = engine->stats();
    std::map<std::string, uint64_t> costs = {
        {"steps", after.steps - before.steps},
        {"rows", after.step_rows - before.step_rows},
        {"bytes read", after.sharing->store.read_bytes - before.sharing->store.read_bytes}};
    AwaitStored(server, stored += kPages);
    const std::string info =
        absl::StrCat(redis({"INFO", "commandstats"}), redis({"INFO", "stats"}));
    for (const absl::string_view line : absl::StrSplit(info, "\r\n")) {
      for (const char* const command : {"echo", "eval", "exists", "get", "mget", "set"}) {
        const std::string name = absl::StrCat("cmdstat_", command, ":calls=");
        if (!absl::StartsWith(line, name)) continue;
        const absl::string_view calls = line.substr(name.size());
        EXPECT_TRUE(absl::SimpleAtoi(calls.substr(0, calls.find(',')), &costs[command]));
      }
      for (const char* const keys : {"keyspace_hits", "keyspace_misses"}) {
        const std::string name = absl::StrCat(keys, ":");
        if (!absl::StartsWith(line, name)) continue;
        EXPECT_TRUE(absl::SimpleAtoi(line.substr(name.size()), &costs[keys]));
      }
    }
    return costs;
  };
  const std::vector<int32_t> asked = prompt();
  const auto fresh_of_a = costs(asked, "a");
  EXPECT_EQ(fresh_of_a.at("set"), static_cast<uint64_t>(kPages));
  EXPECT_GT(fresh_of_a.at("mget"), 0U);
  EXPECT_GT(fresh_of_a.at("keyspace_misses"), 0U);
  EXPECT_EQ(fresh_of_a.at("keyspace_hits"), 0U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(costs(asked, absl::StrCat("b", i)), fresh_of_a);
    EXPECT_EQ(costs(prompt(), absl::StrCat("b", i)), fresh_of_a);
  }
  // One's own can.
  const auto other = MakeEngine(FixturePath("llama"), Sharing(server, {.page_size = 4}));
  EXPECT_EQ(RunAll(*other, {SharedRequest(asked, 3, "a")}, false)[0].shared_tokens, 4 * kPages);
}

TEST(SharedPagesEngineTest, CancellationWhilePagesComeLeavesNothingWrongBehind) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const EngineOptions options{.max_sequences = 4, .max_rows_per_step = 11, .page_size = 4};
  EngineOptions without = options;
  without.share_prefixes = false;
  const auto alone = MakeEngine(FixturePath("llama"), without);
  const auto requests = Requests(random, 20, alone->config().vocab_size, 120);
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);
  RedisServer server;
  const auto first = MakeEngine(FixturePath("llama"), Sharing(server, options));
  ExpectSameAnswers(RunAll(*first, requests, true), expected);
  AwaitStored(server, 30);

  EngineOptions little = options;
  little.kv_tokens = 240;
  const auto engine = MakeEngine(FixturePath("llama"), Sharing(server, little), 2);
  std::thread canceller([&] {
    std::mt19937 own(seed + 1);
    for (int i = 0; i < 150; ++i) {
      GenerateRequest request = requests[own() % requests.size()];
      request.terms.priority = static_cast<int>(own() % 4);
      // Not in the engine's own cache.
      if (own() % 2 == 0) request.prompt[0] = static_cast<int32_t>(own() % 100);
      const auto generation = engine->Submit(request, [](const GenerateEvent&) {});
      absl::SleepFor(absl::Microseconds(own() % 500));
      if (generation.ok()) (*generation)->Cancel();
    }
  });
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  canceller.join();
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
}

// Of the readers that ask for parts of a chain, one finds its end while others are about to ask for
// the last part, which is a short one.
TEST(RedisPageStoreTest, ManyReadersOfChainsThatEndEarly) {
  RedisServer server;
  const PageFormat format = {.description = "pages", .page_size = 1, .page_bytes = 64};
  const std::unique_ptr<PageStore> store =
      ShareThroughRedis(RedisClient::Create(ClientOptions(server)),
                        {.chunk_bytes = 3 * PageCodec(format, "", "").value_bytes(),
                         .readers = 8,
                         .write_from_use = 1})(format);
  const absl::Time give_up = absl::Now() + kLong;
  while (store->FetchSeconds(1) > 1e9 && absl::Now() < give_up) {
    store->TakeFlushed();
    absl::SleepFor(absl::Milliseconds(5));  // until it is connected
  }
  const std::vector<int32_t> tokens(4, 7);
  PageChain chain = {.context = "", .tokens = tokens, .first = 0, .count = 2};
  store->Write(chain, [](std::span<const int>, std::span<const std::span<std::byte>> to) {
    for (const auto& page : to) std::fill(page.begin(), page.end(), std::byte{1});
  });
  AwaitStored(server, 2);
  chain.count = 4;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::unique_ptr<PageFetch>> fetches;
    for (int i = 0; i < 10; ++i) {
      fetches.push_back(store->Fetch(chain, PageOrder::kForward, [] {}));
      ASSERT_NE(fetches.back(), nullptr);
    }
    for (const auto& fetch : fetches) {
      std::vector<SharedPage> pages;
      while (!fetch->Take(0, pages)) {
        ASSERT_LT(absl::Now(), give_up);
        absl::SleepFor(absl::Microseconds(50));
      }
      std::vector<int> indices;
      for (const SharedPage& page : pages) indices.push_back(page.index);
      EXPECT_THAT(indices, ::testing::UnorderedElementsAre(0, 1));
    }
  }
}

// Llama 2 13B's in F32, and the largest.
TEST(RedisPageStoreTest, PagesThatAreTooLargeAreNotSharedAndSaidToBe) {
  PageFormat format = {.description = "pages", .page_size = 16, .page_bytes = size_t{25} << 20};
  const size_t header = PageCodec(format, "", "").value_bytes() - format.page_bytes;
  const std::string why(CheckSharedPageSize(format).message());
  EXPECT_THAT(why, ::testing::HasSubstr(absl::StrCat(format.page_bytes + header, " bytes")));
  EXPECT_THAT(why, ::testing::HasSubstr(absl::StrCat(kMaxSharedPageBytes)));
  EXPECT_THAT(why, ::testing::HasSubstr("--kv-dtype"));
  RedisServer server;
  const auto share = ShareThroughRedis(RedisClient::Create(ClientOptions(server)));
  const auto can_fetch = [&] {
    const std::unique_ptr<PageStore> store = share(format);
    store->TakeFlushed();
    return store->FetchSeconds(1) < 1e9;
  };
  EXPECT_FALSE(can_fetch());
  const std::vector<int32_t> tokens(16, 7);
  EXPECT_EQ(share(format)
                ->CountStored({.context = "", .tokens = tokens, .first = 0, .count = 1},
                              absl::Now() + kLong)
                .status()
                .message(),
            why);
  format.page_bytes = kMaxSharedPageBytes - header + 1;
  EXPECT_FALSE(CheckSharedPageSize(format).ok());
  EXPECT_FALSE(can_fetch());
  --format.page_bytes;
  EXPECT_TRUE(CheckSharedPageSize(format).ok());
  const absl::Time give_up = absl::Now() + kLong;
  while (!can_fetch()) ASSERT_LT(absl::Now(), give_up);
}

// A store that counts what it writes.
class SecondUseTest : public ::testing::Test {
 protected:
  SecondUseTest() {
    const absl::Time give_up = absl::Now() + kLong;
    while (store_->FetchSeconds(1) > 1e9 && absl::Now() < give_up) {
      store_->TakeFlushed();
      absl::SleepFor(absl::Milliseconds(5));  // until it is connected
    }
  }

  // Returns the pages that were read in order to be written.
  std::vector<int> Write(uint64_t sequence, int count) {
    std::vector<int> written;
    store_->Write(
        {.context = "", .tokens = tokens_, .first = 0, .count = count, .sequence = sequence},
        [&](std::span<const int> pages, std::span<const std::span<std::byte>> to) {
          written.assign(pages.begin(), pages.end());
          for (const auto& page : to) std::fill(page.begin(), page.end(), std::byte{1});
        });
    return written;
  }

  RedisServer server_;
  const std::vector<int32_t> tokens_ = {1, 2, 3, 4, 5, 6};
  const std::unique_ptr<PageStore> store_ =
      ShareThroughRedis(RedisClient::Create(ClientOptions(server_)), {.chunk_bytes = 400})(
          {.description = "pages", .page_size = 1, .page_bytes = 64});
};

TEST_F(SecondUseTest, WritesWhatASecondSequenceHas) {
  EXPECT_THAT(Write(1, 3), ::testing::IsEmpty());
  EXPECT_THAT(Write(1, 4), ::testing::IsEmpty());  // it has grown
  EXPECT_THAT(Write(2, 2), ::testing::ElementsAre(0, 1));
  EXPECT_THAT(Write(3, 6), ::testing::ElementsAre(2, 3));
  EXPECT_THAT(Write(3, 6), ::testing::IsEmpty());
  AwaitStored(server_, 4);
}

TEST_F(SecondUseTest, FetchesFromTheBack) {
  Write(1, 5);
  Write(2, 5);
  AwaitStored(server_, 5);
  const absl::Time give_up = absl::Now() + kLong;
  for (int first = 0; first < 6; ++first) {
    const auto fetch =
        store_->Fetch({.context = "", .tokens = tokens_, .first = first, .count = 6 - first},
                      PageOrder::kBackward, [] {});
    ASSERT_NE(fetch, nullptr);
    std::vector<SharedPage> pages;
    while (!fetch->Take(0, pages)) {
      ASSERT_LT(absl::Now(), give_up);
      absl::SleepFor(absl::Microseconds(50));
    }
    std::set<int> indices;
    for (const SharedPage& page : pages) indices.insert(page.index);
    EXPECT_EQ(pages.size(), indices.size());
    std::set<int> expected;
    for (int i = first; i < 5; ++i) expected.insert(i);
    EXPECT_EQ(indices, expected);
  }
  // What is computed meanwhile need not come.
  const auto fetch = store_->Fetch({.context = "", .tokens = tokens_, .first = 0, .count = 6},
                                   PageOrder::kBackward, [] {});
  std::vector<SharedPage> pages;
  while (!fetch->Take(6, pages)) {
    ASSERT_LT(absl::Now(), give_up);
    absl::SleepFor(absl::Microseconds(50));
  }
}

}  // namespace
}  // namespace octogate::workers
