#include "gateway/octoctl/graph_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/protobuf/text_format.h"

namespace octogate::octoctl {
namespace {

using ::testing::HasSubstr;

v1::Graph Parse(const char* text) {
  v1::Graph graph;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &graph));
  return graph;
}

v1::Graph Example() {
  return Parse(R"pb(
    metadata { name: "demo" }
    spec {
      entry: "main"
      nodes {
        name: "main"
        router {
          members: "shell"
          members: "other"
          fallback: "other"
          heads {
            threshold: 0.8
            lexical {}
          }
        }
      }
      nodes {
        name: "shell"
        model { model: "mini" }
      }
      nodes {
        name: "other"
        tool { tool: "reply" }
      }
      edges { from: "shell" to: "other" on: EDGE_CONDITION_LOW_CONFIDENCE below: 0.4 }
      edges { from: "other" to: "shell" on: EDGE_CONDITION_ERROR max_visits: 2 }
    })pb");
}

TEST(GraphAsTextTest, UnfoldsEveryNodeOnce) {
  EXPECT_EQ(GraphAsText(Example(), {}),
            "demo\n"
            "└─ entry main  router, lexical ≥ 0.8\n"
            "   ├─ <fn:shell> shell  model mini\n"
            "   │  └─ on confidence under 0.4 other\n"
            "   └─ <fn:other>, fallback other  tool reply\n"
            "      └─ on error, up to 2 times shell\n");
}

TEST(GraphAsTextTest, SaysWhenEachHeadDecides) {
  v1::Graph graph = Example();
  v1::Head& head = *graph.mutable_spec()->mutable_nodes(0)->mutable_router()->mutable_heads(0);
  head.clear_threshold();
  head.set_coverage(0.999);
  EXPECT_THAT(GraphAsText(graph, {}), HasSubstr("router, lexical, coverage 0.999\n"));
}

TEST(GraphAsTextTest, ShowsWhoChoosesTheTablesOfALink) {
  EXPECT_EQ(GraphAsText(Parse(R"pb(
                          metadata { name: "sql" }
                          spec {
                            entry: "link"
                            nodes {
                              name: "link"
                              retriever { catalog: "shop" table_node: "tables" }
                            }
                            nodes {
                              name: "tables"
                              model { model: "mini" }
                            }
                          })pb"),
                        {}),
            "sql\n"
            "└─ entry link  links of shop, tables chosen by tables\n"
            "   └─ chooses tables tables  model mini\n");
}

TEST(GraphAsTextTest, NamesWhatIsMissingInsteadOfFailing) {
  EXPECT_THAT(GraphAsText(Parse("spec { entry: 'gone' }"), {}), HasSubstr("gone (missing)"));
}

TEST(GraphAsDotTest, QuotesHostileNames) {
  v1::Graph graph = Example();
  graph.mutable_spec()->mutable_nodes(1)->set_description("\"]; evil [label=\"\\");
  EXPECT_THAT(GraphAsDot(graph), HasSubstr(R"(tooltip="\"]; evil [label=\"\\")"));
}

TEST(GraphAsSvgTest, DrawsEveryNode) {
  const auto svg = GraphAsSvg(Example());
  if (absl::IsFailedPrecondition(svg.status())) GTEST_SKIP() << svg.status().message();
  ASSERT_TRUE(svg.ok()) << svg.status().message();
  for (const char* text : {"<svg", "main", "shell", "tool reply", "on confidence under 0.4"}) {
    EXPECT_THAT(*svg, HasSubstr(text));
  }
}

}  // namespace
}  // namespace octogate::octoctl
