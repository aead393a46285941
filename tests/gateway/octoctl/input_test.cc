#include "gateway/octoctl/input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace octogate::octoctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(InputTest, AQueryIsALineOrAJsonObject) {
  std::vector<std::string> queries;
  std::string error;
  ASSERT_TRUE(ParseQueries("play a song\r\n\n  \n{\"query\": \"a\\tb\", \"id\": 7}\nlast one",
                           queries, error))
      << error;
  EXPECT_THAT(queries, ElementsAre("play a song", "a\tb", "last one"));
}

TEST(InputTest, ALabelComesFirst) {
  std::vector<v1::LabelledQuery> queries;
  std::string error;
  ASSERT_TRUE(ParseLabelledQueries(
      "music\tplay a\tsong\n{\"node\": \"none\", \"query\": \"hello\"}\n", queries, error))
      << error;
  ASSERT_EQ(queries.size(), 2);
  EXPECT_EQ(queries[0].node(), "music");
  EXPECT_EQ(queries[0].query(), "play a\tsong");
  EXPECT_EQ(queries[1].node(), "none");
  EXPECT_EQ(queries[1].query(), "hello");
}

TEST(InputTest, SaysWhichLineIsWrong) {
  for (const auto& [text, problem] :
       std::vector<std::pair<std::string, std::string>>{{"{\"query\": ", "JSON"},
                                                        {"{}", "query"},
                                                        {"{\"query\": [1]}", "JSON"},
                                                        {"{\"query\": \"\"}", "query"}}) {
    std::vector<std::string> queries;
    std::string error;
    EXPECT_FALSE(ParseQueries("fine\n\n" + text, queries, error)) << text;
    EXPECT_THAT(error, testing::AllOf(StartsWith("line 3: "), HasSubstr(problem)));
  }
  for (const char* text :
       {"no tabulator", "\tx", "x\t", "{\"query\": \"x\"}", "{\"node\": \"x\"}"}) {
    std::vector<v1::LabelledQuery> queries;
    std::string error;
    EXPECT_FALSE(ParseLabelledQueries(std::string("a\tb\n") + text, queries, error)) << text;
    EXPECT_THAT(error, StartsWith("line 2: "));
  }
}

TEST(InputTest, AReplayedQueryMayHaveALabel) {
  std::vector<v1::ReplayQuery> queries;
  std::string error;
  ASSERT_TRUE(ParseReplayQueries(
      "play a\tsong\n{\"query\": \"2 + 2\", \"node\": \"sums\"}\n{\"query\": \"hello\"}\n", queries,
      error))
      << error;
  ASSERT_EQ(queries.size(), 3);
  EXPECT_EQ(queries[0].query(), "play a\tsong");
  EXPECT_EQ(queries[0].node(), "");
  EXPECT_EQ(queries[1].query(), "2 + 2");
  EXPECT_EQ(queries[1].node(), "sums");
  EXPECT_EQ(queries[2].node(), "");
  EXPECT_FALSE(ParseReplayQueries("a\n{\"node\": \"sums\"}", queries, error));
  EXPECT_THAT(error, StartsWith("line 2: "));
}

}  // namespace
}  // namespace octogate::octoctl
