#include "workers/server/prompt_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <random>

#include "nlohmann/json.hpp"
#include "workers/engine/model_runner.h"

namespace octogate::workers {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

std::string Fixture(const std::string& name) {
  return std::string(OCTOGATE_FIXTURES) + "/checkpoints/" + name;
}

std::unique_ptr<LoadedModel> Load(const std::string& name) {
  LoadOptions options;
  options.device.threads = 1;
  options.engine.kv_tokens = 512;
  auto model = LoadModel(Fixture(name), options);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.ok() ? *std::move(model) : nullptr;
}

v1::WorkerPrompt Conversation(std::initializer_list<std::pair<std::string, std::string>> messages) {
  v1::WorkerPrompt prompt;
  for (const auto& [role, content] : messages) {
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

class PromptEncoderTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    model_ = Load(GetParam());
    ASSERT_NE(model_, nullptr);
    encoder_ = std::make_unique<PromptEncoder>(model_.get());
  }

  std::vector<int32_t> Specials(const std::vector<int32_t>& ids) const {
    std::vector<int32_t> specials;
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(specials),
                 [&](int32_t id) { return model_->tokenizer->IsSpecial(id); });
    return specials;
  }

  std::unique_ptr<LoadedModel> model_;
  std::unique_ptr<PromptEncoder> encoder_;
};

TEST_P(PromptEncoderTest, ConversationsAreEncodedAsTransformersDoes) {
  std::ifstream file(Fixture(GetParam()) + "/expected.json");
  const auto expected = nlohmann::json::parse(file);
  int compared = 0;
  for (const auto& chat : expected.at("chat")) {
    if (!chat.at("add_generation_prompt").get<bool>()) continue;
    v1::WorkerPrompt prompt;
    for (const auto& message : chat.at("messages")) {
      v1::Message& turn = *prompt.mutable_conversation()->add_messages();
      turn.set_role(message.at("role").get<std::string>());
      turn.set_content(message.at("content").get<std::string>());
    }
    const auto ids = encoder_->Encode(prompt);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    EXPECT_EQ(*ids, chat.at("ids").get<std::vector<int32_t>>());
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

TEST_P(PromptEncoderTest, AUserCannotWriteSpecialTokens) {
  const auto honest = encoder_->Encode(Conversation({{"user", "hello there"}}));
  ASSERT_TRUE(honest.ok());
  for (int32_t id = 0; id < model_->tokenizer->vocab_size(); ++id) {
    if (!model_->tokenizer->IsSpecial(id)) continue;
    const std::string token = *model_->tokenizer->Token(id);
    const auto attack = encoder_->Encode(
        Conversation({{"user", "hello" + token + token + " there " + token.substr(1)}}));
    ASSERT_TRUE(attack.ok()) << attack.status().message();
    EXPECT_EQ(Specials(*attack), Specials(*honest)) << token;
    // … and loses nothing of what it wrote; SentencePiece adds spaces.
    std::string text = model_->tokenizer->Decode(*attack, false);
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    EXPECT_THAT(text, HasSubstr(token));
  }
}

TEST_P(PromptEncoderTest, RandomMixesOfSpecialTokensStayText) {
  std::vector<std::string> pieces = {"a", " ", "<", "|", ">", "\xEF\xB7\x90", "é"};
  for (int32_t id = 0; id < model_->tokenizer->vocab_size(); ++id) {
    if (model_->tokenizer->IsSpecial(id)) pieces.push_back(*model_->tokenizer->Token(id));
  }
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::string query;
    for (unsigned i = random() % 12; i > 0; --i) query += pieces[random() % pieces.size()];
    const auto ids = encoder_->Encode(Template("{query}", query));
    if (query.empty()) continue;
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    const auto alone = encoder_->Encode(Template("{query}", "a"));
    EXPECT_EQ(Specials(*ids), Specials(*alone)) << query;
  }
}

TEST_P(PromptEncoderTest, TemplatesMaySpellSpecialTokens) {
  std::string token;
  int32_t special = 0;
  for (int32_t id = 0; id < model_->tokenizer->vocab_size(); ++id) {
    if (!model_->tokenizer->IsSpecial(id)) continue;
    token = *model_->tokenizer->Token(id);
    special = id;
  }
  const auto ids = encoder_->Encode(Template(token + "{query}" + token, "x"));
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(std::count(ids->begin(), ids->end(), special), 2);
}

TEST_P(PromptEncoderTest, SuffixTokensComeLastAndMustExist) {
  v1::WorkerPrompt prompt = Conversation({{"user", "hi"}});
  const std::string known = *model_->tokenizer->Token(70);
  prompt.add_suffix_tokens(known);
  const auto ids = encoder_->Encode(prompt);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->back(), 70);

  prompt.add_suffix_tokens("<fn:nowhere>");
  const auto missing = encoder_->Encode(prompt);
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("<fn:nowhere>"));
}

TEST_P(PromptEncoderTest, RefusesPromptsWithoutContent) {
  EXPECT_TRUE(absl::IsInvalidArgument(encoder_->Encode(v1::WorkerPrompt()).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(encoder_->Encode(Template("no place", "x")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      encoder_->Encode(Template("{query}", std::string(2 << 20, 'a'))).status()));
}

TEST_P(PromptEncoderTest, IllFormedTextIsReadAsReplacementCharacters) {
  EXPECT_TRUE(encoder_->Encode(Template("{query}", "a\xFF\xC3")).ok());
}

INSTANTIATE_TEST_SUITE_P(Families, PromptEncoderTest, ::testing::Values("llama", "llama3"));

}  // namespace
}  // namespace octogate::workers
