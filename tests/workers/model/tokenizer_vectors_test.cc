// Encodings recorded from other implementations: Hugging Face tokenizers, SentencePiece and
// llama.cpp. The files lie in the folder that OCTOGATE_TEST_DATA names.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "workers/model/tokenizer.h"

namespace octogate::workers {
namespace {

struct Vector {
  std::string text;
  std::vector<int32_t> ids;
};

struct Subject {
  std::string name;
  std::string folder;              // Of tokenizer.json, below the data folder.
  std::string vectors;             // JSON lines.
  std::string llama_cpp;           // Stem of .inp and .out; may be empty.
  bool ids_with_specials = false;  // Whether the recorded ids have BOS.
};

void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

std::vector<Vector> ReadJsonLines(const std::string& path) {
  std::vector<Vector> vectors;
  std::istringstream lines(ReadFile(path));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    vectors.push_back({json.at("text"), json.at("ids")});
  }
  return vectors;
}

// Texts separated by "\n__ggml_vocab_test__\n"; ids line by line, separated by blanks.
std::vector<Vector> ReadLlamaCpp(const std::string& stem) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string texts = ReadFile(stem + ".inp");
  std::istringstream lines(ReadFile(stem + ".out"));
  std::vector<Vector> vectors;
  size_t begin = 0;
  for (std::string line; std::getline(lines, line);) {
    const size_t end = texts.find(separator, begin);
    Vector vector{texts.substr(begin, end - begin), {}};
    begin = end == std::string::npos ? texts.size() : end + separator.size();
    std::istringstream ids(line);
    for (int32_t id; ids >> id;) {
      vector.ids.push_back(id);
    }
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

class TokenizerVectors : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    const char* const data = std::getenv("OCTOGATE_TEST_DATA");
    if (data == nullptr) {
      GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: recorded encodings are NOT checked";
    }
    data_ = data;
    static auto* const loaded = new std::map<std::string, std::unique_ptr<Tokenizer>>();
    std::unique_ptr<Tokenizer>& slot = (*loaded)[GetParam().folder];
    if (slot == nullptr) {
      auto tokenizer = Tokenizer::Load(data_ + "/" + GetParam().folder);
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
      slot = *std::move(tokenizer);
    }
    tokenizer_ = slot.get();
  }

  void ExpectEncodings(const std::vector<Vector>& vectors, bool specials) {
    for (const Vector& vector : vectors) {
      const auto ids = tokenizer_->Encode(vector.text, {.add_special_tokens = specials});
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(*ids, vector.ids) << testing::PrintToString(vector.text);
    }
  }

  std::vector<Vector> Recorded() const { return ReadJsonLines(data_ + "/" + GetParam().vectors); }

  std::string data_;
  const Tokenizer* tokenizer_ = nullptr;
};

TEST_P(TokenizerVectors, EncodesAsRecorded) {
  const std::vector<Vector> vectors = Recorded();
  ASSERT_GT(vectors.size(), 500u);
  ExpectEncodings(vectors, GetParam().ids_with_specials);
}

TEST_P(TokenizerVectors, EncodesAsLlamaCpp) {
  if (GetParam().llama_cpp.empty()) {
    GTEST_SKIP() << "llama.cpp has no vectors for this vocabulary";
  }
  const std::vector<Vector> vectors = ReadLlamaCpp(data_ + "/" + GetParam().llama_cpp);
  ASSERT_GE(vectors.size(), 40u);
  ExpectEncodings(vectors, false);
}

TEST_P(TokenizerVectors, DecodingGivesTheTextBack) {
  for (const Vector& vector : Recorded()) {
    const std::string text = tokenizer_->Decode(vector.ids, true);
    if (text == vector.text) {
      continue;
    }
    // A normalizer changed the text; then its result must mean the same.
    EXPECT_EQ(GetParam().name, "qwen2") << testing::PrintToString(vector.text);
    EXPECT_EQ(tokenizer_->Encode(text).value(), vector.ids) << testing::PrintToString(vector.text);
  }
}

TEST_P(TokenizerVectors, StreamOfAnyIdsJoinsToTheirText) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  std::uniform_int_distribution<int32_t> any(-2, tokenizer_->vocab_size() + 1);
  const std::vector<Vector> vectors = Recorded();
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids = vectors[random() % vectors.size()].ids;
    ids.resize(std::min<size_t>(ids.size(), 1 + random() % 60));
    for (size_t changes = random() % 20; changes > 0; --changes) {
      // Half of the strangers are byte tokens of SentencePiece vocabularies.
      ids[random() % ids.size()] = random() % 2 == 0 ? any(random) : 3 + random() % 256;
    }
    const bool skip = random() % 2 == 0;
    StreamDecoder stream(tokenizer_, skip);
    std::string joined;
    for (const int32_t id : ids) {
      const std::string part = stream.Push(id);
      // Valid UTF-8, or the JSON library would refuse it.
      ASSERT_NO_THROW(nlohmann::json(part).dump());
      joined += part;
    }
    joined += stream.Flush();
    ASSERT_EQ(joined, tokenizer_->Decode(ids, skip)) << testing::PrintToString(ids);
  }
}

TEST_P(TokenizerVectors, SpecialTokensInUserTextStayText) {
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (!tokenizer_->IsSpecial(id)) {
      continue;
    }
    const std::string spelling = tokenizer_->Token(id).value();
    const auto ids = tokenizer_->Encode("a" + spelling + "b" + spelling,
                                        {.add_special_tokens = false, .parse_special = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_TRUE(std::none_of(ids->begin(), ids->end(), [this](int32_t found) {
      return tokenizer_->IsSpecial(found);
    })) << spelling;
    EXPECT_EQ(tokenizer_->Decode(*ids, false), "a" + spelling + "b" + spelling);
  }
}

TEST_P(TokenizerVectors, AMegabyteOfAnythingEncodes) {
  for (const std::string unit :
       {"a", " ", "\n", "'", "1", "\u00e9", "\U0001F600", "ab ", "\u2581", "<"}) {
    std::string text;
    while (text.size() < 1'000'000) {
      text += unit;
    }
    const auto ids = tokenizer_->Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_FALSE(ids->empty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Data, TokenizerVectors,
    testing::Values(
        Subject{"gpt2", "tokenizers/gpt2", "tokenizers/gpt2/vectors_hfjs.jsonl",
                "tokenizers/vectors47/ggml-vocab-gpt-2.gguf"},
        Subject{"llama2", "tokenizers/llama2", "tokenizers/llama2/vectors_sentencepiece.jsonl",
                "tokenizers/vectors47/ggml-vocab-llama-spm.gguf"},
        Subject{"llama3", "tokenizers/llama3", "tokenizers/llama3/vectors_hfjs.jsonl",
                "tokenizers/vectors47/ggml-vocab-llama-bpe.gguf"},
        Subject{"qwen2", "tokenizers/qwen2", "tokenizers/qwen2/vectors_hfjs.jsonl",
                "tokenizers/vectors47/ggml-vocab-qwen2.gguf"},
        Subject{"phi3", "tokenizers/phi-3-mini", "tokenizers/phi-3-mini/vectors_hfjs.jsonl",
                "tokenizers/vectors47/ggml-vocab-phi-3.gguf"},
        Subject{"stories260K", "stories260K/hf", "stories260K/tokenizer_vectors.jsonl", "",
                /*ids_with_specials=*/true}),
    [](const testing::TestParamInfo<Subject>& info) { return info.param.name; });

}  // namespace
}  // namespace octogate::workers
