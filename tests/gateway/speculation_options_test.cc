// What each option of a model's speculation changes, of models (tiny ones) in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/common/redis/redis_server.h"
#include "tests/common/thread_count.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/model_gateway.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/verify_all.h"
#include "tests/retrieval/drafts/store_file.h"
#include "workers/model/tokenizer.h"
#include "workers/model/tokenizer_fingerprint.h"
#include "workers/server/worker_drafts.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kLongestWait = absl::Minutes(1);

// A model of a worker in this process, asked without a gateway.
class SpeculatingModel {
 public:
  explicit SpeculatingModel(const InProcessWorkerOptions& options,
                            const v1::Speculation& speculation, const std::string& path = "llama3")
      : worker_(options) {
    v1::Model model;
    model.set_name("tiny");
    model.set_path(path);
    *model.mutable_speculation() = speculation;
    auto client = worker_.Load(model, absl::Now() + kLongestWait);
    status_ = client.status();
    if (client.ok()) client_ = *std::move(client);
  }

  const absl::Status& status() const { return status_; }

  v1::SpeculationUsage Generate(const std::string& tenant,
                                const std::string& query = kRepetitiveQuery) {
    v1::WorkerGenerateRequest request;
    request.mutable_prompt()->mutable_template_()->set_template_("{query}");
    request.mutable_prompt()->mutable_template_()->set_query(query);
    request.mutable_terms()->set_tenant(tenant);
    request.set_max_tokens(60);
    struct Call {
      v1::WorkerGenerateEnd end;
      absl::Notification done;
    };
    const auto call = std::make_shared<Call>();
    client_->Generate(
        request, absl::Now() + kLongestWait,
        [call](v1::WorkerGenerateResponse& message) {
          if (message.has_end()) call->end = message.end();
          return Flow::kContinue;
        },
        [call](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          call->done.Notify();
        });
    if (!call->done.WaitForNotificationWithTimeout(2 * kLongestWait)) {
      ADD_FAILURE() << "a call has not ended in time";
      return {};
    }
    return call->end.speculation();
  }

  // Once the engine has said what came of the last answer.
  v1::WorkerInfoResponse Info() {
    v1::WorkerInfoResponse info;
    EXPECT_TRUE(Eventually([&] {
      client_->Info(absl::Now() + kLongestWait,
                    [&](absl::StatusOr<v1::WorkerInfoResponse> response) { info = *response; });
      return info.running() == 0;
    }));
    return info;
  }

 private:
  InProcessWorker worker_;
  std::unique_ptr<ModelClient> client_;
  absl::Status status_;
};

// A folder of models in which files can be made.
class SpeculationOptionsTest : public testing::Test {
 protected:
  SpeculationOptionsTest() {
    std::filesystem::create_directory_symlink(FixtureCheckpoints() + "/llama3",
                                              folder_.path() / "llama3");
    std::filesystem::create_directory_symlink(std::string(kDeployedModels) + "/octogate-mini",
                                              folder_.path() / "octogate-mini");
    options_.model_root = folder_.path();
    options_.load = VerifyAll();
  }

  absl::Status Refusal(const v1::Speculation& speculation) {
    return SpeculatingModel(options_, speculation).status();
  }

  const TestFolder folder_;
  InProcessWorkerOptions options_;
};

TEST_F(SpeculationOptionsTest, DraftersAndTheirTokens) {
  v1::Speculation speculation;
  speculation.add_drafters("suffix");
  speculation.set_max_drafted_tokens(1);
  SpeculatingModel model(options_, speculation);
  ASSERT_TRUE(model.status().ok()) << model.status();
  model.Generate("one");
  const v1::SpeculationUsage usage = model.Generate("one");
  ASSERT_EQ(usage.drafters_size(), 1);
  EXPECT_EQ(usage.drafters(0).drafter(), "suffix");
  EXPECT_GT(usage.drafted_tokens(), 0);
  EXPECT_LE(usage.drafted_tokens(), usage.steps());
}

TEST_F(SpeculationOptionsTest, ADraftModel) {
  v1::Speculation speculation;
  speculation.set_draft_model("llama3");
  SpeculatingModel model(options_, speculation);
  ASSERT_TRUE(model.status().ok()) << model.status();
  const v1::SpeculationUsage usage = model.Generate("one");
  ASSERT_EQ(usage.drafters_size(), 3);
  EXPECT_EQ(usage.drafters(0).drafter(), "model");
  EXPECT_GT(usage.drafters(0).accepted_tokens(), 0) << "it is the model itself";
}

TEST_F(SpeculationOptionsTest, ADraftModelWithThreadsOfItsOwn) {
  v1::Speculation speculation;
  speculation.add_drafters("model");
  speculation.set_draft_model("llama3");
  options_.load.device.threads = 1;
  const auto threads_with = [&](int draft_threads) {
    speculation.set_draft_threads(draft_threads);
    const int before = ThreadCount("self");
    SpeculatingModel model(options_, speculation);
    EXPECT_TRUE(model.status().ok()) << model.status();
    const int threads = ThreadCount("self") - before;
    EXPECT_GT(model.Generate("one").accepted_tokens(), 0);
    return threads;
  };
  const int without = threads_with(0);
  EXPECT_EQ(threads_with(3), without + 3);
  speculation.set_draft_threads(3);
  speculation.clear_draft_model();
  EXPECT_FALSE(Refusal(speculation).ok());
}

TEST_F(SpeculationOptionsTest, TenantsShareOrDoNot) {
  for (const bool share : {false, true}) {
    v1::Speculation speculation;
    speculation.add_drafters("suffix");
    speculation.set_share_between_tenants(share);
    SpeculatingModel model(options_, speculation);
    ASSERT_TRUE(model.status().ok()) << model.status();
    const int64_t first = model.Generate("one").steps();
    const int64_t other = model.Generate("two").steps();
    if (share) {
      EXPECT_LT(2 * other, first);
    } else {
      EXPECT_GT(2 * other, first);
    }
    EXPECT_LT(2 * model.Generate("one").steps(), first) << "a tenant's own are remembered";
  }
}

TEST_F(SpeculationOptionsTest, ARecyclingTableOfManyCandidates) {
  v1::Speculation speculation;
  speculation.add_drafters("recycling");
  const auto bytes = [&] {
    SpeculatingModel model(options_, speculation);
    EXPECT_TRUE(model.status().ok()) << model.status();
    model.Generate("one");
    return model.Info().draft_bytes();
  };
  const int64_t usual = bytes();
  speculation.set_recycling_candidates(32);
  EXPECT_GT(bytes(), 2 * usual);
}

TEST_F(SpeculationOptionsTest, WhatIsLearnedIsKeptBelowTheModelRoot) {
  v1::Speculation speculation;
  speculation.set_state("learned");
  {
    SpeculatingModel model(options_, speculation);
    ASSERT_TRUE(model.status().ok()) << model.status();
    model.Generate("one");
  }
  EXPECT_FALSE(std::filesystem::is_empty(folder_.path() / "learned"));
}

TEST_F(SpeculationOptionsTest, TenantsAreForgottenWhereMemoryIsLimited) {
  const auto bytes = [&](int limit_mib) {
    v1::Speculation speculation;
    speculation.add_drafters("recycling");
    speculation.set_recycling_candidates(32);
    speculation.set_draft_memory_mib(limit_mib);
    SpeculatingModel model(options_, speculation, "octogate-mini");
    EXPECT_TRUE(model.status().ok()) << model.status();
    // More than half a mebibyte each.
    for (int tenant = 0; tenant < 12; ++tenant) model.Generate(std::to_string(tenant));
    return model.Info().draft_bytes();
  };
  const int64_t all = bytes(0);
  EXPECT_GE(all, 6 << 20);
  EXPECT_LT(2 * bytes(1), all);
}

TEST_F(SpeculationOptionsTest, OthersAreCheckedWhereTheyAreUsed) {
  v1::Speculation tree;
  tree.set_recycling_tree("round");
  EXPECT_THAT(std::string(Refusal(tree).message()), HasSubstr("\"round\""));
  v1::Speculation prune;
  prune.set_prune_retrieved_below(0.5);
  EXPECT_THAT(std::string(Refusal(prune).message()), HasSubstr("pruned by a draft model"));
  v1::Speculation near;
  near.set_near_matches(true);
  EXPECT_THAT(std::string(Refusal(near).message()), HasSubstr("those of a datastore"));
  // It is looked for, by a program that could read it.
  near.add_datastores("nowhere.drafts");
  EXPECT_TRUE(absl::IsNotFound(Refusal(near))) << Refusal(near);
  EXPECT_THAT(std::string(Refusal(near).message()),
              HasSubstr((folder_.path() / "nowhere.drafts").string()));
}

// Of two replicas, each as a gateway of its own would have it.
TEST_F(SpeculationOptionsTest, ReplicasTellEachOtherThroughTheStoreOfDrafts) {
  RedisServer redis;
  options_.open_drafts = [&] {
    return workers::OpenWorkerDrafts({.url = "unix:" + redis.Socket(), .secret_file = ""});
  };
  SpeculatingModel teacher(options_, {});
  ASSERT_TRUE(teacher.status().ok()) << teacher.status();
  const int64_t first = teacher.Generate("one").steps();
  // What others know comes in the background: a replica that has waited for longer has heard more.
  absl::Duration wait = absl::Milliseconds(10);
  int others = 0;
  EXPECT_TRUE(Eventually([&] {
    SpeculatingModel pupil(options_, {});
    pupil.Generate("one", "x");  // from now on it hears what others have learned of this tenant
    absl::SleepFor(wait);
    wait = std::min(2 * wait, absl::Seconds(5));
    const int64_t taught = pupil.Generate("one").steps();
    const std::string other = absl::StrCat("other", others++);
    EXPECT_GT(2 * pupil.Generate(other).steps(), first) << "no tenant is taught by another";
    return 2 * taught < first && pupil.Info().shared_drafts().merged() > 0;
  }));
  EXPECT_TRUE(Eventually([&] { return teacher.Info().shared_drafts().publications() > 0; }));
  options_.open_drafts = nullptr;
  SpeculatingModel alone(options_, {});
  EXPECT_FALSE(alone.Info().has_shared_drafts());
}

// A gateway whose graph has octogate-mini with these options of speculation.
class SpeculatingGateway {
 public:
  SpeculatingGateway(const std::filesystem::path& folder, const std::string& speculation)
      : gateway_(folder, VerifyAll()) {
    const grpc::Status applied = gateway_.Apply(absl::StrCat(
        "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test}\nspec:\n  entry: talk\n"
        "  models: [{name: mini, path: octogate-mini, speculation: {",
        speculation,
        "}}]\n  nodes: [{name: talk, model: {model: mini, system: route, maxTokens: 60}}]\n"));
    EXPECT_TRUE(applied.ok()) << applied.error_message();
  }

  v1::SpeculationUsage Generate(const std::string& tenant) {
    v1::GenerateRequest request = Ask(kRepetitiveQuery);
    request.set_tenant(tenant);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    if (!answer.status.ok()) return {};
    EXPECT_THAT(answer.text(), HasSubstr("the old river"));
    return answer.events.back().finished().speculation();
  }

 private:
  ModelGateway gateway_;
};

TEST_F(SpeculationOptionsTest, ATenantsDatastoreDraftsForItAlone) {
  const auto tokenizer = workers::Tokenizer::Load(folder_.path() / "octogate-mini");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode(kRepetitiveQuery);
  ASSERT_TRUE(ids.ok()) << ids.status();
  const retrieval::StoreFile store;
  ASSERT_TRUE(store
                  .Write({*ids}, {.tokenizer = workers::TokenizerFingerprint(**tokenizer),
                                  .vocab_size = (*tokenizer)->vocab_size()})
                  .ok());
  std::filesystem::create_directory_symlink(store.folder(), folder_.path() / "drafts");
  SpeculatingGateway gateway(
      folder_.path(),
      "drafters: [retrieval], tenantDatastores: [{tenant: acme, path: drafts/store}]");
  EXPECT_GT(gateway.Generate("acme").accepted_tokens(), 0);
  EXPECT_EQ(gateway.Generate("other").drafted_tokens(), 0);
  EXPECT_EQ(gateway.Generate("").drafted_tokens(), 0);
  EXPECT_GT(gateway.Generate("acme").accepted_tokens(), 0);
}

TEST_F(SpeculationOptionsTest, RecyclingKeepsCandidatesOfPairsOfTokens) {
  const auto steps = [&](const std::string& pairs) {
    SpeculatingGateway gateway(
        folder_.path(), absl::StrCat("drafters: [recycling], recyclingCandidates: 1", pairs));
    gateway.Generate("acme");
    return gateway.Generate("acme").steps();
  };
  const int64_t usual = steps("");
  const int64_t none = steps(", recyclingPairs: 0");
  EXPECT_LT(3 * usual, 2 * none);
}

}  // namespace
}  // namespace octogate::gateway
