// WordPiece and the parts that BERT's tokenizers have around it, on a small vocabulary; the
// differential test compares whole files with the reference library.
#include "workers/model/tokenizer_wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "workers/model/tokenizer.h"

namespace octogate::workers {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

json File(const std::vector<std::string>& words) {
  json vocab = json::object();
  for (const char* special : {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}) vocab[special] = vocab.size();
  for (const std::string& word : words) vocab[word] = vocab.size();
  const auto token = [](int id, const char* content) {
    return json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  return {{"version", "1.0"},
          {"truncation", {{"max_length", 4}}},
          {"padding", {{"strategy", {{"Fixed", 16}}}}},
          {"added_tokens",
           {token(0, "[PAD]"), token(1, "[UNK]"), token(2, "[CLS]"), token(3, "[SEP]")}},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", true},
            {"strip_accents", nullptr},
            {"lowercase", true}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 12},
            {"vocab", vocab}}}};
}

std::unique_ptr<Tokenizer> Make(const json& file) {
  auto tokenizer = Tokenizer::FromJson(file.dump(), "test.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<std::string> Tokens(const Tokenizer& tokenizer, const std::string& text,
                                const EncodeOptions& options = {.add_special_tokens = false}) {
  std::vector<std::string> tokens;
  const auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  for (const int32_t id : ids.value_or(std::vector<int32_t>())) {
    tokens.push_back(tokenizer.Token(id).value());
  }
  return tokens;
}

TEST(WordPieceTest, TakesTheLongestTokenEachTime) {
  const auto tokenizer = Make(File({"un", "unaff", "##aff", "##able", "##ab", "##le"}));
  EXPECT_THAT(Tokens(*tokenizer, "unaffable"), ElementsAre("unaff", "##able"));
  EXPECT_THAT(Tokens(*tokenizer, "unable"), ElementsAre("un", "##able"));
}

TEST(WordPieceTest, DoesNotGoBackAndTakesTheWordForUnknownInstead) {
  // "a" + "##bc" would spell it.
  const auto tokenizer = Make(File({"a", "ab", "##bc", "x"}));
  EXPECT_THAT(Tokens(*tokenizer, "abc x"), ElementsAre("[UNK]", "x"));
  // A token that starts words does not continue one.
  EXPECT_THAT(Tokens(*tokenizer, "xa"), ElementsAre("[UNK]"));
}

TEST(WordPieceTest, WordsOfTooManyCharactersAreUnknown) {
  const auto tokenizer = Make(File({"a", "##a", "\u0440", "##\u0440"}));
  EXPECT_EQ(Tokens(*tokenizer, std::string(12, 'a')).size(), 12u);
  EXPECT_THAT(Tokens(*tokenizer, std::string(13, 'a')), ElementsAre("[UNK]"));
  std::string letters;  // of two bytes
  for (int i = 0; i < 12; ++i) letters += "\u0440";
  EXPECT_EQ(Tokens(*tokenizer, letters).size(), 12u);
}

TEST(WordPieceTest, NormalizesAsBertDoes) {
  const auto tokenizer =
      Make(File({"ete", "naive", "\u6211", "\u4eec", ",", "!", "a", "##b", "ab"}));
  EXPECT_THAT(Tokens(*tokenizer, "\u00c9T\u00c9 na\u00efve"), ElementsAre("ete", "naive"));
  EXPECT_THAT(Tokens(*tokenizer, "\u6211\u4eec"), ElementsAre("\u6211", "\u4eec"));
  EXPECT_THAT(Tokens(*tokenizer, "ete,naive!!"), ElementsAre("ete", ",", "naive", "!", "!"));
  // Control characters vanish, white space of any kind separates.
  EXPECT_THAT(Tokens(*tokenizer, "a\u0007b\u200b \u00a0a\tb\r\n"), ElementsAre("ab", "a", "[UNK]"));
}

TEST(WordPieceTest, KeepsCaseAndAccentsWhereTheFileSaysSo) {
  json file = File({"\u00c9t", "et"});
  file["normalizer"]["lowercase"] = false;
  EXPECT_THAT(Tokens(*Make(file), "\u00c9t et"), ElementsAre("\u00c9t", "et"));
  file["normalizer"]["strip_accents"] = true;
  EXPECT_THAT(Tokens(*Make(file), "\u00e9t"), ElementsAre("et"));
}

TEST(WordPieceTest, AppliesNeitherTruncationNorPadding) {
  const auto tokenizer = Make(File({"a"}));
  EXPECT_THAT(Tokens(*tokenizer, "a a a a a", {}),
              ElementsAre("[CLS]", "a", "a", "a", "a", "a", "[SEP]"));
  EXPECT_THAT(Tokens(*tokenizer, "", {}), ElementsAre("[CLS]", "[SEP]"));
  EXPECT_THAT(Tokens(*tokenizer, ""), IsEmpty());
}

TEST(WordPieceTest, SpellingsOfSpecialTokensAreTextWhereAskedFor) {
  json file = File({"[", "]", "sep", "a"});
  EXPECT_THAT(Tokens(*Make(file), "a[SEP]a"), ElementsAre("a", "[SEP]", "a"));
  EXPECT_THAT(Tokens(*Make(file), "a[SEP]a", {.add_special_tokens = false, .parse_special = false}),
              ElementsAre("a", "[", "sep", "]", "a"));
  // Nor can text spell one where nothing cuts it.
  file["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  file["normalizer"] = nullptr;
  for (const std::string& token :
       Tokens(*Make(file), "[SEP]", {.add_special_tokens = false, .parse_special = false})) {
    EXPECT_NE(token, "[SEP]");
  }
}

// Every character begins what looks like a long token and is not.
TEST(WordPieceTest, LongFalseStartsAreGivenUp) {
  json file = File({"a", "##a"});
  file["model"]["vocab"]["##" + std::string(900, 'a') + "b"] = 10;
  file["model"]["max_input_chars_per_word"] = WordPieceModel::kMaxWordCharacters;
  const auto tokenizer = Make(file);
  const std::string word(WordPieceModel::kMaxWordCharacters, 'a');
  const std::vector<std::string> tokens = Tokens(*tokenizer, word + " " + word);
  ASSERT_EQ(tokens.size(), 2000u);
  EXPECT_EQ(tokens[1], "##a");
  EXPECT_EQ(tokens[1000], "a");
}

struct BadModel {
  const char* name;
  json patch;
  const char* message;
};

class BadWordPiece : public testing::TestWithParam<BadModel> {};
INSTANTIATE_TEST_SUITE_P(
    Models, BadWordPiece,
    testing::Values(
        BadModel{"UnknownTokenMissing", {{"unk_token", "?"}}, "unk_token \"?\" is not in vocab"},
        BadModel{"NoVocabulary", {{"vocab", nullptr}}, "lacks \"vocab\""},
        BadModel{"LimitOfNothing", {{"max_input_chars_per_word", 0}}, "max_input_chars_per_word"},
        BadModel{"HugeLimit", {{"max_input_chars_per_word", 1001}}, "max_input_chars_per_word"},
        BadModel{"IdTwice", {{"vocab", {{"[UNK]", 0}, {"a", 0}}}}, "the id 0 is already"}),
    [](const auto& info) { return info.param.name; });

TEST_P(BadWordPiece, IsRefusedWithItsPath) {
  json file = File({"a"});
  file["model"].merge_patch(GetParam().patch);
  const auto tokenizer = Tokenizer::FromJson(file.dump(), "test.json");
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_THAT(tokenizer.status().message(), HasSubstr("test.json: model"));
  EXPECT_THAT(tokenizer.status().message(), HasSubstr(GetParam().message));
}

}  // namespace
}  // namespace octogate::workers
