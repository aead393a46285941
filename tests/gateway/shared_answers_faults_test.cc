// Answers that gateways share, whatever becomes of the Redis between them, and of what is in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/common/redis/slow_proxy.h"
#include "tests/gateway/shared_answers_fixture.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

class SharedAnswersFaultsTest : public SharedAnswersTest {
 protected:
  // Whether a gateway finds what the first one has just answered.
  bool Finds(RedisGateway& gateway) {
    const v1::GenerateRequest request = Ask(absl::StrCat(kQuery, " ", ++queries_));
    const Answer answer = SayAndShare(*first_, request);
    const Answer found = Say(gateway, request);
    if (!IsKept(found)) return false;
    EXPECT_EQ(found.text(), answer.text());
    return true;
  }
  // Queries that the first one has answered.
  std::vector<v1::GenerateRequest> Answered(int count) {
    std::vector<v1::GenerateRequest> requests;
    for (int i = 0; i < count; ++i) {
      requests.push_back(Ask(absl::StrCat(kQuery, " ", ++queries_)));
      SayAndShare(*first_, requests.back());
    }
    return requests;
  }
  // A gateway to which the others' answers do not come runs the queries, each once.
  static void ExpectAnsweredAnew(RedisGateway& gateway,
                                 const std::vector<v1::GenerateRequest>& requests) {
    const double failed = gateway.Metric(kFailed);
    for (const v1::GenerateRequest& request : requests) {
      const Answer answer = Say(gateway, request);
      EXPECT_FALSE(IsKept(answer));
      // What it has said itself it says again.
      EXPECT_EQ(Say(gateway, request).text(), answer.text());
    }
    EXPECT_GE(gateway.Metric(kFailed), failed + static_cast<double>(requests.size()));
  }

 private:
  int queries_ = 0;
};

TEST_F(SharedAnswersFaultsTest, AnAnswerIsGoneAfterItsTime) {
  Start("expiresAfterMs: 60000");
  SayAndShare(*first_, Ask(kQuery));
  for (const std::string& name : Names()) {
    const RedisReply left = Call({"PTTL", "octogate:value:" + name});
    EXPECT_GT(left.integer, 0);
    EXPECT_LE(left.integer, 60'000);
  }
  for (const RedisReply& mark : Call({"KEYS", "octogate:value:answers/flush*"}).elements) {
    EXPECT_GT(Call({"PTTL", mark.text}).integer, absl::ToInt64Milliseconds(absl::Hours(30 * 24)));
  }
  // As if it had been given so long ago; the server has it still.
  const auto given = [&](absl::Duration ago) {
    Forget();
    const auto fresh = Another();
    SayAndShare(*fresh, Of("t", Ask(kQuery)));
    for (const std::string& name : Names()) {
      Written value = ValueOf(name);
      value.content.replace(0, value.content.find(' '),
                            absl::StrCat(absl::ToUnixMillis(absl::Now() - ago)));
      Replace(name, value.Whole());
    }
    const auto reader = Another();
    const bool kept = IsKept(Say(*reader, Of("t", Ask(kQuery))));
    EXPECT_EQ(reader->Metric(kDamaged), ago < -absl::Minutes(1) ? 1 : 0);
    return kept;
  };
  EXPECT_TRUE(given(absl::Seconds(20)));
  EXPECT_FALSE(given(absl::Seconds(61)));
  EXPECT_TRUE(given(-absl::Seconds(20))) << "another gateway's clock";
  EXPECT_FALSE(given(-absl::Minutes(2))) << "from the future";
}

TEST_F(SharedAnswersFaultsTest, WithRedisGoneEachKnowsItsOwn) {
  Start();
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  redis_.Kill();
  EXPECT_EQ(Say(*first_, Ask(kQuery)).text(), answer.text());
  const Answer other = Say(*second_, Ask(kQuery));
  EXPECT_FALSE(IsKept(other));
  EXPECT_EQ(Say(*second_, Ask(kQuery)).text(), other.text());
  EXPECT_GT(SharedStats(*second_).failures(), 0);
  // A flush says so, and empties its own gateway.
  const grpc::Status flushed = Flush(*first_, "");
  EXPECT_FALSE(flushed.ok());
  EXPECT_THAT(flushed.error_message(), HasSubstr("flush again"));
  EXPECT_FALSE(IsKept(Say(*first_, Ask(kQuery))));
  // It comes back empty, and they share again.
  redis_.Start();
  EXPECT_TRUE(Eventually([&] {
    static int n = 0;
    const v1::GenerateRequest request = Ask(absl::StrCat(kQuery, " ", n++));
    Say(*first_, request);
    absl::SleepFor(absl::Milliseconds(50));
    return IsKept(Say(*second_, request));
  }));
  EXPECT_TRUE(Eventually([&] { return Flush(*first_, "").ok(); }));
}

TEST_F(SharedAnswersFaultsTest, AnEmptiedRedisLosesAnswersAndNoFlush) {
  Start();
  SayAndShare(*first_, Ask(kQuery));
  Call({"FLUSHALL"});
  SayAndShare(*second_, Ask(kQuery));
  EXPECT_TRUE(IsKept(Say(*first_, Ask(kQuery))));
  // Where it has lost the marks alone, what was flushed is there yet.
  const auto third = Another();
  const std::vector<std::string> queries = {"stub text=1", "stub text=2", "stub text=3"};
  for (const std::string& query : queries) SayAndShare(*first_, Ask(query));
  ASSERT_TRUE(Flush(*first_, "").ok());
  Forget("answers/flush*");
  EXPECT_EQ(Names().size(), 4u);
  const std::vector<RedisGateway*> gateways = {first_.get(), second_.get(), third.get()};
  for (size_t i = 0; i < gateways.size(); ++i) {
    EXPECT_FALSE(IsKept(Say(*gateways[i], Ask(queries[i]))));
  }
}

TEST_F(SharedAnswersFaultsTest, AFullRedisTakesNothingNewAndKeepsWhatItHas) {
  Start();
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  Call({"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_EQ(Say(*second_, Ask(kQuery)).text(), answer.text());
  const v1::GenerateRequest request = Ask("stub text=new");
  EXPECT_FALSE(IsKept(Say(*first_, request)));
  EXPECT_TRUE(Eventually(
      [&] { return first_->Metric("octogate_shared_writes_total{result=\"dropped\"}") > 0; }));
  EXPECT_FALSE(IsKept(Say(*second_, request)));
  const grpc::Status flushed = Flush(*first_, "");
  EXPECT_EQ(flushed.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(flushed.error_message(), HasSubstr("flush again"));
  Call({"CONFIG", "SET", "maxmemory", "0"});
  ASSERT_TRUE(Flush(*first_, "").ok());
  const Answer later = SayAndShare(*first_, Ask(kQuery));
  EXPECT_EQ(Say(*second_, Ask(kQuery)).text(), later.text());
  EXPECT_EQ(second_->Metric(kDamaged), 0);
}

// As deploy/redis.conf has it.
TEST_F(SharedAnswersFaultsTest, AnEvictingRedisLosesAnswersAndNoGraph) {
  Start();
  Call({"CONFIG", "SET", "maxmemory-policy", "volatile-lru"});
  const auto info = [&](const std::string& name) {
    const std::string text = Call({"INFO"}).text;
    const size_t at = text.find("\n" + name + ":") + name.size() + 2;
    int64_t value = -1;
    EXPECT_TRUE(absl::SimpleAtoi(text.substr(at, text.find('\r', at) - at), &value)) << name;
    return value;
  };
  Call({"CONFIG", "SET", "maxmemory", absl::StrCat(info("used_memory") + (1 << 20))});
  const std::string padding(20'000, 'x');
  int n = 0;
  EXPECT_TRUE(Eventually([&] {
    Say(n % 2 == 0 ? *first_ : *second_, Ask(absl::StrCat("stub text=", n, " ", padding)));
    ++n;
    return info("evicted_keys") > 20;
  }));
  // What is new is found, while there is room for it.
  EXPECT_TRUE(Eventually([&] {
    const v1::GenerateRequest request = Ask(absl::StrCat("stub text=", n++));
    Say(*first_, request);
    absl::SleepFor(absl::Milliseconds(50));
    return IsKept(Say(*second_, request));
  }));
  EXPECT_EQ(first_->Metric(kDamaged) + second_->Metric(kDamaged), 0);
  EXPECT_TRUE(Flush(*first_, "").ok());
  EXPECT_EQ(first_->store->List("graph/version/", "", 10, Soon())->size(), 1U);
  AwaitGraph(*Another(), 1);
}

TEST_F(SharedAnswersFaultsTest, AFrozenRedisIsWaitedForNoLongerThanItMay) {
  Start();
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  redis_.Freeze();
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(Say(*first_, Ask(kQuery)).text(), answer.text());
    EXPECT_FALSE(IsKept(Say(*second_, Ask(absl::StrCat(kQuery, i)))));
  }
  EXPECT_GT(second_->Metric(kFailed), 0);
  EXPECT_FALSE(Flush(*second_, "a").ok());
  redis_.Thaw();
  EXPECT_TRUE(Eventually([&] { return IsKept(Say(*Another(), Ask(kQuery))); }));
}

TEST_F(SharedAnswersFaultsTest, AFrozenRedisHasOneQueryAPauseWaitAsLongAsItMay) {
  Start();
  SayAndShare(*first_, Ask(kQuery));
  ServerOptions options = Options();
  options.shared_wait = SharedValues::kMaxWait;
  RedisGateway usual({.unix_socket = redis_.Socket()}, options);
  AwaitGraph(usual, 1);
  redis_.Freeze();
  for (int i = 0; i < 150; ++i) EXPECT_FALSE(IsKept(Say(usual, Ask(absl::StrCat(kQuery, i)))));
  ExpectOneWaitAPause(*usual.values);
  redis_.Thaw();
  EXPECT_TRUE(Eventually([&] { return IsKept(Say(*Another(), Ask(kQuery))); }));
}

// A Redis that answers, but late: by less than it takes to be taken for frozen, and by more than
// any query is waited for here, so that none that is answered has waited for it.
TEST_F(SharedAnswersFaultsTest, ASlowRedisIsWaitedForNoLongerThanItMay) {
  Start();
  for (const double delay : {0.3, 300.0}) {
    SCOPED_TRACE(delay);
    SlowProxy proxy(redis_.Socket(), {});
    ServerOptions options = Options();
    options.shared_wait = absl::Milliseconds(100);
    RedisGateway far(Through(proxy, redis_.options()), options);
    AwaitGraph(far, 1);
    const auto finds = [&] { return Finds(far); };
    ASSERT_TRUE(Eventually(finds));
    const std::vector<v1::GenerateRequest> requests = Answered(20);
    proxy.SetDelay(delay);
    ExpectAnsweredAnew(far, requests);
    if (delay > 10) {
      const grpc::Status flushed = Flush(far, "a");
      EXPECT_FALSE(flushed.ok());
      EXPECT_THAT(flushed.error_message(), HasSubstr("flush again"));
    }
    // It is as fast as before; what comes late of before is nobody's answer.
    proxy.SetDelay(0);
    EXPECT_TRUE(Eventually(finds));
    EXPECT_TRUE(Eventually([&] { return Flush(far, "").ok(); }));
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(Eventually(finds));
    EXPECT_EQ(far.Metric(kDamaged), 0);
  }
}

// Connections over which nothing comes any more.
TEST_F(SharedAnswersFaultsTest, AHalfOpenConnectionCostsNoAnswer) {
  Start();
  SlowProxy proxy(redis_.Socket(), {});
  RedisOptions redis = Through(proxy, Redis());
  redis.timeouts.connect = absl::Milliseconds(500);
  RedisGateway far(redis, Options());
  AwaitGraph(far, 1);
  const auto finds = [&] { return Finds(far); };
  ASSERT_TRUE(Eventually(finds));
  const std::vector<v1::GenerateRequest> requests = Answered(10);
  proxy.LoseAll();
  ExpectAnsweredAnew(far, requests);
  const grpc::Status flushed = Flush(far, "a");
  EXPECT_FALSE(flushed.ok());
  EXPECT_THAT(flushed.error_message(), HasSubstr("flush again"));
  proxy.LoseNothing();
  EXPECT_TRUE(Eventually(finds));
  EXPECT_TRUE(Eventually([&] { return Flush(far, "").ok(); }));
  EXPECT_EQ(far.Metric(kDamaged), 0);
}

TEST_F(SharedAnswersFaultsTest, WhoCancelsWhileOthersAreAskedDoesNotRun) {
  Start();
  SayAndShare(*first_, Ask("stub text=marks"));
  const int started = worker_.started();
  redis_.Freeze();
  const v1::GenerateRequest request = Ask("stub text=cancelled");
  grpc::ClientContext context;
  auto reader = second_->gateway()->Generate(&context, request);
  absl::SleepFor(absl::Milliseconds(50));
  context.TryCancel();
  v1::GenerateResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // A follower of it runs, and it alone.
  EXPECT_FALSE(IsKept(Say(*second_, request)));
  redis_.Thaw();
  EXPECT_EQ(worker_.started(), started + 1);
}

// Whatever stands there, the query is answered as if nothing did.
TEST_F(SharedAnswersFaultsTest, ADamagedOrHostileAnswerIsNone) {
  Start();
  const v1::GenerateRequest request = Ask(kQuery);
  const std::string text = Say(*first_, request).text();
  EXPECT_TRUE(Eventually([&] { return Names().size() == 1; }));
  ASSERT_EQ(Names().size(), 1u);
  const std::string name = Names()[0];
  const std::string key = "octogate:value:" + name;
  const std::string stored = Call({"GET", key}).text;
  const Written right = ValueOf(name);
  const auto expect = [&](const std::string& what, bool kept, bool damaged) {
    SCOPED_TRACE(what);
    const auto reader = Another();
    const Answer answer = Say(*reader, request);
    EXPECT_EQ(IsKept(answer), kept);
    EXPECT_EQ(answer.text() == text, kept);
    for (const v1::GenerateResponse& event : answer.events) {
      EXPECT_TRUE(v1::Tokens::GetReflection()->GetUnknownFields(event.tokens()).empty());
    }
    EXPECT_EQ(reader->Metric(kDamaged), damaged ? 1 : 0);
  };
  expect("as it was", true, false);
  std::string flipped = stored;
  flipped[flipped.size() / 2] ^= 1;
  for (const std::string& bytes :
       {std::string(), std::string("x"), flipped, stored.substr(0, stored.size() - 1), stored + "x",
        std::string(2 << 20, '\0')}) {
    Call({"SET", key, bytes});
    expect(absl::StrCat(bytes.size(), " bytes"), false, true);
  }
  Call({"DEL", key});
  Call({"LPUSH", key, "x"});
  expect("a list", false, true);

  Replace(name, right.Whole());
  expect("as it was", true, false);
  // GIVEN_AT NODE_BYTES, so many bytes, and the tokens.
  const std::vector<std::string> words = absl::StrSplit(right.content, absl::MaxSplits(' ', 2));
  ASSERT_EQ(words.size(), 3u);
  ASSERT_EQ(words[1], "4");
  const std::string tokens = words[2].substr(4);
  const auto written = [&](const std::string& content) {
    return Written{right.marks, right.key, content}.Whole();
  };
  const auto made = [&](const std::string& node, const std::string& its_tokens) {
    return written(absl::StrCat(words[0], " ", node.size(), " ", node, its_tokens));
  };
  ASSERT_EQ(made("talk", tokens), right.Whole());
  v1::Tokens parsed;
  ASSERT_TRUE(parsed.ParseFromString(tokens));
  const auto changed = [&](const std::function<void(v1::Tokens&)>& change) {
    v1::Tokens copy = parsed;
    change(copy);
    return copy.SerializeAsString();
  };
  const std::string big(2 << 20, 'x');
  std::string invalid = tokens;
  invalid.replace(invalid.find(parsed.text()), 2, "\xff\xfe");
  std::vector<std::pair<std::string, std::string>> hostile = WronglyFramed(right);
  hostile.insert(
      hostile.end(),
      {
          {"no content", written("")},
          {"content of spaces", written("     ")},
          {"no numbers", written(absl::StrCat("x y ", words[2]))},
          {"a negative length of the node", written(absl::StrCat(words[0], " -1 ", words[2]))},
          {"a node that is longer than all",
           written(absl::StrCat(words[0], " 99999999 ", words[2]))},
          {"a length that overflows",
           written(absl::StrCat(words[0], " 18446744073709551615 ", words[2]))},
          {"a time that overflows", written(absl::StrCat("9", right.content))},
          {"a node that is none", made("nowhere", tokens)},
          {"a node that is a tool", made("sum", tokens)},
          {"an answer of nowhere",
           made("talk", changed([](v1::Tokens& t) { t.set_node("nowhere"); }))},
          {"an answer of a tool", made("talk", changed([](v1::Tokens& t) { t.set_node("sum"); }))},
          {"too many log-probabilities", made("talk", changed([](v1::Tokens& t) {
                                                for (int i = 0; i < 5000; ++i) t.add_logprobs();
                                              }))},
          {"too long", made("talk", changed([&](v1::Tokens& t) { t.set_text(big); }))},
          {"no UTF-8", made("talk", invalid)},
          {"no message", made("talk", "\xff\xff\xff")},
          {"cut", written(right.content.substr(0, right.content.size() - 1))},
      });
  for (const auto& [what, value] : hostile) {
    Replace(name, value);
    expect("rightly sealed: " + what, false, true);
  }
  // Of other marks, as from before a flush: none, and nobody's fault.
  Replace(name, Written{std::string(64, 'a'), right.key, right.content}.Whole());
  expect("other marks", false, false);
  // Fields that nobody knows do not reach clients.
  Replace(name, written(right.content + std::string("\xba\x3e\x03xyz", 6)));
  expect("a field that nobody knows", true, false);
}

TEST_F(SharedAnswersFaultsTest, ADamagedMarkIsMendedAndBringsNothingBack) {
  Start();
  const Answer answer = SayAndShare(*first_, Ask(kQuery));
  for (const std::string& bytes : {std::string("x"), std::string(), std::string(1 << 20, 'a')}) {
    for (const RedisReply& mark : Call({"KEYS", "octogate:value:answers/flush*"}).elements) {
      Call({"SET", mark.text, bytes});
    }
    EXPECT_FALSE(IsKept(Say(*Another(), Ask(kQuery))));
    EXPECT_TRUE(Eventually([&] {
      static int n = 0;
      const v1::GenerateRequest request = Ask(absl::StrCat(kQuery, " ", n++));
      Say(*first_, request);
      absl::SleepFor(absl::Milliseconds(20));
      return IsKept(Say(*second_, request));
    }));
    EXPECT_FALSE(IsKept(Say(*Another(), Ask(kQuery))));
  }
}

}  // namespace
}  // namespace octogate::gateway
