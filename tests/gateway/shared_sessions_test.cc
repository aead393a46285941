// A conversation goes on at another gateway, whatever becomes of the Redis between them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/gateway/redis_gateway.h"
#include "tests/gateway/session_graph.h"

namespace octogate::gateway {
namespace {

class SharedSessionsTest : public testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options = RedisGateway::Options();
    options.sessions.believed_for = absl::ZeroDuration();
    RedisOptions redis = redis_.options();
    redis.timeouts = Patient(absl::Milliseconds(500));
    first_ = std::make_unique<RedisGateway>(redis, options);
    second_ = std::make_unique<RedisGateway>(redis, options);
    ASSERT_TRUE(first_->Apply(kSessionGraph).ok());
    ASSERT_TRUE(Eventually([&] { return second_->server().graphs().state() != nullptr; }));
  }

  static v1::GenerateRequest In(const std::string& session, const std::string& query,
                                const std::string& tenant) {
    v1::GenerateRequest request = Ask(query);
    request.set_session(session);
    request.set_tenant(tenant);
    return request;
  }
  static std::string Say(RedisGateway& gateway, const std::string& session,
                         const std::string& query, const std::string& tenant = "") {
    const Answer answer = gateway.Generate(In(session, query, tenant));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.text();
  }
  // Says it, and waits until the server has been told.
  static std::string SayAndTell(RedisGateway& gateway, const std::string& session,
                                const std::string& query, const std::string& tenant = "") {
    const double before = gateway.Metric(kWritten);
    std::string text = Say(gateway, session, query, tenant);
    EXPECT_TRUE(Eventually([&] { return gateway.Metric(kWritten) > before; }));
    return text;
  }
  RedisReply Redis(std::initializer_list<std::string_view> command) {
    const auto reply = first_->client->Call(command, absl::Now() + absl::Seconds(60));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }
  // The only key of a session.
  std::string Key() {
    const RedisReply keys = Redis({"KEYS", "octogate:value:session/*"});
    EXPECT_EQ(keys.elements.size(), 1);
    return keys.elements.empty() ? "" : keys.elements[0].text;
  }
  static void Drain(RedisGateway& gateway, bool undo) {
    grpc::ClientContext context;
    v1::DrainNodeRequest request;
    request.set_name("music");
    request.set_undo(undo);
    v1::DrainNodeResponse response;
    ASSERT_TRUE(gateway.admin()->DrainNode(&context, request, &response).ok());
  }

  static constexpr char kWritten[] = "octogate_shared_writes_total{result=\"written\"}";
  static constexpr char kFailed[] = "octogate_shared_reads_total{result=\"failed\"}";
  static constexpr char kDamaged[] = "octogate_shared_reads_total{result=\"damaged\"}";

  RedisServer redis_{{"--save", ""}};
  std::unique_ptr<RedisGateway> first_;
  std::unique_ptr<RedisGateway> second_;
};

TEST_F(SharedSessionsTest, AConversationGoesOnAtAnotherGateway) {
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz), "music");
  EXPECT_EQ(Say(*second_, "s", kSum), "music") << "where it began at the first gateway";
  EXPECT_EQ(Say(*second_, "t", kSum), "sums") << "another session";
  // Route says so too.
  grpc::ClientContext context;
  v1::RouteRequest request;
  *request.mutable_messages() = Ask(kSum).messages();
  request.set_session("s");
  v1::RouteResponse response;
  RedisGateway third(redis_.options());
  ASSERT_TRUE(Eventually([&] { return third.server().graphs().state() != nullptr; }));
  ASSERT_TRUE(v1::Gateway::NewStub(third.NewChannel())->Route(&context, request, &response).ok());
  EXPECT_EQ(response.node(), "music");
}

TEST_F(SharedSessionsTest, WhatAnotherGatewayHasDecidedSinceHolds) {
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz), "music");
  Drain(*second_, /*undo=*/false);
  EXPECT_EQ(SayAndTell(*second_, "s", kSum), "sums");
  Drain(*second_, /*undo=*/true);
  ASSERT_TRUE(Eventually([&] { return first_->Generate(Ask(kJazz)).text() == "music"; }));
  EXPECT_EQ(Say(*first_, "s", kJazz), "sums") << "it has moved";
}

TEST_F(SharedSessionsTest, TwoTenantsWithOneNameHaveTwoSessions) {
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz, "a"), "music");
  EXPECT_EQ(Say(*second_, "s", kSum, "b"), "sums");
  EXPECT_EQ(Say(*second_, "s", kSum, "a"), "music");
  // Names are not told to the server.
  EXPECT_EQ(Redis({"KEYS", "*session/s*"}).elements.size(), 0);
  // A name that holds the other's with it.
  EXPECT_EQ(SayAndTell(*first_, "as", kJazz, "x"), "music");
  EXPECT_EQ(Say(*second_, "s", kSum, "xa"), "sums");
}

TEST_F(SharedSessionsTest, WithRedisGoneEachKnowsItsOwn) {
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz), "music");
  redis_.Kill();
  EXPECT_EQ(Say(*first_, "s", kSum), "music");
  EXPECT_EQ(Say(*second_, "s", kSum), "sums") << "new to it";
  EXPECT_EQ(Say(*second_, "s", kJazz), "sums");
  // It comes back empty, and is told again.
  redis_.Start();
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(Say(*first_, "u", kJazz), "music");
    const auto keys =
        first_->client->Call({"KEYS", "octogate:value:session/*"}, absl::Now() + absl::Seconds(60));
    return keys.ok() && keys->elements.size() == 1;
  }));
  RedisGateway third(redis_.options());
  ASSERT_TRUE(Eventually([&] { return third.server().graphs().state() != nullptr; }));
  EXPECT_EQ(Say(third, "u", kSum), "music");
}

TEST_F(SharedSessionsTest, AFrozenRedisIsWaitedForNoLongerThanItMay) {
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz), "music");
  redis_.Freeze();
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Say(*first_, "s", kSum), "music");
    EXPECT_EQ(Say(*second_, absl::StrCat("new", i), kSum), "sums");
  }
  EXPECT_GT(second_->Metric(kFailed), 0);
  redis_.Thaw();
  EXPECT_TRUE(Eventually([&] {
    static int n = 0;
    const std::string session = absl::StrCat("later", n++);
    EXPECT_EQ(Say(*first_, session, kJazz), "music");
    absl::SleepFor(absl::Milliseconds(50));
    return Say(*second_, session, kSum) == "music";
  }));
}

TEST_F(SharedSessionsTest, AFrozenRedisHasOneQueryAPauseWaitAsLongAsItMay) {
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz), "music");
  ServerOptions options = RedisGateway::Options();
  options.shared_wait = SharedValues::kMaxWait;
  RedisGateway usual({.unix_socket = redis_.Socket()}, options);
  ASSERT_TRUE(Eventually([&] { return usual.server().graphs().state() != nullptr; }));
  redis_.Freeze();
  for (int i = 0; i < 150; ++i) EXPECT_EQ(Say(usual, absl::StrCat("new", i), kSum), "sums");
  ExpectOneWaitAPause(*usual.values);
  redis_.Thaw();
}

// Whatever stands there, the query is answered as if nothing did, and what the first gateway knows
// holds there.
TEST_F(SharedSessionsTest, ADamagedOrHostileWordIsNone) {
  const std::string now = absl::StrCat(absl::ToUnixMillis(absl::Now()));
  const std::string later = absl::StrCat(absl::ToUnixMillis(absl::Now() + absl::Hours(9)));
  EXPECT_EQ(SayAndTell(*first_, "s", kJazz), "music");
  const std::string key = Key();
  const std::string name = key.substr(std::string("octogate:value:").size());
  const std::string right = Redis({"GET", key}).text;
  std::string flipped = right;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  int asked = 0;
  const auto expect_none = [&](const std::string& what) {
    SCOPED_TRACE(what);
    // A gateway that does not know the session.
    RedisGateway other(redis_.options());
    ASSERT_TRUE(Eventually([&] { return other.server().graphs().state() != nullptr; }));
    EXPECT_EQ(Say(other, "s", kSum), "sums");
    EXPECT_EQ(other.Metric(kDamaged), what == "a node of no router" || what == "old" ? 0 : 1);
    ++asked;
  };
  for (const std::string& bytes :
       {std::string(), std::string("x"), flipped, right.substr(0, right.size() - 1), right + "x",
        std::string(1 << 20, '\0')}) {
    Redis({"SET", key, bytes});
    expect_none(absl::StrCat(bytes.size(), " bytes"));
  }
  Redis({"DEL", key});
  Redis({"LPUSH", key, "x"});
  expect_none("a list");
  const auto put = [&](const std::string& value) {
    Redis({"DEL", key});
    const ValueCache::Entry entry{name, value, absl::Hours(1)};
    ASSERT_TRUE(first_->values->PutMany({&entry, 1}, absl::Now() + absl::Seconds(60))[0].ok());
  };
  for (const std::string& value :
       {std::string(), std::string(" "), now, now + " ", std::string("x music"),
        std::string("99999999999999999999 music"), later + " music",
        now + " " + std::string(10'000, 'm')}) {
    put(value);
    expect_none("rightly framed: " + value.substr(0, 40));
  }
  put(now + " nowhere");
  expect_none("a node of no router");
  put("1 music");
  expect_none("old");
  EXPECT_EQ(asked, 17);
  Redis({"SET", key, "x"});
  EXPECT_EQ(Say(*first_, "s", kSum), "music");
}

}  // namespace
}  // namespace octogate::gateway
