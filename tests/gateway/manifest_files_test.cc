// Manifests with files in them: the text that is put in is the file's, wherever the tag stands, and
// nothing else of the manifest changes.

#include "gateway/manifest_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace octogate::gateway {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;

class ManifestFilesTest : public testing::Test {
 protected:
  ManifestFilesTest() {
    std::string name = testing::TempDir() + "octogate-manifest-XXXXXX";
    root_ = ::mkdtemp(name.data());
    fs::create_directories(root_ / "graphs" / "prompts");
  }
  ~ManifestFilesTest() override { fs::remove_all(root_); }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ / "graphs" / name, std::ios::binary) << text;
  }
  absl::StatusOr<std::string> Inline(const std::string& yaml, size_t max_bytes = 4096) const {
    return InlineFiles(yaml, "graph.yaml", (root_ / "graphs").string(), max_bytes);
  }

  fs::path root_;
};

TEST_F(ManifestFilesTest, PutsTheTextWhereTheTagStands) {
  Write("prompts/a.txt", "Say \"yes\"\\no:\n\t{input}\n\n");
  Write("b b.txt", "ä");
  const std::string yaml =
      "# !file prompts/a.txt is no tag here\n"
      "one: !file prompts/a.txt  # a comment\n"
      "list: [!file 'b b.txt', {two: !file \"b b.txt\"}]\n"
      "text: |\n"
      "  three: !file prompts/a.txt\n"
      "four: '!file prompts/a.txt'\n";
  const absl::StatusOr<std::string> result = Inline(yaml);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result,
            "# !file prompts/a.txt is no tag here\n"
            "one: \"Say \\\"yes\\\"\\\\no:\\n\\t{input}\"  # a comment\n"
            "list: [\"ä\", {two: \"ä\"}]\n"
            "text: |\n"
            "  three: !file prompts/a.txt\n"
            "four: '!file prompts/a.txt'\n");
}

TEST_F(ManifestFilesTest, SaysWhichTagIsWrong) {
  const auto error = [&](const std::string& yaml) {
    const absl::StatusOr<std::string> result = Inline(yaml);
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << yaml;
    return std::string(result.status().message());
  };
  std::ofstream(root_ / "secret.txt") << "secret";
  fs::create_symlink(root_ / "secret.txt", root_ / "graphs" / "link.txt");
  Write("latin.txt", "\xE4");
  EXPECT_THAT(error("a: 1\nb:\n  - !file gone.txt\n"), HasSubstr("graph.yaml:3:5: "));
  EXPECT_THAT(error("a: !file gone.txt"), HasSubstr("cannot read the file 'gone.txt'"));
  EXPECT_THAT(error("a: !file ../secret.txt"), HasSubstr("outside of the manifest's folder"));
  EXPECT_THAT(error("a: !file link.txt"), HasSubstr("outside of the manifest's folder"));
  EXPECT_THAT(error("a: !file " + (root_ / "secret.txt").string()), HasSubstr("outside"));
  EXPECT_THAT(error("a: !file prompts"), HasSubstr("cannot read"));
  EXPECT_THAT(error("a: !file latin.txt"), HasSubstr("not UTF-8"));
  EXPECT_THAT(error("a: !file\n  gone.txt"), HasSubstr("on the same line"));
  EXPECT_THAT(error("a: !file gone\n  txt"), HasSubstr("on the same line"));
  EXPECT_THAT(error("a: !file \"\\x67one\""), HasSubstr("without escapes"));
}

TEST_F(ManifestFilesTest, RefusesMoreThanAGatewayTakes) {
  Write("a.txt", std::string(100, '\n') + "x");
  EXPECT_TRUE(Inline("a: !file a.txt", 206).ok());
  EXPECT_THAT(std::string(Inline("a: !file a.txt", 205).status().message()),
              HasSubstr("more than 205 bytes"));
  EXPECT_THAT(std::string(Inline("a: !file a.txt", 100).status().message()),
              HasSubstr("more than 100 bytes"));
}

TEST_F(ManifestFilesTest, LeavesWhatIsNoYamlToItsParser) {
  const std::string yaml = "a: [1\nb: }";
  const absl::StatusOr<std::string> result = Inline(yaml);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(*result, yaml);
}

TEST_F(ManifestFilesTest, AnyTextComesBackFromTheManifest) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::string pieces[] = {"a", " ", "\"", "'", "\\", "\n", "\t", "\r",    "#",
                                ":", "{", "}",  "ü", "€",  "%",  "-",  "!file", "\\n"};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (size_t i = random() % 40; i > 0; --i) text += pieces[random() % std::size(pieces)];
    text += ".";  // ends of lines at the end are cut
    Write("text", text);
    const absl::StatusOr<std::string> yaml = Inline("before: 1\nvalue: !file text\nafter: 2\n");
    ASSERT_TRUE(yaml.ok()) << yaml.status();
    const YAML::Node parsed = YAML::Load(*yaml);
    EXPECT_EQ(parsed["value"].as<std::string>(), text);
    EXPECT_EQ(parsed["after"].as<int>(), 2);
  }
}

}  // namespace
}  // namespace octogate::gateway
