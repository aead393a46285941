// A worker with a real (tiny) model behind real gRPC on a loopback port.

#ifndef OCTOGATE_TESTS_WORKERS_SERVER_WORKER_SERVER_FIXTURE_H_
#define OCTOGATE_TESTS_WORKERS_SERVER_WORKER_SERVER_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "workers/engine/model_runner.h"
#include "workers/server/model_service.h"
#include "workers/server/worker_server.h"

namespace octogate::workers {

inline constexpr int kContext = 512;
inline constexpr int kMaxWaiting = 8;

using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;

class WorkerServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LoadOptions options;
    options.device.threads = 1;
    options.engine.max_waiting = kMaxWaiting;
    options.engine.max_sequences = 4;
    auto model = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
    ASSERT_TRUE(model.ok()) << model.status().message();
    auto server = WorkerServer::Start("127.0.0.1:0",
                                      std::make_unique<ModelService>("tiny", *std::move(model)));
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::Worker::NewStub(channel_);
  }

  const LoadedModel& Model() const {
    return static_cast<const ModelService&>(server_->model()).model();
  }

  static std::unique_ptr<grpc::ClientContext> Context(absl::Duration timeout = absl::Seconds(30)) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    return context;
  }

  static v1::WorkerGenerateRequest Request(const std::string& query, int max_tokens) {
    v1::WorkerGenerateRequest request;
    request.mutable_prompt()->mutable_template_()->set_template_("{query}");
    request.mutable_prompt()->mutable_template_()->set_query(query);
    request.set_max_tokens(max_tokens);
    return request;
  }

  static std::string Words(int count) {
    std::string words;
    for (int i = 0; i < count; ++i) words += "word ";
    return words;
  }

  struct Answer {
    grpc::Status status;
    std::vector<int32_t> ids;
    std::string text;
    double logprob_sum = 0;
    v1::WorkerGenerateEnd end;
    int ends = 0;
  };

  Answer Generate(const v1::WorkerGenerateRequest& request,
                  absl::Duration timeout = absl::Seconds(30)) {
    const auto context = Context(timeout);
    auto reader = stub_->Generate(context.get(), request);
    Answer answer;
    v1::WorkerGenerateResponse message;
    while (reader->Read(&message)) {
      answer.ids.insert(answer.ids.end(), message.ids().begin(), message.ids().end());
      answer.text += message.text();
      answer.logprob_sum += message.logprob_sum();
      if (message.has_end()) {
        answer.end = message.end();
        ++answer.ends;
      }
    }
    answer.status = reader->Finish();
    return answer;
  }

  // Keeps the engine from computing for as long as it lives: what arrives meanwhile waits.
  class HeldEngine {
   public:
    explicit HeldEngine(ServedModel& model) {
      const auto held = model.Generate(
          Request("hold", 1), absl::InfiniteFuture(),
          [this](const v1::WorkerGenerateResponse&) {
            if (!held_.HasBeenNotified()) held_.Notify();
            release_.WaitForNotification();
          },
          [this](const absl::Status&) { ended_.Notify(); });
      EXPECT_TRUE(held.ok()) << held.status();
      held_.WaitForNotification();
    }
    ~HeldEngine() {
      release_.Notify();
      ended_.WaitForNotification();
    }

   private:
    absl::Notification held_;
    absl::Notification release_;
    absl::Notification ended_;
  };

  HealthCheckResponse::ServingStatus Health(const std::string& service) {
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel_)->Check(Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  }

  // What waits in the engine.
  void AwaitWaiting(int count) {
    const absl::Time give_up = absl::Now() + absl::Seconds(20);
    while (server_->model().Info().waiting() < count) {
      ASSERT_LT(absl::Now(), give_up) << "the engine never got the request";
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

  // Cancels `call`, which has no deadline, while it waits for the engine; then nothing of it must
  // be computed. When the server hears of a cancellation is up to the network: calls are repeated
  // with more and more time for that.
  void ExpectCancellationSparesTheEngine(
      const std::function<grpc::Status(grpc::ClientContext*)>& call) {
    const auto computed = [this] { return Model().engine->stats().prompt_tokens; };
    uint64_t before = computed();
    { const HeldEngine held(server_->model()); }
    ExpectIdle();
    const uint64_t of_held = computed() - before;
    for (absl::Duration pause = absl::Milliseconds(1);; pause *= 2) {
      ASSERT_LT(pause, absl::Seconds(20)) << "the engine computed every cancelled call";
      before = computed();
      {
        const HeldEngine held(server_->model());
        grpc::ClientContext context;
        grpc::Status status;
        std::thread caller([&] { status = call(&context); });
        AwaitWaiting(1);
        context.TryCancel();
        caller.join();
        EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
        absl::SleepFor(pause);
      }
      ExpectIdle();
      if (computed() - before == of_held) return;
    }
  }

  void ExpectIdle() {
    const absl::Time give_up = absl::Now() + absl::Seconds(20);
    while (server_->model().Info().running() + server_->model().Info().waiting() > 0) {
      ASSERT_LT(absl::Now(), give_up) << "a sequence was never ended";
      absl::SleepFor(absl::Milliseconds(5));
    }
    EXPECT_EQ(server_->model().Info().pages_used(), 0);
  }

  std::unique_ptr<WorkerServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Worker::Stub> stub_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_SERVER_WORKER_SERVER_FIXTURE_H_
