// What a served model tells of drafts that were not what they should have been.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/workers/engine/test_drafters.h"
#include "workers/engine/model_runner.h"
#include "workers/server/model_service.h"

namespace octogate::workers {
namespace {

TEST(ServiceSpeculationTest, CountsMalformedDraftsThatChangeNothing) {
  LoadOptions options{.device = {.threads = 1}};
  options.engine.verify_all_drafts = true;
  options.speculation = SpeculationSetup{.max_draft_nodes = 8};
  options.speculation->make_drafters = [](const DraftedModel& model) {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(std::make_unique<TestDrafter>(
        "test", Drafting::kMalformed, model.checkpoint->config().vocab_size, /*seed=*/1,
        std::make_shared<KnownSequences>()));
    return drafters;
  };
  auto model = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
  ASSERT_TRUE(model.ok()) << model.status();
  ModelService service("tiny", *std::move(model));
  EXPECT_EQ(service.Info().malformed_drafts(), 0);
  v1::WorkerGenerateRequest request;
  request.mutable_prompt()->mutable_template_()->set_template_("{query}");
  request.mutable_prompt()->mutable_template_()->set_query("The router");
  request.set_max_tokens(30);
  v1::WorkerGenerateEnd end;
  absl::Notification done;
  const auto generation = service.Generate(
      request, absl::InfiniteFuture(),
      [&](const v1::WorkerGenerateResponse& message) {
        if (message.has_end()) end = message.end();
      },
      [&](const absl::Status& status) {
        EXPECT_TRUE(status.ok()) << status;
        done.Notify();
      });
  ASSERT_TRUE(generation.ok()) << generation.status();
  done.WaitForNotification();
  EXPECT_EQ(end.speculation().steps(), end.usage().completion_tokens());
  EXPECT_EQ(end.speculation().drafted_tokens(), 0);
  ASSERT_TRUE(service.model().engine->Drain(absl::Now() + absl::Minutes(1)).ok());
  EXPECT_GT(service.Info().malformed_drafts(), 0);
  EXPECT_EQ(service.Info().speculation().drafted_tokens(), 0);
}

}  // namespace
}  // namespace octogate::workers
