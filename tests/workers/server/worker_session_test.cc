// Sessions over real gRPC; what their calls generate is decided by the test.

#include "workers/server/worker_session.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "octogate/v1/worker.grpc.pb.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMaxCalls = 8;

// Remembers its calls by the text of their templates.
class Backend final : public SessionBackend {
 public:
  struct Started final : Call {
    OnMessage on_message;
    OnDone on_done;
    absl::Time deadline;
    std::atomic<int> cancelled{0};
    std::atomic<int> sent{0};
    std::atomic<bool> ended{false};

    void Cancel() override { ++cancelled; }
    void OnSent() override { ++sent; }
    void Say(const std::string& text) {
      v1::WorkerGenerateResponse message;
      message.set_text(text);
      message.add_ids(1);
      on_message(std::move(message));
    }
    void Stop() {
      v1::WorkerGenerateResponse message;
      message.mutable_end()->set_finish_reason(v1::FINISH_REASON_STOP);
      on_message(std::move(message));
      End(absl::OkStatus());
    }
    void End(const absl::Status& status) {
      if (!ended.exchange(true)) on_done(status);
    }
  };

  absl::StatusOr<std::shared_ptr<Call>> Generate(const v1::WorkerGenerateRequest& request,
                                                 absl::Time deadline, OnMessage on_message,
                                                 OnDone on_done) override {
    const std::string& name = request.prompt().template_().template_();
    if (name.empty()) return absl::InvalidArgumentError("the prompt is empty");
    if (name == "busy") {
      return WithRetryAfter(absl::ResourceExhaustedError("busy"), absl::Milliseconds(70));
    }
    auto call = std::make_shared<Started>();
    call->on_message = std::move(on_message);
    call->on_done = std::move(on_done);
    call->deadline = deadline;
    absl::MutexLock lock(&mutex_);
    calls_[name] = call;
    return call;
  }

  // Waits for it.
  std::shared_ptr<Started> Get(const std::string& name) {
    absl::MutexLock lock(&mutex_);
    const auto started = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return calls_.count(name) > 0;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&started), absl::Seconds(30))) << name;
    return calls_[name];
  }

  // Ends what the test has left, as an engine does in the end.
  void EndAll() {
    std::map<std::string, std::shared_ptr<Started>> calls;
    {
      absl::MutexLock lock(&mutex_);
      calls.swap(calls_);
    }
    for (const auto& [name, call] : calls) {
      call->End(absl::CancelledError("the test is over"));
    }
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Started>> calls_ ABSL_GUARDED_BY(mutex_);
};

class Service final : public v1::Worker::CallbackService {
 public:
  Service(SessionBackend* backend, const WorkerSessionLimits& limits)
      : backend_(backend), limits_(limits) {}
  grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* Session(
      grpc::CallbackServerContext*) override {
    return ServeSession(backend_, &pool_, limits_);
  }

 private:
  SessionBackend* const backend_;
  const WorkerSessionLimits limits_;
  BlockingPool pool_{1, 4};
};

// What a call has received.
struct Received {
  std::string text;
  bool answered = false;
  bool ended = false;
  v1::WorkerSessionEnd end;
};

class WorkerSessionTest : public ::testing::Test {
 protected:
  WorkerSessionTest() {
    WorkerSessionLimits limits;
    limits.max_calls = kMaxCalls;
    service_ = std::make_unique<Service>(&backend_, limits);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::Worker::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
    Open();
  }

  ~WorkerSessionTest() override {
    context_->TryCancel();
    server_->Shutdown(std::chrono::system_clock::now());
    backend_.EndAll();
  }

  void Open() {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    stream_ = stub_->Session(context_.get());
    received_.clear();
  }

  static v1::WorkerSessionRequest Start(uint64_t id, const std::string& name, int64_t credit = 0) {
    v1::WorkerSessionRequest message;
    v1::WorkerSessionCommand& command = *message.add_commands();
    command.set_call_id(id);
    v1::WorkerSessionStart& start = *command.mutable_start();
    start.mutable_request()->mutable_prompt()->mutable_template_()->set_template_(name);
    start.set_credit_bytes(credit);
    return message;
  }
  static v1::WorkerSessionRequest Cancel(uint64_t id) {
    v1::WorkerSessionRequest message;
    message.add_commands()->set_call_id(id);
    message.mutable_commands(0)->mutable_cancel();
    return message;
  }
  static v1::WorkerSessionRequest Credit(uint64_t id, int64_t bytes) {
    v1::WorkerSessionRequest message;
    message.add_commands()->set_call_id(id);
    message.mutable_commands(0)->mutable_credit()->set_bytes(bytes);
    return message;
  }

  // Reads until `done`; false at the end of the stream.
  bool ReadUntil(const std::function<bool()>& done) {
    while (!done()) {
      v1::WorkerSessionResponse message;
      if (!stream_->Read(&message)) return false;
      EXPECT_GT(message.events_size(), 0);
      for (const v1::WorkerSessionEvent& event : message.events()) {
        Received& call = received_[event.call_id()];
        EXPECT_FALSE(call.ended) << "call " << event.call_id() << " goes on after its end";
        call.text += event.message().text();
        call.answered |= event.message().has_end();
        if (event.has_end()) {
          call.ended = true;
          call.end = event.end();
        }
      }
    }
    return true;
  }
  bool ReadEnd(uint64_t id) {
    return ReadUntil([&] { return received_[id].ended; });
  }

  Backend backend_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerSessionRequest, v1::WorkerSessionResponse>>
      stream_;
  std::map<uint64_t, Received> received_;
};

TEST_F(WorkerSessionTest, CallsAreInterleavedAndEachKeepsItsOrder) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  std::vector<std::shared_ptr<Backend::Started>> calls;
  std::vector<std::string> said(kMaxCalls);
  for (size_t i = 0; i < kMaxCalls; ++i) {
    ASSERT_TRUE(stream_->Write(Start(i + 1, absl::StrCat("call ", i))));
    calls.push_back(backend_.Get(absl::StrCat("call ", i)));
  }
  for (int i = 0; i < 2000; ++i) {
    const size_t call = random() % kMaxCalls;
    const std::string text = absl::StrCat(i, ";");
    said[call] += text;
    calls[call]->Say(text);
  }
  for (const auto& call : calls) call->Stop();
  for (size_t i = 0; i < kMaxCalls; ++i) {
    ASSERT_TRUE(ReadEnd(i + 1));
    EXPECT_EQ(received_[i + 1].text, said[i]);
    EXPECT_TRUE(received_[i + 1].answered);
    EXPECT_EQ(received_[i + 1].end.code(), 0);
  }
  stream_->WritesDone();
  EXPECT_FALSE(ReadUntil([] { return false; }));
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(WorkerSessionTest, ACallFailsForItself) {
  ASSERT_TRUE(stream_->Write(Start(1, "good")));
  ASSERT_TRUE(stream_->Write(Start(2, "")));
  ASSERT_TRUE(stream_->Write(Start(3, "busy")));
  ASSERT_TRUE(ReadEnd(2));
  EXPECT_EQ(received_[2].end.code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(received_[2].end.message(), "the prompt is empty");
  ASSERT_TRUE(ReadEnd(3));
  EXPECT_EQ(received_[3].end.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(received_[3].end.retry_after_ms(), 70);
  backend_.Get("good")->Say("x");
  backend_.Get("good")->End(absl::DataLossError("lost"));
  ASSERT_TRUE(ReadEnd(1));
  EXPECT_EQ(received_[1].text, "x");
  EXPECT_EQ(received_[1].end.code(), grpc::StatusCode::DATA_LOSS);
}

TEST_F(WorkerSessionTest, ACallWithoutCreditHoldsBackItselfOnly) {
  ASSERT_TRUE(stream_->Write(Start(1, "slow", 1)));
  ASSERT_TRUE(stream_->Write(Start(2, "fast")));
  const auto slow = backend_.Get("slow");
  slow->Say("a");  // The credit is positive.
  ASSERT_TRUE(ReadUntil([&] { return !received_[1].text.empty(); }));
  while (slow->sent == 0) absl::SleepFor(absl::Milliseconds(1));
  for (int i = 0; i < 1000; ++i) slow->Say("b");
  slow->Stop();
  backend_.Get("fast")->Say("f");
  backend_.Get("fast")->Stop();
  ASSERT_TRUE(ReadEnd(2));
  EXPECT_EQ(received_[2].text, "f");
  EXPECT_EQ(received_[1].text, "a");
  EXPECT_FALSE(received_[1].ended);
  EXPECT_EQ(slow->sent, 1);
  ASSERT_TRUE(stream_->Write(Credit(1, 1 << 20)));
  ASSERT_TRUE(ReadEnd(1));
  EXPECT_EQ(received_[1].text, "a" + std::string(1000, 'b'));
  EXPECT_EQ(received_[1].end.code(), 0);
}

// A source that waits for OnSent delivers everything, one piece after the other.
TEST_F(WorkerSessionTest, SourcesAreToldWhenTheirPiecesAreWritten) {
  ASSERT_TRUE(stream_->Write(Start(1, "source")));
  const auto source = backend_.Get("source");
  for (int i = 1; i <= 20; ++i) {
    source->Say("x");
    ASSERT_TRUE(ReadUntil([&] { return received_[1].text.size() == static_cast<size_t>(i); }));
    while (source->sent < i) absl::SleepFor(absl::Milliseconds(1));
  }
}

TEST_F(WorkerSessionTest, CancellationReachesTheBackendAndTheCallEnds) {
  ASSERT_TRUE(stream_->Write(Start(1, "a", 1)));
  ASSERT_TRUE(stream_->Write(Start(2, "b")));
  const auto call = backend_.Get("a");
  for (int i = 0; i < 100; ++i) call->Say("unread");
  ASSERT_TRUE(stream_->Write(Cancel(1)));
  while (call->cancelled == 0) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(backend_.Get("b")->cancelled, 0);
  call->End(absl::CancelledError("cancelled"));
  ASSERT_TRUE(ReadEnd(1));
  EXPECT_EQ(received_[1].end.code(), grpc::StatusCode::CANCELLED);
  // Nothing of it is known any more.
  ASSERT_TRUE(stream_->Write(Cancel(1)));
  ASSERT_TRUE(stream_->Write(Credit(1, 1)));
  backend_.Get("b")->Stop();
  ASSERT_TRUE(ReadEnd(2));
  EXPECT_EQ(received_[2].end.code(), 0);
}

TEST_F(WorkerSessionTest, AnAnswerThatIsCutIsNotOk) {
  ASSERT_TRUE(stream_->Write(Start(1, "a", 1)));
  const auto call = backend_.Get("a");
  call->Say("first");
  ASSERT_TRUE(ReadUntil([&] { return !received_[1].text.empty(); }));
  call->Say("second");
  call->Stop();
  ASSERT_TRUE(stream_->Write(Cancel(1)));
  ASSERT_TRUE(ReadEnd(1));
  EXPECT_EQ(received_[1].text, "first");
  EXPECT_EQ(received_[1].end.code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerSessionTest, TheTimeLeftBecomesTheDeadline) {
  v1::WorkerSessionRequest timed = Start(1, "timed");
  timed.mutable_commands(0)->mutable_start()->set_timeout_us(3'600'000'000);
  const absl::Time before = absl::Now();
  ASSERT_TRUE(stream_->Write(timed));
  ASSERT_TRUE(stream_->Write(Start(2, "endless")));
  const absl::Time deadline = backend_.Get("timed")->deadline;
  EXPECT_GE(deadline, before + absl::Hours(1));
  EXPECT_LE(deadline, absl::Now() + absl::Hours(1));
  EXPECT_EQ(backend_.Get("endless")->deadline, absl::InfiniteFuture());
}

TEST_F(WorkerSessionTest, MoreCallsThanTheLimitAreRefused) {
  v1::WorkerSessionRequest message;
  for (uint64_t id = 1; id <= 4 * kMaxCalls; ++id) {
    message.MergeFrom(Start(id, absl::StrCat("call ", id)));
  }
  ASSERT_TRUE(stream_->Write(message));
  for (uint64_t id = kMaxCalls + 1; id <= 4 * kMaxCalls; ++id) {
    ASSERT_TRUE(ReadEnd(id));
    EXPECT_EQ(received_[id].end.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_GT(received_[id].end.retry_after_ms(), 0);
  }
  backend_.Get("call 1")->Stop();
  ASSERT_TRUE(ReadEnd(1));
  ASSERT_TRUE(stream_->Write(Start(100, "after")));
  backend_.Get("after")->Stop();
  ASSERT_TRUE(ReadEnd(100));
  EXPECT_EQ(received_[100].end.code(), 0);
}

TEST_F(WorkerSessionTest, LongRequestsStartToo) {
  const std::string name(1 << 20, 'l');
  ASSERT_TRUE(stream_->Write(Start(1, name)));
  backend_.Get(name)->Say("x");
  backend_.Get(name)->Stop();
  ASSERT_TRUE(ReadEnd(1));
  EXPECT_EQ(received_[1].text, "x");
}

TEST_F(WorkerSessionTest, AClientThatGoesCancelsItsCalls) {
  ASSERT_TRUE(stream_->Write(Start(1, "a")));
  ASSERT_TRUE(stream_->Write(Start(2, "b")));
  const auto a = backend_.Get("a");
  const auto b = backend_.Get("b");
  a->Say("x");
  context_->TryCancel();
  while (a->cancelled == 0 || b->cancelled == 0) absl::SleepFor(absl::Milliseconds(1));
  a->Say("too late");
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerSessionTest, AClientThatHasNoMoreCallsGetsTheRestOfThoseItHas) {
  ASSERT_TRUE(stream_->Write(Start(1, "a")));
  const auto call = backend_.Get("a");
  stream_->WritesDone();
  call->Say("x");
  call->Stop();
  ASSERT_TRUE(ReadEnd(1));
  EXPECT_EQ(received_[1].text, "x");
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(WorkerSessionTest, WhatBreaksTheRulesEndsTheSessionAndSaysWhy) {
  v1::WorkerSessionRequest nothing;
  nothing.add_commands()->set_call_id(5);
  v1::WorkerSessionRequest negative = Start(5, "x");
  negative.mutable_commands(0)->mutable_start()->set_timeout_us(-1);
  v1::WorkerSessionRequest many;
  for (int i = 0; i <= 8192; ++i) many.MergeFrom(Cancel(3));
  const std::pair<v1::WorkerSessionRequest, std::string> examples[] = {
      {Start(3, "x"), "start of call 3: every start needs a larger call_id"},
      {Start(2, "x"), "which was 3"},
      {Cancel(4), "call 4 has not been started"},
      {Cancel(0), "call 0 has not been started"},
      {Credit(~uint64_t{0}, 1), "has not been started"},
      {Credit(3, 0), "bytes is 0; it must be 1 to 1073741824"},
      {Credit(3, -5), "bytes is -5"},
      {Credit(3, int64_t{1} << 40), "it must be 1 to"},
      {Start(5, "x", -1), "credit_bytes is -1"},
      {negative, "timeout_us is -1"},
      {nothing, "none of start, cancel and credit"},
      {many, "8193 commands, more than 8192"},
  };
  for (const auto& [message, words] : examples) {
    SCOPED_TRACE(words);
    Open();
    const std::string name = absl::StrCat("victim of ", words);
    ASSERT_TRUE(stream_->Write(Start(3, name)));
    const auto victim = backend_.Get(name);
    ASSERT_TRUE(stream_->Write(message));
    EXPECT_FALSE(ReadUntil([] { return false; }));
    const grpc::Status status = stream_->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr(words));
    while (victim->cancelled == 0) absl::SleepFor(absl::Milliseconds(1));
  }
  Open();
  ASSERT_TRUE(stream_->Write(Start(0, "zero")));
  EXPECT_FALSE(ReadUntil([] { return false; }));
  EXPECT_THAT(stream_->Finish().error_message(), HasSubstr("the first at least 1"));
}

// Random commands, which mostly break no rule, while calls speak and end: nothing but an end of the
// stream may come of it, and the next session works.
TEST_F(WorkerSessionTest, NoOrderOfCommandsBreaksMoreThanItsSession) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    Open();
    uint64_t last = 0;
    for (int i = 0; i < 40; ++i) {
      const uint64_t id = last == 0 || random() % 50 == 0 ? random() % 50 : 1 + random() % last;
      v1::WorkerSessionRequest message;
      const std::string name = absl::StrCat("round ", round, " call ", last + 1);
      switch (random() % 5) {
        case 0:
          message = Cancel(id);
          break;
        case 1:
          message = Credit(id, 1 + static_cast<int64_t>(random() % 100));
          break;
        default:
          message = Start(++last, random() % 10 == 0 ? "" : name, 1 + random() % 50);
      }
      if (!stream_->Write(message)) break;
    }
    if (random() % 2 == 0) context_->TryCancel();
    stream_->WritesDone();
    // Calls that have started end, and those that start now.
    absl::Notification finished;
    std::thread ender([&] {
      while (!finished.WaitForNotificationWithTimeout(absl::Milliseconds(1))) backend_.EndAll();
    });
    EXPECT_FALSE(ReadUntil([] { return false; }));
    (void)stream_->Finish();
    finished.Notify();
    ender.join();
  }
  Open();
  ASSERT_TRUE(stream_->Write(Start(1, "last")));
  backend_.Get("last")->Stop();
  ASSERT_TRUE(ReadEnd(1));
}

}  // namespace
}  // namespace octogate::workers
