// A trained public model against recorded greedy decoding, token for token.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

TEST(Stories260KTest, GreedyAnswersAreTheRecordedOnes) {
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "OCTOGATE_TEST_DATA does not name the evaluation data";
  const std::filesystem::path folder = std::filesystem::path(data) / "stories260K";
  std::ifstream file(folder / "golden_greedy.json");
  ASSERT_TRUE(file) << folder;
  const nlohmann::json golden = nlohmann::json::parse(file);
  const auto engine = MakeEngine(folder / "hf", {.max_rows_per_step = 32}, 2);
  ASSERT_NE(engine, nullptr);
  std::vector<std::thread> threads;  // all together, so that they share steps
  for (const nlohmann::json& record : golden) {
    threads.emplace_back([&engine, &record] {
      GenerateRequest request;
      request.prompt = record["prompt_ids"].get<std::vector<int32_t>>();
      auto expected = record["greedy_ids"].get<std::vector<int32_t>>();
      // The recording ends at 256 positions, or before token 1, with which another story begins.
      request.max_tokens = 256 - static_cast<int>(request.prompt.size());
      request.stop_token_ids = {1};
      if (static_cast<int>(expected.size()) < request.max_tokens) expected.push_back(1);
      std::vector<int32_t> top;
      for (const auto& entry : record["first_logits_top5"]) top.push_back(entry[0].get<int32_t>());
      const auto answer = Generate(*engine, request);
      ASSERT_TRUE(answer.ok()) << answer.status();
      EXPECT_EQ(answer->ids, expected) << record["prompt"];
      const auto first =
          engine->NextTokenLogits(request.prompt, top, absl::Now() + absl::Seconds(60));
      ASSERT_TRUE(first.ok()) << first.status();
      for (size_t i = 0; i < first->logits.size(); ++i) {
        EXPECT_NEAR(first->logits[i], record["first_logits_top5"][i][1].get<float>(), 2e-3f);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace octogate::workers
