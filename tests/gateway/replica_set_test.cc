#include "gateway/replica_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "common/status.h"
#include "common/steady_event.h"
#include "gateway/remote_model_client.h"
#include "tests/common/wall_clock.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::shared_ptr<v1::WorkerGenerateRequest> Request(const std::string& query) {
  auto request = std::make_shared<v1::WorkerGenerateRequest>();
  v1::Message& message = *request->mutable_prompt()->mutable_conversation()->add_messages();
  message.set_role("user");
  message.set_content(query);
  request->set_max_tokens(1000);
  return request;
}

// What a call delivered.
struct Outcome {
  std::vector<std::string> attempts;
  std::string text;
  absl::Status status;
  std::shared_ptr<ModelCall> call;
  absl::Notification first;
  absl::Notification done;
};

// A replica of which an answer to a flush comes when nobody waits for it any more.
class LateClient final : public ModelClient {
 public:
  using FlushCallback = ResponseCallback<v1::WorkerFlushCacheResponse>;
  explicit LateClient(
      FlushCallback* late, std::function<void()> on_flush = [] {})
      : late_(late), on_flush_(std::move(on_flush)) {}
  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest&, absl::Time, MessageCallback,
                                      DoneCallback) override {
    return nullptr;
  }
  std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest&, absl::Time,
                                   ResponseCallback<v1::WorkerScoreResponse>) override {
    return nullptr;
  }
  std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest&, absl::Time,
                                   ResponseCallback<v1::WorkerEmbedResponse>) override {
    return nullptr;
  }
  std::shared_ptr<ModelCall> Info(absl::Time, ResponseCallback<v1::WorkerInfoResponse>) override {
    return nullptr;
  }
  std::shared_ptr<ModelCall> FlushCache(const v1::WorkerFlushCacheRequest&, absl::Time,
                                        FlushCallback on_done) override {
    *late_ = std::move(on_done);
    on_flush_();
    return nullptr;
  }
  std::shared_ptr<ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerExplainCacheResponse>) override {
    return nullptr;
  }
  const std::string& address() const override { return address_; }

 private:
  FlushCallback* const late_;
  const std::function<void()> on_flush_;
  const std::string address_ = "late";
};

// A replica that refuses every call before the call returns, as a full queue in the same process
// does.
class RefusingClient final : public ModelClient {
 public:
  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest&, absl::Time, MessageCallback,
                                      DoneCallback on_done) override {
    on_done(refusal_);
    return std::make_shared<EndedCall>();
  }
  std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest&, absl::Time,
                                   ResponseCallback<v1::WorkerScoreResponse> on_done) override {
    on_done(refusal_);
    return std::make_shared<EndedCall>();
  }
  std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest&, absl::Time,
                                   ResponseCallback<v1::WorkerEmbedResponse> on_done) override {
    on_done(refusal_);
    return std::make_shared<EndedCall>();
  }
  std::shared_ptr<ModelCall> Info(absl::Time,
                                  ResponseCallback<v1::WorkerInfoResponse> on_done) override {
    on_done(refusal_);
    return std::make_shared<EndedCall>();
  }
  std::shared_ptr<ModelCall> FlushCache(
      const v1::WorkerFlushCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerFlushCacheResponse> on_done) override {
    on_done(refusal_);
    return std::make_shared<EndedCall>();
  }
  std::shared_ptr<ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest&, absl::Time,
      ResponseCallback<v1::WorkerExplainCacheResponse> on_done) override {
    on_done(refusal_);
    return std::make_shared<EndedCall>();
  }
  const std::string& address() const override { return address_; }

 private:
  struct EndedCall final : ModelCall {
    void Cancel() override {}
    void Resume() override {}
  };

  // What a peer says may be no text, and without end.
  const absl::Status refusal_ = absl::ResourceExhaustedError("\xff" + std::string(5000, 'e'));
  const std::string address_ = "refusing";
};

// Real workers over loopback; time is the system's, ticks are the test's.
class ReplicaSetTest : public testing::Test {
 protected:
  void Make(int workers, ReplicaSetOptions options = {}) {
    std::vector<std::unique_ptr<ModelClient>> clients;
    for (int i = 0; i < workers; ++i) {
      workers_.push_back(std::make_unique<StubWorker>());
      clients.push_back(NewRemoteModelClient(workers_.back()->address(), loops_.get()));
    }
    set_ = ReplicaSet::Create("m", std::move(clients), options);
  }

  std::shared_ptr<Outcome> Start(const std::string& query, absl::Time deadline) {
    auto outcome = std::make_shared<Outcome>();
    outcome->call = set_->Generate(
        Request(query), deadline,
        [outcome](const std::string& address) { outcome->attempts.push_back(address); },
        [outcome](v1::WorkerGenerateResponse& message) {
          outcome->text += message.text();
          if (!outcome->first.HasBeenNotified()) outcome->first.Notify();
          return Flow::kContinue;
        },
        [outcome](const absl::Status& status) {
          outcome->status = status;
          outcome->done.Notify();
        });
    return outcome;
  }

  std::shared_ptr<Outcome> Generate(const std::string& query) {
    auto outcome = Start(query, absl::Now() + absl::Seconds(30));
    outcome->done.WaitForNotification();
    return outcome;
  }

  // Ticks until the replicas' breakers are as given.
  void TickUntil(const std::vector<std::string>& breakers) {
    for (int i = 0; i < 1000; ++i) {
      std::vector<std::string> now;
      for (const v1::ReplicaStatus& status : set_->Status()) now.push_back(status.breaker());
      if (now == breakers) return;
      set_->Tick();
      absl::SleepFor(absl::Milliseconds(10));
    }
    FAIL() << "the breakers did not become " << testing::PrintToString(breakers);
  }

  void TearDown() override {
    set_ = nullptr;
    workers_.clear();
  }

  std::unique_ptr<EventLoops> loops_ = EventLoops::Create(2);
  std::vector<std::unique_ptr<StubWorker>> workers_;
  std::shared_ptr<ReplicaSet> set_;
};

TEST_F(ReplicaSetTest, StreamsTheAnswer) {
  Make(1);
  const auto outcome = Generate("stub tokens=3 text=%;");
  EXPECT_EQ(outcome->status, absl::OkStatus());
  EXPECT_EQ(outcome->text, "1;2;3;");
  EXPECT_THAT(outcome->attempts, ElementsAre(workers_[0]->address()));
}

TEST_F(ReplicaSetTest, TakesTheReplicaWithTheFewestCalls) {
  Make(3);
  std::vector<std::shared_ptr<Outcome>> outcomes;
  std::map<std::string, int> count;
  for (int i = 0; i < 9; ++i) {
    outcomes.push_back(Start("stub first_us=60000000", absl::Now() + absl::Seconds(30)));
    ++count[outcomes.back()->attempts[0]];
  }
  EXPECT_EQ(count.size(), 3);
  for (const auto& [address, calls] : count) EXPECT_EQ(calls, 3) << address;
  for (const auto& outcome : outcomes) {
    outcome->call->Cancel();
    outcome->done.WaitForNotification();
    EXPECT_TRUE(absl::IsCancelled(outcome->status)) << outcome->status;
  }
}

TEST_F(ReplicaSetTest, RetriesElsewhereWhatFailsBeforeItsFirstToken) {
  Make(2);
  workers_[0]->SetDraining(true);
  for (int i = 0; i < 4; ++i) {
    const auto outcome = Generate("stub tokens=1 text=x");
    EXPECT_EQ(outcome->status, absl::OkStatus());
    EXPECT_EQ(outcome->text, "x");
    EXPECT_EQ(outcome->attempts.back(), workers_[1]->address());
  }
}

TEST_F(ReplicaSetTest, DoesNotRetryAfterTheFirstToken) {
  Make(2);
  const auto outcome = Generate("stub tokens=5 fail_after=2 text=x");
  EXPECT_TRUE(absl::IsUnavailable(outcome->status));
  EXPECT_EQ(outcome->text, "xx");
  EXPECT_EQ(outcome->attempts.size(), 1);
  EXPECT_THAT(std::string(outcome->status.message()), HasSubstr(outcome->attempts[0]));
}

TEST_F(ReplicaSetTest, DoesNotRetryWhatNoReplicaCanDo) {
  Make(2);
  const auto outcome = Generate("stub fail_after=0 code=3");
  EXPECT_TRUE(absl::IsInvalidArgument(outcome->status));
  EXPECT_EQ(outcome->attempts.size(), 1);
}

TEST_F(ReplicaSetTest, RetriesWithinItsBudgetOnly) {
  Make(2, {.breaker = {.failures_to_open = 1000000}, .retry_ratio = 0.1, .retry_burst = 3});
  size_t attempts = 0;
  for (int i = 0; i < 100; ++i) attempts += Generate("stub fail_after=0 code=14")->attempts.size();
  EXPECT_GE(attempts, 100 + 3);
  EXPECT_LE(attempts, 100 + 3 + 100 / 10 + 1);
}

TEST_F(ReplicaSetTest, AFailingReplicaIsLeftAloneAndRejoins) {
  Make(2, {.breaker = {.initial_pause = absl::Milliseconds(20)}});
  const std::string address = workers_[0]->address();
  workers_[0] = nullptr;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Generate("stub")->status, absl::OkStatus());
  TickUntil({"open", "closed"});
  const auto status = set_->Status();
  EXPECT_FALSE(status[0].last_error().empty());
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(Generate("stub")->attempts, ElementsAre(workers_[1]->address()));
  }
  workers_[0] = std::make_unique<StubWorker>(StubWorkerOptions{.address = address});
  TickUntil({"closed", "closed"});
  EXPECT_EQ(set_->ready(), 2);
}

TEST_F(ReplicaSetTest, SaysWhenNoReplicaIsLeft) {
  Make(1, {.breaker = {.initial_pause = absl::Seconds(60)}});
  workers_[0] = nullptr;
  TickUntil({"open"});
  const auto outcome = Generate("stub");
  EXPECT_TRUE(absl::IsUnavailable(outcome->status));
  EXPECT_GT(RetryAfter(outcome->status), absl::ZeroDuration());
  EXPECT_THAT(std::string(outcome->status.message()), HasSubstr("model \"m\""));
  EXPECT_TRUE(outcome->attempts.empty());
}

TEST_F(ReplicaSetTest, ADrainingReplicaGetsNoNewCalls) {
  Make(2);
  workers_[0]->SetDraining(true);
  set_->Tick();
  while (set_->ready() != 1) absl::SleepFor(absl::Milliseconds(1));
  // An answer to an earlier probe may still be on its way: one call at most tries the replica and
  // finds out.
  Generate("stub");
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(Generate("stub")->attempts, ElementsAre(workers_[1]->address()));
  }
}

TEST_F(ReplicaSetTest, CancellationReachesTheWorker) {
  Make(1);
  const auto outcome = Start("stub delay_us=100000 tokens=1000", absl::InfiniteFuture());
  outcome->first.WaitForNotification();
  outcome->call->Cancel();
  outcome->done.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(outcome->status));
  while (workers_[0]->cancelled() == 0) absl::SleepFor(absl::Milliseconds(1));
}

// The second attempt begins while the first is still being started; the call is the second one's.
TEST_F(ReplicaSetTest, CancellationReachesTheRetryOfAnImmediateRefusal) {
  workers_.push_back(std::make_unique<StubWorker>());
  std::vector<std::unique_ptr<ModelClient>> clients;
  clients.push_back(std::make_unique<RefusingClient>());
  clients.push_back(NewRemoteModelClient(workers_[0]->address(), loops_.get()));
  set_ = ReplicaSet::Create("m", std::move(clients));
  const auto outcome = Start("stub delay_us=100000 tokens=100", absl::InfiniteFuture());
  outcome->first.WaitForNotification();
  EXPECT_THAT(outcome->attempts, ElementsAre("refusing", workers_[0]->address()));
  outcome->call->Cancel();
  outcome->done.WaitForNotification();
  EXPECT_TRUE(absl::IsCancelled(outcome->status)) << outcome->status;
}

TEST_F(ReplicaSetTest, TheDeadlineReachesTheWorker) {
  Make(1);
  const auto outcome =
      Start("stub delay_us=100000 tokens=1000", absl::Now() + absl::Milliseconds(300));
  outcome->done.WaitForNotification();
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome->status));
  while (workers_[0]->cancelled() == 0) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(set_->Status()[0].breaker(), "closed");
}

// A consumer that pauses gets nothing until it resumes, then everything.
TEST_F(ReplicaSetTest, PausesAndResumes) {
  Make(1);
  std::vector<std::string> texts;
  absl::Notification paused;
  absl::Notification done;
  auto call = set_->Generate(
      Request("stub tokens=4 text=%"), absl::InfiniteFuture(), nullptr,
      [&](v1::WorkerGenerateResponse& message) {
        texts.push_back(message.text());
        if (texts.size() != 2) return Flow::kContinue;
        paused.Notify();
        return Flow::kPause;
      },
      [&](const absl::Status&) { done.Notify(); });
  paused.WaitForNotification();
  EXPECT_FALSE(done.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
  EXPECT_THAT(texts, ElementsAre("1", "2"));
  call->Resume();
  done.WaitForNotification();
  EXPECT_THAT(texts, ElementsAre("1", "2", "3", "4"));
}

TEST_F(ReplicaSetTest, APausedCallCanBeCancelled) {
  Make(1);
  absl::Notification paused;
  absl::Notification done;
  auto call = set_->Generate(
      Request("stub tokens=4"), absl::InfiniteFuture(), nullptr,
      [&](v1::WorkerGenerateResponse&) {
        if (!paused.HasBeenNotified()) paused.Notify();
        return Flow::kPause;
      },
      [&](const absl::Status&) { done.Notify(); });
  paused.WaitForNotification();
  call->Cancel();
  done.WaitForNotification();
}

TEST_F(ReplicaSetTest, EmbedsAndScores) {
  Make(2);
  absl::Notification done;
  auto embed = std::make_shared<v1::WorkerEmbedRequest>();
  embed->add_inputs("a");
  set_->Embed(embed, absl::InfiniteFuture(), [&](absl::StatusOr<v1::WorkerEmbedResponse> result) {
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->embeddings_size(), 1);
    done.Notify();
  });
  done.WaitForNotification();
  absl::Notification scored;
  auto score = std::make_shared<v1::WorkerScoreRequest>();
  score->add_tokens("a");
  score->add_tokens("b");
  set_->Score(score, absl::InfiniteFuture(), [&](absl::StatusOr<v1::WorkerScoreResponse> result) {
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->logits_size(), 2);
    scored.Notify();
  });
  scored.WaitForNotification();
}

TEST_F(ReplicaSetTest, AFlushOrAQuestionWaitsForNobodyLongerThanItMay) {
  StubWorker worker;
  v1::WorkerFlushCacheResponse flushed;
  flushed.set_pages(7);
  flushed.set_pages_in_use(-1);
  worker.SetFlushed(flushed);
  LateClient::FlushCallback late;
  std::vector<std::unique_ptr<ModelClient>> clients;
  clients.push_back(std::make_unique<LateClient>(&late));
  clients.push_back(NewRemoteModelClient(worker.address(), loops_.get()));
  clients.push_back(std::make_unique<RefusingClient>());
  auto set = ReplicaSet::Create("m", std::move(clients));
  v1::WorkerFlushCacheRequest request;
  request.set_id("a");
  request.set_cache_salt("acme");
  const auto result = set->FlushCache(request, absl::Now() + absl::Seconds(2));
  ASSERT_EQ(result.size(), 3u);
  EXPECT_EQ(result[0].replica(), "late");
  EXPECT_EQ(result[0].code(), static_cast<int>(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(result[0].error(), HasSubstr("in time"));
  EXPECT_EQ(result[1].replica(), worker.address());
  EXPECT_EQ(result[1].code(), 0) << result[1].error();
  EXPECT_EQ(result[1].pages(), 7);
  EXPECT_EQ(result[1].pages_in_use(), 0) << "a peer's number";
  EXPECT_EQ(worker.last_flush().cache_salt(), "acme");
  EXPECT_EQ(result[2].code(), static_cast<int>(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(result[2].error(), "?" + std::string(199, 'e'));
  v1::WorkerExplainCacheResponse explained;
  explained.set_prompt_tokens(7);
  worker.SetExplained(explained);
  const auto said = set->ExplainCache({}, absl::Now() + absl::Seconds(2));
  ASSERT_EQ(said.size(), 3u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(said[0].status())) << said[0].status();
  ASSERT_TRUE(said[1].ok()) << said[1].status();
  EXPECT_EQ(said[1]->prompt_tokens(), 7);
  EXPECT_TRUE(absl::IsResourceExhausted(said[2].status())) << said[2].status();
  set = nullptr;
  late(flushed);
}

TEST_F(ReplicaSetTest, AClockThatIsSetBackHasNobodyWaitForLonger) {
  LateClient::FlushCallback late;
  SteadyNotification asked, ended;
  std::vector<std::unique_ptr<ModelClient>> clients;
  clients.push_back(std::make_unique<LateClient>(&late, [&] { asked.Notify(); }));
  const auto set = ReplicaSet::Create("m", std::move(clients));
  std::thread flush([&] {
    const auto result = set->FlushCache({}, absl::Now() + absl::Seconds(1));
    EXPECT_EQ(result[0].code(), static_cast<int>(absl::StatusCode::kDeadlineExceeded));
    ended.Notify();
  });
  EXPECT_TRUE(asked.WaitUntil(SteadyNow() + absl::Minutes(1)));
  SetWallClockAhead(-absl::Hours(24));
  EXPECT_TRUE(ended.WaitUntil(SteadyNow() + absl::Minutes(1)));
  SetWallClockAhead(absl::ZeroDuration());
  flush.join();
}

}  // namespace
}  // namespace octogate::gateway
