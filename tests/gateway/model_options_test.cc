// How the graph says that a model of this process is to be loaded, and what operators see of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/in_process_model_client.h"
#include "router/graph_schema.h"
#include "tests/gateway/model_gateway.h"
#include "tests/gateway/stub_worker.h"
#include "workers/engine/format_names.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A graph whose only model has the options.
std::string Graph(const std::string& options) {
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: test}\nspec:\n  entry: talk\n"
      "  models: [{name: tiny, path: llama3, ",
      options, "}]\n  nodes: [{name: talk, model: {model: tiny}}]\n");
}

// What is logged while it lives.
class Log {
 public:
  Log() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  const std::shared_ptr<spdlog::logger> before_;
};

class ModelOptionsTest : public testing::Test {
 protected:
  static workers::LoadOptions Load() {
    workers::LoadOptions load;
    load.engine.step_cost_time = absl::Milliseconds(50);
    return load;
  }

  grpc::Status Describe(const std::string& name, v1::DescribeModelsResponse* response) {
    grpc::ClientContext context;
    v1::DescribeModelsRequest request;
    request.set_name(name);
    return gateway_.admin()->DescribeModels(&context, request, response);
  }

  // The only model, once its replica has said what it is.
  v1::ModelStatus Model() {
    for (;;) {
      v1::DescribeModelsResponse response;
      EXPECT_TRUE(Describe("", &response).ok());
      EXPECT_EQ(response.models_size(), 1);
      if (response.models_size() != 1 || response.models(0).replicas(0).has_info()) {
        return response.models_size() == 1 ? response.models(0) : v1::ModelStatus();
      }
      absl::SleepFor(absl::Milliseconds(2));
    }
  }

  ModelGateway gateway_{FixtureCheckpoints(), Load()};
};

TEST_F(ModelOptionsTest, AreThoseOfTheGraph) {
  ASSERT_TRUE(gateway_
                  .Apply(Graph("weightFormat: int8-group, kvDtype: int8, threads: 2, maxSequences: "
                               "300, maxContext: 100, activations: bf16"))
                  .ok());
  const v1::ModelStatus model = Model();
  EXPECT_EQ(model.model().weight_format(), "int8-group");
  EXPECT_THAT(model.nodes(), ElementsAre("talk"));
  const v1::WorkerInfoResponse& info = model.replicas(0).info();
  EXPECT_EQ(info.weight_format(), "int8-group");
  EXPECT_GT(info.mean_weight_error(), 0);
  EXPECT_GE(info.worst_weight_error(), info.mean_weight_error());
  EXPECT_EQ(info.kv_dtype(), "int8");
  EXPECT_THAT(info.backend(), HasSubstr("2 threads, bf16 activations"));
  EXPECT_EQ(info.max_sequences(), 300);
  EXPECT_EQ(info.context_length(), 100);
  EXPECT_TRUE(gateway_.Generate(Ask("hello")).status.ok());
}

TEST_F(ModelOptionsTest, ThatTheGraphDoesNotSayAreTheWorkers) {
  ASSERT_TRUE(gateway_.Apply(Graph("weightFormat: bf16")).ok());
  const v1::WorkerInfoResponse info = Model().replicas(0).info();
  EXPECT_EQ(info.weight_format(), "bf16");
  EXPECT_EQ(info.kv_dtype(), "f32");
  EXPECT_THAT(info.backend(), HasSubstr("1 thread)"));
  EXPECT_EQ(info.max_sequences(), 16);
  EXPECT_EQ(info.context_length(), 512);
}

TEST_F(ModelOptionsTest, ThatChangeLoadTheModelAnewAndAreDifferences) {
  ASSERT_TRUE(gateway_.Apply(Graph("kvDtype: bf16")).ok());
  EXPECT_EQ(Model().replicas(0).info().kv_dtype(), "bf16");
  v1::ApplyGraphResponse response;
  ASSERT_TRUE(gateway_.Apply(Graph("kvDtype: fp8, maxContext: 64"), &response).ok());
  ASSERT_EQ(response.changes_size(), 2);
  EXPECT_EQ(response.changes(0).path(), "models[tiny].kvDtype");
  EXPECT_EQ(response.changes(0).before(), "bf16");
  EXPECT_EQ(response.changes(0).after(), "fp8");
  EXPECT_EQ(response.changes(1).path(), "models[tiny].maxContext");
  const v1::WorkerInfoResponse info = Model().replicas(0).info();
  EXPECT_EQ(info.kv_dtype(), "fp8");
  EXPECT_EQ(info.context_length(), 64);
}

TEST_F(ModelOptionsTest, TheModelOfThisProcessSaysWhatStepsCost) {
  ASSERT_TRUE(gateway_.Apply(Graph("threads: 1")).ok());
  const v1::WorkerInfoResponse info = Model().replicas(0).info();
  ASSERT_GT(info.step_costs_size(), 0);
  EXPECT_EQ(info.step_costs(0).rows(), 1);
  EXPECT_GT(info.step_costs(0).seconds(), 0);
}

TEST_F(ModelOptionsTest, AModelThatTheGraphDoesNotHaveIsNotFound) {
  v1::DescribeModelsResponse response;
  EXPECT_TRUE(Describe("", &response).ok()) << "before the first graph";
  EXPECT_EQ(response.models_size(), 0);
  EXPECT_EQ(Describe("tiny", &response).error_code(), grpc::StatusCode::NOT_FOUND);
  ASSERT_TRUE(gateway_.Apply(Graph("threads: 1")).ok());
  EXPECT_TRUE(Describe("tiny", &response).ok());
  EXPECT_EQ(response.models_size(), 1);
  EXPECT_EQ(response.graph_version(), 1);
  EXPECT_EQ(Describe("huge", &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ModelOptionsTest, ReplicasElsewhereAreDescribedTheSameWay) {
  StubWorker worker;
  ASSERT_TRUE(gateway_
                  .Apply(absl::StrCat("apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: "
                                      "test}\nspec:\n  entry: talk\n  models: [{name: stub, "
                                      "workers: [\"",
                                      worker.address(),
                                      "\"]}]\n  nodes: [{name: talk, model: {model: stub}}]\n"))
                  .ok());
  const v1::ModelStatus model = Model();
  EXPECT_EQ(model.replicas(0).address(), worker.address());
  EXPECT_EQ(model.replicas(0).info().family(), "stub");
}

TEST(InProcessWeightsTest, LoadingLogsWhatTheFormatCosts) {
  InProcessWorkerOptions options;
  options.model_root = std::string(OCTOGATE_FIXTURES) + "/checkpoints";
  options.load.device.threads = 1;
  InProcessWorker worker(options);
  v1::Model model;
  model.set_name("tiny");
  model.set_path("llama3");
  for (const std::string format : {"", "int4-group"}) {
    model.set_weight_format(format);
    const Log log;
    ASSERT_TRUE(worker.Load(model, absl::Now() + absl::Minutes(1)).ok());
    if (format.empty()) {
      EXPECT_THAT(log.text(), Not(HasSubstr("relative error")));
    } else {
      EXPECT_THAT(log.text(), testing::ContainsRegex("model tiny: weights as int4-group: relative "
                                                     "error 0\\.[0-9]+ in the mean, 0\\.[0-9]+ at "
                                                     "worst, in .*layers"));
    }
  }
  model.set_weight_format("int5");
  EXPECT_TRUE(absl::IsInvalidArgument(worker.Load(model, absl::InfiniteFuture()).status()));
}

// The manifest takes exactly the names that the worker knows.
TEST(FormatNamesTest, AreTheSameInTheGraphAndInTheWorker) {
  for (const std::string_view name : router::ChoicesOf(router::TextForm::kWeightFormat)) {
    EXPECT_TRUE(workers::ParseWeightFormat(name).has_value()) << name;
  }
  for (const std::string_view name : router::ChoicesOf(router::TextForm::kKvDtype)) {
    const auto type = workers::ParseKvDtype(name);
    ASSERT_TRUE(type.has_value()) << name;
    EXPECT_EQ(workers::KvDtypeName(*type), name);
  }
  EXPECT_EQ(router::ChoicesOf(router::TextForm::kWeightFormat).size(), 6u);
  EXPECT_EQ(router::ChoicesOf(router::TextForm::kKvDtype).size(), 5u);
  EXPECT_FALSE(workers::ParseWeightFormat("").has_value());
  EXPECT_FALSE(workers::ParseKvDtype("i8").has_value());
}

}  // namespace
}  // namespace octogate::gateway
