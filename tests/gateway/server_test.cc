// The gateway as a whole: graphs that change under load, workers that die, limits, drain, restart.
#include "gateway/server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/file_store.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/gateway/child_process.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = testing::TempDir() + "octogate-server-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Two models in a row, each stamped with the graph's number through its system message.
std::string TwoStepGraph(int number, const std::string& worker) {
  const std::string stamp = absl::StrCat("v", number);
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test, description: ", stamp,
      "}\nspec:\n  entry: first\n  models: [{name: stub, workers: [\"", worker,
      "\"]}]\n  nodes:\n    - {name: first, model: {model: stub, system: ", stamp,
      "}}\n    - {name: second, model: {model: stub, system: ", stamp,
      "}}\n  edges: [{from: first, to: second, on: success, input: \"stub echo=1 {output}\"}]\n");
}

std::string OneModelGraph(const std::vector<std::string>& workers) {
  std::string list;
  for (const std::string& worker : workers) absl::StrAppend(&list, "\"", worker, "\", ");
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test}\nspec:\n  entry: talk\n"
      "  models: [{name: stub, workers: [",
      list, "]}]\n", "  nodes: [{name: talk, model: {model: stub}}]\n");
}

std::string BreakerOf(TestGateway& gateway, int replica) {
  return gateway.Nodes().nodes(0).replicas(replica).breaker();
}

TEST(ServerTest, GraphsSwapUnderLoadWithoutAFailedCall) {
  constexpr int kSwaps = 2000;
  constexpr int kStreams = 32;
  StubWorker worker;
  TestGateway gateway;
  // Version 1 is stamped v1, and so on.
  ASSERT_TRUE(gateway.Apply(TwoStepGraph(1, worker.address())).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> answers{0};
  std::vector<std::thread> streams;
  std::vector<std::map<int64_t, int>> versions(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    streams.emplace_back([&, i] {
      const auto stub = v1::Gateway::NewStub(gateway.NewChannel());
      while (!stop) {
        const Answer answer =
            TestGateway::Generate(Ask("stub echo=1"), absl::Seconds(60), stub.get());
        ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
        const int64_t version = answer.events.at(0).started().graph_version();
        const std::string stamp = absl::StrCat("v", version);
        ASSERT_EQ(answer.text(), absl::StrCat(stamp, "|stub echo=1 ", stamp, "|stub echo=1"));
        ++versions[i][version];
        ++answers;
      }
    });
  }
  for (int number = 2; number <= kSwaps + 1; ++number) {
    v1::ApplyGraphResponse response;
    const grpc::Status status =
        gateway.Apply(TwoStepGraph(number, worker.address()), &response, number - 1);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(response.version(), number);
  }
  stop = true;
  for (std::thread& stream : streams) stream.join();
  std::map<int64_t, int> seen;
  for (const auto& stream : versions) {
    for (const auto& [version, count] : stream) seen[version] += count;
  }
  RecordProperty("answers", answers.load());
  EXPECT_GT(seen.size(), 10);  // the load did run while graphs came and went
}

TEST(ServerTest, AWorkerKilledInMidStreamIsUnavailableAndRejoins) {
  auto child =
      std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, "127.0.0.1:0"});
  const std::string address = child->ReadLine().substr(6);
  TestGateway gateway;
  ASSERT_TRUE(gateway.Apply(OneModelGraph({address})).ok());

  grpc::ClientContext context;
  auto reader = gateway.gateway()->Generate(&context, Ask("stub tokens=900 delay_us=5000 text=x"));
  std::string text;
  v1::GenerateResponse event;
  while (text.size() < 5 && reader->Read(&event)) text += event.tokens().text();
  child->Kill(SIGKILL);
  child->Wait();
  while (reader->Read(&event)) text += event.tokens().text();
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr(address));
  EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat("after ", text.size(), " tokens")));

  while (BreakerOf(gateway, 0) != "open") absl::SleepFor(absl::Milliseconds(10));
  const Answer refused = gateway.Generate(Ask("stub"));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(gateway.Nodes().nodes(0).state(), v1::NODE_STATE_UNAVAILABLE);

  child = std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, address});
  ASSERT_EQ(child->ReadLine(), "ready " + address);
  while (BreakerOf(gateway, 0) != "closed") absl::SleepFor(absl::Milliseconds(10));
  EXPECT_TRUE(gateway.Generate(Ask("stub")).status.ok());
  EXPECT_EQ(gateway.Nodes().nodes(0).state(), v1::NODE_STATE_READY);
}

TEST(ServerTest, AWorkerThatIsDownCostsNoQuery) {
  StubWorker alive;
  TestGateway gateway;
  v1::ApplyGraphResponse response;
  // Port 1 refuses connections.
  ASSERT_TRUE(gateway.Apply(OneModelGraph({alive.address(), "127.0.0.1:1"}), &response).ok());
  for (int i = 0; i < 20; ++i) {
    const Answer answer = gateway.Generate(Ask("stub"));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
}

TEST(ServerTest, WorkersMayStartAfterTheGraphIsApplied) {
  TestGateway gateway;
  v1::ApplyGraphResponse response;
  ASSERT_TRUE(gateway.Apply(OneModelGraph({"127.0.0.1:1"}), &response).ok());
  ASSERT_EQ(response.warnings_size(), 1);
  EXPECT_THAT(response.warnings(0), HasSubstr("model \"stub\""));
}

TEST(ServerTest, TenantsAreCappedOnTheirOwn) {
  StubWorker worker;
  ServerOptions options;
  options.admission.max_per_tenant = 2;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Apply(OneModelGraph({worker.address()})).ok());
  v1::GenerateRequest slow = Ask("stub first_us=20000000");
  slow.set_tenant("a");
  grpc::ClientContext contexts[2];
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (grpc::ClientContext& context : contexts) {
    readers.push_back(gateway.gateway()->Generate(&context, slow));
  }
  while (worker.running() < 2) absl::SleepFor(absl::Milliseconds(1));
  const Answer refused = gateway.Generate(slow);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_FALSE(refused.pushback.empty());
  v1::GenerateRequest other = Ask("stub");
  other.set_tenant("b");
  EXPECT_TRUE(gateway.Generate(other).status.ok());
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (auto& reader : readers) (void)reader->Finish();
}

TEST(ServerTest, QueriesWaitForTheirTurn) {
  StubWorker worker;
  ServerOptions options;
  options.admission.max_concurrent = 2;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Apply(OneModelGraph({worker.address()})).ok());
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back(
        [&] { good += gateway.Generate(Ask("stub first_us=10000")).status.ok() ? 1 : 0; });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 16);
}

// Bytes that are no request, sent as one.
TEST(ServerTest, MalformedRequestsAreInvalid) {
  StubWorker worker;
  TestGateway gateway;
  ASSERT_TRUE(gateway.Apply(OneModelGraph({worker.address()})).ok());
  grpc::GenericStub stub(gateway.NewChannel());
  v1::GenerateRequest request = Ask("hello");
  std::string invalid_utf8 = request.SerializeAsString();
  invalid_utf8[invalid_utf8.find("hello")] = '\xFF';
  for (const std::string& bytes : {std::string("\xFF\xFF\xFF"), invalid_utf8}) {
    for (const char* method : {"Generate", "Route"}) {
      grpc::ClientContext context;
      grpc::CompletionQueue queue;
      const grpc::Slice slice(bytes);
      const grpc::ByteBuffer buffer(&slice, 1);
      auto call = stub.PrepareUnaryCall(&context, absl::StrCat("/octogate.v1.Gateway/", method),
                                        buffer, &queue);
      grpc::ByteBuffer answer;
      grpc::Status status;
      call->StartCall();
      call->Finish(&answer, &status, nullptr);
      void* tag = nullptr;
      bool ok = false;
      ASSERT_TRUE(queue.Next(&tag, &ok));
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
      queue.Shutdown();
      while (queue.Next(&tag, &ok)) {
      }
    }
  }
}

TEST(ServerTest, AdminAppliesComparesAndRollsBack) {
  StubWorker worker;
  TestGateway gateway;
  v1::ApplyGraphResponse applied;
  ASSERT_TRUE(gateway.Apply(TwoStepGraph(1, worker.address()), &applied).ok());
  EXPECT_EQ(applied.version(), 1);
  ASSERT_TRUE(gateway.Apply(TwoStepGraph(1, worker.address()), &applied).ok());
  EXPECT_EQ(applied.version(), 1);  // nothing has changed
  EXPECT_EQ(applied.changes_size(), 0);
  ASSERT_TRUE(gateway.Apply(TwoStepGraph(2, worker.address()), &applied, 1).ok());
  EXPECT_EQ(applied.version(), 2);
  EXPECT_GT(applied.changes_size(), 0);
  EXPECT_EQ(gateway.Apply(TwoStepGraph(3, worker.address()), nullptr, 1).error_code(),
            grpc::StatusCode::ABORTED);
  const grpc::Status wrong = gateway.Apply("kind: Graph\n");
  EXPECT_EQ(wrong.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(wrong.error_message(), HasSubstr("test.yaml:"));

  {
    grpc::ClientContext context;
    v1::DiffGraphRequest request;
    request.set_from_version(1);
    request.set_to_version(2);
    v1::DiffGraphResponse response;
    ASSERT_TRUE(gateway.admin()->DiffGraph(&context, request, &response).ok());
    EXPECT_GT(response.changes_size(), 0);
  }
  {
    grpc::ClientContext context;
    v1::RollbackGraphResponse response;
    ASSERT_TRUE(gateway.admin()->RollbackGraph(&context, {}, &response).ok());
    EXPECT_EQ(response.version(), 3);
  }
  EXPECT_EQ(gateway.Generate(Ask("stub echo=1")).text(), "v1|stub echo=1 v1|stub echo=1");
  {
    grpc::ClientContext context;
    v1::ListGraphVersionsResponse response;
    ASSERT_TRUE(gateway.admin()->ListGraphVersions(&context, {}, &response).ok());
    ASSERT_EQ(response.versions_size(), 3);
    EXPECT_TRUE(response.versions(0).active());
    EXPECT_FALSE(response.versions(1).active());
  }
  {
    grpc::ClientContext context;
    v1::GetServerInfoResponse response;
    ASSERT_TRUE(gateway.admin()->GetServerInfo(&context, {}, &response).ok());
    EXPECT_EQ(response.graph_version(), 3);
  }
}

TEST(ServerTest, ADrainedNodeTakesNoQueriesEvenInALaterVersion) {
  StubWorker worker;
  TestGateway gateway;
  ASSERT_TRUE(gateway.Apply(TwoStepGraph(1, worker.address())).ok());
  const auto drain = [&](bool undo) {
    grpc::ClientContext context;
    v1::DrainNodeRequest request;
    request.set_name("first");
    request.set_undo(undo);
    v1::DrainNodeResponse response;
    EXPECT_TRUE(gateway.admin()->DrainNode(&context, request, &response).ok());
    return response.node().state();
  };
  EXPECT_EQ(drain(false), v1::NODE_STATE_DRAINING);
  EXPECT_EQ(gateway.Generate(Ask("x")).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_TRUE(gateway.Apply(TwoStepGraph(2, worker.address())).ok());
  EXPECT_EQ(gateway.Generate(Ask("x")).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(drain(true), v1::NODE_STATE_READY);
  EXPECT_TRUE(gateway.Generate(Ask("x")).status.ok());
}

TEST(ServerTest, ARestartRestoresTheGraph) {
  StubWorker worker;
  const std::unique_ptr<Store> store = MakeMemoryStore();
  {
    TestGateway gateway({}, store.get());
    ASSERT_TRUE(gateway.Apply(TwoStepGraph(1, worker.address())).ok());
    ASSERT_TRUE(gateway.Apply(TwoStepGraph(2, worker.address())).ok());
  }
  TestGateway gateway({}, store.get());
  const Answer answer = gateway.Generate(Ask("stub echo=1"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.events[0].started().graph_version(), 2);
}

TEST(ServerTest, ARestartKeepsDrainedNodesDrained) {
  StubWorker worker;
  const std::unique_ptr<Store> store = MakeMemoryStore();
  const auto drain = [](TestGateway& gateway, const std::string& node, bool undo) {
    grpc::ClientContext context;
    v1::DrainNodeRequest request;
    request.set_name(node);
    request.set_undo(undo);
    v1::DrainNodeResponse response;
    EXPECT_TRUE(gateway.admin()->DrainNode(&context, request, &response).ok());
  };
  {
    TestGateway gateway({}, store.get());
    ASSERT_TRUE(gateway.Apply(TwoStepGraph(1, worker.address())).ok());
    drain(gateway, "first", false);
    drain(gateway, "second", false);
    drain(gateway, "second", true);
  }
  {
    TestGateway gateway({}, store.get());
    EXPECT_EQ(gateway.Nodes().nodes(0).state(), v1::NODE_STATE_DRAINING);
    EXPECT_EQ(gateway.Nodes().nodes(1).state(), v1::NODE_STATE_READY);
    EXPECT_EQ(gateway.Generate(Ask("x")).status.error_code(), grpc::StatusCode::UNAVAILABLE);
    drain(gateway, "first", true);
  }
  TestGateway gateway({}, store.get());
  EXPECT_EQ(gateway.Nodes().nodes(0).state(), v1::NODE_STATE_READY);
  EXPECT_TRUE(gateway.Generate(Ask("x")).status.ok());
}

TEST(ServerTest, ADrainReachesTheOtherGatewaysOfTheStore) {
  StubWorker worker;
  const TemporaryFolder folder;
  const auto store = OpenFileStore(folder.path());
  ASSERT_TRUE(store.ok()) << store.status();
  ServerOptions options;
  options.store_poll_interval = absl::Milliseconds(50);
  TestGateway first(options, store->get());
  ASSERT_TRUE(first.Apply(TwoStepGraph(1, worker.address())).ok());
  TestGateway second(options, store->get());
  const auto drain = [](TestGateway& gateway, const std::string& node, bool undo) {
    grpc::ClientContext context;
    v1::DrainNodeRequest request;
    request.set_name(node);
    request.set_undo(undo);
    v1::DrainNodeResponse response;
    EXPECT_TRUE(gateway.admin()->DrainNode(&context, request, &response).ok());
  };
  // False where it does not become so.
  const auto becomes = [](TestGateway& gateway, v1::NodeState state, int node) {
    const absl::Time give_up = absl::Now() + absl::Seconds(30);
    while (gateway.Nodes().nodes(node).state() != state) {
      if (absl::Now() > give_up) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  };
  ASSERT_TRUE(becomes(second, v1::NODE_STATE_READY, 0));
  EXPECT_TRUE(second.Generate(Ask("x")).status.ok());

  drain(first, "first", false);
  EXPECT_TRUE(becomes(second, v1::NODE_STATE_DRAINING, 0));
  EXPECT_EQ(second.Generate(Ask("x")).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  // Changes on both sides add up.
  drain(second, "second", false);
  EXPECT_TRUE(becomes(first, v1::NODE_STATE_DRAINING, 1));
  EXPECT_EQ(first.Nodes().nodes(0).state(), v1::NODE_STATE_DRAINING);
  // Undone by another gateway than the one that drained.
  drain(second, "first", true);
  drain(first, "second", true);
  for (TestGateway* gateway : {&first, &second}) {
    EXPECT_TRUE(becomes(*gateway, v1::NODE_STATE_READY, 0));
    EXPECT_TRUE(becomes(*gateway, v1::NODE_STATE_READY, 1));
    EXPECT_TRUE(gateway->Generate(Ask("x")).status.ok());
  }
}

TEST(ServerTest, WhoWatchesTheHealthHearsWhenItChanges) {
  using grpc::health::v1::HealthCheckResponse;
  StubWorker worker;
  TestGateway gateway;
  const auto stub = grpc::health::v1::Health::NewStub(gateway.NewChannel());
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("octogate.v1.Gateway");
  const auto watch = stub->Watch(&context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);  // no graph
  ASSERT_TRUE(gateway.Apply(OneModelGraph({worker.address()})).ok());
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  std::thread stopper(
      [&] { gateway.server().Shutdown(absl::Milliseconds(100), absl::ZeroDuration()); });
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  stopper.join();
}

TEST(ServerTest, HealthIsRedWhileNoReplicaOfAModelAnswers) {
  using grpc::health::v1::HealthCheckResponse;
  auto child =
      std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, "127.0.0.1:0"});
  const std::string address = child->ReadLine().substr(6);
  TestGateway gateway;
  const auto stub = grpc::health::v1::Health::NewStub(gateway.NewChannel());
  grpc::ClientContext context;
  const auto watch = stub->Watch(&context, {});
  const auto await = [&](HealthCheckResponse::ServingStatus wanted) {
    HealthCheckResponse response;
    while (response.status() != wanted) ASSERT_TRUE(watch->Read(&response));
  };
  ASSERT_TRUE(gateway.Apply(OneModelGraph({address})).ok());
  await(HealthCheckResponse::SERVING);
  child->Kill(SIGKILL);
  child->Wait();
  await(HealthCheckResponse::NOT_SERVING);
  child = std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, address});
  ASSERT_EQ(child->ReadLine(), "ready " + address);
  await(HealthCheckResponse::SERVING);
  context.TryCancel();
  (void)watch->Finish();
}

TEST(ServerTest, ShutdownLetsQueriesEndAndThenCancels) {
  StubWorker worker;
  auto gateway = std::make_unique<TestGateway>();
  ASSERT_TRUE(gateway->Apply(OneModelGraph({worker.address()})).ok());
  Answer quick;
  Answer endless;
  std::thread first([&] { quick = gateway->Generate(Ask("stub tokens=10 delay_us=20000")); });
  std::thread second([&] { endless = gateway->Generate(Ask("stub tokens=256 delay_us=1000000")); });
  while (worker.running() < 2) absl::SleepFor(absl::Milliseconds(1));
  gateway->server().Shutdown(absl::ZeroDuration(), absl::Seconds(3));
  first.join();
  second.join();
  EXPECT_TRUE(quick.status.ok()) << quick.status.error_message();
  EXPECT_FALSE(endless.status.ok());
  while (worker.cancelled() == 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST(ServerTest, APortThatIsTakenIsAnError) {
  TestGateway gateway;
  const std::unique_ptr<Store> store = MakeMemoryStore();
  ServerOptions options;
  options.listen = absl::StrCat("127.0.0.1:", gateway.server().port());
  const auto second = Server::Start(options, store.get());
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

}  // namespace
}  // namespace octogate::gateway
