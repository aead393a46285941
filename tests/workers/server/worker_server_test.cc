// The worker behind real gRPC on a loopback port, with a real (tiny) model.

#include "workers/server/worker_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <thread>

#include "common/grpc_status.h"
#include "common/status.h"
#include "tests/workers/server/worker_server_fixture.h"
#include "workers/engine/format_names.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

TEST_F(WorkerServerTest, StreamsWhatTheModelGenerates) {
  const Answer answer = Generate(Request("The router", 20));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.ends, 1);
  EXPECT_EQ(answer.end.usage().completion_tokens(), static_cast<int64_t>(answer.ids.size()));
  EXPECT_GT(answer.end.usage().prompt_tokens(), 0);
  EXPECT_LT(answer.logprob_sum, 0);
  const Answer again = Generate(Request("The router", 20));
  EXPECT_EQ(again.ids, answer.ids);
  EXPECT_EQ(again.text, answer.text);
}

TEST_F(WorkerServerTest, ManyClientsGetTheSameAnswersAsOne) {
  std::vector<Answer> alone;
  for (int i = 0; i < 8; ++i) alone.push_back(Generate(Request("query " + std::to_string(i), 30)));
  std::vector<Answer> together(8);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back(
        [&, i] { together[i] = Generate(Request("query " + std::to_string(i), 30)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    EXPECT_EQ(together[i].ids, alone[i].ids) << i;
  }
}

TEST_F(WorkerServerTest, ScoresAreLogProbabilities) {
  v1::WorkerScoreRequest request;
  *request.mutable_prompt() = Request("The router", 1).prompt();
  const Tokenizer& tokenizer = *Model().tokenizer;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (auto token = tokenizer.Token(id); token.ok()) request.add_tokens(*token);
  }
  v1::WorkerScoreResponse response;
  ASSERT_TRUE(stub_->Score(Context().get(), request, &response).ok());
  ASSERT_EQ(response.logits_size(), request.tokens_size());
  double total = 0;
  for (const float logit : response.logits()) total += std::exp(logit - response.log_sum_exp());
  EXPECT_NEAR(total, 1, 1e-4);

  request.add_tokens("<fn:nowhere>");
  const grpc::Status status = stub_->Score(Context().get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("<fn:nowhere>"));
}

TEST_F(WorkerServerTest, TheFirstTokenIsOneOfTheChoices) {
  v1::WorkerGenerateRequest request = Request("The router", 3);
  request.add_first_token_choices("<|end_header_id|>");
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_FALSE(answer.ids.empty());
  EXPECT_EQ(answer.ids[0], *Model().tokenizer->TokenId("<|end_header_id|>"));
}

TEST_F(WorkerServerTest, StopTokensEndTheAnswerAndAreNamed) {
  const Answer whole = Generate(Request("The router", 12));
  ASSERT_GT(whole.ids.size(), 5u);
  const Tokenizer& tokenizer = *Model().tokenizer;
  v1::WorkerGenerateRequest request = Request("The router", 12);
  request.add_stop_tokens(*tokenizer.Token(whole.ids[4]));
  const Answer cut = Generate(request);
  EXPECT_EQ(cut.end.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(cut.end.stop_token(), *tokenizer.Token(whole.ids[4]));
  EXPECT_LE(cut.ids.size(), 5u);
}

TEST_F(WorkerServerTest, EmbeddingsHaveLengthOne) {
  v1::WorkerEmbedRequest request;
  request.add_inputs("The router chooses a node.");
  request.add_inputs("Snow.");
  v1::WorkerEmbedResponse response;
  ASSERT_TRUE(stub_->Embed(Context().get(), request, &response).ok());
  ASSERT_EQ(response.embeddings_size(), 2);
  for (const v1::Embedding& embedding : response.embeddings()) {
    double squares = 0;
    for (const float value : embedding.values()) squares += value * value;
    EXPECT_NEAR(squares, 1, 1e-5);
  }
}

TEST_F(WorkerServerTest, ACancelledStreamFreesItsPages) {
  for (int round = 0; round < 5; ++round) {
    const auto context = Context();
    v1::WorkerGenerateRequest request = Request("The router", kContext - 20);
    auto reader = stub_->Generate(context.get(), request);
    v1::WorkerGenerateResponse message;
    ASSERT_TRUE(reader->Read(&message));
    context->TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  ExpectIdle();
}

TEST_F(WorkerServerTest, ACancelledScoreLeavesTheEngine) {
  v1::WorkerScoreRequest request;
  *request.mutable_prompt() = Request("The router", 1).prompt();
  request.add_tokens("<|end_header_id|>");
  ExpectCancellationSparesTheEngine([&](grpc::ClientContext* context) {
    v1::WorkerScoreResponse response;
    return stub_->Score(context, request, &response);
  });
}

TEST_F(WorkerServerTest, ACancelledEmbedLeavesTheEngine) {
  v1::WorkerEmbedRequest request;
  for (int i = 0; i < 3; ++i) request.add_inputs("The router chooses a node.");
  ExpectCancellationSparesTheEngine([&](grpc::ClientContext* context) {
    v1::WorkerEmbedResponse response;
    return stub_->Embed(context, request, &response);
  });
}

TEST_F(WorkerServerTest, ARefusalSaysWhenToTryAgain) {
  const HeldEngine held(server_->model());
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::WorkerGenerateResponse>>> waiting;
  for (int i = 0; i < kMaxWaiting; ++i) {
    contexts.push_back(Context());
    waiting.push_back(stub_->Generate(contexts.back().get(), Request("x", 1)));
  }
  AwaitWaiting(kMaxWaiting);
  const auto context = Context();
  auto reader = stub_->Generate(context.get(), Request("x", 1));
  v1::WorkerGenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  const absl::Status refused = FromGrpcStatus(reader->Finish(), *context);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_GT(RetryAfter(refused), absl::ZeroDuration());

  v1::WorkerScoreRequest score;
  *score.mutable_prompt() = Request("x", 1).prompt();
  score.add_tokens("<|end_header_id|>");
  v1::WorkerScoreResponse scores;
  const auto unary = Context();
  const absl::Status unscored = FromGrpcStatus(stub_->Score(unary.get(), score, &scores), *unary);
  EXPECT_TRUE(absl::IsResourceExhausted(unscored)) << unscored;
  EXPECT_GT(RetryAfter(unscored), absl::ZeroDuration());

  for (const auto& call : contexts) call->TryCancel();
  for (const auto& call : waiting) EXPECT_FALSE(call->Finish().ok());
}

TEST_F(WorkerServerTest, ADeadlineEndsTheSequenceInTheEngineToo) {
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&] {
      const Answer answer = Generate(Request("The router", kContext - 20), absl::Milliseconds(2));
      EXPECT_THAT(answer.status.error_code(),
                  ::testing::AnyOf(grpc::StatusCode::DEADLINE_EXCEEDED,
                                   grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::OK));
    });
  }
  for (std::thread& client : clients) client.join();
  ExpectIdle();
}

TEST_F(WorkerServerTest, BadRequestsSayWhatIsWrong) {
  EXPECT_EQ(Generate(v1::WorkerGenerateRequest()).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Generate(Request("x", -1)).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const Answer too_long = Generate(Request(Words(3 * kContext), 10));
  EXPECT_EQ(too_long.status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(too_long.status.error_message(), HasSubstr(std::to_string(kContext)));
  v1::WorkerGenerateRequest logprobs = Request("x", 1);
  logprobs.set_top_logprobs(1000);
  EXPECT_EQ(Generate(logprobs).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkerServerTest, OnlyCallsOfTheSameSaltShareTheirPrefixes) {
  const std::string query = Words(40);
  const auto generate = [&](const std::string& salt) {
    v1::WorkerGenerateRequest request = Request(query, 2);
    request.mutable_terms()->set_cache_salt(salt);
    const Answer answer = Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.end.usage();
  };
  const auto score = [&](const std::string& salt) {
    v1::WorkerScoreRequest request;
    *request.mutable_prompt() = Request(query, 1).prompt();
    request.add_tokens("<|end_header_id|>");
    request.mutable_terms()->set_cache_salt(salt);
    v1::WorkerScoreResponse response;
    const grpc::Status status = stub_->Score(Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.usage();
  };
  EXPECT_EQ(generate("a").cached_tokens(), 0);
  EXPECT_EQ(generate("b").cached_tokens(), 0);
  EXPECT_EQ(score("c").cached_tokens(), 0);
  EXPECT_EQ(score("").cached_tokens(), 0);
  v1::WorkerInfoResponse info = server_->model().Info();
  EXPECT_EQ(info.prefix_hit_tokens(), 0);

  int64_t hits = 0;
  for (const v1::Usage& usage : {generate("a"), score("b"), generate("c"), generate("")}) {
    EXPECT_GT(usage.cached_tokens(), 0);
    EXPECT_LT(usage.cached_tokens(), usage.prompt_tokens());
    hits += usage.cached_tokens();
  }
  info = server_->model().Info();
  EXPECT_EQ(info.prefix_hit_tokens(), hits);
  EXPECT_GT(info.prefix_query_tokens(), hits);
}

TEST_F(WorkerServerTest, AnEmbeddingLeavesItsPrefixToItsOwnSaltOnly) {
  const std::string query = Words(40);
  v1::WorkerEmbedRequest embed;
  embed.add_inputs(query);
  embed.mutable_terms()->set_cache_salt("a");
  v1::WorkerEmbedResponse response;
  ASSERT_TRUE(stub_->Embed(Context().get(), embed, &response).ok());
  const auto cached_tokens = [&](const std::string& salt) {
    v1::WorkerGenerateRequest request = Request(query, 1);
    request.mutable_terms()->set_cache_salt(salt);
    return Generate(request).end.usage().cached_tokens();
  };
  EXPECT_EQ(cached_tokens("b"), 0);
  EXPECT_GT(cached_tokens("a"), 0);
}

TEST_F(WorkerServerTest, TermsOutOfRangeAreRefusedByEveryCall) {
  const auto refuse = [&](const v1::WorkerServiceTerms& terms, const std::string& words) {
    v1::WorkerGenerateRequest generate = Request("x", 1);
    *generate.mutable_terms() = terms;
    v1::WorkerScoreRequest score;
    *score.mutable_prompt() = generate.prompt();
    score.add_tokens("<|end_header_id|>");
    *score.mutable_terms() = terms;
    v1::WorkerScoreResponse scores;
    v1::WorkerEmbedRequest embed;
    embed.add_inputs("x");
    *embed.mutable_terms() = terms;
    v1::WorkerEmbedResponse embeddings;
    for (const grpc::Status& status :
         {Generate(generate).status, stub_->Score(Context().get(), score, &scores),
          stub_->Embed(Context().get(), embed, &embeddings)}) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(status.error_message(), HasSubstr(words));
    }
  };
  const auto accept = [&](const v1::WorkerServiceTerms& terms) {
    v1::WorkerGenerateRequest generate = Request("x", 1);
    *generate.mutable_terms() = terms;
    const grpc::Status status = Generate(generate).status;
    EXPECT_TRUE(status.ok()) << status.error_message();
  };
  v1::WorkerServiceTerms terms;
  for (const int sign : {-1, 1}) {
    terms.set_priority(sign * 100);
    accept(terms);
    terms.set_priority(sign * 101);
    refuse(terms, "priority is " + std::to_string(sign * 101));
  }
  terms.Clear();
  terms.set_tenant(std::string(256, 't'));
  terms.set_cache_salt(std::string(256, 's'));
  accept(terms);
  terms.set_tenant(std::string(257, 't'));
  refuse(terms, "tenant has 257 bytes");
  terms.set_tenant("t");
  terms.set_cache_salt(std::string(257, 's'));
  refuse(terms, "cache_salt has 257 bytes");
}

TEST_F(WorkerServerTest, InfoHasNoStepCostsWhereNoneWereMeasured) {
  const v1::WorkerInfoResponse info = server_->model().Info();
  EXPECT_EQ(info.step_costs_size(), 0);
  EXPECT_EQ(info.step_context_costs_size(), 0);
  EXPECT_EQ(info.step_sequence_costs_size(), 0);
}

TEST(ModelServiceTest, InfoSaysWhatStepsCost) {
  LoadOptions options;
  options.device.threads = 1;
  options.engine.step_cost_time = absl::Milliseconds(200);
  auto model = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const v1::WorkerInfoResponse info = ModelService("tiny", *std::move(model)).Info();
  ASSERT_GT(info.step_costs_size(), 0);
  int rows = 0;
  double seconds = 0;
  for (const v1::WorkerStepCost& cost : info.step_costs()) {
    EXPECT_GT(cost.rows(), rows);
    EXPECT_GT(cost.seconds(), 0);
    EXPECT_GE(cost.seconds(), seconds);
    rows = cost.rows();
    seconds = cost.seconds();
  }
  for (const auto* terms : {&info.step_context_costs(), &info.step_sequence_costs()}) {
    ASSERT_GT(terms->size(), 1);
    EXPECT_EQ(terms->at(0).count(), 1);
    EXPECT_EQ(terms->at(0).seconds(), 0) << "the first row has it";
    for (int i = 1; i < terms->size(); ++i) {
      EXPECT_GT(terms->at(i).count(), terms->at(i - 1).count());
      EXPECT_GE(terms->at(i).seconds(), terms->at(i - 1).seconds());
    }
  }
}

TEST(ModelServiceTest, InfoSaysHowTheModelIsKept) {
  LoadOptions options;
  options.device.threads = 1;
  options.engine.max_sequences = 3;
  options.engine.weight_format = *ParseWeightFormat("int8");
  options.engine.kv_dtype = *ParseKvDtype("fp8");
  options.engine.swap_bytes = 1 << 20;
  auto model = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const v1::WorkerInfoResponse info = ModelService("tiny", *std::move(model)).Info();
  EXPECT_EQ(info.weight_format(), "int8");
  EXPECT_GT(info.mean_weight_error(), 0);
  EXPECT_GE(info.worst_weight_error(), info.mean_weight_error());
  EXPECT_EQ(info.kv_dtype(), "fp8");
  EXPECT_EQ(info.max_sequences(), 3);
  // Whole pages.
  EXPECT_GT(info.swap_bytes(), 0);
  EXPECT_LE(info.swap_bytes(), 1 << 20);
  EXPECT_EQ(info.swap_bytes_used(), 0);
  EXPECT_EQ(info.preemptions(), 0);
}

TEST(ModelServiceTest, InfoSaysWhatCameOfSharedDraftsWhereThereAreSome) {
  LoadOptions options;
  options.device.threads = 1;
  auto model = LoadModel(std::string(OCTOGATE_FIXTURES) + "/checkpoints/llama3", options);
  ASSERT_TRUE(model.ok()) << model.status().message();
  std::optional<SharedDraftsStats> stats;
  (*model)->shared_drafts = [&stats] { return stats; };
  const ModelService service("tiny", *std::move(model));
  EXPECT_FALSE(service.Info().has_shared_drafts());
  stats = {.published_bytes = 1,
           .publications = 2,
           .snapshots = 3,
           .read_bytes = 4,
           .merged = 5,
           .refused = 6,
           .store_failures = 7,
           .store_losses = 8,
           .store_reachable = false};
  const v1::SharedDraftsUsage usage = service.Info().shared_drafts();
  EXPECT_EQ(usage.published_bytes(), 1);
  EXPECT_EQ(usage.publications(), 2);
  EXPECT_EQ(usage.snapshots(), 3);
  EXPECT_EQ(usage.read_bytes(), 4);
  EXPECT_EQ(usage.merged(), 5);
  EXPECT_EQ(usage.refused(), 6);
  EXPECT_EQ(usage.store_failures(), 7);
  EXPECT_EQ(usage.store_losses(), 8);
  EXPECT_FALSE(usage.store_reachable());
  stats->store_reachable = true;
  EXPECT_TRUE(service.Info().shared_drafts().store_reachable());
}

TEST_F(WorkerServerTest, SaysWhatItHasOfAPromptAsACallWouldFindIt) {
  v1::WorkerExplainCacheRequest question;
  const auto explain = [&](absl::Duration timeout = absl::Seconds(30)) {
    v1::WorkerExplainCacheResponse explained;
    const grpc::Status status = stub_->ExplainCache(Context(timeout).get(), question, &explained);
    return std::make_pair(status.error_code(), explained);
  };
  EXPECT_EQ(explain().first, grpc::StatusCode::INVALID_ARGUMENT) << "no prompt";
  v1::WorkerGenerateRequest request = Request(Words(60), 1);
  request.mutable_terms()->set_cache_salt("a");
  *question.mutable_prompt() = request.prompt();
  question.set_cache_salt("a");
  EXPECT_EQ(explain().second.cached_tokens(), 0);
  const Answer first = Generate(request);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  const auto before = Model().engine->stats();
  const v1::WorkerExplainCacheResponse explained = explain().second;
  EXPECT_EQ(explained.prompt_tokens(), first.end.usage().prompt_tokens());
  EXPECT_GT(explained.cached_tokens(), 0);
  EXPECT_FALSE(explained.has_shared());
  question.set_cache_salt("b");
  EXPECT_EQ(explain().second.cached_tokens(), 0) << "another tenant's";
  EXPECT_EQ(Model().engine->stats().prefix_query_tokens, before.prefix_query_tokens);
  EXPECT_EQ(Model().engine->stats().requests_accepted, before.requests_accepted);
  EXPECT_EQ(Generate(request).end.usage().cached_tokens(), explained.cached_tokens());
  {
    const HeldEngine held(server_->model());
    EXPECT_EQ(explain(absl::Milliseconds(200)).first, grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  question.set_cache_salt(std::string(257, 's'));
  EXPECT_EQ(explain().first, grpc::StatusCode::INVALID_ARGUMENT);
  question.set_cache_salt("a");
  question.mutable_prompt()->mutable_template_()->set_query(Words(kContext));
  EXPECT_EQ(explain().first, grpc::StatusCode::OUT_OF_RANGE);
}

TEST_F(WorkerServerTest, ADrainedWorkerIsNotHealthyAndTakesNoMore) {
  EXPECT_EQ(Health(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("octogate.v1.Worker"), HealthCheckResponse::SERVING);

  v1::WorkerDrainResponse drained;
  ASSERT_TRUE(stub_->Drain(Context().get(), {}, &drained).ok());
  EXPECT_TRUE(server_->model().Info().draining());
  EXPECT_EQ(Health(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Health("octogate.v1.Worker"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Generate(Request("x", 1)).status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WorkerServerTest, WhoWatchesTheHealthHearsOfTheShutdown) {
  const auto context = Context();
  HealthCheckRequest request;
  request.set_service("octogate.v1.Worker");
  auto watch = grpc::health::v1::Health::NewStub(channel_)->Watch(context.get(), request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  std::thread stopper([&] { server_->Shutdown(absl::Seconds(5)); });
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  while (watch->Read(&response)) {
  }
  EXPECT_FALSE(watch->Finish().ok());
  stopper.join();
}

TEST_F(WorkerServerTest, ShutdownLetsAnswersUnderWayEnd) {
  const auto context = Context();
  auto reader = stub_->Generate(context.get(), Request("The router", 200));
  v1::WorkerGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  std::thread stopper([&] { server_->Shutdown(absl::Seconds(20)); });
  bool ended = message.has_end();
  while (reader->Read(&message)) ended |= message.has_end();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(ended);
  stopper.join();
}

}  // namespace
}  // namespace octogate::workers
