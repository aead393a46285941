// The parts of a tokenizer.json one by one, on small vocabularies, and files that lie.
#include "workers/model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace octogate::workers {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A BPE file over single ASCII characters, U+2581 and `words`, whose merges build every word from
// left to right.
json File(const std::vector<std::string>& words = {}) {
  json vocab = {{"<unk>", 0}, {"\u2581", 1}};
  for (char c = ' '; c <= '~'; ++c) {
    vocab[std::string(1, c)] = vocab.size();
  }
  json merges = json::array();
  for (const std::string& word : words) {
    for (size_t length = 2; length <= word.size(); ++length) {
      const std::string prefix = word.substr(0, length);
      if (!vocab.contains(prefix)) {
        vocab[prefix] = vocab.size();
        merges.push_back({word.substr(0, length - 1), word.substr(length - 1, 1)});
      }
    }
  }
  return {
      {"version", "1.0"},
      {"added_tokens", json::array()},
      {"model", {{"type", "BPE"}, {"unk_token", "<unk>"}, {"vocab", vocab}, {"merges", merges}}}};
}

json AddedToken(int id, const std::string& content, const json& options = json::object()) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  token.update(options);
  return token;
}

std::unique_ptr<Tokenizer> Make(const json& file) {
  auto tokenizer = Tokenizer::FromJson(file.dump(), "test.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<std::string> Tokens(const Tokenizer& tokenizer, const std::string& text,
                                const EncodeOptions& options = {}) {
  std::vector<std::string> tokens;
  const auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  for (const int32_t id : ids.value_or(std::vector<int32_t>())) {
    tokens.push_back(tokenizer.Token(id).value());
  }
  return tokens;
}

TEST(TokenizerTest, MergesTheLowestRankFirst) {
  const auto tokenizer = Make(File({"bc", "ab", "abc"}));
  // b+c has the lower rank, so a+b never happens.
  EXPECT_THAT(Tokens(*tokenizer, "abcab"), ElementsAre("a", "bc", "ab"));
}

TEST(TokenizerTest, EmptyTextHasOnlyWhatThePostProcessorAdds) {
  json file = File();
  file["added_tokens"] = {AddedToken(200, "<s>")};
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", json::array()},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {200}}, {"tokens", {"<s>"}}}}}}};
  const auto tokenizer = Make(file);
  EXPECT_THAT(Tokens(*tokenizer, ""), ElementsAre("<s>"));
  EXPECT_THAT(Tokens(*tokenizer, "", {.add_special_tokens = false}), IsEmpty());
  EXPECT_EQ(tokenizer->Decode({}, false), "");
}

TEST(TokenizerTest, UnknownCharactersBecomeTheUnknownToken) {
  json file = File();
  EXPECT_THAT(Tokens(*Make(file), "a\u00e9\u00e8b"), ElementsAre("a", "<unk>", "<unk>", "b"));
  file["model"]["fuse_unk"] = true;
  EXPECT_THAT(Tokens(*Make(file), "a\u00e9\u00e8b"), ElementsAre("a", "<unk>", "b"));
  file["model"].erase("unk_token");
  EXPECT_THAT(Tokens(*Make(file), "a\u00e9\u00e8b"), ElementsAre("a", "b"));
}

TEST(TokenizerTest, ByteFallbackNeedsEveryByteOfTheCharacter) {
  json file = File();
  file["model"]["byte_fallback"] = true;
  file["model"]["vocab"]["<0xC3>"] = 300;
  EXPECT_THAT(Tokens(*Make(file), "\u00e9"), ElementsAre("<unk>"));
  file["model"]["vocab"]["<0xA9>"] = 301;
  EXPECT_THAT(Tokens(*Make(file), "\u00e9"), ElementsAre("<0xC3>", "<0xA9>"));
}

TEST(TokenizerTest, WordsAreWholeOnlyWithIgnoreMerges) {
  json file = File({"ab"});
  file["model"]["vocab"]["xyz"] = 300;
  EXPECT_THAT(Tokens(*Make(file), "xyz"), ElementsAre("x", "y", "z"));
  file["model"]["ignore_merges"] = true;
  EXPECT_THAT(Tokens(*Make(file), "xyz"), ElementsAre("xyz"));
}

TEST(TokenizerTest, SubwordPrefixAndWordSuffixMarkThePositionInTheWord) {
  json file = File();
  file["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  file["model"]["continuing_subword_prefix"] = "##";
  file["model"]["end_of_word_suffix"] = "</w>";
  file["model"]["vocab"]["##b"] = 300;
  file["model"]["vocab"]["##c</w>"] = 301;
  file["model"]["vocab"]["ab"] = 302;
  file["model"]["merges"] = {"a ##b"};
  EXPECT_THAT(Tokens(*Make(file), "abc abd"), ElementsAre("ab", "##c</w>", "ab", "<unk>"));
}

TEST(TokenizerTest, MergesMayBeLinesOrPairs) {
  json lines = File();
  lines["model"]["vocab"]["ab"] = 300;
  lines["model"]["merges"] = {"#version: 0.2", "a b"};
  EXPECT_THAT(Tokens(*Make(lines), "ab"), ElementsAre("ab"));
}

TEST(TokenizerTest, LongAndShortWordsMergeAlike) {
  const auto tokenizer = Make(File({"aa", "aab", "ba"}));
  std::string text;
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) {
    text += "aab";
    expected.push_back("aab");
    ASSERT_EQ(Tokens(*tokenizer, text), expected);
  }
}

TEST(TokenizerTest, LongestAddedTokenWins) {
  json file = File();
  file["added_tokens"] = {AddedToken(200, "<x>"), AddedToken(201, "<x><y>")};
  const auto tokenizer = Make(file);
  EXPECT_THAT(Tokens(*tokenizer, "<x><x><y>a"), ElementsAre("<x>", "<x><y>", "a"));
}

TEST(TokenizerTest, AddedTokensTakeWhiteSpaceWithThem) {
  json file = File();
  file["added_tokens"] = {AddedToken(200, "<l>", {{"lstrip", true}}),
                          AddedToken(201, "<r>", {{"rstrip", true}})};
  const auto tokenizer = Make(file);
  EXPECT_THAT(Tokens(*tokenizer, "a \n<l> b<r> \tc"),
              ElementsAre("a", "<l>", " ", "b", "<r>", "c"));
}

TEST(TokenizerTest, SingleWordTokensDoNotTouchWords) {
  json file = File();
  file["added_tokens"] = {AddedToken(200, "cat", {{"single_word", true}})};
  const auto tokenizer = Make(file);
  EXPECT_THAT(Tokens(*tokenizer, "cat-cats"), ElementsAre("cat", "-", "c", "a", "t", "s"));
}

TEST(TokenizerTest, NormalizedTokensAreFoundInNormalizedText) {
  json file = File();
  file["normalizer"] = {{"type", "Lowercase"}};
  file["added_tokens"] = {AddedToken(200, "Cat", {{"normalized", true}, {"special", false}}),
                          AddedToken(201, "Dog", {{"normalized", false}})};
  const auto tokenizer = Make(file);
  EXPECT_THAT(Tokens(*tokenizer, "CATDogDOG"), ElementsAre("Cat", "Dog", "d", "o", "g"));
}

TEST(TokenizerTest, SpecialTokensOfUserTextStayTextEvenIfTheModelCouldSpellThem) {
  json file = File({"<s>"});
  const int id = file["model"]["vocab"]["<s>"];
  file["added_tokens"] = {AddedToken(id, "<s>")};
  const auto tokenizer = Make(file);
  EXPECT_THAT(Tokens(*tokenizer, "a<s>"), ElementsAre("a", "<s>"));
  EXPECT_THAT(Tokens(*tokenizer, "a<s>", {.parse_special = false}),
              ElementsAre("a", "<", "s", ">"));
}

TEST(TokenizerTest, NormalizersApplyInOrder) {
  json file = File();
  file["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}},
                          {{"type", "NFD"}},
                          {{"type", "StripAccents"}},
                          {{"type", "Lowercase"}},
                          {{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", "_"}},
                          {{"type", "Replace"}, {"pattern", {{"String", "b"}}}, {"content", "bb"}},
                          {{"type", "Prepend"}, {"prepend", ">"}}}}};
  EXPECT_THAT(Tokens(*Make(file), " \u00c9 \t B "), ElementsAre(">", "e", "_", "b", "b"));
}

struct SplitCase {
  const char* behavior;
  bool invert;
  std::vector<std::string> pieces;  // Of "a--b-".
};

TEST(TokenizerTest, SplitsBehaveAsNamed) {
  const SplitCase cases[] = {
      {"Removed", false, {"a", "b"}},
      {"Isolated", false, {"a", "-", "-", "b", "-"}},
      {"MergedWithPrevious", false, {"a-", "-", "b-"}},
      {"MergedWithNext", false, {"a", "-", "-b", "-"}},
      {"Contiguous", false, {"a", "--", "b", "-"}},
      {"Removed", true, {"-", "-", "-"}},
  };
  for (const SplitCase& c : cases) {
    for (const char* const kind : {"String", "Regex"}) {
      json file = File();
      file["pre_tokenizer"] = {{"type", "Split"},
                               {"pattern", {{kind, "-"}}},
                               {"behavior", c.behavior},
                               {"invert", c.invert}};
      // A word that is in the vocabulary as a whole shows where the pieces are.
      file["model"]["ignore_merges"] = true;
      for (const char* const word : {"a-", "-b", "b-", "--", "a--b-"}) {
        file["model"]["vocab"][word] = file["model"]["vocab"].size();
      }
      EXPECT_EQ(Tokens(*Make(file), "a--b-"), c.pieces) << c.behavior << " " << kind;
    }
  }
}

TEST(TokenizerTest, MetaspaceMarksWords) {
  json file = File();
  for (const char* const word : {"\u2581ab", "\u2581c", "ab"}) {
    file["model"]["vocab"][word] = file["model"]["vocab"].size();
  }
  file["model"]["ignore_merges"] = true;
  file["added_tokens"] = {AddedToken(300, "<x>")};
  file["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "\u2581"}};
  EXPECT_THAT(Tokens(*Make(file), "ab c<x>ab"),
              ElementsAre("\u2581ab", "\u2581c", "<x>", "\u2581ab"));
  file["pre_tokenizer"]["prepend_scheme"] = "first";
  EXPECT_THAT(Tokens(*Make(file), "ab c<x>ab"), ElementsAre("\u2581ab", "\u2581c", "<x>", "ab"));
  file["pre_tokenizer"].erase("prepend_scheme");
  file["pre_tokenizer"]["add_prefix_space"] = false;
  EXPECT_THAT(Tokens(*Make(file), "ab c<x>ab"), ElementsAre("ab", "\u2581c", "<x>", "ab"));
}

TEST(TokenizerTest, OtherPreTokenizersSplitByCharacterClass) {
  json file = File();
  file["model"]["ignore_merges"] = true;
  for (const char* const word : {"ab", "12", "ab12", "!?", "ab12!?"}) {
    file["model"]["vocab"][word] = file["model"]["vocab"].size();
  }
  const auto split = [&file](const json& pre_tokenizer) {
    file["pre_tokenizer"] = pre_tokenizer;
    return Tokens(*Make(file), "ab12!?");
  };
  EXPECT_THAT(split(nullptr), ElementsAre("ab12!?"));
  EXPECT_THAT(split({{"type", "Digits"}, {"individual_digits", false}}),
              ElementsAre("ab", "12", "!?"));
  EXPECT_THAT(split({{"type", "Digits"}, {"individual_digits", true}}),
              ElementsAre("ab", "1", "2", "!?"));
  EXPECT_THAT(split({{"type", "Punctuation"}}), ElementsAre("ab12", "!", "?"));
  EXPECT_THAT(split({{"type", "Whitespace"}}), ElementsAre("ab12", "!?"));
  EXPECT_THAT(split({{"type", "CharDelimiterSplit"}, {"delimiter", "b"}}),
              ElementsAre("a", "1", "2", "!", "?"));
}

TEST(TokenizerTest, DecodersUndoWhatWasDone) {
  json file = File();
  file["model"]["byte_fallback"] = true;
  for (const char* const token : {"\u2581a", "##b", "b</w>", "<0xE2>", "<0x82>", "<0xAC>"}) {
    file["model"]["vocab"][token] = file["model"]["vocab"].size();
  }
  const auto decode = [&file](const json& decoder, const std::vector<std::string>& tokens) {
    file["decoder"] = decoder;
    const auto tokenizer = Make(file);
    std::vector<int32_t> ids;
    StreamDecoder stream(tokenizer.get(), false);
    std::string streamed;
    for (const std::string& token : tokens) {
      ids.push_back(tokenizer->TokenId(token).value());
      streamed += stream.Push(ids.back());
    }
    streamed += stream.Flush();
    EXPECT_EQ(streamed, tokenizer->Decode(ids, false));
    return streamed;
  };
  EXPECT_EQ(decode(nullptr, {"a", "b"}), "a b");
  EXPECT_EQ(decode({{"type", "Fuse"}}, {"a", "b"}), "ab");
  EXPECT_EQ(decode({{"type", "Metaspace"}, {"replacement", "\u2581"}}, {"\u2581a", "\u2581a"}),
            "a a");
  EXPECT_EQ(decode({{"type", "ByteFallback"}}, {"<0xE2>", "<0x82>", "<0xAC>", "a"}), "\u20aca");
  EXPECT_EQ(decode({{"type", "ByteFallback"}}, {"<0xE2>", "<0x82>", "a"}), "\uFFFD\uFFFDa");
  EXPECT_EQ(
      decode({{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}, {"a", "##b", "a", "!"}),
      "ab a!");
  EXPECT_EQ(decode({{"type", "BPEDecoder"}, {"suffix", "</w>"}}, {"a", "b</w>", "a", "b</w>"}),
            "ab ab");
  const json fuse = {{"type", "Fuse"}};
  const json strip = {{"type", "Strip"}, {"content", "a"}, {"start", 1}, {"stop", 2}};
  EXPECT_EQ(decode({{"type", "Sequence"}, {"decoders", {fuse, strip}}},
                   {"a", "a", "b", "a", "b", "a", "a", "a"}),
            "ababa");
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", "aab"}}}, {"content", "-"}};
  EXPECT_EQ(
      decode({{"type", "Sequence"}, {"decoders", {fuse, replace}}}, {"a", "a", "a", "b", "a", "a"}),
      "a-aa");
}

TEST(TokenizerTest, InvalidUtf8ReadsAsReplacementCharacters) {
  json file = File();
  file["model"]["vocab"]["\uFFFD"] = 300;
  const auto tokenizer = Make(file);
  // One for every maximal subpart: a lone byte, a cut sequence, an overlong form, a surrogate.
  EXPECT_THAT(Tokens(*tokenizer, "\xFF"), testing::SizeIs(1));
  EXPECT_THAT(Tokens(*tokenizer, "a\xE2\x82z"), ElementsAre("a", "\uFFFD", "z"));
  EXPECT_THAT(Tokens(*tokenizer, "\xC0\x80"), testing::SizeIs(2));
  EXPECT_THAT(Tokens(*tokenizer, "\xED\xA0\x80"), testing::SizeIs(3));
  EXPECT_THAT(Tokens(*tokenizer, "\xF0\x9F\x98"), testing::SizeIs(1));
}

TEST(TokenizerTest, TextsAreBounded) {
  const auto tokenizer = Make(File());
  EXPECT_TRUE(absl::IsResourceExhausted(
      tokenizer->Encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a')).status()));
  json file = File();
  file["normalizer"] = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1 << 20, 'b')}};
  EXPECT_TRUE(absl::IsResourceExhausted(Make(file)->Encode(std::string(1 << 20, 'a')).status()));
}

TEST(TokenizerTest, ARegexThatExplodesEndsWithAnError) {
  json file = File();
  file["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "(a|a)*(a|a)*(a|a)*(a|a)*c"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  const auto status = Make(file)->Encode(std::string(5000, 'a')).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST(TokenizerTest, IdsOutsideTheVocabularyAreHarmless) {
  const auto tokenizer = Make(File());
  EXPECT_EQ(tokenizer->Decode({-1, INT32_MAX, INT32_MIN, tokenizer->vocab_size()}, false), "");
  EXPECT_TRUE(absl::IsNotFound(tokenizer->Token(-1).status()));
  EXPECT_TRUE(absl::IsNotFound(tokenizer->Token(tokenizer->vocab_size()).status()));
  EXPECT_FALSE(tokenizer->IsSpecial(-1));
  EXPECT_EQ(tokenizer->TokenId("no such token"), std::nullopt);
}

TEST(TokenizerTest, ManyThreadsEncodeAtOnce) {
  json file = File({"abc"});
  file["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "\\s+"}}},
                           {"behavior", "Removed"},
                           {"invert", false}};
  const auto tokenizer = Make(file);
  const std::vector<int32_t> expected = tokenizer->Encode("abc abd").value();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        EXPECT_EQ(tokenizer->Encode("abc abd").value(), expected);
        EXPECT_EQ(tokenizer->Decode(expected, true), "abc ab d");
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(TokenizerTest, LoadsAFolderAndItsConfig) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / "octogate_tokenizer_test";
  std::filesystem::create_directories(folder);
  const auto status = Tokenizer::Load((folder / "none").string()).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  json file = File();
  file["added_tokens"] = {AddedToken(200, "<s>"), AddedToken(201, "</s>")};
  std::ofstream(folder / "tokenizer.json") << file;
  std::ofstream(folder / "tokenizer_config.json")
      << json{{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  const auto tokenizer = Tokenizer::Load(folder.string());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 200);
  EXPECT_EQ((*tokenizer)->eos_id(), 201);
  EXPECT_EQ((*tokenizer)->vocab_size(), 202);
  std::ofstream(folder / "tokenizer_config.json") << "{\"bos_token\": 7}";
  EXPECT_THAT(Tokenizer::Load(folder.string()).status().message(),
              HasSubstr("tokenizer_config.json: bos_token: expected a string"));
  std::filesystem::remove_all(folder);
}

struct BadFile {
  const char* name;
  const char* patch;  // RFC 7396 merge patch of a good file, or (not an object) the whole file.
  const char* complaint;
};

class BadTokenizerFile : public testing::TestWithParam<BadFile> {};

TEST_P(BadTokenizerFile, IsRefusedWithItsPath) {
  json file = File({"ab"});
  std::string text = GetParam().patch;
  if (const json patch = json::parse(text, nullptr, false); patch.is_object()) {
    file.merge_patch(patch);
    text = file.dump();
  }
  const auto status = Tokenizer::FromJson(text, "bad.json").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsUnimplemented(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("bad.json: "));
  EXPECT_THAT(status.message(), HasSubstr(GetParam().complaint));
}

#define ADDED(...)                                                                               \
  R"({"added_tokens": [{"single_word": false, "lstrip": false, "rstrip": false, "normalized": )" \
  R"(false, "special": true, )" __VA_ARGS__ "}]}"

INSTANTIATE_TEST_SUITE_P(
    Files, BadTokenizerFile,
    testing::Values(
        BadFile{"Empty", "", "not valid JSON"}, BadFile{"Cut", "{\"model\": {", "byte 12"},
        BadFile{"NotAnObject", "[1, 2]", "expected an object"},
        BadFile{"InvalidUtf8", "{\"a\": \"\xFF\"}x", "not valid JSON"},
        BadFile{"Version", R"({"version": "2.0"})", "version: expected \"1.0\""},
        BadFile{"NoModel", R"({"model": null})", "lacks \"model\""},
        BadFile{"WordLevel", R"({"model": {"type": "WordLevel"}})", "\"WordLevel\" is not"},
        BadFile{"Unigram", R"({"model": {"type": "Unigram"}})",
                "model: the model type \"Unigram\""},
        BadFile{"NoVocab", R"({"model": {"vocab": null}})", "model: lacks \"vocab\""},
        BadFile{"VocabIsAList", R"({"model": {"vocab": [1]}})", "model.vocab: expected an object"},
        BadFile{"IdIsText", R"({"model": {"vocab": {"q": "1"}}})",
                "model.vocab.q: expected an int"},
        BadFile{"IdIsNegative", R"({"model": {"vocab": {"q": -1}}})", "found -1"},
        BadFile{"IdIsHuge", R"({"model": {"vocab": {"q": 2147483648}}})", "found 2147483648"},
        BadFile{"IdOverflows", R"({"model": {"vocab": {"q": 18446744073709551615}}})",
                "found 1844"},
        BadFile{"IdIsAFraction", R"({"model": {"vocab": {"q": 1.5}}})", "expected an integer"},
        BadFile{"IdTwice", R"({"model": {"vocab": {"q": 0}}})", "the id 0 is already that of"},
        BadFile{"UnknownTokenUnknown", R"({"model": {"unk_token": "?!"}})", "is not in vocab"},
        BadFile{"Dropout", R"({"model": {"dropout": 0.1}})", "model.dropout: dropout"},
        BadFile{"NoMerges", R"({"model": {"merges": null}})", "model: lacks \"merges\""},
        BadFile{"MergesIsText", R"({"model": {"merges": "a b"}})",
                "model.merges: expected an array"},
        BadFile{"MergeOfOne", R"({"model": {"merges": ["ab"]}})", "model.merges[0]: expected two"},
        BadFile{"MergeOfThree", R"({"model": {"merges": [["a", "b", "c"]]}})", "model.merges[0]"},
        BadFile{"MergePartMissing", R"({"model": {"merges": ["a \u00e9"]}})", "is not in vocab"},
        BadFile{"MergeResultMissing", R"({"model": {"merges": ["a c"]}})",
                "\"ac\" is not in vocab"},
        BadFile{"AddedTokensIsAnObject", R"({"added_tokens": {"0": {}}})",
                "added_tokens: expected"},
        BadFile{"AddedTokenWithoutId", ADDED(R"("content": "<x>")"),
                "added_tokens[0]: lacks \"id\""},
        BadFile{"AddedTokenEmpty", ADDED(R"("content": "", "id": 300)"), "content has 0 bytes"},
        BadFile{"AddedTokenTakesAnId", ADDED(R"("content": "<x>", "id": 5)"),
                "the id 5 is that of"},
        BadFile{"AddedTokenDisagrees", ADDED(R"("content": "a", "id": 300)"), "contradicts"},
        BadFile{"Normalizer", R"({"normalizer": {"type": "Precompiled"}})",
                "normalizer: the normalizer \"Precompiled\" is not supported"},
        BadFile{"NormalizerInSequence",
                R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {}]}})",
                "normalizer.normalizers[1]: lacks \"type\""},
        BadFile{"EmptyPattern",
                R"({"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": ""}})",
                "normalizer.pattern: an empty pattern"},
        BadFile{"BrokenRegex",
                R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""}})",
                "does not compile"},
        BadFile{
            "ForeignRegex",
            R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "\\K"}, "content": ""}})",
            "the escape \\K is not supported"},
        BadFile{"PreTokenizer", R"({"pre_tokenizer": {"type": "UnicodeScripts"}})",
                "not supported"},
        BadFile{"Behavior",
                R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "invert": false,
                    "behavior": "Sideways"}})",
                "pre_tokenizer.behavior: expected Removed"},
        BadFile{"LongReplacement",
                R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "ab"}})",
                "pre_tokenizer.replacement: expected one character"},
        BadFile{"PrependScheme",
                R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_",
                    "prepend_scheme": "first", "add_prefix_space": false}})",
                "add_prefix_space is false"},
        BadFile{"PostProcessor", R"({"post_processor": {"type": "Magic"}})", "not supported"},
        BadFile{"TemplateWithoutText",
                R"({"post_processor": {"type": "TemplateProcessing", "single": [],
                    "special_tokens": {}}})",
                "post_processor.single: a template"},
        BadFile{"TemplateTokenUndefined",
                R"({"post_processor": {"type": "TemplateProcessing", "special_tokens": {},
                    "single": [{"SpecialToken": {"id": "<s>"}}]}})",
                "post_processor.special_tokens: lacks \"<s>\""},
        BadFile{"PostProcessorIdOutOfRange",
                R"({"post_processor": {"type": "BertProcessing", "cls": ["x", 99999],
                    "sep": ["y", 0]}})",
                "post_processor.cls[1]: expected an integer"},
        BadFile{"Decoder", R"({"decoder": {"type": "CTC"}})", "decoder: the decoder \"CTC\""},
        BadFile{"DecoderStrip",
                R"({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}})",
                "decoder.start: expected an integer"}),
    [](const testing::TestParamInfo<BadFile>& info) { return info.param.name; });

TEST(BadTokenizerFileTest, DepthAndSizeAreBounded) {
  const auto deep = Tokenizer::FromJson(std::string(1000, '['), "deep.json").status();
  EXPECT_THAT(deep.message(), HasSubstr("deep.json: byte 64: nested deeper than 64 levels"));
  const auto many = Tokenizer::FromJson("[" + std::string(5 << 20, ','), "many.json").status();
  EXPECT_THAT(many.message(), HasSubstr("many.json: more than"));
  const auto large =
      Tokenizer::FromJson(std::string(Tokenizer::kMaxFileBytes + 1, ' '), "large.json").status();
  EXPECT_THAT(large.message(), HasSubstr("large.json: larger than"));
}

TEST(BadTokenizerFileTest, ASequenceInASequenceInASequenceEnds) {
  json file = File();
  json normalizer = {{"type", "NFC"}};
  for (int i = 0; i < 10; ++i) {
    normalizer = {{"type", "Sequence"}, {"normalizers", {normalizer, normalizer}}};
  }
  file["normalizer"] = normalizer;
  EXPECT_THAT(Tokenizer::FromJson(file.dump(), "nested.json").status().message(),
              HasSubstr("more than 64 steps"));
}

}  // namespace
}  // namespace octogate::workers
