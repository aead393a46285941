// What a look-up gives to whom it has made wait. What it finds at once, and by meaning, is
// query_cache_test.cc's.
#include "gateway/cache/answer_lookup.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: sum
  cache: {answers: {}}
  nodes:
    - {name: sum, tool: {tool: calculator}}
)";

class AnswerLookupTest : public testing::Test {
 protected:
  AnswerLookupTest() {
    const grpc::Status status = gateway_.Apply(kGraph);
    EXPECT_TRUE(status.ok()) << status.error_message();
    graph_ = gateway_.server().graphs().state();
    request_.set_tenant("t");
    key_ = *AnswerKeyOf(*graph_, request_, *drained_);
    kept_->query = key_.query;
    kept_->given_at = absl::Now();
  }

  QueryCaches& caches() { return *graph_->caches; }
  // What comes of it is added to results_.
  void LookUp() {
    AnswerLookup::Make(
        graph_, request_, drained_, absl::InfiniteFuture(), nullptr,
        [this](AnswerLookup::Result result) { results_.push_back(std::move(result)); })
        ->Start();
  }
  // The leader's flight, of which no recorder is made.
  AnswerFlights::Lead LeadNow() {
    AnswerFlights::Joined joined = caches().answer_flights->Join(
        absl::StrCat(caches().answers.epoch(), ":", key_.Whole()), [](auto, auto) {});
    EXPECT_TRUE(bool{joined.lead});
    return std::move(joined.lead);
  }

  TestGateway gateway_;
  std::shared_ptr<const GraphState> graph_;
  v1::GenerateRequest request_ = Ask("1 + 1");
  const std::shared_ptr<const DrainList::Names> drained_ =
      std::make_shared<const DrainList::Names>();
  AnswerKey key_;
  const std::shared_ptr<KeptAnswer> kept_ = std::make_shared<KeptAnswer>();
  std::vector<AnswerLookup::Result> results_;
};

TEST_F(AnswerLookupTest, AFollowerIsToldHowSimilarTheAnswersQueryWas) {
  AnswerFlights::Lead lead = LeadNow();
  LookUp();
  ASSERT_TRUE(results_.empty());
  lead.Finish({kept_, 0.75});
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].answer, kept_);
  EXPECT_EQ(results_[0].similarity, 0.75);
}

TEST_F(AnswerLookupTest, WhoLeadsWhereTheAnswerHasBeenKeptMeanwhileTakesIt) {
  AnswerFlights::Lead lead = LeadNow();
  LookUp();
  LookUp();
  ASSERT_TRUE(results_.empty());
  caches().answers.Put(key_, kept_, {}, caches().answers.epoch());
  lead.Abandon();
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[0].answer, kept_);
  EXPECT_EQ(results_[1].answer, kept_);
  EXPECT_EQ(caches().answers.Counts("").hits, 1);
}

TEST_F(AnswerLookupTest, NobodyFollowsAQueryFromBeforeAFlush) {
  AnswerFlights::Lead lead = LeadNow();
  LookUp();
  caches().answers.Flush("t");
  LookUp();
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].answer, nullptr);
  EXPECT_NE(results_[0].recorder, nullptr);
  lead.Finish({kept_, 1});
  ASSERT_EQ(results_.size(), 2u);
  EXPECT_EQ(results_[1].answer, kept_);
}

}  // namespace
}  // namespace octogate::gateway
