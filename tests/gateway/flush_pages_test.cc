// A flush of a model's pages as an operator asks for it: real (tiny) models in workers that share
// pages through a real redis-server, and in the gateway's own process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/common/redis/loopback_listener.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/gateway/shared_pages_fixture.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

class FlushPagesTest : public SharedPagesFixture {
 protected:
  grpc::Status Flush(const std::string& model, const std::string& tenant,
                     v1::FlushCacheResponse* response, absl::Duration timeout = absl::Seconds(60)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    v1::FlushCacheRequest request;
    request.set_model(model);
    request.set_tenant(tenant);
    return gateway_.admin()->FlushCache(&context, request, response);
  }
};

TEST_F(FlushPagesTest, AtAllReplicasAndInTheirStore) {
  Apply({NewWorker(), NewWorker()});
  // Both replicas have it, the one from the other or by itself.
  const auto warm = [&](const std::string& tenant) {
    for (int i = 0; i < 6; ++i) Generate(tenant);
    return Generate(tenant).cached_tokens();
  };
  const int64_t cached = warm("a");
  EXPECT_GT(cached, 0);
  EXPECT_EQ(warm("b"), cached);

  v1::FlushCacheResponse response;
  ASSERT_TRUE(Flush("tiny", "a", &response).ok());
  ASSERT_EQ(response.replicas_size(), 2);
  EXPECT_EQ(response.flushed_size(), 0);
  int64_t pages = 0;
  for (int i = 0; i < 2; ++i) {
    const v1::ReplicaFlush& replica = response.replicas(i);
    EXPECT_EQ(replica.replica(),
              absl::StrCat("127.0.0.1:", workers_[static_cast<size_t>(i)]->port()));
    EXPECT_EQ(replica.code(), 0) << replica.error();
    EXPECT_TRUE(replica.shared());
    EXPECT_EQ(replica.pages_in_use(), 0);
    pages += replica.pages();
  }
  EXPECT_GT(pages, 0);
  EXPECT_EQ(Generate("b").cached_tokens(), cached) << "another tenant's";
  EXPECT_EQ(Generate("a").cached_tokens(), 0);
  EXPECT_EQ(warm("a"), cached);

  ASSERT_TRUE(Flush("tiny", "", &response).ok());
  EXPECT_EQ(Generate("a").cached_tokens(), 0);
  EXPECT_EQ(Generate("b").cached_tokens(), 0);
}

TEST_F(FlushPagesTest, AReplicaThatDoesNotAnswerIsNamedAndHidesNothing) {
  const LoopbackListener silent;  // takes connections, and never says anything
  const StubWorker old;           // knows no flush
  const std::string gone = absl::StrCat("127.0.0.1:", FreePort());
  const std::string works = NewWorker();
  Apply({works});
  const int64_t cached = [&] {
    Generate("a");
    return Generate("a").cached_tokens();
  }();
  EXPECT_GT(cached, 0);
  const std::vector<std::string> addresses = {absl::StrCat("127.0.0.1:", silent.port()),
                                              old.address(), works, gone};
  Apply(addresses);
  v1::FlushCacheResponse response;
  const grpc::Status status = Flush("tiny", "", &response, absl::Seconds(5));
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.replicas_size(), 4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(response.replicas(i).replica(), addresses[static_cast<size_t>(i)]);
  }
  EXPECT_THAT(response.replicas(0).code(),
              testing::AnyOf(static_cast<int>(absl::StatusCode::kUnavailable),
                             static_cast<int>(absl::StatusCode::kDeadlineExceeded)));
  EXPECT_EQ(response.replicas(1).code(), static_cast<int>(absl::StatusCode::kUnimplemented));
  EXPECT_EQ(response.replicas(2).code(), 0) << response.replicas(2).error();
  EXPECT_GT(response.replicas(2).pages(), 0);
  EXPECT_EQ(response.replicas(3).code(), static_cast<int>(absl::StatusCode::kUnavailable));
  for (const int i : {0, 1, 3}) {
    EXPECT_FALSE(response.replicas(i).error().empty());
    EXPECT_EQ(response.replicas(i).pages(), 0);
    EXPECT_FALSE(response.replicas(i).shared());
  }
  Apply({works});
  EXPECT_EQ(Generate("a").cached_tokens(), 0);
}

TEST_F(FlushPagesTest, AStoreThatIsGoneIsToldOfByEachReplica) {
  Apply({NewWorker()});
  Generate("a");
  redis_.Kill();
  v1::FlushCacheResponse response;
  ASSERT_TRUE(Flush("tiny", "", &response).ok());
  ASSERT_EQ(response.replicas_size(), 1);
  EXPECT_EQ(response.replicas(0).code(), static_cast<int>(absl::StatusCode::kUnavailable));
  EXPECT_THAT(response.replicas(0).error(), HasSubstr("flush again"));
  EXPECT_EQ(Generate("a").cached_tokens(), 0) << "the memory is flushed all the same";
}

TEST_F(FlushPagesTest, InTheGatewaysOwnProcess) {
  const grpc::Status applied = gateway_.Apply(
      Graph("    - {name: tiny, path: octopus}\n    - {name: spare, path: octopus}\n"));
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  Generate("a");
  const int64_t cached = Generate("a").cached_tokens();
  EXPECT_GT(cached, 0);
  v1::FlushCacheResponse response;
  ASSERT_TRUE(Flush("spare", "", &response).ok());
  ASSERT_EQ(response.replicas_size(), 1);
  EXPECT_EQ(response.replicas(0).replica(), "in-process");
  EXPECT_EQ(response.replicas(0).pages(), 0);
  EXPECT_FALSE(response.replicas(0).shared());
  EXPECT_EQ(Generate("a").cached_tokens(), cached) << "another model's";
  ASSERT_TRUE(Flush("tiny", "b", &response).ok());
  EXPECT_EQ(Generate("a").cached_tokens(), cached) << "another tenant's";
  ASSERT_TRUE(Flush("tiny", "a", &response).ok());
  EXPECT_GT(response.replicas(0).pages(), 0);
  EXPECT_EQ(Generate("a").cached_tokens(), 0);
}

TEST_F(FlushPagesTest, WhatIsNoFlushIsRefused) {
  v1::FlushCacheResponse response;
  EXPECT_EQ(Flush("tiny", "", &response).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  Apply({NewWorker()});
  const grpc::Status unknown = Flush("large", "", &response);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("large"));
  grpc::ClientContext context;
  v1::FlushCacheRequest both;
  both.set_model("tiny");
  both.add_kinds("answers");
  const grpc::Status refused = gateway_.admin()->FlushCache(&context, both, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("kinds"));

  const auto stub = v1::Worker::NewStub(grpc::CreateChannel(
      absl::StrCat("127.0.0.1:", workers_[0]->port()), grpc::InsecureChannelCredentials()));
  for (const std::string& id : {std::string(), std::string("A"), std::string("a b"),
                                std::string("a\n"), std::string(65, 'a')}) {
    grpc::ClientContext own;
    v1::WorkerFlushCacheRequest request;
    request.set_id(id);
    v1::WorkerFlushCacheResponse flushed;
    EXPECT_EQ(stub->FlushCache(&own, request, &flushed).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT)
        << id;
  }
}

}  // namespace
}  // namespace octogate::gateway
