#include "router/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "router/graph_manifest.h"
#include "tests/router/scripted_model.h"

namespace octogate::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kManifest[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: lm, path: lm}]
  nodes:
    - name: main
      router:
        members: [files, sums]
        fallback: sorry
        heads:
          - {threshold: 0.6, lexical: {}}
          - {threshold: 0.5, causal: {model: lm}}
        rewrite: {causal: {model: lm}, members: [sums]}
    - name: files
      tool: {tool: reply}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - {name: sorry, tool: {tool: reply}}
)";

class RouterTest : public testing::Test {
 protected:
  RouterTest() {
    model_ = std::make_shared<ScriptedModel>();
    model_->vocabulary = {{"<fn:files>", 0.7}, {"<fn:sums>", 0.1}, {"<fn:end>", 0.01}};
  }

  ~RouterTest() override { model_->Join(); }

  absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> Build(
      const std::string& manifest = kManifest, const RoutingSnapshot* previous = nullptr) {
    const auto parsed = ParseGraphManifest(manifest, "test.yaml");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    const auto find = [this](std::string_view) { return model_; };
    return RoutingSnapshot::Build(parsed->graph, 7, {.causal = find}, absl::InfiniteFuture(),
                                  previous);
  }

  static absl::StatusOr<v1::Decision> Route(const RoutingSnapshot& snapshot,
                                            const std::string& query, RouteOptions options = {}) {
    std::promise<absl::StatusOr<v1::Decision>> promise;
    snapshot.Route("main", query, std::move(options), [&](absl::StatusOr<v1::Decision> decision) {
      promise.set_value(std::move(decision));
    });
    return promise.get_future().get();
  }

  std::shared_ptr<ScriptedModel> model_;
};

// With only a threshold of the lexical head changed.
std::string WithThreshold(const std::string& threshold) {
  return absl::StrReplaceAll(kManifest, {{"threshold: 0.6", "threshold: " + threshold}});
}

TEST_F(RouterTest, TheFirstSureHeadDecidesAndSaysWhy) {
  const auto snapshot = *Build();
  const v1::Decision decision = *Route(*snapshot, "find the large files in a folder");
  EXPECT_EQ(decision.router(), "main");
  EXPECT_EQ(decision.node(), "files");
  EXPECT_EQ(decision.token(), "<fn:files>");
  EXPECT_EQ(decision.head(), "lexical");
  EXPECT_GE(decision.probability(), 0.6);
  EXPECT_EQ(decision.argument(), "find the large files in a folder");
  EXPECT_FALSE(decision.fallback());
  EXPECT_THAT(decision.reason(),
              testing::MatchesRegex("lexical was 0\\.[0-9]+ sure of 'files', 0\\.60 needed"));
  EXPECT_EQ(decision.graph_version(), 7);
  ASSERT_EQ(decision.heads_size(), 1);
  EXPECT_TRUE(decision.heads(0).decided());
  EXPECT_EQ(decision.heads(0).scores_size(), 2);
  EXPECT_NEAR(decision.heads(0).scores(0).probability() + decision.heads(0).scores(1).probability(),
              1, 1e-5);
}

TEST_F(RouterTest, TheNextHeadIsAskedAndWritesTheArgument) {
  const auto snapshot = *Build(WithThreshold("1"));
  model_->pieces = {"list ", "fi", "les<fn:e", "nd>"};
  const v1::Decision decision = *Route(*snapshot, "files, please");
  EXPECT_EQ(decision.head(), "causal");
  EXPECT_EQ(decision.node(), "files");
  EXPECT_EQ(decision.argument(), "list files");
  EXPECT_NEAR(decision.probability(), 0.7, 1e-5) << "the token's share of the whole vocabulary";
  EXPECT_NEAR(decision.heads(1).live_probability(), 0.8, 1e-5);
  EXPECT_NEAR(decision.heads(1).scores(0).probability(), 0.7 / 0.8, 1e-5);
  EXPECT_EQ(decision.usage().prompt_tokens(), 7);
  EXPECT_EQ(decision.usage().completion_tokens(), 5);
  EXPECT_EQ(model_->score_request.prompt().conversation().messages(0).content(), "route");
  EXPECT_EQ(model_->score_request.prompt().conversation().messages(1).content(), "files, please");
  EXPECT_THAT(model_->score_request.tokens(), ElementsAre("<fn:files>", "<fn:sums>"));
  EXPECT_THAT(model_->generate_request.prompt().suffix_tokens(), ElementsAre("<fn:files>"));
  EXPECT_THAT(model_->generate_request.stop_tokens(), ElementsAre("<fn:end>"));
}

TEST_F(RouterTest, AModelThatWouldRatherSaySomethingElseIsNotSure) {
  const auto snapshot = *Build(WithThreshold("1"));
  model_->vocabulary["<fn:files>"] = 0.3;
  model_->vocabulary["<fn:sums>"] = 1e-6;
  const v1::Decision decision = *Route(*snapshot, "write a poem");
  EXPECT_TRUE(decision.fallback());
  EXPECT_EQ(decision.node(), "sorry");
  EXPECT_EQ(decision.token(), "<fn:sorry>");
  EXPECT_EQ(decision.head(), "");
  EXPECT_EQ(decision.argument(), "write a poem");
  EXPECT_THAT(decision.reason(), HasSubstr("causal was 0.30 sure of 'files' (0.50 needed), so the "
                                           "fallback 'sorry' takes it"));
}

TEST_F(RouterTest, AQueryThatALexicalHeadRoutedIsRewrittenWhereTheGraphSaysSo) {
  const auto snapshot = *Build();
  model_->pieces = {"2 + 5"};  // The end token is left out of the text.
  const v1::Decision decision = *Route(*snapshot, "what is 2 plus 5");
  EXPECT_EQ(decision.head(), "lexical");
  EXPECT_EQ(decision.node(), "sums");
  EXPECT_EQ(decision.argument(), "2 + 5");
}

TEST_F(RouterTest, AnUnusableArgumentIsReplacedByTheQuery) {
  const auto snapshot = *Build();
  const std::string query = "what is 2 plus 5";
  model_->pieces = {"2 +"};
  model_->finish_reason = v1::FINISH_REASON_LENGTH;
  v1::Decision decision = *Route(*snapshot, query);
  EXPECT_EQ(decision.argument(), query);
  EXPECT_THAT(decision.reason(), HasSubstr("the argument was cut before its end"));

  model_->finish_reason = v1::FINISH_REASON_STOP;
  model_->pieces = {"2<fn:files>"};
  EXPECT_THAT(Route(*snapshot, query)->reason(), HasSubstr("the argument was malformed"));
  model_->pieces = {};
  EXPECT_THAT(Route(*snapshot, query)->reason(), HasSubstr("the argument was empty"));
  model_->generate_status = absl::UnavailableError("gone");
  decision = *Route(*snapshot, query);
  EXPECT_EQ(decision.argument(), query);
  EXPECT_THAT(decision.reason(), HasSubstr("the argument failed: gone"));
}

TEST_F(RouterTest, AFailedHeadIsNotedAndTheCascadeGoesOn) {
  const auto snapshot = *Build(WithThreshold("1"));
  model_->score_status = absl::UnavailableError("no replica");
  const v1::Decision decision = *Route(*snapshot, "find files");
  EXPECT_TRUE(decision.fallback());
  EXPECT_THAT(decision.heads(1).error(), HasSubstr("no replica"));
  EXPECT_THAT(decision.reason(), HasSubstr("causal failed (UNAVAILABLE: no replica)"));
  model_->score_status = absl::OkStatus();
  model_->vocabulary["<fn:files>"] = std::nan("");
  EXPECT_THAT(Route(*snapshot, "find files")->heads(1).error(), HasSubstr("not a number"));
}

TEST_F(RouterTest, AllHeadsAreAskedOnDemand) {
  const auto snapshot = *Build();
  RouteOptions options;
  options.all_heads = true;
  const v1::Decision decision = *Route(*snapshot, "find the large files in a folder", options);
  EXPECT_EQ(decision.head(), "lexical");
  ASSERT_EQ(decision.heads_size(), 2);
  EXPECT_TRUE(decision.heads(0).decided());
  EXPECT_FALSE(decision.heads(1).decided());
}

TEST_F(RouterTest, ExcludedMembersAreNeverChosen) {
  const auto snapshot = *Build();
  RouteOptions options;
  options.excluded = {"files"};
  for (const char* query : {"find large files", "what is 2 plus 3", "hello"}) {
    EXPECT_NE(Route(*snapshot, query, options)->node(), "files");
  }
  EXPECT_THAT(model_->score_request.tokens(), ElementsAre("<fn:sums>"));
  options.excluded = {"files", "sums"};
  EXPECT_THAT(Route(*snapshot, "find large files", options)->reason(),
              HasSubstr("every member is drained"));
  options.excluded = {"files", "sums", "sorry"};
  EXPECT_EQ(Route(*snapshot, "x", options).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, HonoursDeadlineAndCancellation) {
  const auto snapshot = *Build();
  RouteOptions late;
  late.context.deadline = absl::InfinitePast();
  EXPECT_EQ(Route(*snapshot, "x", late).status().code(), absl::StatusCode::kDeadlineExceeded);
  RouteOptions cancelled;
  cancelled.context.cancellation = std::make_shared<Cancellation>();
  cancelled.context.cancellation->Cancel();
  EXPECT_EQ(Route(*snapshot, "x", cancelled).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(RouterTest, UnknownRoutersAreNotFound) {
  const auto snapshot = *Build();
  absl::Status status;
  snapshot->Route("files", "x", {}, [&](const auto& decision) { status = decision.status(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST_F(RouterTest, TokensThatAModelLacksAreNamedWhenTheGraphIsApplied) {
  model_->vocabulary.erase("<fn:sums>");
  const absl::Status status = Build().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.ToString(), HasSubstr("'<fn:sums>' of the node 'sums'"));
  EXPECT_THAT(status.ToString(), HasSubstr("router 'main'"));
}

// The prompt and the spelling of Octopus v4.
TEST_F(RouterTest, LoadsOctopusThroughTheGraph) {
  const std::string causal =
      "causal: {model: lm, argumentStyle: call, endToken: <nexa_end>,\n"
      "    tokens: {files: <nexa_3>, sums: <nexa_4>},\n"
      "    prompt: \"<|system|>You are a router. Below is the query from the users, please call "
      "the "
      "correct function and generate the parameters to call the function.<|end|><|user|>{query}"
      "<|end|><|assistant|>\"}";
  std::string manifest = absl::StrReplaceAll(
      WithThreshold("1"),
      {{"causal: {model: lm}}\n        rewrite", causal + "}\n        rewrite"}});
  manifest = absl::StrReplaceAll(
      manifest, {{"rewrite: {causal: {model: lm}", absl::StrCat("rewrite: {", causal)}});
  model_->vocabulary = {{"<nexa_3>", 0.1}, {"<nexa_4>", 0.8}, {"<nexa_end>", 0.01}};
  model_->pieces = {"('What's 2", "+3?')\n"};
  const auto snapshot = Build(manifest);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const v1::Decision decision = *Route(**snapshot, "2+3");
  EXPECT_EQ(decision.node(), "sums");
  EXPECT_EQ(decision.token(), "<nexa_4>");
  EXPECT_EQ(decision.argument(), "What's 2+3?");
  EXPECT_THAT(model_->score_request.prompt().template_().template_(), HasSubstr("<|user|>{query}"));
  EXPECT_EQ(model_->score_request.prompt().template_().query(), "2+3");
}

// 600 sub-routers lead to one node with 400 examples: few lines, but 240,000 texts to learn.
TEST_F(RouterTest, TextsBelowSubRoutersAreCountedBeforeTheyAreCopied) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("wide");
  const auto add = [&](const std::string& name) {
    v1::Node* node = graph.mutable_spec()->add_nodes();
    node->set_name(name);
    return node;
  };
  v1::Node* shared = add("shared");
  shared->mutable_tool()->set_tool("reply");
  for (int i = 0; i < 400; ++i) shared->add_examples(absl::StrCat("example ", i));
  const auto make_router = [&](const std::string& name) {
    v1::Node* node = add(name);
    node->mutable_router()->set_fallback("shared");
    node->mutable_router()->add_heads()->mutable_lexical()->set_hash_bits(4);
    return node;
  };
  std::vector<std::string> names;
  for (int i = 0; i < 600; ++i) {
    names.push_back(absl::StrCat("r", i));
    make_router(names.back())->mutable_router()->add_members("shared");
  }
  v1::Node* main = make_router("main");
  for (const std::string& name : names) main->mutable_router()->add_members(name);
  const absl::Status status = RoutingSnapshot::Build(graph, 1, {}, absl::InfiniteFuture()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("router 'main': its members and the nodes below them "
                                          "have more than 200000 examples and descriptions"));
  EXPECT_THAT(status.message(), HasSubstr("give them fewer examples, or let fewer"));
  EXPECT_EQ(RoutingSnapshot::Build(graph, 1, {}, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

// A few texts of very many bytes are as much.
TEST_F(RouterTest, BytesBelowSubRoutersAreCountedToo) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("long");
  v1::Node* shared = graph.mutable_spec()->add_nodes();
  shared->set_name("shared");
  shared->mutable_tool()->set_tool("reply");
  for (int i = 0; i < 5; ++i) shared->add_examples(std::string(1 << 20, 'a'));
  std::vector<std::string> names;
  for (int i = 0; i <= 14; ++i) {
    v1::Node* node = graph.mutable_spec()->add_nodes();
    node->set_name(absl::StrCat("r", i));
    node->mutable_router()->set_fallback("shared");
    node->mutable_router()->add_heads()->mutable_lexical()->set_hash_bits(4);
    if (i == 0) continue;
    node->mutable_router()->add_members("shared");
    names.push_back(node->name());
  }
  for (const std::string& name : names) {
    graph.mutable_spec()->mutable_nodes(1)->mutable_router()->add_members(name);
  }
  const absl::Status status = RoutingSnapshot::Build(graph, 1, {}, absl::InfiniteFuture()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("or 64 MiB of them"));
}

TEST_F(RouterTest, EqualGraphsDecideEqually) {
  const auto first = *Build();
  const auto second = *Build();
  const auto reused = *Build(kManifest, first.get());
  for (const char* query : {"find files", "2 plus 3", "hello there", "", "\xff\xfe", "漢字"}) {
    const v1::Decision a = *Route(*first, query);
    for (const auto& other : {second, reused}) {
      const v1::Decision b = *Route(*other, query);
      ASSERT_EQ(a.node(), b.node());
      ASSERT_EQ(a.probability(), b.probability()) << query;
    }
  }
}

}  // namespace
}  // namespace octogate::router
