// Generations over the sessions of a remote client: with stub workers, in this process and in
// processes of their own, and with workers that do not keep to the protocol.
#include "gateway/worker_session.h"

#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gateway/remote_model_client.h"
#include "tests/gateway/child_process.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

// A call and what it has delivered.
class Call {
 public:
  // Pauses after each message where `patient` is false.
  void Start(ModelClient& client, const std::string& query,
             absl::Time deadline = absl::InfiniteFuture(), bool patient = true) {
    v1::WorkerGenerateRequest request;
    v1::Message& message = *request.mutable_prompt()->mutable_conversation()->add_messages();
    message.set_role("user");
    message.set_content(query);
    request.set_max_tokens(1 << 20);
    handle_ = client.Generate(
        request, deadline,
        [this, patient](v1::WorkerGenerateResponse& response) {
          absl::MutexLock lock(&mutex_);
          EXPECT_FALSE(done_);
          text_ += response.text();
          ++messages_;
          return patient ? Flow::kContinue : Flow::kPause;
        },
        [this](const absl::Status& status) {
          absl::MutexLock lock(&mutex_);
          EXPECT_FALSE(done_);
          status_ = status;
          done_ = true;
        });
  }

  ModelCall& handle() { return *handle_; }

  absl::Status Wait() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
    return status_;
  }
  void WaitForText(size_t bytes) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return text_.size() >= bytes || done_;
    };
    mutex_.Await(absl::Condition(&there));
  }
  bool done() {
    absl::MutexLock lock(&mutex_);
    return done_;
  }
  int messages() {
    absl::MutexLock lock(&mutex_);
    return messages_;
  }
  std::string text() {
    absl::MutexLock lock(&mutex_);
    return text_;
  }

 private:
  std::shared_ptr<ModelCall> handle_;
  absl::Mutex mutex_;
  std::string text_ ABSL_GUARDED_BY(mutex_);
  int messages_ ABSL_GUARDED_BY(mutex_) = 0;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class GatewayWorkerSessionTest : public testing::Test {
 protected:
  static constexpr int kLoops = 2;

  void Connect(const std::string& address) {
    client_ = NewRemoteModelClient(address, loops_.get());
  }

  const std::unique_ptr<EventLoops> loops_ = EventLoops::Create(kLoops);
  std::unique_ptr<ModelClient> client_;
};

TEST_F(GatewayWorkerSessionTest, OneSessionPerLoopCarriesManyCalls) {
  constexpr int kCalls = 500;
  StubWorker worker;
  Connect(worker.address());
  std::vector<Call> calls(kCalls);
  for (int i = 0; i < kCalls; ++i) {
    calls[i].Start(*client_, absl::StrCat("stub tokens=", 1 + i % 40, " text=", i, ".%;"));
  }
  for (int i = 0; i < kCalls; ++i) {
    EXPECT_EQ(calls[i].Wait(), absl::OkStatus());
    std::string expected;
    for (int token = 1; token <= 1 + i % 40; ++token) {
      absl::StrAppend(&expected, i, ".", token, ";");
    }
    EXPECT_EQ(calls[i].text(), expected);
  }
  EXPECT_EQ(worker.started(), kCalls);
  EXPECT_LE(worker.sessions(), kLoops);
}

TEST_F(GatewayWorkerSessionTest, ManyThreadsStartAndCancelCalls) {
  StubWorker worker;
  Connect(worker.address());
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 200; ++i) {
        Call call;
        const bool cancelled = (i + thread) % 3 == 0;
        call.Start(*client_, cancelled ? "stub tokens=1000000 text=x" : "stub tokens=5 text=x");
        if (cancelled) {
          if (i % 2 == 0) call.WaitForText(1);
          call.handle().Cancel();
          EXPECT_TRUE(absl::IsCancelled(call.Wait()));
        } else {
          EXPECT_EQ(call.Wait(), absl::OkStatus());
          EXPECT_EQ(call.text(), "xxxxx");
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (worker.running() > 0) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_LE(worker.sessions(), kLoops);
}

TEST_F(GatewayWorkerSessionTest, ASlowReaderHoldsBackItselfOnly) {
  StubWorker worker;
  Connect(worker.address());
  // Both loops have one.
  std::vector<Call> slow(kLoops);
  const std::string text(1000, 'x');
  constexpr int kTokens = 1000;
  for (Call& call : slow) {
    call.Start(*client_, absl::StrCat("stub tokens=", kTokens, " text=", text),
               absl::InfiniteFuture(), /*patient=*/false);
  }
  for (Call& call : slow) call.WaitForText(1);
  for (int i = 0; i < 20; ++i) {
    Call call;
    call.Start(*client_, absl::StrCat("stub tokens=", kTokens, " text=", text));
    EXPECT_EQ(call.Wait(), absl::OkStatus());
    EXPECT_EQ(call.text().size(), kTokens * text.size());
  }
  for (Call& call : slow) {
    EXPECT_EQ(call.messages(), 1);
    EXPECT_FALSE(call.done());
  }
  // The worker is held back, too: the answer is a megabyte, which no buffer on the way takes.
  EXPECT_EQ(worker.running(), kLoops);
  for (Call& call : slow) {
    while (!call.done()) {
      call.handle().Resume();
      std::this_thread::yield();
    }
    EXPECT_EQ(call.Wait(), absl::OkStatus());
    EXPECT_EQ(call.text().size(), kTokens * text.size());
  }
}

TEST_F(GatewayWorkerSessionTest, TooLongARequestFailsForItself) {
  StubWorker worker;
  Connect(worker.address());
  Call good;
  good.Start(*client_, "stub tokens=3 delay_us=20000 text=x");
  Call too_long;
  too_long.Start(*client_, std::string(5 << 20, 'x'));
  EXPECT_TRUE(absl::IsResourceExhausted(too_long.Wait())) << too_long.Wait();
  Call long_one;
  long_one.Start(*client_, "stub tokens=1 text=y fill=" + std::string(3 << 20, 'x'));
  EXPECT_EQ(long_one.Wait(), absl::OkStatus());
  EXPECT_EQ(good.Wait(), absl::OkStatus());
  EXPECT_LE(worker.sessions(), kLoops);
}

TEST_F(GatewayWorkerSessionTest, CallsOutliveTheClient) {
  StubWorker worker;
  Connect(worker.address());
  Call call;
  call.Start(*client_, "stub tokens=20 delay_us=5000 text=x");
  call.WaitForText(1);
  client_ = nullptr;
  EXPECT_EQ(call.Wait(), absl::OkStatus());
  EXPECT_EQ(call.text(), std::string(20, 'x'));
}

TEST_F(GatewayWorkerSessionTest, AKilledWorkerEndsEachCallAndTheNextOneIsReached) {
  constexpr int kCalls = 16;
  auto child =
      std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, "127.0.0.1:0"});
  const std::string address = child->ReadLine().substr(6);
  Connect(address);
  std::vector<Call> calls(kCalls);
  for (Call& call : calls) call.Start(*client_, "stub tokens=100000 delay_us=1000 text=x");
  for (Call& call : calls) call.WaitForText(3);
  child->Kill(SIGKILL);
  child->Wait();
  for (Call& call : calls) {
    EXPECT_TRUE(absl::IsUnavailable(call.Wait())) << call.Wait();
    EXPECT_THAT(std::string(call.Wait().message()), HasSubstr(address));
    EXPECT_GE(call.text().size(), 3);
  }
  child = std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, address});
  ASSERT_EQ(child->ReadLine(), "ready " + address);
  absl::Status status = absl::UnavailableError("");
  while (absl::IsUnavailable(status)) {
    Call call;
    call.Start(*client_, "stub tokens=1");
    status = call.Wait();
  }
  EXPECT_EQ(status, absl::OkStatus());
}

// What arrived before the stream broke is delivered to a reader that is slow.
TEST_F(GatewayWorkerSessionTest, ASlowReaderGetsWhatHadArrivedWhenTheWorkerDied) {
  auto child =
      std::make_unique<ChildProcess>(std::vector<std::string>{OCTOGATE_STUB_WORKER, "127.0.0.1:0"});
  Connect(child->ReadLine().substr(6));
  Call slow;
  slow.Start(*client_, "stub tokens=100000 text=x", absl::InfiniteFuture(), /*patient=*/false);
  slow.WaitForText(1);
  // From this thread the calls take the loops one after the other; each sees the slow call's
  // messages before its own.
  for (int i = 0; i < 2 * kLoops; ++i) {
    Call call;
    call.Start(*client_, "stub tokens=5000");
    EXPECT_EQ(call.Wait(), absl::OkStatus());
  }
  child->Kill(SIGKILL);
  child->Wait();
  while (!slow.done()) {
    slow.handle().Resume();
    std::this_thread::yield();
  }
  EXPECT_TRUE(absl::IsUnavailable(slow.Wait())) << slow.Wait();
  EXPECT_GT(slow.text().size(), 100);
}

TEST_F(GatewayWorkerSessionTest, AFrozenWorkerKeepsNobodyBeyondItsDeadline) {
  ChildProcess child({OCTOGATE_STUB_WORKER, "127.0.0.1:0"});
  Connect(child.ReadLine().substr(6));
  const absl::Time deadline = absl::Now() + absl::Milliseconds(400);
  std::vector<Call> running(4);
  for (Call& call : running) {
    call.Start(*client_, "stub tokens=100000 delay_us=1000 text=x", deadline);
  }
  for (Call& call : running) call.WaitForText(1);
  child.Freeze();
  // Later deadlines first.
  std::vector<Call> later(4);
  for (int i = 3; i >= 0; --i) {
    later[i].Start(*client_, std::string(100'000, 'x'), deadline + absl::Milliseconds(50 * i));
  }
  Call cancelled;
  cancelled.Start(*client_, "stub", absl::InfiniteFuture());
  cancelled.handle().Cancel();
  EXPECT_TRUE(absl::IsCancelled(cancelled.Wait()));
  for (Call& call : running) EXPECT_TRUE(absl::IsDeadlineExceeded(call.Wait())) << call.Wait();
  for (Call& call : later) EXPECT_TRUE(absl::IsDeadlineExceeded(call.Wait())) << call.Wait();
  EXPECT_GE(absl::Now(), deadline);
  child.Kill(SIGCONT);
  for (int i = 0; i < kLoops; ++i) {
    Call call;
    call.Start(*client_, "stub tokens=2 text=y", absl::Now() + absl::Seconds(30));
    EXPECT_EQ(call.Wait(), absl::OkStatus());
    EXPECT_EQ(call.text(), "yy");
  }
}

// Answers the first start of a session with what the test wants.
class LyingWorker final : public v1::Worker::CallbackService {
 public:
  explicit LyingWorker(v1::WorkerSessionResponse lie) : lie_(std::move(lie)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~LyingWorker() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse>* Session(
      grpc::CallbackServerContext*) override {
    class Reactor final
        : public grpc::ServerBidiReactor<v1::WorkerSessionRequest, v1::WorkerSessionResponse> {
     public:
      explicit Reactor(const v1::WorkerSessionResponse* lie) : lie_(lie) { StartRead(&request_); }
      void OnReadDone(bool ok) override {
        if (!ok) {
          Finish(grpc::Status::OK);
        } else if (!told_) {
          told_ = true;
          StartWrite(lie_);
        } else {
          StartRead(&request_);
        }
      }
      void OnWriteDone(bool) override { StartRead(&request_); }
      void OnDone() override { delete this; }

     private:
      const v1::WorkerSessionResponse* const lie_;
      bool told_ = false;
      v1::WorkerSessionRequest request_;
    };
    return new Reactor(&lie_);
  }

 private:
  const v1::WorkerSessionResponse lie_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

absl::Status AskLyingWorker(EventLoops* loops, const v1::WorkerSessionResponse& lie) {
  const LyingWorker worker(lie);
  const auto client = NewRemoteModelClient(worker.address(), loops);
  Call call;
  call.Start(*client, "stub", absl::Now() + absl::Seconds(20));
  return call.Wait();
}

TEST_F(GatewayWorkerSessionTest, AnEventOfNoCallBreaksTheSession) {
  v1::WorkerSessionResponse lie;
  lie.add_events()->set_call_id(99);
  const absl::Status status = AskLyingWorker(loops_.get(), lie);
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("call 99"));
}

TEST_F(GatewayWorkerSessionTest, AnAnswerWithoutItsEndIsNotOk) {
  v1::WorkerSessionResponse lie;
  lie.add_events()->set_call_id(1);
  lie.mutable_events(0)->mutable_end();
  EXPECT_TRUE(absl::IsUnavailable(AskLyingWorker(loops_.get(), lie)));
}

TEST_F(GatewayWorkerSessionTest, MoreThanTheCreditEndsTheCall) {
  v1::WorkerSessionResponse lie;
  for (int i = 0; i < 200; ++i) {
    v1::WorkerSessionEvent& event = *lie.add_events();
    event.set_call_id(1);
    event.mutable_message()->set_text(std::string(1000, 'x'));
  }
  const LyingWorker worker(lie);
  Connect(worker.address());
  Call call;
  call.Start(*client_, "stub", absl::InfiniteFuture(), /*patient=*/false);
  EXPECT_TRUE(absl::IsInternal(call.Wait())) << call.Wait();
  EXPECT_THAT(std::string(call.Wait().message()), HasSubstr("credit"));
}

TEST_F(GatewayWorkerSessionTest, CodesThatDoNotExistAreUnknown) {
  v1::WorkerSessionResponse lie;
  lie.add_events()->set_call_id(1);
  lie.mutable_events(0)->mutable_end()->set_code(-7);
  lie.mutable_events(0)->mutable_end()->set_message("what?");
  const absl::Status status = AskLyingWorker(loops_.get(), lie);
  EXPECT_TRUE(absl::IsUnknown(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("what?"));
}

TEST_F(GatewayWorkerSessionTest, AWorkerThatKnowsNoSessionsSaysSo) {
  v1::Worker::Service old;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&old);
  const auto server = builder.BuildAndStart();
  Connect(absl::StrCat("127.0.0.1:", port));
  Call call;
  call.Start(*client_, "stub", absl::Now() + absl::Seconds(20));
  EXPECT_TRUE(absl::IsUnimplemented(call.Wait())) << call.Wait();
}

}  // namespace
}  // namespace octogate::gateway
