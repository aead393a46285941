// Prompts are named by their text: those that begin alike share names, others do not.
#include "workers/server/prompt_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace octogate::workers {
namespace {

constexpr size_t kBlock = PromptBlocks::kBlockBytes;
using Turns = std::vector<std::pair<std::string, std::string>>;

v1::WorkerPrompt Conversation(const Turns& turns) {
  v1::WorkerPrompt prompt;
  for (const auto& [role, content] : turns) {
    v1::Message& message = *prompt.mutable_conversation()->add_messages();
    message.set_role(role);
    message.set_content(content);
  }
  return prompt;
}

v1::WorkerPrompt Template(const std::string& text, const std::string& query) {
  v1::WorkerPrompt prompt;
  prompt.mutable_template_()->set_template_(text);
  prompt.mutable_template_()->set_query(query);
  return prompt;
}

std::string RandomText(size_t bytes) {
  static std::mt19937 random{std::random_device()()};
  std::string text(bytes, ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  return text;
}

size_t Shared(const PromptBlocks& a, const PromptBlocks& b) {
  const auto end =
      std::mismatch(a.hashes.begin(), a.hashes.end(), b.hashes.begin(), b.hashes.end());
  // Behind the first block that differs, none is equal.
  std::set<uint32_t> rest(end.first, a.hashes.end());
  for (auto at = end.second; at != b.hashes.end(); ++at) EXPECT_EQ(rest.count(*at), 0U);
  return static_cast<size_t>(end.first - a.hashes.begin());
}

TEST(PromptBlocksTest, OnlyFullBlocksCount) {
  for (const size_t bytes : {size_t{0}, size_t{1}, kBlock - 6, kBlock - 5, kBlock, 10 * kBlock}) {
    const PromptBlocks blocks = HashPrompt(Conversation({{"user", RandomText(bytes)}}), "");
    const size_t framed = bytes + 6;  // the role and two frames
    EXPECT_EQ(blocks.bytes, static_cast<int64_t>(framed));
    EXPECT_EQ(blocks.hashes.size(), framed / kBlock);
  }
  EXPECT_TRUE(HashPrompt(v1::WorkerPrompt(), "").hashes.empty());
}

TEST(PromptBlocksTest, AConversationThatGoesOnSharesItsBeginning) {
  Turns turns = {{"system", RandomText(1000)}, {"user", RandomText(700)}};
  const PromptBlocks first = HashPrompt(Conversation(turns), "salt");
  turns.emplace_back("assistant", RandomText(900));
  turns.emplace_back("user", RandomText(300));
  const PromptBlocks second = HashPrompt(Conversation(turns), "salt");
  EXPECT_EQ(Shared(first, second), first.hashes.size());
  EXPECT_GT(second.hashes.size(), first.hashes.size());
}

TEST(PromptBlocksTest, TextsShareBlocksUpToWhereTheyDiffer) {
  const std::string text = RandomText(20 * kBlock);
  const PromptBlocks whole = HashPrompt(Conversation({{"user", text}}), "");
  for (size_t at = 0; at < text.size(); at += 97) {
    std::string other = text;
    other[at] = '.';
    EXPECT_EQ(Shared(whole, HashPrompt(Conversation({{"user", other}}), "")), (at + 5) / kBlock);
  }
}

// The same bytes as other messages, roles or kinds of prompts are other prompts, from the block on
// in which that can be told.
TEST(PromptBlocksTest, BordersOfMessagesCount) {
  const std::string a = RandomText(100);
  const std::string b = RandomText(1000);
  std::vector<PromptBlocks> different = {
      HashPrompt(Conversation({{"user", a + b}}), ""),
      HashPrompt(Conversation({{"user", a}, {"user", b}}), ""),
      HashPrompt(Conversation({{"user", a}, {"", b}}), ""),
      HashPrompt(Conversation({{"user", a}, {b, ""}}), ""),
      HashPrompt(Conversation({{"user" + a, b}}), ""),
      HashPrompt(Conversation({{"", "user" + a + b}}), ""),
      HashPrompt(Template("user" + a + b + "{query}", ""), ""),
      HashPrompt(Template("user" + a + "{query}", b), ""),
      HashPrompt(Template("user{query}", a + b), ""),
      HashPrompt(Template("user{query}" + a, b), ""),
      HashPrompt(Conversation({{"user", a + b}}), "salt"),
      HashPrompt(Conversation({{"user", a + b}}), "user"),
  };
  for (size_t i = 0; i < different.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_EQ(Shared(different[i], different[j]), 0U) << i << " and " << j;
    }
  }
}

TEST(PromptBlocksTest, TemplatesShareWhatComesBeforeTheQuery) {
  const std::string text = RandomText(3 * kBlock);
  const PromptBlocks a = HashPrompt(Template(text + "{query} end", RandomText(kBlock)), "");
  const PromptBlocks b = HashPrompt(Template(text + "{query} end", RandomText(kBlock)), "");
  EXPECT_EQ(Shared(a, b), 3U);
}

// Written down: another process, compiler or release must find the same.
TEST(PromptBlocksTest, HashesAreTheSameEverywhere) {
  const PromptBlocks blocks = HashPrompt(
      Conversation({{"system", std::string(300, 's')}, {"user", std::string(300, 'u')}}), "salt");
  EXPECT_EQ(blocks.bytes, 614);
  EXPECT_EQ(blocks.hashes, (std::vector<uint32_t>{545487983, 193540294}));
}

TEST(PromptBlocksTest, HugePromptsAreBounded) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "{query}";
  EXPECT_EQ(HashPrompt(Template(text, RandomText(100'000)), "").hashes.size(),
            PromptBlocks::kMaxBlocks);
  EXPECT_EQ(HashPrompt(Conversation({{"user", RandomText(2'000'000)}}), "").hashes.size(),
            PromptBlocks::kMaxBlocks);
}

}  // namespace
}  // namespace octogate::workers
