// The worker inside the gateway's process by itself, with a real (tiny) model.
#include "gateway/in_process_model_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "tests/common/thread_cpus.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

constexpr int kContext = 512;
constexpr absl::Time kNever = absl::InfiniteFuture();

v1::Model ModelAt(const std::string& path) {
  v1::Model model;
  model.set_name("tiny");
  model.set_path(path);
  return model;
}

InProcessWorkerOptions Options() {
  InProcessWorkerOptions options;
  options.model_root = std::string(OCTOGATE_FIXTURES) + "/checkpoints";
  options.load.device.threads = 1;
  options.load.engine.max_waiting = 4;
  return options;
}

v1::WorkerPrompt Prompt(const std::string& query) {
  v1::WorkerPrompt prompt;
  prompt.mutable_template_()->set_template_("{query}");
  prompt.mutable_template_()->set_query(query);
  return prompt;
}

v1::WorkerGenerateRequest GenerateRequest(const std::string& query, int max_tokens) {
  v1::WorkerGenerateRequest request;
  *request.mutable_prompt() = Prompt(query);
  request.set_max_tokens(max_tokens);
  return request;
}

v1::WorkerScoreRequest ScoreRequest(const std::string& query = "The router") {
  v1::WorkerScoreRequest request;
  *request.mutable_prompt() = Prompt(query);
  request.add_tokens("<|end_header_id|>");
  request.add_tokens("<|eot_id|>");
  return request;
}

v1::WorkerEmbedRequest EmbedRequest(int inputs) {
  v1::WorkerEmbedRequest request;
  for (int i = 0; i < inputs; ++i) request.add_inputs("The router chooses a node.");
  return request;
}

// What a generation gave, once it is done.
class Stream {
 public:
  // `on_first` is called with the first message.
  explicit Stream(std::function<void()> on_first = nullptr) : on_first_(std::move(on_first)) {}

  ModelClient::MessageCallback on_message() {
    return [this](v1::WorkerGenerateResponse& message) {
      if (messages_++ == 0 && on_first_ != nullptr) on_first_();
      ids_.insert(ids_.end(), message.ids().begin(), message.ids().end());
      if (message.has_end()) end_ = message.end();
      return Flow::kContinue;
    };
  }
  ModelClient::DoneCallback on_done() {
    return [this](const absl::Status& status) {
      status_ = status;
      done_.Notify();
    };
  }

  const absl::Status& Wait() {
    done_.WaitForNotification();
    return status_;
  }
  const std::vector<int32_t>& ids() const { return ids_; }
  const std::optional<v1::WorkerGenerateEnd>& end() const { return end_; }

 private:
  const std::function<void()> on_first_;
  int messages_ = 0;
  std::vector<int32_t> ids_;
  std::optional<v1::WorkerGenerateEnd> end_;
  absl::Status status_;
  absl::Notification done_;
};

// What a call with one answer gave.
template <typename Response>
class Result {
 public:
  ModelClient::ResponseCallback<Response> on_done() {
    return [this](absl::StatusOr<Response> response) {
      response_ = std::move(response);
      done_.Notify();
    };
  }
  const absl::StatusOr<Response>& Wait() {
    done_.WaitForNotification();
    return response_;
  }

 private:
  absl::StatusOr<Response> response_;
  absl::Notification done_;
};

class InProcessModelClientTest : public testing::Test {
 protected:
  InProcessModelClientTest() : worker_(Options()) {
    auto client = worker_.Load(ModelAt("llama3"), absl::Now() + absl::Seconds(60));
    EXPECT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  // Keeps the engine from computing for as long as it lives: what arrives meanwhile waits.
  class HeldEngine {
   public:
    explicit HeldEngine(ModelClient& client)
        : stream_([this] {
            held_.Notify();
            release_.WaitForNotification();
          }) {
      client.Generate(GenerateRequest("hold", 1), kNever, stream_.on_message(), stream_.on_done());
      held_.WaitForNotification();
    }
    ~HeldEngine() {
      release_.Notify();
      EXPECT_TRUE(stream_.Wait().ok());
    }

   private:
    absl::Notification held_;
    absl::Notification release_;
    Stream stream_;
  };

  v1::WorkerInfoResponse Info() {
    Result<v1::WorkerInfoResponse> result;
    client_->Info(kNever, result.on_done());
    return *result.Wait();
  }

  InProcessWorker worker_;
  std::unique_ptr<ModelClient> client_;
};

TEST_F(InProcessModelClientTest, SaysWhatItServes) {
  const v1::WorkerInfoResponse info = Info();
  EXPECT_EQ(info.model(), "tiny");
  EXPECT_EQ(info.family(), "llama");
  EXPECT_EQ(info.context_length(), kContext);
  EXPECT_GT(info.parameters(), 0);
  EXPECT_EQ(info.backend(), worker_.backend());
  EXPECT_EQ(client_->address(), "in-process");
}

TEST(InProcessWorkerTest, ModelsWhoseThreadsAreBoundTakeCpusInTurn) {
  InProcessWorkerOptions options = Options();
  options.load.device.pin_threads = true;
  InProcessWorker worker(options);
  const std::vector<int> all = CpusOfThread();
  std::vector<std::unique_ptr<ModelClient>> models;
  for (size_t i = 0; i < 3; ++i) {
    auto model = worker.Load(ModelAt("llama3"), kNever);
    ASSERT_TRUE(model.ok()) << model.status();
    models.push_back(*std::move(model));
    std::vector<int> bound;
    Stream stream([&bound] { bound = CpusOfThread(); });  // on the engine's thread
    models.back()->Generate(GenerateRequest("The router", 1), kNever, stream.on_message(),
                            stream.on_done());
    ASSERT_TRUE(stream.Wait().ok()) << stream.Wait();
    EXPECT_EQ(bound, std::vector<int>{all[i % all.size()]});
  }
}

TEST_F(InProcessModelClientTest, GeneratesWithTheEndLast) {
  std::vector<int32_t> before;
  for (int round = 0; round < 2; ++round) {
    Stream stream;
    client_->Generate(GenerateRequest("The router", 20), kNever, stream.on_message(),
                      stream.on_done());
    ASSERT_TRUE(stream.Wait().ok()) << stream.Wait();
    ASSERT_TRUE(stream.end().has_value());
    EXPECT_GT(stream.end()->usage().prompt_tokens(), 0);
    EXPECT_EQ(stream.end()->usage().completion_tokens(), static_cast<int64_t>(stream.ids().size()));
    if (round > 0) {
      EXPECT_EQ(stream.ids(), before);
    }
    before = stream.ids();
  }
}

TEST_F(InProcessModelClientTest, ScoresTheTokensAskedFor) {
  Result<v1::WorkerScoreResponse> result;
  client_->Score(ScoreRequest(), kNever, result.on_done());
  ASSERT_TRUE(result.Wait().ok()) << result.Wait().status();
  ASSERT_EQ(result.Wait()->logits_size(), 2);
  for (const float logit : result.Wait()->logits()) {
    EXPECT_LT(logit, result.Wait()->log_sum_exp());
  }
  EXPECT_GT(result.Wait()->usage().prompt_tokens(), 0);
}

TEST_F(InProcessModelClientTest, EmbedsEachInput) {
  Result<v1::WorkerEmbedResponse> result;
  client_->Embed(EmbedRequest(3), kNever, result.on_done());
  ASSERT_TRUE(result.Wait().ok()) << result.Wait().status();
  ASSERT_EQ(result.Wait()->embeddings_size(), 3);
  for (const v1::Embedding& embedding : result.Wait()->embeddings()) {
    double squares = 0;
    for (const float value : embedding.values()) squares += double{value} * value;
    EXPECT_NEAR(squares, 1, 1e-5);
  }
}

TEST_F(InProcessModelClientTest, CancelEndsAGenerationAfterAnyToken) {
  // The callback comes on the engine's thread: no token can follow.
  std::shared_ptr<ModelCall> call;
  absl::Notification known;
  Stream stream([&] {
    known.WaitForNotification();
    call->Cancel();
  });
  call = client_->Generate(GenerateRequest("The router", kContext - 20), kNever,
                           stream.on_message(), stream.on_done());
  known.Notify();
  EXPECT_TRUE(absl::IsCancelled(stream.Wait())) << stream.Wait();
  EXPECT_EQ(stream.ids().size(), 1u);
  call->Cancel();  // has no effect any more
  // What the engine says about itself follows its callbacks.
  while (Info().pages_used() > 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(InProcessModelClientTest, CancelReachesWhatWaitsForTheEngine) {
  Stream stream;
  Result<v1::WorkerScoreResponse> score;
  Result<v1::WorkerEmbedResponse> embed;
  {
    const HeldEngine held(*client_);
    const std::shared_ptr<ModelCall> calls[] = {
        client_->Generate(GenerateRequest("The router", 5), kNever, stream.on_message(),
                          stream.on_done()),
        client_->Score(ScoreRequest(), kNever, score.on_done()),
        client_->Embed(EmbedRequest(200), kNever, embed.on_done())};
    for (const auto& call : calls) call->Cancel();
  }
  EXPECT_TRUE(absl::IsCancelled(stream.Wait())) << stream.Wait();
  EXPECT_TRUE(absl::IsCancelled(score.Wait().status())) << score.Wait().status();
  EXPECT_TRUE(absl::IsCancelled(embed.Wait().status())) << embed.Wait().status();
  EXPECT_TRUE(stream.ids().empty());
}

TEST_F(InProcessModelClientTest, CancelReachesAnEmbeddingUnderWay) {
  Result<v1::WorkerEmbedResponse> embed;
  {
    const HeldEngine held(*client_);
    const auto call = client_->Embed(EmbedRequest(200), kNever, embed.on_done());
    while (Info().waiting() == 0) absl::SleepFor(absl::Milliseconds(1));
    call->Cancel();
  }
  EXPECT_TRUE(absl::IsCancelled(embed.Wait().status())) << embed.Wait().status();
}

TEST_F(InProcessModelClientTest, DeadlinesReachTheEngine) {
  Stream stream;
  Result<v1::WorkerScoreResponse> score;
  Result<v1::WorkerEmbedResponse> embed;
  {
    const HeldEngine held(*client_);
    const absl::Time deadline = absl::Now() + absl::Milliseconds(20);
    client_->Generate(GenerateRequest("The router", 5), deadline, stream.on_message(),
                      stream.on_done());
    client_->Score(ScoreRequest(), deadline, score.on_done());
    client_->Embed(EmbedRequest(2), deadline, embed.on_done());
    // An embedding's caller is told in time, however long the engine takes.
    EXPECT_TRUE(absl::IsDeadlineExceeded(embed.Wait().status())) << embed.Wait().status();
    while (absl::Now() <= deadline) absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(stream.Wait())) << stream.Wait();
  EXPECT_TRUE(absl::IsDeadlineExceeded(score.Wait().status())) << score.Wait().status();
}

TEST_F(InProcessModelClientTest, APromptPastTheContextIsRefused) {
  // A short way and, for what takes long to read, a pool: both refuse.
  for (const size_t words : {size_t{kContext} * 3, size_t{100'000}}) {
    std::string text;
    for (size_t i = 0; i < words; ++i) text += "word ";
    Stream stream;
    client_->Generate(GenerateRequest(text, 1), kNever, stream.on_message(), stream.on_done());
    EXPECT_TRUE(absl::IsOutOfRange(stream.Wait())) << stream.Wait();
    EXPECT_THAT(std::string(stream.Wait().message()), HasSubstr(std::to_string(kContext)));
    Result<v1::WorkerScoreResponse> score;
    client_->Score(ScoreRequest(text), kNever, score.on_done());
    EXPECT_TRUE(absl::IsOutOfRange(score.Wait().status())) << score.Wait().status();
    v1::WorkerEmbedRequest inputs;
    inputs.add_inputs(text);
    Result<v1::WorkerEmbedResponse> embed;
    client_->Embed(inputs, kNever, embed.on_done());
    EXPECT_TRUE(absl::IsOutOfRange(embed.Wait().status())) << embed.Wait().status();
  }
}

TEST_F(InProcessModelClientTest, BadRequestsSayWhatIsWrong) {
  Stream empty;
  client_->Generate({}, kNever, empty.on_message(), empty.on_done());
  EXPECT_TRUE(absl::IsInvalidArgument(empty.Wait())) << empty.Wait();
  v1::WorkerScoreRequest unknown = ScoreRequest();
  unknown.add_tokens("<fn:nowhere>");
  Result<v1::WorkerScoreResponse> score;
  client_->Score(unknown, kNever, score.on_done());
  EXPECT_TRUE(absl::IsNotFound(score.Wait().status())) << score.Wait().status();
  EXPECT_THAT(std::string(score.Wait().status().message()), HasSubstr("<fn:nowhere>"));
  for (const int inputs : {0, workers::ServedModel::kMaxEmbedInputs + 1}) {
    Result<v1::WorkerEmbedResponse> embed;
    client_->Embed(EmbedRequest(inputs), kNever, embed.on_done());
    EXPECT_TRUE(absl::IsInvalidArgument(embed.Wait().status())) << embed.Wait().status();
  }
}

TEST_F(InProcessModelClientTest, AFullQueueSaysWhenToTryAgain) {
  std::vector<std::unique_ptr<Stream>> waiting;
  Stream refused;
  {
    const HeldEngine held(*client_);
    for (int i = 0; i < Options().load.engine.max_waiting; ++i) {
      waiting.push_back(std::make_unique<Stream>());
      client_->Generate(GenerateRequest("x", 1), kNever, waiting.back()->on_message(),
                        waiting.back()->on_done());
    }
    client_->Generate(GenerateRequest("x", 1), kNever, refused.on_message(), refused.on_done());
    EXPECT_TRUE(absl::IsResourceExhausted(refused.Wait())) << refused.Wait();
    EXPECT_GT(RetryAfter(refused.Wait()), absl::ZeroDuration());
  }
  for (const auto& stream : waiting) EXPECT_TRUE(stream->Wait().ok());
}

TEST_F(InProcessModelClientTest, CallsUnderWayOutliveTheClient) {
  Stream stream;
  {
    const HeldEngine held(*client_);
    client_->Generate(GenerateRequest("The router", 5), kNever, stream.on_message(),
                      stream.on_done());
    client_ = nullptr;
  }
  EXPECT_TRUE(stream.Wait().ok()) << stream.Wait();
}

TEST(InProcessWorkerTest, AModelThatIsNotThereIsNotFound) {
  InProcessWorker worker(Options());
  const absl::Status status = worker.Load(ModelAt("nowhere"), kNever).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("nowhere"));
  EXPECT_EQ(worker.backend(), "");
}

TEST(InProcessWorkerTest, TheMemoryLimitIsThatOfAllModelsTogether) {
  InProcessWorkerOptions options = Options();
  options.load.engine.kv_tokens = kContext;
  options.load.engine.max_sequences = 1;
  options.memory_limit_bytes = 100 << 20;
  InProcessWorker worker(options);
  std::vector<std::unique_ptr<ModelClient>> clients;
  absl::Status status;
  while (status.ok() && clients.size() < 1000) {
    auto client = worker.Load(ModelAt("llama3"), kNever);
    status = client.status();
    if (client.ok()) clients.push_back(*std::move(client));
  }
  EXPECT_GT(clients.size(), 1u);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::ContainsRegex("[0-9]+"));
  // Room is made by a model that goes, when its engine has stopped.
  clients.clear();
  while (!worker.Load(ModelAt("llama3"), kNever).ok()) absl::SleepFor(absl::Milliseconds(1));
}

}  // namespace
}  // namespace octogate::gateway
