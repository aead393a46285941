// Gateways, as they are run, share the pages of their in-process models through a real
// redis-server.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/redis/redis_server.h"
#include "tests/gateway/child_process.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

std::vector<std::string> With(std::vector<std::string> all, const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

class GatewayProcess {
 public:
  explicit GatewayProcess(const std::vector<std::string>& arguments)
      : address_(absl::StrCat("127.0.0.1:", FreePort())),
        process_(With({OCTOGATE_BINARY, "--listen", address_, "--model-root",
                       std::string(OCTOGATE_FIXTURES) + "/checkpoints", "--worker-threads", "1",
                       // Nothing is known of the time that computing takes: what is stored is used.
                       "--step-cost-time", "0", "--log-level", "error"},
                      arguments)) {
    EXPECT_TRUE(Eventually([&] {
      // A channel of its own each time: one that has failed waits for seconds.
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      const auto channel =
          grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
      gateway_ = v1::Gateway::NewStub(channel);
      admin_ = v1::Admin::NewStub(channel);
      grpc::ClientContext context;
      v1::GetServerInfoResponse info;
      return admin_->GetServerInfo(&context, {}, &info).ok() && info.graph_version() > 0;
    }));
  }

  v1::Usage Generate() {
    const Answer answer = TestGateway::Generate(Query(), absl::Seconds(60), gateway_.get());
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.events.empty() ? v1::Usage() : answer.events.back().finished().usage();
  }

  // What the gateway's model would have of the query from the store.
  v1::SharedPagesExplanation Explain() {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    v1::ExplainCacheRequest request;
    *request.mutable_request() = Query();
    v1::ExplainCacheResponse response;
    const grpc::Status status = admin_->ExplainCache(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    for (const v1::CacheExplanation& cache : response.caches()) {
      if (cache.kind() == "pages") return cache.shared();
    }
    return {};
  }

 private:
  // Several pages long.
  static v1::GenerateRequest Query() {
    std::string query;
    for (int i = 0; i < 40; ++i) absl::StrAppend(&query, "query ", i, " ");
    return Ask(query, "talk");
  }

  const std::string address_;
  ChildProcess process_;
  std::unique_ptr<v1::Gateway::Stub> gateway_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

class SharedModelsTest : public testing::Test {
 protected:
  std::string WriteFile(const std::string& name, const std::string& content) const {
    const std::string path = redis_.folder() + "/" + name;
    std::ofstream(path) << content;
    return path;
  }

  // With a graph of its own.
  std::vector<std::string> Keeping(const std::string& name) const {
    return With(store_, {"--data-dir", redis_.folder() + "/" + name});
  }

  RedisServer redis_;
  const std::vector<std::string> store_ = {
      "--worker-store", absl::StrCat("unix:", redis_.Socket()), "--graph",
      WriteFile("graph.yaml",
                "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: pages}\nspec:\n"
                "  entry: talk\n  models: [{name: tiny, path: octopus}]\n"
                "  nodes: [{name: talk, model: {model: tiny, maxTokens: 4}}]\n")};
  const std::vector<std::string> secret_ = {"--worker-store-secret-file",
                                            WriteFile("secret", "sixteen bytes at least\n")};
};

TEST_F(SharedModelsTest, AnotherGatewayFetchesWhatOneHasComputed) {
  GatewayProcess first(With(Keeping("first"), secret_));
  GatewayProcess second(With(Keeping("second"), secret_));
  GatewayProcess stranger(Keeping("stranger"));
  // Of a second query it is written.
  EXPECT_EQ(first.Generate().cached_tokens(), 0);
  const v1::Usage cached = first.Generate();
  EXPECT_GT(cached.cached_tokens(), 0);
  EXPECT_EQ(cached.shared_tokens(), 0);
  EXPECT_TRUE(Eventually([&] { return second.Explain().hit_tokens() == cached.cached_tokens(); }));
  EXPECT_EQ(second.Generate().shared_tokens(), cached.cached_tokens());
  // Who does not know the secret finds nothing.
  EXPECT_GT(stranger.Explain().lookup_tokens(), 0);
  EXPECT_TRUE(stranger.Explain().has_hit_tokens());
  EXPECT_EQ(stranger.Explain().hit_tokens(), 0);
  EXPECT_EQ(stranger.Generate().shared_tokens(), 0);
}

TEST_F(SharedModelsTest, RefusesASecretThatIsNone) {
  const auto status = [](const std::vector<std::string>& arguments) {
    ChildProcess process(With({OCTOGATE_BINARY, "--listen", "127.0.0.1:0"}, arguments));
    return process.Wait();
  };
  EXPECT_EQ(status(secret_), 2) << "without a store";
  EXPECT_EQ(
      status(With(Keeping("first"), {"--worker-store-secret-file", WriteFile("short", "short\n")})),
      1);
  EXPECT_EQ(
      status(With(Keeping("first"), {"--worker-store-secret-file", redis_.folder() + "/no file"})),
      1);
}

}  // namespace
}  // namespace octogate::gateway
