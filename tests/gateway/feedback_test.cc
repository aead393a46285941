// Feedback of users: kept per tenant within bounds, and learned from when an operator says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/feedback_store.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

v1::FeedbackEntry Entry(const std::string& tenant, const std::string& trace) {
  v1::FeedbackEntry entry;
  entry.set_tenant(tenant);
  entry.set_trace_id(trace);
  entry.set_verdict(v1::VERDICT_WRONG);
  entry.set_query("about " + trace);
  return entry;
}

class FeedbackStoreTest : public testing::Test {
 protected:
  static FeedbackStoreOptions Options(absl::Time* now) {
    FeedbackStoreOptions options;
    options.max_entries_per_tenant = 3;
    options.max_entries = 5;
    options.clock = [now] { return *now; };
    return options;
  }
  std::vector<std::string> Traces(const std::string& tenant = "") {
    const auto entries = feedback_.List(tenant, absl::InfiniteFuture());
    EXPECT_TRUE(entries.ok()) << entries.status();
    std::vector<std::string> traces;
    for (const v1::FeedbackEntry& entry : *entries) traces.push_back(entry.trace_id());
    return traces;
  }
  absl::Status Add(const std::string& tenant, const std::string& trace) {
    now_ += absl::Seconds(1);
    return feedback_.Add(Entry(tenant, trace), absl::InfiniteFuture());
  }

  absl::Time now_ = absl::Now();
  const std::unique_ptr<Store> store_ = MakeMemoryStore();
  FeedbackStore feedback_{store_.get(), Options(&now_)};
};

TEST_F(FeedbackStoreTest, ListsTheNewestFirstByTenant) {
  ASSERT_TRUE(Add("a", "1").ok());
  ASSERT_TRUE(Add("b", "2").ok());
  ASSERT_TRUE(Add("a", "3").ok());
  EXPECT_THAT(Traces(), ElementsAre("3", "2", "1"));
  EXPECT_THAT(Traces("a"), ElementsAre("3", "1"));
  EXPECT_THAT(Traces("nobody"), IsEmpty());
  ASSERT_TRUE(Add("a", "1").ok());
  EXPECT_THAT(Traces("a"), ElementsAre("1", "3")) << "the last word on a trace counts";
  ASSERT_TRUE(feedback_.Delete(Entry("a", "3"), absl::InfiniteFuture()).ok());
  EXPECT_THAT(Traces(), ElementsAre("1", "2"));
}

TEST_F(FeedbackStoreTest, KeepsNoMoreThanItMay) {
  for (const char* trace : {"1", "2", "3"}) ASSERT_TRUE(Add("a", trace).ok());
  EXPECT_EQ(Add("a", "4").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Add("a", "2").ok()) << "in place of what is there";
  ASSERT_TRUE(Add("b", "1").ok());
  ASSERT_TRUE(Add("c", "1").ok());
  EXPECT_EQ(Add("d", "1").code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FeedbackStoreTest, WhatIsDamagedIsLeftOut) {
  ASSERT_TRUE(Add("a", "1").ok());
  const auto keys = store_->List("feedback/", "", 10, absl::InfiniteFuture());
  ASSERT_EQ(keys->size(), 1);
  // A stranger's entry under this name, then no entry at all.
  for (const std::string& value : {Entry("b", "1").SerializeAsString(), std::string("\xff\xff")}) {
    ASSERT_TRUE(
        store_->Put(keys->front(), value, absl::InfiniteFuture(), absl::InfiniteFuture()).ok());
    EXPECT_THAT(Traces(), IsEmpty());
  }
}

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router: {members: [files, music], fallback: sorry, heads: [{threshold: 0.5, lexical: {}}]}
    - name: files
      tool: {tool: reply, parameters: {text: files}}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - {name: music, tool: {tool: reply, parameters: {text: music}}}
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
)";

class FeedbackTest : public testing::Test {
 protected:
  FeedbackTest() {
    const grpc::Status status = gateway_.Apply(kGraph);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  // The trace of a query that was answered.
  std::string Query(const std::string& query, const std::string& tenant = "") {
    v1::GenerateRequest request = Ask(query);
    request.set_tenant(tenant);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    const std::string trace = answer.events.front().started().trace_id();
    // A trace is kept once its query has ended.
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (absl::Now() < deadline) {
      grpc::ClientContext context;
      v1::GetTraceRequest get;
      get.set_trace_id(trace);
      v1::GetTraceResponse got;
      if (gateway_.admin()->GetTrace(&context, get, &got).ok()) break;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return trace;
  }
  grpc::Status Say(const std::string& trace, v1::Verdict verdict, const std::string& better = "",
                   const std::string& tenant = "") {
    grpc::ClientContext context;
    v1::FeedbackRequest request;
    request.set_trace_id(trace);
    request.set_verdict(verdict);
    request.set_better_node(better);
    request.set_tenant(tenant);
    v1::FeedbackResponse response;
    return gateway_.gateway()->Feedback(&context, request, &response);
  }
  v1::ListFeedbackResponse List(const std::string& tenant = "") {
    grpc::ClientContext context;
    v1::ListFeedbackRequest request;
    request.set_tenant(tenant);
    v1::ListFeedbackResponse response;
    const grpc::Status status = gateway_.admin()->ListFeedback(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  v1::PromoteFeedbackResponse Promote(const v1::PromoteFeedbackRequest& request = {}) {
    grpc::ClientContext context;
    v1::PromoteFeedbackResponse response;
    const grpc::Status status = gateway_.admin()->PromoteFeedback(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  TestGateway gateway_;
};

TEST_F(FeedbackTest, ChangesNothingUntilItIsPromoted) {
  const std::string song = Query("play a song by the beatles");
  const std::string jazz = Query("play some jazz", "acme");
  const std::string files = Query("find the large files");
  ASSERT_TRUE(Say(song, v1::VERDICT_WRONG, "music").ok());
  ASSERT_TRUE(Say(jazz, v1::VERDICT_WRONG, "music", "acme").ok());
  ASSERT_TRUE(Say(files, v1::VERDICT_RIGHT).ok());
  EXPECT_EQ(gateway_.Nodes().graph_version(), 1);

  const v1::ListFeedbackResponse all = List();
  ASSERT_EQ(all.entries_size(), 3);
  EXPECT_EQ(all.total(), 3);
  const v1::ListFeedbackResponse acme = List("acme");
  ASSERT_EQ(acme.entries_size(), 1);
  EXPECT_EQ(acme.entries(0).query(), "play some jazz");
  EXPECT_EQ(acme.entries(0).node(), "sorry");
  EXPECT_EQ(acme.entries(0).better_node(), "music");
  EXPECT_EQ(acme.entries(0).graph_version(), 1);

  v1::PromoteFeedbackRequest request;
  request.set_dry_run(true);
  EXPECT_EQ(Promote(request).promoted(), 2);
  EXPECT_EQ(List().total(), 3);
  EXPECT_EQ(gateway_.Nodes().graph_version(), 1);

  const v1::PromoteFeedbackResponse promoted = Promote();
  EXPECT_EQ(promoted.promoted(), 2);
  EXPECT_EQ(promoted.learned(), 2);
  EXPECT_EQ(promoted.version(), 2);
  EXPECT_EQ(List().total(), 1) << "what was right is no example";
  std::vector<std::string> learned;
  const v1::ListNodesResponse nodes = gateway_.Nodes();
  for (const v1::NodeStatus& node : nodes.nodes()) {
    if (node.node().name() != "music") continue;
    learned = {node.node().learned_examples().begin(), node.node().learned_examples().end()};
  }
  EXPECT_THAT(learned,
              testing::UnorderedElementsAre("play a song by the beatles", "play some jazz"));
  EXPECT_EQ(Promote().version(), 2) << "nothing is left to promote";
}

TEST_F(FeedbackTest, PromotesWhatIsAskedFor) {
  const std::string first = Query("play a song");
  const std::string second = Query("play another song");
  ASSERT_TRUE(Say(first, v1::VERDICT_WRONG, "music").ok());
  ASSERT_TRUE(Say(second, v1::VERDICT_WRONG, "music").ok());
  v1::PromoteFeedbackRequest request;
  request.set_node("files");
  EXPECT_EQ(Promote(request).promoted(), 0);
  request.set_node("music");
  request.add_trace_ids(second);
  EXPECT_EQ(Promote(request).promoted(), 1);
  const v1::ListFeedbackResponse left = List();
  ASSERT_EQ(left.entries_size(), 1);
  EXPECT_EQ(left.entries(0).trace_id(), first);
}

TEST_F(FeedbackTest, IsRefusedWhereItMakesNoSense) {
  const std::string trace = Query("play a song", "acme");
  EXPECT_EQ(Say(trace, v1::VERDICT_RIGHT).error_code(), grpc::StatusCode::NOT_FOUND)
      << "another tenant's";
  EXPECT_EQ(Say("last", v1::VERDICT_RIGHT, "", "acme").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Say("unknown", v1::VERDICT_RIGHT).error_code(), grpc::StatusCode::NOT_FOUND);
  const grpc::Status status = Say(trace, v1::VERDICT_WRONG, "nobody", "acme");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("better_node"));
  EXPECT_EQ(Say(trace, v1::VERDICT_RIGHT, "music", "acme").error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Say(trace, v1::VERDICT_UNSPECIFIED, "", "acme").error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(List().total(), 0);
}

// A node that no head would learn stays as it is; the others learn.
TEST_F(FeedbackTest, WhatCannotBeLearnedStays) {
  const std::string song = Query("play a song");
  const std::string other = Query("play another song");
  ASSERT_TRUE(Say(song, v1::VERDICT_WRONG, "music").ok());
  ASSERT_TRUE(Say(other, v1::VERDICT_WRONG, "main").ok());
  const v1::PromoteFeedbackResponse response = Promote();
  EXPECT_EQ(response.promoted(), 1);
  EXPECT_THAT(response.warnings(), testing::Contains(HasSubstr("'main'")));
  const v1::ListFeedbackResponse left = List();
  ASSERT_EQ(left.entries_size(), 1);
  EXPECT_EQ(left.entries(0).better_node(), "main");
}

}  // namespace
}  // namespace octogate::gateway
