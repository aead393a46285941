// Sessions with a real model: they give the answers that Generate gives, and keep to the same
// rules.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/workers/server/worker_server_fixture.h"

namespace octogate::workers {
namespace {

class SessionClient {
 public:
  SessionClient(v1::Worker::Stub* stub, std::unique_ptr<grpc::ClientContext> context)
      : context_(std::move(context)), stream_(stub->Session(context_.get())) {}

  void Start(uint64_t id, const v1::WorkerGenerateRequest& request,
             absl::Duration timeout = absl::ZeroDuration()) {
    v1::WorkerSessionRequest message;
    v1::WorkerSessionCommand& command = *message.add_commands();
    command.set_call_id(id);
    *command.mutable_start()->mutable_request() = request;
    command.mutable_start()->set_timeout_us(absl::ToInt64Microseconds(timeout));
    EXPECT_TRUE(stream_->Write(message));
  }
  void Cancel(uint64_t id) {
    v1::WorkerSessionRequest message;
    message.add_commands()->set_call_id(id);
    message.mutable_commands(0)->mutable_cancel();
    EXPECT_TRUE(stream_->Write(message));
  }

  struct Call {
    std::vector<int32_t> ids;
    std::string text;
    bool answered = false;
    bool ended = false;
    v1::WorkerSessionEnd end;
  };

  // Reads until the call has ended, or the stream.
  const Call& ReadEnd(uint64_t id) {
    while (!calls_[id].ended && Read()) {
    }
    EXPECT_TRUE(calls_[id].ended);
    return calls_[id];
  }
  const Call& ReadToken(uint64_t id) {
    while (calls_[id].ids.empty() && Read()) {
    }
    return calls_[id];
  }

  grpc::Status Finish() { return stream_->Finish(); }
  grpc::ClientContext& context() { return *context_; }

 private:
  bool Read() {
    v1::WorkerSessionResponse message;
    if (!stream_->Read(&message)) return false;
    for (const v1::WorkerSessionEvent& event : message.events()) {
      Call& call = calls_[event.call_id()];
      call.ids.insert(call.ids.end(), event.message().ids().begin(), event.message().ids().end());
      call.text += event.message().text();
      call.answered |= event.message().has_end();
      call.ended |= event.has_end();
      if (event.has_end()) call.end = event.end();
    }
    return true;
  }

  const std::unique_ptr<grpc::ClientContext> context_;
  const std::unique_ptr<
      grpc::ClientReaderWriter<v1::WorkerSessionRequest, v1::WorkerSessionResponse>>
      stream_;
  std::map<uint64_t, Call> calls_;
};

using WorkerServerSessionTest = WorkerServerTest;

TEST_F(WorkerServerSessionTest, GivesTheAnswersThatGenerateGives) {
  const auto request = [](uint64_t i) { return Request(absl::StrCat("query ", i), 30); };
  SessionClient session(stub_.get(), Context());
  static_assert(kMaxWaiting >= 8);
  for (uint64_t i = 1; i <= 8; ++i) session.Start(i, request(i));
  for (uint64_t i = 1; i <= 8; ++i) session.ReadEnd(i);
  for (uint64_t i = 1; i <= 8; ++i) {
    const Answer alone = Generate(request(i));
    const SessionClient::Call& call = session.ReadEnd(i);
    EXPECT_EQ(call.end.code(), 0) << call.end.message();
    EXPECT_TRUE(call.answered);
    EXPECT_EQ(call.ids, alone.ids);
    EXPECT_EQ(call.text, alone.text);
  }
}

TEST_F(WorkerServerSessionTest, ACallIsCancelledAndTheOthersGoOn) {
  SessionClient session(stub_.get(), Context());
  {
    const HeldEngine held(server_->model());
    session.Start(1, Request("The router", kContext - 20));
    session.Start(2, Request("The router", 40));
    session.Cancel(1);
    session.Start(3, Request("x", 1));
    AwaitWaiting(3);  // commands are obeyed in order: the cancellation has been
  }
  EXPECT_EQ(session.ReadEnd(1).end.code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(session.ReadEnd(2).end.code(), 0);
  EXPECT_EQ(session.ReadEnd(3).end.code(), 0);
  ExpectIdle();
}

TEST_F(WorkerServerSessionTest, ABrokenStreamFreesThePagesOfItsCalls) {
  SessionClient session(stub_.get(), Context());
  for (uint64_t i = 1; i <= 6; ++i) session.Start(i, Request("The router", kContext - 20));
  session.ReadToken(1);
  session.context().TryCancel();
  EXPECT_EQ(session.Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectIdle();
}

TEST_F(WorkerServerSessionTest, TheTimeLeftReachesTheEngine) {
  SessionClient session(stub_.get(), Context());
  {
    const HeldEngine held(server_->model());
    session.Start(1, Request("The router", 10), absl::Milliseconds(1));
    AwaitWaiting(1);
    absl::SleepFor(absl::Milliseconds(2));
  }
  EXPECT_EQ(session.ReadEnd(1).end.code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ExpectIdle();
}

TEST_F(WorkerServerSessionTest, ARefusalSaysWhenToTryAgain) {
  SessionClient session(stub_.get(), Context());
  {
    const HeldEngine held(server_->model());
    for (uint64_t i = 1; i <= kMaxWaiting + 1; ++i) session.Start(i, Request("x", 1));
    const SessionClient::Call& refused = session.ReadEnd(kMaxWaiting + 1);
    EXPECT_EQ(refused.end.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_GT(refused.end.retry_after_ms(), 0);
  }
  EXPECT_EQ(session.ReadEnd(1).end.code(), 0);
}

TEST_F(WorkerServerSessionTest, ADrainedWorkerEndsWhatRunsAndTakesNoMore) {
  SessionClient session(stub_.get(), Context());
  session.Start(1, Request("The router", 100));
  session.ReadToken(1);
  v1::WorkerDrainResponse drained;
  ASSERT_TRUE(stub_->Drain(Context().get(), {}, &drained).ok());
  session.Start(2, Request("x", 1));
  EXPECT_EQ(session.ReadEnd(2).end.code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(session.ReadEnd(1).end.code(), 0);
}

TEST_F(WorkerServerSessionTest, ShutdownLetsCallsUnderWayEnd) {
  SessionClient session(stub_.get(), Context());
  session.Start(1, Request("The router", 200));
  session.ReadToken(1);
  std::thread stopper([&] { server_->Shutdown(absl::Seconds(20)); });
  EXPECT_EQ(session.ReadEnd(1).end.code(), 0);
  EXPECT_EQ(session.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  stopper.join();
}

}  // namespace
}  // namespace octogate::workers
