// A trace that one gateway has recorded is found by another, whatever becomes of the Redis between
// them.
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "tests/gateway/redis_gateway.h"

namespace octogate::gateway {
namespace {

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router: {members: [sums, music], fallback: sums, heads: [{threshold: 0.1, lexical: {}}]}
    - name: sums
      tool: {tool: reply, parameters: {text: sums}}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80]
    - name: music
      tool: {tool: reply, parameters: {text: music}}
      examples: [play a song, play some jazz, play the next song, turn up the music]
)";
constexpr char kWritten[] = "octogate_shared_traces_total{result=\"written\"}";
constexpr char kDropped[] = "octogate_shared_traces_total{result=\"dropped\"}";
constexpr char kDamaged[] = "octogate_shared_traces_total{result=\"damaged\"}";

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

class SharedTracesTest : public testing::Test {
 protected:
  void SetUp() override {
    RedisOptions redis = redis_.options();
    redis.timeouts = Patient(absl::Milliseconds(500));
    first_ = std::make_unique<RedisGateway>(redis);
    second_ = std::make_unique<RedisGateway>(redis);
    ASSERT_TRUE(first_->Apply(kGraph).ok());
    ASSERT_TRUE(Eventually([&] { return second_->server().graphs().state() != nullptr; }));
  }

  // Returns the trace's id.
  static std::string Say(RedisGateway& gateway, const std::string& query,
                         const std::string& tenant = "") {
    v1::GenerateRequest request = Ask(query);
    request.set_tenant(tenant);
    const Answer answer = gateway.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.events.empty() ? "" : answer.events.front().started().trace_id();
  }
  static std::string SayAndShare(RedisGateway& gateway, const std::string& query,
                                 const std::string& tenant = "") {
    const double before = gateway.Metric(kWritten);
    std::string id = Say(gateway, query, tenant);
    EXPECT_TRUE(Eventually([&] { return gateway.Metric(kWritten) > before; }));
    return id;
  }
  static grpc::Status Get(RedisGateway& gateway, const std::string& id, v1::Trace* trace) {
    grpc::ClientContext context;
    v1::GetTraceRequest request;
    request.set_trace_id(id);
    v1::GetTraceResponse response;
    const grpc::Status status = gateway.admin()->GetTrace(&context, request, &response);
    *trace = response.trace();
    return status;
  }
  static std::vector<std::string> List(RedisGateway& gateway) {
    grpc::ClientContext context;
    v1::ListTracesResponse response;
    EXPECT_TRUE(gateway.admin()->ListTraces(&context, {}, &response).ok());
    std::vector<std::string> ids;
    for (const v1::Trace& trace : response.traces()) ids.push_back(trace.trace_id());
    return ids;
  }
  RedisReply Redis(std::initializer_list<std::string_view> command) {
    const auto reply = first_->client->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply());
  }
  static std::string Stream(const std::string& tenant) {
    return absl::StrCat("octogate:stream:{", Sha256Hex(tenant), "}");
  }

  RedisServer redis_{{"--save", ""}};
  std::unique_ptr<RedisGateway> first_;
  std::unique_ptr<RedisGateway> second_;
};

TEST_F(SharedTracesTest, AnotherGatewayExplainsAndReplays) {
  const std::string id = SayAndShare(*first_, "play some jazz", "acme");
  v1::Trace here;
  v1::Trace there;
  ASSERT_TRUE(Get(*first_, id, &here).ok());
  const grpc::Status status = Get(*second_, id, &there);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(here, there));
  EXPECT_EQ(there.tenant(), "acme");
  ASSERT_TRUE(Get(*second_, "last", &there).ok());
  EXPECT_EQ(there.trace_id(), id);
  {
    grpc::ClientContext context;
    v1::ExplainDecisionRequest request;
    request.set_trace_id(id);
    v1::ExplainDecisionResponse response;
    const grpc::Status explained = second_->admin()->ExplainDecision(&context, request, &response);
    EXPECT_TRUE(explained.ok()) << explained.error_message();
  }
  {
    grpc::ClientContext context;
    v1::ReplayTrafficRequest request;
    request.set_version(1);
    v1::ReplayTrafficResponse response;
    const grpc::Status replayed = second_->admin()->ReplayTraffic(&context, request, &response);
    EXPECT_TRUE(replayed.ok()) << replayed.error_message();
    EXPECT_EQ(response.queries(), 1);
  }
  v1::Trace none;
  EXPECT_EQ(Get(*second_, "nothing", &none).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(SharedTracesTest, TheNewestOfAllAreListedOnce) {
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) {
    ids.push_back(SayAndShare(i % 2 == 0 ? *first_ : *second_, "17 times 4", i < 3 ? "a" : "b"));
  }
  std::vector<std::string> listed = List(*first_);
  std::vector<std::string> other = List(*second_);
  EXPECT_EQ(listed, other);
  std::sort(ids.begin(), ids.end());
  std::sort(listed.begin(), listed.end());
  EXPECT_EQ(listed, ids);
}

TEST_F(SharedTracesTest, WithRedisGoneEachHasItsOwn) {
  const std::string before = SayAndShare(*first_, "17 times 4");
  redis_.Kill();
  const std::string id = Say(*first_, "play a song");
  v1::Trace trace;
  EXPECT_TRUE(Get(*first_, id, &trace).ok());
  EXPECT_EQ(Get(*second_, before, &trace).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(List(*first_).size(), 2);
  EXPECT_TRUE(Eventually([&] { return first_->Metric(kDropped) == 1; }));
  redis_.Start();  // empty
  std::string after;
  EXPECT_TRUE(Eventually([&] {
    after = Say(*first_, "17 times 4");
    absl::SleepFor(absl::Milliseconds(50));
    return Get(*second_, after, &trace).ok();
  }));
  EXPECT_EQ(Get(*second_, before, &trace).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(SharedTracesTest, AFrozenRedisHoldsUpNoQuery) {
  redis_.Freeze();
  for (int i = 0; i < 50; ++i) Say(*first_, "17 times 4");
  EXPECT_TRUE(Eventually([&] { return first_->Metric(kDropped) >= 1; }));
  redis_.Thaw();
  v1::Trace trace;
  EXPECT_TRUE(Eventually([&] {
    const std::string id = Say(*first_, "play a song");
    absl::SleepFor(absl::Milliseconds(50));
    return Get(*second_, id, &trace).ok();
  }));
}

// Whoever waited for the server would wait longer than a query may last.
TEST_F(SharedTracesTest, NoQueryWaitsForItsTrace) {
  RedisOptions redis = redis_.options();
  redis.timeouts = Patient(absl::Hours(1));
  RedisGateway gateway(redis);
  ASSERT_TRUE(Eventually([&] { return gateway.server().graphs().state() != nullptr; }));
  SayAndShare(gateway, "17 times 4");
  redis_.Freeze();
  for (int i = 0; i < 50; ++i) Say(gateway, "17 times 4");
  redis_.Thaw();
}

// What somebody else has put there is no trace, and what comes next is found again.
TEST_F(SharedTracesTest, DamagedAndHostileRecordsAreNone) {
  v1::Trace trace;
  const auto append = [&](const std::string& stream, const std::string& id,
                          const std::string& value) {
    const RecordStreams::Record record{stream, id, value};
    ASSERT_TRUE(first_->streams->Append({&record, 1}, Soon())[0].ok());
  };
  const std::string a = Sha256Hex("a");
  append(a, "garbage", "\xff\xff\xff");
  v1::Trace other;
  other.set_trace_id("other");
  other.set_tenant("a");
  append(a, "renamed", other.SerializeAsString());
  other.set_tenant("b");
  append(a, "other", other.SerializeAsString());
  for (const char* id : {"garbage", "renamed", "other"}) {
    EXPECT_EQ(Get(*second_, id, &trace).error_code(), grpc::StatusCode::NOT_FOUND) << id;
  }
  EXPECT_EQ(second_->Metric(kDamaged), 3);
  EXPECT_TRUE(List(*second_).empty());

  // Entries with fields of their own, and an index that lies.
  const std::string id = SayAndShare(*first_, "17 times 4", "t");
  Redis({"XADD", Stream("t"), "*", "x", "y"});
  Redis({"XADD", Stream("t"), "*", "i", id, "d", std::string(32, 'x'), "v", "z"});
  Redis({"HSET", Stream("t") + "#", "lie", "1-1", "worse", "nonsense", "", "bytes"});
  EXPECT_TRUE(Get(*second_, id, &trace).ok());
  for (const char* lie : {"lie", "worse", ""}) {
    EXPECT_FALSE(Get(*second_, lie, &trace).ok()) << lie;
  }
  EXPECT_EQ(List(*second_).size(), 1);
  const std::string next = SayAndShare(*first_, "17 times 4", "t");
  EXPECT_TRUE(Get(*second_, next, &trace).ok());

  // Keys of another kind.
  for (const std::string& key :
       {Stream("t"), Stream("t") + "#", std::string("octogate:stream:names")}) {
    SCOPED_TRACE(key);
    Redis({"SET", key, "x"});
    EXPECT_EQ(Get(*second_, "nothing", &trace).error_code(), grpc::StatusCode::NOT_FOUND);
    List(*second_);
    EXPECT_TRUE(Eventually([&] {
      const std::string again = Say(*first_, "17 times 4", "t");
      absl::SleepFor(absl::Milliseconds(50));
      return Get(*second_, again, &trace).ok();
    }));
  }
}

TEST(RedisRecordStreamsTest, TheNewestHaveNoMoreBytesThanIsSaid) {
  RedisServer redis;
  const auto client = RedisClient::Create(redis.options());
  const auto streams = MakeRedisRecordStreams(client.get());
  constexpr size_t kBytes = 1000;
  constexpr size_t kRecords = 100;
  for (size_t i = 0; i < kRecords; ++i) {
    // Of streams of their own, and several of one.
    const RecordStreams::Record record{absl::StrCat("s", i % 60), absl::StrCat("id", i),
                                       std::string(kBytes, 'x')};
    ASSERT_TRUE(streams->Append({&record, 1}, Soon())[0].ok());
  }
  for (const size_t wanted : {size_t{1}, size_t{3}, size_t{50}, kRecords}) {
    EXPECT_EQ(streams->Newest(1000, wanted * kBytes, Soon())->size(), wanted);
    EXPECT_EQ(streams->Newest(10, wanted * kBytes - 1, Soon())->size(),
              std::min(wanted, size_t{10}));
  }
  EXPECT_EQ(streams->Newest(1000, 1 << 20, Soon())->size(), kRecords);
  EXPECT_TRUE(streams->Newest(1000, 0, Soon())->empty());
}

TEST(RedisRecordStreamsTest, EachStreamKeepsItsNewestAndThereAreOnlySoMany) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  RedisServer redis;
  const auto client = RedisClient::Create(redis.options());
  const auto streams =
      MakeRedisRecordStreams(client.get(), {.max_records = 5, .max_bytes = 500, .max_streams = 3});
  struct Kept {
    std::string stream, id, value;
  };
  std::vector<Kept> kept;  // oldest first
  for (int round = 0; round < 300; ++round) {
    const std::string stream = absl::StrCat("s", random() % 3);
    const RecordStreams::Record record{stream, absl::StrCat("id", round),
                                       std::string(random() % 200, 'x')};
    ASSERT_TRUE(streams->Append({&record, 1}, Soon())[0].ok());
    kept.push_back({stream, record.id, record.value});
    for (;;) {
      size_t count = 0;
      size_t bytes = 0;
      for (const Kept& one : kept) {
        if (one.stream != stream) continue;
        ++count;
        bytes += one.value.size();
      }
      if (count <= 5 && bytes <= 500) break;
      kept.erase(std::find_if(kept.begin(), kept.end(),
                              [&](const Kept& one) { return one.stream == stream; }));
    }
    const auto newest = streams->Newest(1000, 1 << 20, Soon());
    ASSERT_TRUE(newest.ok()) << newest.status();
    ASSERT_EQ(newest->size(), kept.size());
    // Entries of different streams may have the same time.
    for (const Kept& one : kept) {
      const auto found = streams->Find(one.id, Soon());
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(found->value, one.value);
      EXPECT_EQ(found->stream, one.stream);
    }
    EXPECT_TRUE(absl::IsNotFound(streams->Find(absl::StrCat("id", round + 1), Soon()).status()));
  }
  // A fourth stream, later than the others.
  absl::SleepFor(absl::Milliseconds(2));
  const RecordStreams::Record record{"s9", "new", "value"};
  ASSERT_TRUE(streams->Append({&record, 1}, Soon())[0].ok());
  EXPECT_TRUE(streams->Find("new", Soon()).ok());
  EXPECT_EQ(client->Call({"ZCARD", "octogate:stream:names"}, Soon())->integer, 3);
}

}  // namespace
}  // namespace octogate::gateway
