// What a recording takes and refuses. Files come from strangers.
#include "gateway/replay/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/model_root.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

class RecordingTest : public testing::Test {
 protected:
  RecordingTest() : folder_(testing::TempDir() + "/recording_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~RecordingTest() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<std::shared_ptr<const Recording>> Read(const std::string& text,
                                                        const RecordingLimits& limits = {}) {
    std::ofstream(folder_ / "r.jsonl", std::ios::binary) << text;
    return Recording::Read(folder_ / "r.jsonl", "r.jsonl", absl::InfiniteFuture(), limits);
  }

  void ExpectRefused(const std::string& text, const std::string& message,
                     absl::StatusCode code = absl::StatusCode::kInvalidArgument,
                     const RecordingLimits& limits = {}) {
    const auto read = Read(text, limits);
    EXPECT_EQ(read.status().code(), code) << text << ": " << read.status();
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(message)) << text;
  }

  const std::filesystem::path folder_;
};

constexpr char kGood[] = R"({"query": "q", "answer": "a", "output_tokens": 3})"
                         "\n";

TEST_F(RecordingTest, ReadsEveryKey) {
  const auto recording =
      Read(R"({"query": "what  is\n1 + 1? ", "answer": "2", "output_tokens": 7, "input_tokens": 5,)"
           R"( "confidence": 0.25, "latency_ms": 1.5})"
           "\r\n\n"
           R"({"query": "what is 1+1?", "answer": "zwei ✓", "output_chars": 9})");
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ((*recording)->size(), 2u);
  const RecordedAnswer* const first = (*recording)->Find("\twhat is 1 + 1?");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->text, "2");
  EXPECT_EQ(first->output_tokens, 7);
  EXPECT_EQ(first->input_tokens, 5);
  EXPECT_EQ(first->confidence, 0.25);
  EXPECT_EQ(first->latency, absl::Microseconds(1500));
  const RecordedAnswer* const second = (*recording)->Find("what is 1+1?");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->output_tokens, 3) << "9 characters, four to a token";
  EXPECT_EQ(second->input_tokens, 3) << "12 bytes, four to a token";
  EXPECT_EQ(second->confidence, 1);
  EXPECT_EQ((*recording)->Find("What is 1+1?"), nullptr) << "letters keep their case";
}

TEST_F(RecordingTest, SaysWhatIsWrongAndWhere) {
  const std::string good = kGood;
  ExpectRefused("", "r.jsonl:1: there is no answer");
  ExpectRefused("\n \n", "there is no answer");
  ExpectRefused(good + R"({"query": "r", "answer": "tr)", "r.jsonl:2: no complete JSON object");
  ExpectRefused(good + "\n{\"query\": nonsense}", "r.jsonl:3: not valid JSON");
  ExpectRefused("[1]", "r.jsonl:1: a line must be a JSON object");
  ExpectRefused(good + "{\"query\": \"\xC3(\"}", "r.jsonl:2: byte 12 of the line is not part of");
  ExpectRefused(good + R"({"query": " q ", "answer": "b", "output_tokens": 3})",
                "r.jsonl:2: the query 'q' has an answer on line 1 already");
  ExpectRefused(R"({"answer": "a", "output_tokens": 1})", "\"query\" is missing");
  ExpectRefused(R"({"query": " ", "answer": "a", "output_tokens": 1})", "\"query\" is empty");
  ExpectRefused(R"({"query": 1, "answer": "a", "output_tokens": 1})", "\"query\" must be text");
  ExpectRefused(R"({"query": "q", "output_tokens": 1})", "\"answer\" is missing");
  ExpectRefused(R"({"query": "q", "answer": "a"})", "neither is there");
  ExpectRefused(R"({"query": "q", "answer": "a", "output_tokens": 1, "output_chars": 1})",
                "both are there");
  for (const char* wrong : {"0", "-1", "1.5", "1e3", "1000001", "99999999999999999999", "\"1\"",
                            "true", "null", "[]"}) {
    ExpectRefused(absl::StrCat(R"({"query": "q", "answer": "a", "output_tokens": )", wrong, "}"),
                  "\"output_tokens\" must be a whole number from 1 to 1000000");
  }
  for (const char* wrong : {"-0.1", "1.1", "\"x\""}) {
    ExpectRefused(
        absl::StrCat(R"({"query": "q", "answer": "a", "output_tokens": 1, "confidence": )", wrong,
                     "}"),
        "\"confidence\" must be a number from 0 to 1");
  }
  ExpectRefused(R"({"query": "q", "answer": "a", "output_tokens": 1, "tokens": 1})",
                "unknown key 'tokens'");
}

TEST_F(RecordingTest, BoundsWhatItReads) {
  ExpectRefused(kGood, "at most 10", absl::StatusCode::kResourceExhausted, {.max_file_bytes = 10});
  ExpectRefused(kGood, "r.jsonl:1: the line is longer", absl::StatusCode::kResourceExhausted,
                {.max_line_bytes = 10});
  ExpectRefused(absl::StrCat(kGood, R"({"query": "r", "answer": "a", "output_tokens": 3})"),
                "r.jsonl:2: more than 1 answers", absl::StatusCode::kResourceExhausted,
                {.max_answers = 1});
  // A value that nests deeper than any stack.
  ExpectRefused("{\"query\":" + std::string(1 << 20, '['), "r.jsonl:1: ");
  EXPECT_EQ(Recording::Read(folder_ / "none", "none", absl::InfiniteFuture()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Recording::Read(folder_, "folder", absl::InfiniteFuture()).status().code(),
            absl::StatusCode::kNotFound);
}

// Whatever the bytes are, reading ends with a recording or with the line that is wrong.
TEST_F(RecordingTest, DamagedFilesAreReadOrRefused) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < 20; ++i) {
    absl::StrAppend(&text, R"({"query": "frage )", i, R"(", "answer": "ä", "output_chars": )", i,
                    "}\n");
  }
  for (int round = 0; round < 500; ++round) {
    std::string damaged = text;
    for (uint32_t i = 0; i <= random() % 3; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random() % 256);
    }
    if (random() % 2 == 0) damaged.resize(random() % damaged.size());
    const auto read = Read(damaged);
    if (!read.ok()) {
      EXPECT_THAT(std::string(read.status().message()), testing::StartsWith("r.jsonl:"));
    }
  }
}

TEST_F(RecordingTest, PathsStayBelowTheRoot) {
  std::ofstream(folder_ / "in.jsonl") << kGood;
  std::filesystem::create_directories(folder_ / "root" / "deep");
  std::ofstream(folder_ / "root" / "deep" / "r.jsonl") << kGood;
  std::filesystem::create_symlink(folder_ / "in.jsonl", folder_ / "root" / "link.jsonl");
  const std::filesystem::path root = folder_ / "root";
  EXPECT_TRUE(ResolveBelow(root, "deep/r.jsonl").ok());
  EXPECT_TRUE(ResolveBelow(root, "deep/../deep/r.jsonl").ok());
  for (const std::string& path :
       {std::string("../in.jsonl"), (folder_ / "in.jsonl").string(), std::string("link.jsonl"),
        std::string(), std::string("a\0b", 3)}) {
    EXPECT_EQ(ResolveBelow(root, path).status().code(), absl::StatusCode::kInvalidArgument) << path;
  }
  EXPECT_EQ(ResolveBelow(root, "none.jsonl").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveBelow(root, "deep").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace octogate::gateway
