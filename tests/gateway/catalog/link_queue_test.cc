// Queries that link while other links hold every thread: a tenant that fills its share of the queue
// keeps no other one out, and what finds no place says so at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/gateway/catalog/held_model.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// `slow` waits for vectors that are held, and so do the threads that link it.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: shop}
spec:
  entry: schema
  models: [{name: held, path: held}]
  catalogs:
    - {name: shop, sqlite: shop.sqlite}
    - {name: slow, sqlite: shop.sqlite, encoder: held}
  nodes:
    - {name: schema, retriever: {catalog: shop}}
    - {name: write, model: {model: held}}
    - {name: widen, retriever: {catalog: shop}}
    - {name: correct, model: {model: held}}
    - {name: busy, retriever: {catalog: slow}}
    - {name: chosen, retriever: {catalog: shop, tableNode: choose, settings: {style: list}}}
    - {name: choose, model: {model: held}}
  edges:
    - {from: schema, to: write, on: success}
    - {from: write, to: widen, on: success, input: "{query}"}
    - {from: widen, to: correct, on: success}
    - {from: write, to: busy, on: error}
    - {from: correct, to: chosen, on: error}
)";

class LinkQueueTest : public testing::Test {
 protected:
  LinkQueueTest() : gateway_(Options()) {
    folder_.MakeShop("shop.sqlite");
    const grpc::Status status = gateway_.Apply(kGraph);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  ~LinkQueueTest() override { Release(); }

  ServerOptions Options() {
    ServerOptions options;
    options.graph.model_root = folder_.path();
    options.load_model = [this](const v1::Model&, absl::Time) { return model_.NewClient(); };
    return options;
  }

  static v1::GenerateRequest AskAs(const std::string& tenant, const std::string& node) {
    v1::GenerateRequest request = Ask("what do customers order?", node);
    request.set_tenant(tenant);
    return request;
  }
  // Asks on a thread of its own.
  std::future<Answer> Start(const std::string& tenant, const std::string& node) {
    return std::async(std::launch::async, [this, request = AskAs(tenant, node)] {
      return gateway_.Generate(request, absl::Minutes(5));
    });
  }

  // Has links of the tenant on both threads and as many waiting as it may. The refusals of the
  // others.
  std::vector<Answer> Fill(const std::string& tenant) {
    model_.HoldVectors(true);
    for (int i = 0; i < 2; ++i) links_.push_back(Start(tenant, "busy"));
    model_.AwaitHeldVectors(2);
    for (size_t i = 0; i < kShare + kTooMany; ++i) links_.push_back(Start(tenant, "busy"));
    // None of them can end but by being refused.
    std::vector<Answer> refused;
    while (refused.size() < kTooMany) {
      for (std::future<Answer>& link : links_) {
        if (link.valid() &&
            link.wait_for(std::chrono::milliseconds(1)) == std::future_status::ready) {
          refused.push_back(link.get());
        }
      }
    }
    return refused;
  }
  // Lets everything go on. What the links of Fill have become.
  std::vector<Answer> Release() {
    model_.HoldAnswers(false);
    model_.HoldVectors(false);
    std::vector<Answer> answers;
    for (std::future<Answer>& link : links_) {
      if (link.valid()) answers.push_back(link.get());
    }
    links_.clear();
    return answers;
  }

  static constexpr size_t kShare = 64;  // of 128 places
  static constexpr size_t kTooMany = 3;

  const TestFolder folder_;
  HeldModel model_{"orders"};
  TestGateway gateway_;
  std::vector<std::future<Answer>> links_;
};

void ExpectRefused(const Answer& answer, const std::string& node) {
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(),
              AllOf(HasSubstr(absl::StrCat("node \"", node,
                                           "\": tenant \"greedy\" has 64 links "
                                           "waiting, as many as one tenant may")),
                    HasSubstr("try again in")));
  int hint = 0;
  EXPECT_TRUE(absl::SimpleAtoi(answer.pushback, &hint)) << answer.pushback;
  EXPECT_GT(hint, 0);
}

TEST_F(LinkQueueTest, ATenantThatFillsItsShareKeepsNoOtherOut) {
  for (const Answer& refused : Fill("greedy")) ExpectRefused(refused, "busy");
  std::vector<std::future<Answer>> others;
  for (const char* const tenant : {"a", "b", "c"}) others.push_back(Start(tenant, "widen"));
  const std::vector<Answer> linked = Release();
  EXPECT_EQ(linked.size(), 2 + kShare);
  for (const Answer& link : linked) EXPECT_TRUE(link.status.ok()) << link.status.error_message();
  for (std::future<Answer>& other : others) {
    const Answer answer = other.get();
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  // Every place was given back.
  EXPECT_EQ(Fill("greedy").size(), kTooMany);
}

TEST_F(LinkQueueTest, ASecondLinkThatFindsNoPlaceIsTheQuerysError) {
  model_.HoldAnswers(true);
  std::future<Answer> query = Start("greedy", "");
  model_.AwaitHeldAnswers(1);
  Fill("greedy");
  model_.HoldAnswers(false);
  ExpectRefused(query.get(), "widen");
  for (const Answer& link : Release()) EXPECT_TRUE(link.status.ok());
}

TEST_F(LinkQueueTest, ChosenTablesThatFindNoPlaceLeaveTheLinkAsItWas) {
  model_.HoldAnswers(true);
  std::future<Answer> query = Start("greedy", "chosen");
  model_.AwaitHeldAnswers(1);
  Fill("greedy");
  model_.HoldAnswers(false);
  const Answer answer = query.get();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.text(), AllOf(HasSubstr("orders"), HasSubstr("salaries")));
  bool judged = false;
  for (const v1::GenerateResponse& event : answer.events) {
    if (!event.has_judged()) continue;
    judged = true;
    EXPECT_THAT(event.judged().reason(),
                HasSubstr("the link stays as it was, as tenant \"greedy\" has 64 links waiting"));
    EXPECT_EQ(event.judged().answer_from(), "");
  }
  EXPECT_TRUE(judged);
}

TEST_F(LinkQueueTest, ALinkThatWaitsEndsWithItsQuery) {
  Fill("greedy");
  const Answer late = gateway_.Generate(AskAs("other", "widen"), absl::Milliseconds(300));
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

}  // namespace
}  // namespace octogate::gateway
