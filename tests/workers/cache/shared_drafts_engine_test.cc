// Drafts that other replicas have taught an engine change no answer.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/redis/redis_client.h"
#include "common/redis/redis_store.h"
#include "tests/common/redis/redis_server.h"
#include "tests/workers/engine/run_requests.h"
#include "workers/cache/shared_drafts.h"
#include "workers/engine/generate.h"
#include "workers/engine/model_runner.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

// A worker's model, with drafters that share what they learn.
struct Replica {
  explicit Replica(const RedisOptions& redis)
      : client(RedisClient::Create(redis)),
        store(MakeRedisStore(client.get())),
        place(ShareDrafts(store.get(), {.max_pause = absl::Milliseconds(100)})) {
    LoadOptions options = {.engine = {.kv_tokens = 1024, .verify_all_drafts = true},
                           .device = {.threads = 1}};
    options.speculation = SetUpSpeculation({.shared = place});
    auto loaded = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (loaded.ok()) model = *std::move(loaded);
  }

  std::unique_ptr<RedisClient> client;
  std::unique_ptr<Store> store;
  std::shared_ptr<SharedDrafts> place;
  std::unique_ptr<LoadedModel> model;
};

GenerateRequest Request(int32_t first) {
  GenerateRequest request;
  request.prompt = {first, 2, 3, 4};
  request.terms.tenant = "tenant";
  request.max_tokens = 60;
  request.ignore_eos = true;
  request.sampling.logprobs = 1;
  if (first % 2 == 0) {
    request.sampling.temperature = 1;
    request.sampling.seed = 7;
  }
  request.deadline = absl::Now() + absl::Minutes(5);
  return request;
}

std::vector<Outcome> AnswerAll(LoadedModel& model) {
  std::vector<GenerateRequest> requests;
  for (int32_t first = 1; first < 5; ++first) requests.push_back(Request(first));
  return RunAll(*model.engine, requests, /*together=*/false);
}

int64_t Accepted(const LoadedModel& model) {
  const EngineStats stats = model.engine->stats();
  int64_t accepted = 0;
  for (const DrafterUsage& drafter : stats.speculation->drafters) {
    accepted += drafter.tokens.accepted;
  }
  return accepted;
}

TEST(SharedDraftsEngineTest, ANewReplicaAnswersTheSameWithFewerSteps) {
  RedisServer redis;
  std::vector<Outcome> expected;
  {
    auto plain = LoadModel(
        std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3",
        {.engine = {.kv_tokens = 1024, .verify_all_drafts = true}, .device = {.threads = 1}});
    ASSERT_TRUE(plain.ok()) << plain.status();
    expected = AnswerAll(**plain);
  }
  int64_t cold = 0;
  {
    Replica first(redis.options());
    ASSERT_NE(first.model, nullptr);
    ExpectSameAnswers(AnswerAll(*first.model), expected);
    cold = Accepted(*first.model);
  }
  // What others know comes in the background: a replica that has waited for longer may have heard
  // more of it.
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  int64_t warm = 0;
  for (int attempt = 0; warm <= cold && absl::Now() < give_up; ++attempt) {
    Replica second(redis.options());
    ASSERT_NE(second.model, nullptr);
    // A short question opens the scope.
    while (second.place->stats().read_bytes == 0 && absl::Now() < give_up) {
      GenerateRequest request;
      request.prompt = {9};
      request.terms.tenant = "tenant";
      request.max_tokens = 2;
      request.deadline = absl::Now() + absl::Minutes(5);
      EXPECT_TRUE(Generate(*second.model->engine, std::move(request)).ok());
      absl::SleepFor(absl::Milliseconds(20));
    }
    ASSERT_GT(second.place->stats().read_bytes, 0U);
    ASSERT_TRUE(second.model->shared_drafts);
    EXPECT_GT(second.model->shared_drafts()->read_bytes, 0U) << "the model tells of its place";
    absl::SleepFor(attempt * absl::Milliseconds(200));
    ExpectSameAnswers(AnswerAll(*second.model), expected);
    warm = Accepted(*second.model);
  }
  EXPECT_GT(warm, cold);
}

}  // namespace
}  // namespace octogate::workers
