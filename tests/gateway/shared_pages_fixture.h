// A gateway with a model whose workers share pages through a real redis-server, or that is in its
// own process, and a query of several pages.
#ifndef OCTOGATE_TESTS_GATEWAY_SHARED_PAGES_FIXTURE_H_
#define OCTOGATE_TESTS_GATEWAY_SHARED_PAGES_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/common/redis/redis_server.h"
#include "tests/gateway/model_gateway.h"
#include "workers/cache/redis_page_store.h"
#include "workers/engine/model_runner.h"
#include "workers/server/model_service.h"
#include "workers/server/worker_server.h"

namespace octogate::gateway {

class SharedPagesFixture : public testing::Test {
 protected:
  static std::string Graph(const std::string& models) {
    return absl::StrCat(
        "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: pages}\nspec:\n  entry: talk\n"
        "  models:\n",
        models,
        "  nodes:\n"
        "    - {name: talk, model: {model: tiny, maxTokens: 4}}\n");
  }

  // A worker that shares pages, and hears of flushes by being told.
  std::string NewWorker() {
    workers::LoadOptions options;
    options.device.threads = 1;
    options.engine.make_page_store =
        workers::ShareThroughRedis(RedisClient::Create(redis_.options()),
                                   {.write_from_use = 1, .flush_interval = absl::Hours(1)});
    auto loaded = workers::LoadModel(FixtureCheckpoints() + "/octopus", options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (!loaded.ok()) return "";
    auto server = workers::WorkerServer::Start(
        "127.0.0.1:0", std::make_unique<workers::ModelService>("tiny", *std::move(loaded)));
    EXPECT_TRUE(server.ok()) << server.status();
    if (!server.ok()) return "";
    workers_.push_back(*std::move(server));
    return absl::StrCat("127.0.0.1:", workers_.back()->port());
  }

  void Apply(const std::vector<std::string>& addresses) {
    const grpc::Status applied = gateway_.Apply(Graph(absl::StrCat(
        "    - {name: tiny, workers: [\"", absl::StrJoin(addresses, "\", \""), "\"]}\n")));
    ASSERT_TRUE(applied.ok()) << applied.error_message();
  }

  // Several pages long.
  static std::string LongQuery() {
    std::string query;
    for (int i = 0; i < 40; ++i) absl::StrAppend(&query, "query ", i, " ");
    return query;
  }

  v1::Usage Generate(const std::string& tenant) {
    v1::GenerateRequest request = Ask(LongQuery(), "talk");
    request.set_tenant(tenant);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.events.empty() ? v1::Usage() : answer.events.back().finished().usage();
  }

  RedisServer redis_;
  std::vector<std::unique_ptr<workers::WorkerServer>> workers_;
  ModelGateway gateway_{FixtureCheckpoints()};
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_SHARED_PAGES_FIXTURE_H_
