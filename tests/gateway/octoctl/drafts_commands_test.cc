// octoctl drafts: from texts to a store in which what followed is found, and what it says to those
// who give it something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/corpus.h"
#include "retrieval/drafts/draft_lookup.h"
#include "retrieval/drafts/near_index.h"
#include "tests/workers/model/test_folder.h"
#include "workers/model/tokenizer.h"
#include "workers/model/tokenizer_fingerprint.h"

namespace octogate::octoctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using workers::Tokenizer;

const char kTokenizer[] = OCTOGATE_CHECKPOINTS "/llama3";
const char kOtherTokenizer[] = OCTOGATE_CHECKPOINTS "/qwen2";

class DraftsCommandsTest : public testing::Test {
 protected:
  DraftsOptions Options(const std::vector<std::string>& paths) const {
    DraftsOptions options;
    options.file = (folder_.path() / "store").string();
    options.tokenizer = kTokenizer;
    for (const std::string& path : paths) options.paths.push_back((folder_.path() / path).string());
    return options;
  }

  // Runs a command and keeps what it prints.
  template <typename Function>
  ExitStatus Run(Function function, const DraftsOptions& options, Format format = Format::kTable) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitStatus status = function(options, format);
    out_ = testing::internal::GetCapturedStdout();
    error_ = testing::internal::GetCapturedStderr();
    return status;
  }

  // The text that most often followed `text` in the store.
  std::string Continuation(const std::string& text) const {
    const auto tokenizer = Tokenizer::Load(kTokenizer);
    const auto store = retrieval::DraftStore::Open((folder_.path() / "store").string());
    if (!tokenizer.ok() || !store.ok()) return "no tokenizer or no store";
    EXPECT_EQ((*store)->tokenizer(), workers::TokenizerFingerprint(**tokenizer));
    EXPECT_EQ((*store)->vocab_size(), (*tokenizer)->vocab_size());
    std::vector<int32_t> ids = *(*tokenizer)->Encode(text, {.add_special_tokens = false});
    const size_t given = ids.size();
    for (int i = 0; i < 100; ++i) {
      retrieval::DraftContinuations found;
      retrieval::LookUpContinuations(**store, ids, {.max_depth = 1}, found);
      if (found.nodes.empty()) break;
      ids.push_back(found.nodes.front().token);
    }
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(given));
    return (*tokenizer)->Decode(ids, false);
  }

  const workers::TestFolder folder_;
  std::string out_;
  std::string error_;
};

TEST_F(DraftsCommandsTest, BuildsAppendsCompactsAndDescribes) {
  folder_.Write("poem.txt", "the quick brown fox jumps over the lazy dog\n");
  ASSERT_EQ(Run(BuildDrafts, Options({"poem.txt"})), kOk) << error_;
  EXPECT_THAT(out_, HasSubstr("1 document, "));
  EXPECT_THAT(out_, HasSubstr("1 segment, "));
  EXPECT_EQ(Continuation("the quick brown fox"), " jumps over the lazy dog\n");
  EXPECT_EQ(Continuation("a quick brown"), " fox jumps over the lazy dog\n");

  folder_.Write("rows.jsonl",
                "{\"question\": \"who was it?\", \"answers\": [\"it was a red house\", \"none\"]}\n"
                "\n{\"ids\": [5, 6, 7, 8]}\n");
  DraftsOptions append = Options({"rows.jsonl"});
  append.fields = {"question", "answers", "ids"};
  ASSERT_EQ(Run(AppendDrafts, append), kOk) << error_;
  EXPECT_THAT(out_, HasSubstr("5 documents, "));
  EXPECT_EQ(Continuation("it was a red"), " house");
  EXPECT_EQ(Continuation("the quick brown fox"), " jumps over the lazy dog\n");

  ASSERT_EQ(Run(DescribeDrafts, Options({})), kOk) << error_;
  EXPECT_THAT(out_, HasSubstr("SEGMENT"));
  ASSERT_EQ(Run(DescribeDrafts, Options({}), Format::kJson), kOk) << error_;
  const auto json = nlohmann::json::parse(out_, nullptr, false);
  ASSERT_TRUE(json.is_object()) << out_;
  EXPECT_EQ(json.value("documents", 0), 5);
  EXPECT_EQ(json["segments"].size(), 2);
  EXPECT_EQ(json.value("bytes", size_t{0}), std::filesystem::file_size(folder_.path() / "store"));

  ASSERT_EQ(Run(CompactDrafts, Options({})), kOk) << error_;
  EXPECT_THAT(out_, HasSubstr("5 documents, "));
  EXPECT_THAT(out_, HasSubstr("1 segment, "));
  EXPECT_EQ(Continuation("it was a red"), " house");
}

TEST_F(DraftsCommandsTest, NearMatchesFollowTheStore) {
  folder_.Write("poem.txt", "the quick brown fox jumps over the lazy dog\n");
  const std::string near = retrieval::NearIndexPath(Options({}).file);
  const auto contexts = [&] {
    EXPECT_EQ(Run(DescribeDrafts, Options({}), Format::kJson), kOk) << error_;
    const auto json = nlohmann::json::parse(out_, nullptr, false);
    return json.is_object() && json.contains("nearMatches")
               ? json["nearMatches"].value("contexts", size_t{0})
               : size_t{0};
  };
  ASSERT_EQ(Run(BuildDrafts, Options({"poem.txt"})), kOk) << error_;
  EXPECT_EQ(contexts(), 0);
  EXPECT_FALSE(std::filesystem::exists(near));
  DraftsOptions asked = Options({"poem.txt"});
  asked.near_matches = true;
  ASSERT_EQ(Run(BuildDrafts, asked), kOk) << error_;
  EXPECT_THAT(out_, HasSubstr("near matches: "));
  const size_t of_poem = contexts();
  EXPECT_GT(of_poem, 5);
  ASSERT_EQ(Run(AppendDrafts, Options({"poem.txt"})), kOk) << error_;
  EXPECT_EQ(contexts(), 2 * of_poem);
  ASSERT_EQ(Run(CompactDrafts, Options({})), kOk) << error_;
  EXPECT_EQ(contexts(), 2 * of_poem);
  // Damaged, they are no store's; made anew, they are right again.
  folder_.Write("store.near", "something else");
  EXPECT_EQ(Run(DescribeDrafts, Options({})), kInvalid);
  EXPECT_THAT(error_, HasSubstr("--near-matches"));
  ASSERT_EQ(Run(CompactDrafts, asked), kOk) << error_;
  EXPECT_EQ(contexts(), 2 * of_poem);
  ASSERT_EQ(Run(BuildDrafts, Options({"poem.txt"})), kOk) << error_;
  EXPECT_EQ(contexts(), 0);
  EXPECT_FALSE(std::filesystem::exists(near)) << "they were another store's";
}

TEST_F(DraftsCommandsTest, AFolderIsReadWhole) {
  std::filesystem::create_directories(folder_.path() / "texts/below");
  std::filesystem::create_directories(folder_.path() / "texts/.git");
  folder_.Write("texts/b.md", "beta is a letter");
  folder_.Write("texts/below/a.txt", "alpha is a letter");
  folder_.Write("texts/.git/config", "nothing");
  folder_.Write("texts/.hidden", "nothing");
  folder_.Write("texts/picture.png", std::string("\x89PNG\0\0\0", 7));
  ASSERT_EQ(Run(BuildDrafts, Options({"texts"})), kOk) << error_;
  EXPECT_THAT(out_, HasSubstr("2 documents, "));
  EXPECT_THAT(error_, HasSubstr("picture.png"));
}

TEST_F(DraftsCommandsTest, ErrorsSayWhatToDo) {
  folder_.Write("text.txt", "some text");
  folder_.Write("empty.txt", "");
  folder_.Write("binary", std::string("a\0b", 3));
  folder_.Write("rows.jsonl", "{\"body\": \"text\"}\n");
  folder_.Write("broken.jsonl", "{\"text\": \"fine\"}\n{\"text\": \n");
  folder_.Write("numbers.jsonl", "{\"text\": [1, -1]}\n");
  const auto refused = [&](const std::string& path, ExitStatus status, const std::string& says) {
    EXPECT_EQ(Run(BuildDrafts, Options({path})), status) << path;
    EXPECT_THAT(error_, HasSubstr(says));
    EXPECT_FALSE(std::filesystem::exists(folder_.path() / "store")) << path;
    EXPECT_FALSE(std::filesystem::exists(folder_.path() / "store.partial")) << path;
  };
  refused("missing.txt", kUsage, "missing.txt");
  refused("empty.txt", kInvalid, "no text was found in 1 file");
  refused("binary", kInvalid, "is no text; give");
  refused("rows.jsonl", kInvalid, "--field");
  refused("broken.jsonl", kInvalid, "line 2");
  refused("numbers.jsonl", kInvalid, "line 1");
  DraftsOptions options = Options({"text.txt"});
  options.tokenizer = folder_.path().string();
  EXPECT_EQ(Run(BuildDrafts, options), kUsage);
  EXPECT_THAT(error_, HasSubstr("tokenizer.json"));

  EXPECT_EQ(Run(AppendDrafts, Options({"text.txt"})), kUsage) << "there is no store yet";
  EXPECT_EQ(Run(DescribeDrafts, Options({})), kUsage);
  ASSERT_EQ(Run(BuildDrafts, Options({"text.txt"})), kOk) << error_;
  options.tokenizer = kOtherTokenizer;
  EXPECT_EQ(Run(AppendDrafts, options), kInvalid);
  EXPECT_THAT(error_, HasSubstr("append with that one, or build another store"));
  folder_.Write("store", "something else, which is longer than the header of a store: sixty-four");
  EXPECT_EQ(Run(DescribeDrafts, Options({})), kInvalid);
  EXPECT_THAT(error_, HasSubstr("octoctl drafts build"));
}

class Collector : public CorpusReceiver {
 public:
  absl::Status Text(std::string_view piece) override {
    EXPECT_LE(piece.size(), kMaxPieceBytes);
    pieces.emplace_back(piece);
    return absl::OkStatus();
  }
  absl::Status Tokens(std::span<const int32_t> /*ids*/) override { return absl::OkStatus(); }
  absl::Status EndDocument() override {
    ++documents;
    return absl::OkStatus();
  }
  std::vector<std::string> pieces;
  int documents = 0;
};

TEST_F(DraftsCommandsTest, LongTextsComeInPiecesThatBeginALine) {
  std::string lines;
  for (int i = 0; lines.size() < 3'000'000; ++i) lines += "line " + std::to_string(i) + "\n";
  const std::string blob(2'500'000, 'x');
  folder_.Write("lines.txt", lines);
  folder_.Write("blob.txt", blob);
  for (const auto& [name, text] : {std::pair{"lines.txt", lines}, {"blob.txt", blob}}) {
    Collector collector;
    ASSERT_TRUE(ReadCorpus({.paths = {(folder_.path() / name).string()}}, collector).ok());
    std::string whole;
    for (const std::string& piece : collector.pieces) {
      if (text == lines) {
        EXPECT_EQ(piece.substr(0, 5), "line ");
      }
      whole += piece;
    }
    EXPECT_TRUE(whole == text);
    EXPECT_EQ(collector.pieces.size(), 3);
    EXPECT_EQ(collector.documents, 1);
  }
}

}  // namespace
}  // namespace octogate::octoctl
