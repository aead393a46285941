// Of equal queries at the same time one asks the router, whose encoder answers here when it is
// told to.
#include "gateway/cache/routing_cache.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "router/graph_manifest.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::gateway {
namespace {

constexpr char kManifest[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: m, workers: ["127.0.0.1:1"]}]
  nodes:
    - {name: main, router: {members: [files, sums], fallback: sorry,
                            heads: [{threshold: 0.2, encoder: {model: m, epochs: 40}}]}}
    - name: files
      tool: {tool: reply}
      examples: [find large files, list the files in a folder, delete old files, copy a file]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80]
    - {name: sorry, tool: {tool: reply}}
)";

// Once it waits, what it is asked is answered, or fails, one after the other.
class WaitingModel final : public router::EmbeddingModel {
 public:
  void Embed(const v1::WorkerEmbedRequest& request, const router::CallContext& context,
             EmbedDone done) override {
    if (!waits) return words_.Embed(request, context, std::move(done));
    asked_.push_back([=, this, done = std::move(done)](const absl::Status& status) {
      words_.status = status;
      words_.Embed(request, context, done);
    });
  }
  absl::StatusOr<std::string> Fingerprint(absl::Time deadline) override {
    return words_.Fingerprint(deadline);
  }
  size_t asked() const { return asked_.size(); }
  void Answer(const absl::Status& status = absl::OkStatus()) {
    ASSERT_FALSE(asked_.empty());
    const auto first = std::move(asked_.front());
    asked_.erase(asked_.begin());
    first(status);
  }

  bool waits = false;

 private:
  router::BagOfWordsModel words_;
  std::vector<std::function<void(const absl::Status&)>> asked_;
};

class RoutingCacheTest : public testing::Test {
 protected:
  // One query and what came of it.
  struct Query {
    std::shared_ptr<Cancellation> cancellation = std::make_shared<Cancellation>();
    absl::StatusOr<v1::Decision> decision = absl::UnknownError("none yet");
    int ends = 0;

    std::string node() const { return decision.ok() ? decision->node() : ""; }
  };

  RoutingCacheTest() {
    const auto parsed = router::ParseGraphManifest(kManifest, "test.yaml");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    auto routing = router::RoutingSnapshot::Build(
        parsed->graph, 1, {.embedding = [this](std::string_view) { return model_; }},
        absl::InfiniteFuture());
    EXPECT_TRUE(routing.ok()) << routing.status();
    graph_->routing = *std::move(routing);
    graph_->caches = std::make_shared<QueryCaches>(parsed->graph.spec());
    model_->waits = true;
  }

  std::shared_ptr<Query> Ask(const std::string& text, const std::string& tenant = "t",
                             absl::Duration time = absl::Seconds(60)) {
    auto query = std::make_shared<Query>();
    router::RouteOptions options;
    options.context = {
        .deadline = begin_ + time, .cancellation = query->cancellation, .tenant = tenant};
    RouteCached(graph_, "main", text, std::move(options), /*bypass=*/false, nullptr,
                [query](absl::StatusOr<v1::Decision> decision) {
                  query->decision = std::move(decision);
                  ++query->ends;
                });
    return query;
  }

  const absl::Time begin_ = absl::Now();
  const std::shared_ptr<WaitingModel> model_ = std::make_shared<WaitingModel>();
  const std::shared_ptr<GraphState> graph_ = std::make_shared<GraphState>();
};

TEST_F(RoutingCacheTest, OneOfEqualQueriesAsks) {
  const auto leader = Ask("list old files");
  const auto follower = Ask("list old files");
  const auto other = Ask("17 plus 4");
  const auto stranger = Ask("list old files", "another tenant");
  EXPECT_EQ(model_->asked(), 3u);
  EXPECT_EQ(leader->ends + follower->ends + other->ends + stranger->ends, 0);
  model_->Answer();
  EXPECT_EQ(leader->node(), "files");
  EXPECT_FALSE(leader->decision->cached());
  EXPECT_EQ(follower->node(), "files");
  EXPECT_TRUE(follower->decision->cached());
  EXPECT_FALSE(follower->decision->has_usage());
  EXPECT_EQ(stranger->ends, 0);
  model_->Answer();
  EXPECT_EQ(other->node(), "sums");
  model_->Answer();
  EXPECT_EQ(stranger->node(), "files");
  EXPECT_FALSE(stranger->decision->cached());
  EXPECT_EQ(Ask("list old files")->node(), "files");
  EXPECT_EQ(model_->asked(), 0u);
}

TEST_F(RoutingCacheTest, WhereTheLeaderIsCancelledTheNextOneAsks) {
  const auto leader = Ask("list old files");
  const auto next = Ask("list old files");
  const auto last = Ask("list old files");
  leader->cancellation->Cancel();
  model_->Answer(absl::CancelledError("the client has gone"));
  EXPECT_EQ(leader->decision.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(next->ends + last->ends, 0);
  EXPECT_EQ(model_->asked(), 1u);
  model_->Answer();
  EXPECT_EQ(next->node(), "files");
  EXPECT_EQ(last->node(), "files");
}

TEST_F(RoutingCacheTest, AFollowerThatIsCancelledDoesNotWait) {
  const auto leader = Ask("list old files");
  const auto follower = Ask("list old files");
  follower->cancellation->Cancel();
  EXPECT_EQ(follower->ends, 1);
  EXPECT_EQ(follower->decision.status().code(), absl::StatusCode::kCancelled);
  model_->Answer();
  EXPECT_EQ(leader->node(), "files");
  EXPECT_EQ(follower->ends, 1);
}

TEST_F(RoutingCacheTest, WhoHasLessTimeThanTheLeaderAsksItself) {
  const auto leader = Ask("list old files");
  const auto hasty = Ask("list old files", "t", absl::Seconds(30));
  EXPECT_EQ(model_->asked(), 2u);
  model_->Answer();
  model_->Answer();
  EXPECT_EQ(leader->node(), "files");
  EXPECT_EQ(hasty->node(), "files");
}

// What failed once may not fail again: nobody else is given it.
TEST_F(RoutingCacheTest, ADecisionThatIsNotRepeatableIsTheLeadersAlone) {
  const auto leader = Ask("list old files");
  const auto follower = Ask("list old files");
  model_->Answer(absl::UnavailableError("no worker"));
  EXPECT_EQ(leader->node(), "sorry");
  EXPECT_EQ(follower->ends, 0);
  ASSERT_EQ(model_->asked(), 1u);
  model_->Answer();
  EXPECT_EQ(follower->node(), "files");
}

TEST_F(RoutingCacheTest, WhatBeganBeforeAFlushIsNotGivenToThoseAfterIt) {
  const auto before = Ask("list old files");
  graph_->caches->decisions.Flush("");
  const auto after = Ask("list old files");
  EXPECT_EQ(model_->asked(), 2u);
  model_->Answer();
  EXPECT_EQ(before->node(), "files");
  EXPECT_EQ(after->ends, 0);
  model_->Answer();
  EXPECT_FALSE(after->decision->cached());
}

}  // namespace
}  // namespace octogate::gateway
