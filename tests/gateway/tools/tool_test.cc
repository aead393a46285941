#include "gateway/tools/tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace octogate::gateway {
namespace {

using ::testing::HasSubstr;

std::string Reply(const std::string& text, const std::string& query) {
  const auto tool = MakeTool("reply", {{"text", text}});
  if (!tool.ok()) return std::string(tool.status().message());
  const auto answer = (*tool)->Run(query, ToolContext{});
  return answer.ok() ? *answer : std::string(answer.status().message());
}

TEST(BuiltinToolsTest, AreInNameOrderAndDescribed) {
  std::string previous;
  for (const ToolInfo& tool : BuiltinTools()) {
    EXPECT_LT(previous, tool.name);
    EXPECT_FALSE(tool.description.empty());
    for (const ToolParameterInfo& parameter : tool.parameters) {
      EXPECT_FALSE(parameter.description.empty()) << tool.name << "." << parameter.name;
    }
    previous = tool.name;
  }
}

TEST(MakeToolTest, NamesWhatItMade) {
  for (const ToolInfo& info : BuiltinTools()) {
    ToolParameters parameters;
    for (const ToolParameterInfo& parameter : info.parameters) {
      if (parameter.required) parameters.emplace(parameter.name, "x");
    }
    const auto tool = MakeTool(info.name, parameters);
    ASSERT_TRUE(tool.ok()) << tool.status();
    EXPECT_EQ((*tool)->name(), info.name);
    EXPECT_EQ((*tool)->description(), info.description);
  }
}

TEST(MakeToolTest, AnUnknownNameListsTheKnownOnes) {
  const auto tool = MakeTool("abacus\n", {});
  EXPECT_EQ(tool.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tool.status().message()), HasSubstr("\"abacus\\n\""));
  for (const ToolInfo& info : BuiltinTools()) {
    EXPECT_THAT(std::string(tool.status().message()), HasSubstr(info.name));
  }
}

TEST(MakeToolTest, AnUnknownParameterListsTheKnownOnes) {
  const auto tool = MakeTool("reply", {{"text", "hello"}, {"txet", "hello"}});
  EXPECT_EQ(tool.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tool.status().message()), HasSubstr("\"txet\""));
  EXPECT_THAT(std::string(tool.status().message()), HasSubstr("known parameters: text"));
}

TEST(MakeToolTest, AMissingParameterIsNamed) {
  const auto tool = MakeTool("reply", {});
  EXPECT_EQ(tool.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(tool.status().message()), HasSubstr("\"text\""));
}

TEST(ReplyToolTest, SubstitutesTheQuery) {
  EXPECT_EQ(Reply("I cannot do that.", "fly"), "I cannot do that.");
  EXPECT_EQ(Reply("No node answers \"{query}\".", "fly"), "No node answers \"fly\".");
  EXPECT_EQ(Reply("{query}{query}", "ab"), "abab");
  EXPECT_EQ(Reply("{query}", ""), "");
}

TEST(ReplyToolTest, NeverExpandsTheQueryItself) {
  EXPECT_EQ(Reply("<{query}>", "{query}{{"), "<{query}{{>");
}

TEST(ReplyToolTest, BracesAreEscapedByDoubling) {
  EXPECT_EQ(Reply("{{query}} }}{{", "x"), "{query} }{");
  EXPECT_THAT(Reply("a {name}", "x"), HasSubstr("byte 3"));
  EXPECT_THAT(Reply("a }", "x"), HasSubstr("byte 3"));
}

TEST(ReplyToolTest, StopsAtTheOutputLimit) {
  const auto tool = MakeTool("reply", {{"text", "1{query}2{query}3"}});
  ASSERT_TRUE(tool.ok());
  ToolContext context;
  context.max_output_bytes = 11;
  EXPECT_EQ(*(*tool)->Run("four", context), "1four2four3");
  EXPECT_EQ((*tool)->Run("fives", context).status().code(), absl::StatusCode::kResourceExhausted);
  context.max_output_bytes = 2;
  EXPECT_EQ((*tool)->Run("", context).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace octogate::gateway
