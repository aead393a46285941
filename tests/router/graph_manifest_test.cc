#include "router/graph_manifest.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/router/random_graph.h"

namespace octogate::router {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kGood[] = R"(apiVersion: octogate/v1
kind: Graph
metadata:
  name: demo
spec:
  entry: main
  models:
    - {name: mini, path: octogate-mini}
  nodes:
    - name: main
      router:
        members: [shell, calc]
        fallback: sorry
        heads:
          - threshold: 0.8
            lexical: {hashBits: 12}
          - causal: {model: mini, argumentStyle: call, tokens: {shell: "<nexa_0>"}}
    - name: shell
      examples: [find files, 'it''s']
      model: {model: mini, sampling: {topP: 0.9}}
    - name: calc
      tool: {tool: calculator, parameters: {digits: "30"}}
    - name: sorry
      tool: {tool: reply}
  edges:
    - {from: shell, to: sorry, on: lowConfidence, below: 0.3}
    - {from: calc, to: sorry, on: error, input: "{error}"}
)";

std::vector<std::string> ErrorsOf(std::string_view yaml) {
  const auto manifest = ParseGraphManifest(yaml, "g.yaml");
  if (manifest.ok()) return {};
  return absl::StrSplit(std::string(manifest.status().message()), '\n');
}

// The errors of the good manifest with `from` replaced by `to`.
std::vector<std::string> ErrorsWith(const std::string& from, const std::string& to) {
  const std::string text = kGood;
  EXPECT_NE(text.find(from), std::string::npos) << from;
  return ErrorsOf(absl::StrReplaceAll(text, {{from, to}}));
}

TEST(GraphManifestTest, ReadsEveryKindOfField) {
  const auto manifest = ParseGraphManifest(kGood, "g.yaml");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const v1::GraphSpec& spec = manifest->graph.spec();
  EXPECT_THAT(spec.nodes(), SizeIs(4));
  EXPECT_THAT(spec.nodes(0).router().members(), ElementsAre("shell", "calc"));
  EXPECT_EQ(spec.nodes(0).router().heads(0).lexical().hash_bits(), 12);
  const v1::CausalHead& causal = spec.nodes(0).router().heads(1).causal();
  EXPECT_EQ(causal.argument_style(), v1::ARGUMENT_STYLE_CALL);
  EXPECT_EQ(causal.tokens().at("shell"), "<nexa_0>");
  EXPECT_THAT(spec.nodes(1).examples(), ElementsAre("find files", "it's"));
  EXPECT_EQ(spec.nodes(1).model().sampling().top_p(), 0.9);
  EXPECT_EQ(spec.nodes(2).tool().parameters().at("digits"), "30");
  EXPECT_EQ(spec.edges(0).on(), v1::EDGE_CONDITION_LOW_CONFIDENCE);
  EXPECT_EQ(spec.edges(0).below(), 0.3);
  EXPECT_TRUE(manifest->warnings.empty()) << manifest->warnings[0];
}

TEST(GraphManifestTest, FillsDefaultsAsTheContractStatesThem) {
  const v1::GraphSpec spec = ParseGraphManifest(kGood, "g.yaml")->graph.spec();
  EXPECT_EQ(spec.limits().max_steps(), 8);
  EXPECT_EQ(spec.limits().timeout_ms(), 60'000);
  EXPECT_EQ(spec.nodes(1).token(), "<fn:shell>");
  EXPECT_EQ(spec.nodes(1).model().max_tokens(), 256);
  EXPECT_EQ(spec.nodes(0).router().heads(0).lexical().epochs(), 40);
  EXPECT_EQ(spec.nodes(0).router().heads(1).threshold(), 0.5);
  EXPECT_EQ(spec.nodes(0).router().heads(1).causal().system(), "route");
  EXPECT_EQ(spec.nodes(0).router().heads(1).causal().end_token(), "<fn:end>");
  EXPECT_EQ(spec.nodes(0).router().heads(1).causal().max_argument_tokens(), 128);
  EXPECT_EQ(spec.edges(0).input(), "{query}");
  EXPECT_EQ(spec.edges(0).max_visits(), 0);
}

TEST(GraphManifestTest, AThresholdOfZeroIsNoMissingThreshold) {
  const auto manifest =
      ParseGraphManifest(absl::StrReplaceAll(kGood, {{"threshold: 0.8", "threshold: 0"}}), "g");
  EXPECT_EQ(manifest->graph.spec().nodes(0).router().heads(0).threshold(), 0);
}

TEST(GraphManifestTest, ACoverageStandsInForTheThreshold) {
  const auto manifest =
      ParseGraphManifest(absl::StrReplaceAll(kGood, {{"threshold: 0.8", "coverage: 0.95"}}), "g");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const v1::Head& head = manifest->graph.spec().nodes(0).router().heads(0);
  EXPECT_EQ(head.coverage(), 0.95);
  EXPECT_FALSE(head.has_threshold());
}

TEST(GraphManifestTest, EveryErrorHasItsPlaceAndAHint) {
  struct Case {
    std::string from, to, error;
  };
  const std::vector<Case> cases = {
      {"examples:", "exmaples:",
       "g.yaml:19:7: unknown key 'exmaples' in a node; did you mean 'examples'?"},
      {"kind: Graph", "kind: Grape", "g.yaml:2:7: 'kind' must be 'Graph', found the text 'Grape'"},
      {"apiVersion: octogate/v1\n", "", "g.yaml:1:1: a manifest needs 'apiVersion: octogate/v1'"},
      {"entry: main", "entry: mian", "g.yaml:6:10: there is no node 'mian'; did you mean 'main'?"},
      {"  entry: main\n", "", "g.yaml:6:3: a graph spec needs the key 'entry'"},
      {"name: demo", "name: Demo",
       "g.yaml:4:9: 'name' is 'Demo'; a name is 1 to 63 of a-z, 0-9 and '-'"},
      {"name: calc\n", "name: 12\n", "'name' must be text, found the number 12; put it in quotes"},
      {"fallback: sorry", "fallback: [a]", "'fallback' must be text, found a list"},
      {"        fallback: sorry\n", "", "a router node needs the key 'fallback'"},
      {"members: [shell, calc]", "members: shell",
       "'members' must be a list, found the text 'shell'"},
      {"members: [shell, calc]", "members: []", "g.yaml:12:18: 'members' must not be empty"},
      {"members: [shell, calc]", "members: [shell, clac]",
       "there is no node 'clac'; did you mean 'calc'?"},
      {"members: [shell, calc]", "members: [shell, calc, calc]", "a second member 'calc'"},
      {"threshold: 0.8", "threshold: 1.5", "g.yaml:15:24: 'threshold' is 1.5; it must be 0 to 1"},
      {"threshold: 0.8", "threshold: 0.8\n            coverage: 0.9",
       "g.yaml:16:23: a head has either 'coverage' or 'threshold'; remove one"},
      {"threshold: 0.8", "coverage: 0.9\n            risk: 0.1",
       "a head has either 'coverage' or 'risk'; remove one"},
      {"threshold: 0.8", "threshold: 0.8\n            risk: 0.1",
       "a head has either 'threshold' or 'risk'; remove one"},
      {"threshold: 0.8", "coverage: 1", "it must be above 0 and below 1, e.g. 0.95"},
      {"threshold: 0.8", "coverage: 0", "it must be above 0 and below 1, e.g. 0.95"},
      {"threshold: 0.8", "coverage: 95", "'coverage' is 95; it must be 0 to 1"},
      {"causal: {model", "coverage: 0.9\n            causal: {model",
       "a causal head has no held-out examples; set 'threshold'"},
      {"threshold: 0.8", "threshold: high",
       "'threshold' must be a number, found the text 'high'; it must be 0 to 1"},
      {"threshold: 0.8", "threshold: .nan", "'threshold' must be a number, found the number .nan"},
      {"hashBits: 12", "hashBits: 1.5", "'hashBits' must be a whole number, found the number 1.5"},
      {"hashBits: 12", "hashBits: 99999999999999999999", "'hashBits' must be a whole number"},
      {"hashBits: 12", "hashBits: 12, hashBits: 13",
       "duplicate key 'hashBits', first at 16:23; remove one"},
      {"lexical: {hashBits: 12}", "encoder: {}", "an encoder head needs the key 'model'"},
      {"lexical: {hashBits: 12}", "encoder: {model: mnii}",
       "there is no model 'mnii'; did you mean 'mini'?"},
      {"lexical: {hashBits: 12}", "encoder: {model: mini, hashBits: 12}",
       "unknown key 'hashBits' in an encoder head"},
      {"lexical: {hashBits: 12}", "encoder: {model: mini, epochs: 0}",
       "'epochs' is 0; it must be 1 to 1000"},
      {"argumentStyle: call", "argumentStyle: Call",
       "'argumentStyle' must be raw, call, none; found the text 'Call'"},
      {"on: error", "on: failure",
       "'on' must be success, error, lowConfidence; found the text 'failure'"},
      {"model: mini, argumentStyle", "model: maxi, argumentStyle",
       "there is no model 'maxi'; known models: mini"},
      {"tokens: {shell:", "tokens: {shel:",
       "the router has no member 'shel'; did you mean 'shell'?"},
      {"\"<nexa_0>\"", "\"<fn:calc>\"", "the token '<fn:calc>' stands for both"},
      {"\"<nexa_0>\"", "\"<fn:end>\"", "the token '<fn:end>' stands for both"},
      {"\"<nexa_0>\"", "\"a b\"", "a token is 1 to 72 bytes without white space"},
      {"path: octogate-mini}", "path: x, workers: ['h:1']}",
       "has both 'path' and 'workers'; it needs exactly one"},
      {"name: mini, path: octogate-mini}", "name: mini}", "has neither 'path' and 'workers'"},
      {"path: octogate-mini}", "workers: [here]}", "an address is host:port"},
      {"path: octogate-mini}", "path: x, weightFormat: int8_group}",
       "g.yaml:8:43: 'weightFormat' is 'int8_group', which is none of the weight formats; did you "
       "mean 'int8-group'?"},
      {"path: octogate-mini}", "path: x, weightFormat: q4_K_M}",
       "known weight formats: stored, bf16, int8, int8-group, int4-group, fp8"},
      {"path: octogate-mini}", "path: x, kvDtype: int4}", "did you mean 'int8'?"},
      {"path: octogate-mini}", "path: x, kvDtype: 8}", "'kvDtype' must be text"},
      {"path: octogate-mini}", "path: x, activations: int8}",
       "none of the types of activations; known types of activations: f32, bf16, bf16-pairs"},
      {"path: octogate-mini}", "path: x, speculation: {recyclingTree: fixd}}",
       "none of the trees of recycling; did you mean 'fixed'?"},
      {"path: octogate-mini}", "path: x, speculation: {recyclingCandidates: 33}}",
       "'recyclingCandidates' is 33; it must be 1 to 32"},
      {"path: octogate-mini}", "path: x, speculation: {recyclingPairs: -1}}",
       "'recyclingPairs' is -1; it must be 0 to 1048576"},
      {"path: octogate-mini}", "path: x, speculation: {tenantDatastores: [{path: x}]}}",
       "'tenant'"},
      {"path: octogate-mini}", "path: x, speculation: {tenantDatastores: [{tenant: x}]}}",
       "'path'"},
      {"path: octogate-mini}", "path: x, speculation: {pruneRetrievedBelow: 1}}",
       "'pruneRetrievedBelow' is 1; it must be 0 to 0.99"},
      {"path: octogate-mini}", "path: x, speculation: {draftThreads: 1025}}",
       "'draftThreads' is 1025; it must be 0 to 1024"},
      {"path: octogate-mini}", "path: x, speculation: {draftMemoryMib: 0}}",
       "'draftMemoryMib' is 0; it must be 1 to 1048576"},
      {"path: octogate-mini}", "path: x, threads: 0}", "'threads' is 0; it must be 1 to 1024"},
      {"path: octogate-mini}", "path: x, maxSequences: 4097}", "it must be 1 to 4096"},
      {"path: octogate-mini}", "path: x, maxContext: 15}", "it must be 16 to 16777216"},
      {"path: octogate-mini}", "workers: ['h:1'], weightFormat: int8}",
       "g.yaml:8:52: 'weightFormat' beside 'workers'; the workers of model 'mini' load it "
       "themselves: start octogate-worker with --weight-format instead"},
      {"path: octogate-mini}", "workers: ['h:1'], kvDtype: int8}", "with --kv-dtype instead"},
      {"path: octogate-mini}", "workers: ['h:1'], activations: bf16}", "--activations instead"},
      {"path: octogate-mini}", "workers: ['h:1'], threads: 2}", "with --threads instead"},
      {"path: octogate-mini}", "workers: ['h:1'], maxSequences: 2}", "--max-sequences instead"},
      {"path: octogate-mini}", "workers: ['h:1'], maxContext: 64}", "--max-context instead"},
      {"tool: {tool: reply}", "tool: {tool: reply}\n      model: {model: mini}",
       "'model' beside 'tool'; a node has exactly one of 'model', 'router', 'tool', 'retriever', "
       "'replay', 'vote', 'verify', 'choice' or 'sql'"},
      {"      tool: {tool: reply}\n", "",
       "a node needs exactly one of 'model', 'router', 'tool', 'retriever', 'replay', 'vote', "
       "'verify', 'choice' or 'sql'"},
      {"name: sorry", "name: calc",
       "g.yaml:23:13: a second node 'calc'; names of nodes are unique"},
      {"on: error,", "on: error, below: 0.2,", "'below' goes with 'on: lowConfidence' only"},
      {"from: calc, to: sorry", "from: calc, to: main",
       "a query could go round without end: main -> calc -> main; set 'maxVisits'"},
      {"from: calc, to: sorry", "from: calc, to: calc", "go round without end: calc -> calc"},
      {"members: [shell, calc]", "members: [shell, calc, main]",
       "a router would hand over to itself: main -> main"},
      {"fallback: sorry", "fallback: main", "a router would hand over to itself: main -> main"},
      {"members: [shell, calc]", "members: [shell]",
       "no query can reach the node 'calc' from the entry 'main'"},
      {"[find files, 'it''s']", "[&a find, *a]", "anchors (&name) are not supported"},
      {"[find files, 'it''s']", "[*a]", "g.yaml:19:"},
      {"[find files, 'it''s']", "[!!str x]", "tag"},
      {"[find files, 'it''s']", "[!file x]", "octoctl apply -f puts files in"},
      {"input: \"{error}\"", "input: \"{shel.output}\"",
       "there is no node 'shel'; did you mean 'shell'?"},
      {"[find files, 'it''s']", "[a", "not valid YAML"},
      {"[find files, 'it''s']", "['']", "'examples' must not be empty"},
      {"[find files, 'it''s']", "[\xff]", "g.yaml:19:18: not valid UTF-8"},
      {"kind: Graph", "kind: Graph\x01", "control character"},
      {"metadata:", "? [a]\n: b\nmetadata:", "a key must be a word"},
  };
  for (const Case& c : cases) {
    const std::vector<std::string> errors = ErrorsWith(c.from, c.to);
    ASSERT_FALSE(errors.empty()) << c.to;
    EXPECT_THAT(errors, testing::Contains(HasSubstr(c.error))) << c.to;
    for (const std::string& error : errors) {
      EXPECT_THAT(error, ContainsRegex("^g.yaml:[0-9]+:[0-9]+: ")) << c.to;
    }
  }
}

TEST(GraphManifestTest, ReportsEverythingAtOnceInTheOrderOfTheText) {
  const std::vector<std::string> errors = ErrorsOf(R"(apiVersion: octogate/v2
kind: Graph
metadata: {name: x}
spec:
  entry: a
  nodes:
    - name: a
      colour: red
      tool: {tol: reply}
)");
  EXPECT_THAT(errors, ElementsAre(HasSubstr("g.yaml:1:13:"), HasSubstr("g.yaml:8:7: unknown key"),
                                  HasSubstr("g.yaml:9:13: a tool node needs the key 'tool'"),
                                  HasSubstr("g.yaml:9:14: unknown key 'tol'")));
}

TEST(GraphManifestTest, LimitsWhatItReports) {
  std::string yaml = kGood;
  for (int i = 0; i < 500; ++i)
    absl::StrAppend(&yaml, "    - {from: nowhere, to: nowhere, on: x}\n");
  const std::vector<std::string> errors = ErrorsOf(yaml);
  EXPECT_THAT(errors, SizeIs(kMaxManifestErrors + 1));
  EXPECT_THAT(errors.back(), ContainsRegex("^g.yaml: [0-9]+ more errors"));
}

TEST(GraphManifestTest, BoundsSizeDepthAndDocuments) {
  EXPECT_EQ(ParseGraphManifest(std::string(kMaxManifestBytes + 1, ' '), "g").status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(ErrorsOf(std::string(100'000, '[')), Not(SizeIs(0)));
  EXPECT_THAT(ErrorsOf("a: " + std::string(100, '[') + std::string(100, ']')),
              ElementsAre(HasSubstr("nested more than 32 deep")));
  EXPECT_THAT(ErrorsOf(std::string(kGood) + "---\na: b\n"),
              ElementsAre(HasSubstr("a second document")));
  EXPECT_THAT(ErrorsOf(""), ElementsAre(HasSubstr("the manifest is empty")));
  EXPECT_THAT(ErrorsOf("just text"), ElementsAre(HasSubstr("found the text 'just text'")));
}

TEST(GraphManifestTest, FurtherChecksReportAtTheirPlace) {
  const GraphCheck check = [](const v1::Graph& graph) -> std::vector<GraphProblem> {
    return {
        {"spec.nodes[2].tool.tool", absl::StrCat("no tool ", graph.spec().nodes(2).tool().tool())},
        {"spec.nodes[2].tool.parameters[digits]", "remark", true}};
  };
  EXPECT_EQ(ParseGraphManifest(kGood, "g.yaml", {check}).status().message(),
            "g.yaml:22:20: no tool calculator");
}

TEST(GraphManifestTest, WarnsOfWhatIsStrange) {
  std::string yaml = kGood;
  yaml +=
      "    - {from: calc, to: main, on: error, maxVisits: 9}\n"
      "    - {from: sorry, to: calc, on: lowConfidence, maxVisits: 1}\n";
  yaml = absl::StrReplaceAll(yaml, {{"  models:\n", "  models:\n    - {name: spare, path: x}\n"}});
  const auto manifest = ParseGraphManifest(yaml, "g.yaml");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_THAT(manifest->warnings,
              ElementsAre(HasSubstr("limits.maxSteps ends it after 8"),
                          HasSubstr("g.yaml:8:14: no node uses the model 'spare'"),
                          HasSubstr("g.yaml:29:7: never taken: an earlier edge"),
                          HasSubstr("g.yaml:30:7: never taken: the confidence of the tool")));
}

TEST(GraphManifestPropertyTest, RandomGraphsRoundTrip) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 500; ++round) {
    const v1::Graph graph = RandomGraph(&random);
    const std::string yaml = GraphToYaml(graph);
    const auto manifest = ParseGraphManifest(yaml, "g.yaml");
    ASSERT_TRUE(manifest.ok()) << manifest.status() << "\n" << yaml;
    ASSERT_TRUE(MessageDifferencer::Equals(manifest->graph, graph)) << yaml;
    ASSERT_EQ(GraphToYaml(manifest->graph), yaml);
  }
}

// A damaged manifest is either still one or has errors with a place; nothing else happens.
TEST(GraphManifestPropertyTest, MutatedManifestsHaveErrorsWithAPlace) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string yaml = GraphToYaml(RandomGraph(&random));
    for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n) {
      const size_t at = random() % yaml.size();
      switch (random() % 4) {
        case 0:
          yaml.erase(at, 1 + random() % 8);
          break;
        case 1:
          yaml.insert(at, RandomText(&random, 3));
          break;
        case 2:
          yaml[at] = static_cast<char>(random());
          break;
        default: {  // A line twice.
          const size_t begin = yaml.rfind('\n', at) + 1;
          const size_t end = yaml.find('\n', at);
          if (end != std::string::npos) yaml.insert(begin, yaml.substr(begin, end + 1 - begin));
        }
      }
      if (yaml.empty()) yaml = "x";
    }
    const auto manifest = ParseGraphManifest(yaml, "g.yaml");
    if (manifest.ok()) continue;
    ++refused;
    for (const auto& error : absl::StrSplit(std::string(manifest.status().message()), '\n')) {
      ASSERT_THAT(std::string(error), ContainsRegex("^g\\.yaml:([0-9]+:[0-9]+: .|.* more errors)"))
          << yaml;
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace octogate::router
