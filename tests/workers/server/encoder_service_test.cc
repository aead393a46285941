// A sentence encoder behind the worker protocol, over gRPC: it embeds with its own pooling, and
// says of everything else that it cannot.
#include "workers/server/encoder_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "octogate/v1/worker.grpc.pb.h"
#include "workers/server/load_served_model.h"
#include "workers/server/worker_server.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

class EncoderServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    LoadOptions options;
    options.device.threads = 1;
    auto model = LoadServedModel("sentences", Folder(), options, absl::Now() + absl::Seconds(60));
    ASSERT_TRUE(model.ok()) << model.status();
    auto server = WorkerServer::Start("127.0.0.1:0", *std::move(model));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Worker::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                                                    grpc::InsecureChannelCredentials()));
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
  }

  static std::string Folder() { return std::string(OCTOGATE_FIXTURES) + "/encoders/bert"; }

  std::unique_ptr<WorkerServer> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  grpc::ClientContext context_;
};

TEST_F(EncoderServiceTest, EmbedsWithItsOwnPooling) {
  // What transformers gives for the ids of a text, scaled to length 1.
  const auto loaded = LoadEncoder(Folder(), {.device = {.threads = 1}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  v1::WorkerEmbedRequest request;
  request.add_inputs("The router chooses a node.");
  request.add_inputs("");
  v1::WorkerEmbedResponse response;
  const grpc::Status status = stub_->Embed(&context_, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.embeddings_size(), 2);
  int64_t tokens = 0;
  for (int i = 0; i < 2; ++i) {
    const auto ids = (*loaded)->EncodeText(request.inputs(i), LongText::kRefuse);
    ASSERT_TRUE(ids.ok()) << ids.status();
    tokens += static_cast<int64_t>(ids->size());
    const auto vectors = (*loaded)->encoder->Embed({*ids}, absl::Now() + absl::Seconds(60));
    ASSERT_TRUE(vectors.ok()) << vectors.status();
    double squares = 0;
    for (const float value : vectors->front()) squares += double{value} * value;
    ASSERT_EQ(response.embeddings(i).values_size(), 36);
    for (int c = 0; c < 36; ++c) {
      EXPECT_FLOAT_EQ(
          response.embeddings(i).values(c),
          static_cast<float>(vectors->front()[static_cast<size_t>(c)] / std::sqrt(squares)));
    }
  }
  EXPECT_EQ(response.usage().prompt_tokens(), tokens);
}

TEST_F(EncoderServiceTest, CutsLongInputsOnlyWhereAskedTo) {
  v1::WorkerEmbedRequest request;
  std::string& input = *request.add_inputs();
  for (int i = 0; i < 300; ++i) input += "node ";
  v1::WorkerEmbedResponse response;
  grpc::Status status = stub_->Embed(&context_, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("at most 128"));
  request.set_cut_long_inputs(true);
  grpc::ClientContext context;
  status = stub_->Embed(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.usage().prompt_tokens(), 128);
}

TEST_F(EncoderServiceTest, CannotGenerateNorScore) {
  v1::WorkerGenerateRequest request;
  request.mutable_prompt()->mutable_template_()->set_template_("x");
  v1::WorkerGenerateResponse message;
  auto reader = stub_->Generate(&context_, request);
  EXPECT_FALSE(reader->Read(&message));
  const grpc::Status generated = reader->Finish();
  EXPECT_EQ(generated.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(generated.error_message(),
            "the model \"sentences\" is a sentence encoder: it embeds texts and cannot generate");
  v1::WorkerScoreRequest score;
  score.mutable_prompt()->mutable_template_()->set_template_("x");
  score.add_tokens("a");
  v1::WorkerScoreResponse scores;
  grpc::ClientContext context;
  EXPECT_EQ(stub_->Score(&context, score, &scores).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  v1::WorkerExplainCacheRequest question;
  *question.mutable_prompt() = score.prompt();
  v1::WorkerExplainCacheResponse explained;
  grpc::ClientContext another;
  EXPECT_EQ(stub_->ExplainCache(&another, question, &explained).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(EncoderServiceTest, InfoSaysWhatItIs) {
  v1::WorkerInfoResponse info;
  ASSERT_TRUE(stub_->Info(&context_, {}, &info).ok());
  EXPECT_EQ(info.kind(), v1::MODEL_KIND_ENCODER);
  EXPECT_EQ(info.model(), "sentences");
  EXPECT_EQ(info.family(), "bert");
  EXPECT_EQ(info.context_length(), 128);
  EXPECT_EQ(info.weight_format(), "stored");
  EXPECT_EQ(info.mean_weight_error(), 0);
  EXPECT_GT(info.parameters(), 0);
  EXPECT_EQ(info.fingerprint().size(), 32u);
}

TEST_F(EncoderServiceTest, RefusesNewCallsOnceItDrains) {
  v1::WorkerDrainResponse drained;
  ASSERT_TRUE(stub_->Drain(&context_, {}, &drained).ok());
  v1::WorkerEmbedRequest request;
  request.add_inputs("x");
  v1::WorkerEmbedResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(stub_->Embed(&context, request, &response).error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace octogate::workers
