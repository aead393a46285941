// Speculation from the graph's options to what clients are told: a gateway with real (tiny) models
// in its own process. They verify whatever is drafted, so that nothing depends on time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/common/redis/redis_server.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/model_gateway.h"
#include "tests/gateway/redis_gateway.h"
#include "workers/server/worker_drafts.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

const char kModels[] = OCTOGATE_DEPLOY "/models";
// octogate-mini answers what is no question of its own with the question itself, or nearly.
constexpr char kQuery[] =
    "the old river runs past the old mill and the old mill stands by the old river where the old "
    "road ends";

workers::LoadOptions VerifyAll() {
  workers::LoadOptions load;
  load.device.threads = 1;
  load.engine.verify_all_drafts = true;
  return load;
}

// Every pass that chose tokens chose one, and what was accepted.
void ExpectToAddUp(const v1::SpeculationUsage& usage, const v1::Usage& tokens) {
  EXPECT_GT(usage.steps(), 0);
  EXPECT_EQ(usage.steps() + usage.accepted_tokens(), tokens.completion_tokens());
  EXPECT_GT(usage.draft_us(), 0);
  int64_t drafted = 0;
  int64_t accepted = 0;
  for (const v1::DepthUsage& depth : usage.depths()) {
    drafted += depth.drafted_tokens();
    accepted += depth.accepted_tokens();
  }
  EXPECT_EQ(drafted, usage.drafted_tokens());
  EXPECT_EQ(accepted, usage.accepted_tokens());
}

void ExpectAccepted(const v1::SpeculationUsage& usage, const v1::Usage& tokens) {
  ExpectToAddUp(usage, tokens);
  EXPECT_GT(usage.drafted_tokens(), 0);
  EXPECT_GT(usage.accepted_tokens(), 0);
  EXPECT_GT(usage.verify_us(), 0);
}

class SpeculationTest : public testing::Test {
 protected:
  SpeculationTest() : gateway_(kModels, VerifyAll(), Options(folder_)) {
    folder_.MakeShop("shop.sqlite");
    const grpc::Status applied = gateway_.Apply(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models:
    - {name: plain, path: octogate-mini}
    - {name: drafting, path: octogate-mini, speculation: {}}
    - {name: recycling, path: octogate-mini, speculation: {drafters: [recycling]}}
  catalogs: [{name: shop, sqlite: shop.sqlite}]
  nodes:
    - name: main
      router:
        members: [plain, talk, first, vote, check, choose, schema]
        fallback: talk
        heads: [{threshold: 1, lexical: {}}]
    - {name: plain, model: {model: plain, system: route, maxTokens: 80}}
    - {name: talk, model: {model: drafting, system: route, maxTokens: 80}}
    - {name: first, model: {model: recycling, system: route, maxTokens: 60}}
    - {name: second, model: {model: drafting, system: route, maxTokens: 40}}
    - {name: vote, vote: {members: [first, second, plain]}}
    - {name: check, verify: {answer: first, judge: second, prompt: "{output}", judgement: score}}
    - {name: choose, choice: {members: [good, bad], policy: cheapestAbove, tolerance: 0.5, maxCalls: 2}}
    - name: good
      model:
        model: drafting
        system: route
        maxTokens: 40
        price: {output: 1}
        quality: [{accuracy: 0.9}]
    - {name: bad, model: {model: plain, price: {output: 2}, quality: [{accuracy: 0.1}]}}
    - {name: schema, retriever: {catalog: shop, tableNode: second}}
    - {name: reply, tool: {tool: reply, parameters: {text: done}}}
  edges:
    - {from: first, to: second, on: success}
    - {from: schema, to: reply, on: success}
)");
    EXPECT_TRUE(applied.ok()) << applied.error_message();
  }

  static ServerOptions Options(const TestFolder& folder) {
    ServerOptions options;
    options.graph.model_root = folder.path();
    return options;
  }

  Answer AskNode(const std::string& node, v1::EventLevel level = v1::EVENT_LEVEL_ALL) {
    v1::GenerateRequest request = Ask(kQuery, node);
    request.set_events(level);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_TRUE(!answer.events.empty() && answer.events.back().has_finished());
    return answer;
  }
  static std::vector<v1::NodeLeft> Left(const Answer& answer) {
    std::vector<v1::NodeLeft> left;
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_node_left()) left.push_back(event.node_left());
    }
    return left;
  }

  const TestFolder folder_;
  ModelGateway gateway_;
};

TEST_F(SpeculationTest, IsToldOfTheNodeAndOfTheAnswerWhichIsTheSame) {
  const Answer plain = AskNode("plain");
  EXPECT_FALSE(Left(plain).at(0).has_speculation());
  EXPECT_FALSE(plain.events.back().finished().has_speculation());

  const Answer drafted = AskNode("talk");
  EXPECT_EQ(drafted.text(), plain.text());
  const v1::NodeLeft left = Left(drafted).at(0);
  ExpectAccepted(left.speculation(), left.usage());
  ASSERT_EQ(left.speculation().drafters_size(), 2);
  EXPECT_EQ(left.speculation().drafters(0).drafter(), "recycling");
  EXPECT_EQ(left.speculation().drafters(1).drafter(), "suffix");
  const v1::Finished& finished = drafted.events.back().finished();
  EXPECT_EQ(finished.usage().completion_tokens(), left.usage().completion_tokens());
  EXPECT_EQ(finished.speculation().SerializeAsString(), left.speculation().SerializeAsString());
}

TEST_F(SpeculationTest, IsToldWhereNoNodesAreShown) {
  for (const v1::EventLevel level : {v1::EVENT_LEVEL_TOKENS, v1::EVENT_LEVEL_RESULT}) {
    const Answer answer = AskNode("talk", level);
    EXPECT_TRUE(Left(answer).empty());
    const v1::Finished& finished = answer.events.back().finished();
    ExpectAccepted(finished.speculation(), finished.usage());
  }
}

TEST_F(SpeculationTest, OfSeveralNodesIsAddedUp) {
  const Answer answer = AskNode("first");
  const std::vector<v1::NodeLeft> left = Left(answer);
  ASSERT_EQ(left.size(), 2u);
  ExpectToAddUp(left[0].speculation(), left[0].usage());
  ExpectToAddUp(left[1].speculation(), left[1].usage());
  const v1::Finished& finished = answer.events.back().finished();
  const v1::SpeculationUsage& sum = finished.speculation();
  ExpectAccepted(sum, finished.usage());
  const auto both = [&](int64_t (v1::SpeculationUsage::*value)() const) {
    return (left[0].speculation().*value)() + (left[1].speculation().*value)();
  };
  EXPECT_EQ(sum.drafted_tokens(), both(&v1::SpeculationUsage::drafted_tokens));
  EXPECT_EQ(sum.draft_us(), both(&v1::SpeculationUsage::draft_us));
  EXPECT_EQ(sum.verify_us(), both(&v1::SpeculationUsage::verify_us));
  EXPECT_EQ(sum.plain_us(), both(&v1::SpeculationUsage::plain_us));
  // The first node has but one drafter, which the second has, too.
  ASSERT_EQ(sum.drafters_size(), 2);
  EXPECT_EQ(sum.drafters(0).drafter(), "recycling");
  EXPECT_EQ(sum.drafters(0).accepted_tokens(),
            left[0].speculation().drafters(0).accepted_tokens() +
                left[1].speculation().drafters(0).accepted_tokens());
  EXPECT_EQ(sum.drafters(1).SerializeAsString(),
            left[1].speculation().drafters(1).SerializeAsString());
}

// Votes, verifiers, choices and retrievers ask for answers themselves.
TEST_F(SpeculationTest, OfAnswersThatANodeAskedForIsTheNodes) {
  for (const std::string node : {"check", "choose", "schema"}) {
    SCOPED_TRACE(node);
    const Answer answer = AskNode(node);
    const v1::NodeLeft left = Left(answer).at(0);
    EXPECT_EQ(left.node(), node);
    ExpectToAddUp(left.speculation(), left.usage());
    EXPECT_EQ(answer.events.back().finished().speculation().SerializeAsString(),
              left.speculation().SerializeAsString());
  }
  const Answer vote = AskNode("vote");
  const v1::NodeLeft left = Left(vote).at(0);
  // A third member does not speculate.
  v1::Usage speculating = left.usage();
  speculating.set_completion_tokens(0);
  for (const v1::GenerateResponse& event : vote.events) {
    for (const v1::Ballot& ballot : event.judged().ballots()) {
      if (ballot.node() == "plain") continue;
      speculating.set_completion_tokens(speculating.completion_tokens() +
                                        ballot.usage().completion_tokens());
    }
  }
  ExpectToAddUp(left.speculation(), speculating);
}

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
    auto client = worker_.Load(model, absl::Now() + absl::Minutes(1));
    status_ = client.status();
    if (client.ok()) client_ = *std::move(client);
  }

  const absl::Status& status() const { return status_; }

  v1::SpeculationUsage Generate(const std::string& tenant, const std::string& query = kQuery) {
    v1::WorkerGenerateRequest request;
    request.mutable_prompt()->mutable_template_()->set_template_("{query}");
    request.mutable_prompt()->mutable_template_()->set_query(query);
    request.mutable_terms()->set_tenant(tenant);
    request.set_max_tokens(60);
    v1::WorkerGenerateEnd end;
    absl::Notification done;
    client_->Generate(
        request, absl::InfiniteFuture(),
        [&](v1::WorkerGenerateResponse& message) {
          if (message.has_end()) end = message.end();
          return Flow::kContinue;
        },
        [&](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          done.Notify();
        });
    done.WaitForNotification();
    return end.speculation();
  }

  // Once the engine has said what came of the last answer.
  v1::WorkerInfoResponse Info() {
    v1::WorkerInfoResponse info;
    do {
      client_->Info(absl::InfiniteFuture(),
                    [&](absl::StatusOr<v1::WorkerInfoResponse> response) { info = *response; });
    } while (info.running() > 0);
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
    std::filesystem::create_directory_symlink(std::string(kModels) + "/octogate-mini",
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

}  // namespace
}  // namespace octogate::gateway
