// A gateway inside the test: real ports, a store in memory, and a client.
#ifndef OCTOGATE_TESTS_GATEWAY_TEST_GATEWAY_H_
#define OCTOGATE_TESTS_GATEWAY_TEST_GATEWAY_H_

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/memory_store.h"
#include "gateway/server.h"
#include "octogate/v1/admin.grpc.pb.h"
#include "octogate/v1/gateway.grpc.pb.h"

namespace octogate::gateway {

// What a Generate call gave.
struct Answer {
  std::vector<v1::GenerateResponse> events;
  grpc::Status status;
  std::string pushback;  // the hint when to try again

  std::string text() const {
    std::string text;
    for (const v1::GenerateResponse& event : events) text += event.tokens().text();
    return text;
  }
  // The events' kinds, e.g. "started decision".
  std::vector<std::string> kinds() const {
    std::vector<std::string> kinds;
    for (const v1::GenerateResponse& event : events) {
      const auto* field = event.GetReflection()->GetOneofFieldDescriptor(
          event, event.GetDescriptor()->oneof_decl(0));
      const std::string name = field == nullptr ? "none" : field->name();
      if (name == "tokens" && !kinds.empty() && kinds.back() == "tokens") continue;
      kinds.push_back(name);
    }
    return kinds;
  }
};

inline v1::GenerateRequest Ask(const std::string& query, const std::string& node = "") {
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(query);
  request.set_node(node);
  return request;
}

class TestGateway {
 public:
  // `store` may be shared with another gateway, one after the other; null: one of its own.
  explicit TestGateway(ServerOptions options = {}, Store* store = nullptr)
      : own_store_(MakeMemoryStore()) {
    options.listen = "127.0.0.1:0";
    // What one loop learns must hold for the others, on machines with few cores too.
    options.threads = 3;
    options.graph.replicas.breaker.initial_pause = absl::Milliseconds(50);
    auto server = Server::Start(options, store == nullptr ? own_store_.get() : store);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    EXPECT_TRUE(server_->AwaitRestored(absl::Now() + absl::Seconds(30)));
    gateway_ = v1::Gateway::NewStub(NewChannel());
    admin_ = v1::Admin::NewStub(NewChannel());
  }

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                     grpc::InsecureChannelCredentials(), arguments);
  }

  grpc::Status Apply(const std::string& manifest, v1::ApplyGraphResponse* response = nullptr,
                     int64_t expected = 0) {
    grpc::ClientContext context;
    v1::ApplyGraphRequest request;
    request.set_manifest(manifest);
    request.set_source("test.yaml");
    request.set_expected_version(expected);
    v1::ApplyGraphResponse ignored;
    return admin_->ApplyGraph(&context, request, response == nullptr ? &ignored : response);
  }

  Answer Generate(const v1::GenerateRequest& request, absl::Duration timeout = absl::Seconds(30)) {
    return Generate(request, timeout, gateway_.get());
  }

  static Answer Generate(const v1::GenerateRequest& request, absl::Duration timeout,
                         v1::Gateway::Stub* stub) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    auto reader = stub->Generate(&context, request);
    Answer answer;
    v1::GenerateResponse event;
    while (reader->Read(&event)) answer.events.push_back(event);
    answer.status = reader->Finish();
    const auto& trailers = context.GetServerTrailingMetadata();
    if (const auto hint = trailers.find("grpc-retry-pushback-ms"); hint != trailers.end()) {
      answer.pushback = std::string(hint->second.data(), hint->second.size());
    }
    return answer;
  }

  v1::ListNodesResponse Nodes() {
    grpc::ClientContext context;
    v1::ListNodesResponse response;
    const grpc::Status status = admin_->ListNodes(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  Server& server() { return *server_; }
  v1::Gateway::Stub* gateway() { return gateway_.get(); }
  v1::Admin::Stub* admin() { return admin_.get(); }

 private:
  std::unique_ptr<Store> own_store_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::Gateway::Stub> gateway_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_TEST_GATEWAY_H_
