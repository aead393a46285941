// What Token Recycling has learned outlives the process, and hostile files do nothing.
#include "workers/speculation/recycling_state.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

namespace fs = std::filesystem;

class RecyclingStateTest : public ::testing::Test {
 protected:
  RecyclingStateTest() {
    std::string name = testing::TempDir() + "octogate-drafts-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~RecyclingStateTest() override { fs::remove_all(folder_); }

  std::unique_ptr<Drafter> Open(const std::string& model = "model", int vocab_size = 100) const {
    auto drafter = KeepRecyclingTables(
        std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = vocab_size}}),
        folder_, model);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    return *std::move(drafter);
  }
  static void Learn(Drafter& drafter, std::string_view scope) {
    const std::vector<int32_t> tokens{5, 6, 7, 5, 6, 7, 5, 6, 7};
    drafter.Begin(scope)->Append(tokens);
  }
  // Whether 6 is expected behind 5, of which a new sequence has said nothing.
  static bool Knows(Drafter& drafter, std::string_view scope) {
    const auto sequence = drafter.Begin(scope);
    const std::vector<int32_t> prompt{1, 5};
    sequence->Append(prompt);
    DraftTree tree;
    sequence->Propose(8, 4, tree);
    return tree.Child(-1, 6) >= 0;
  }
  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder_)) files.push_back(entry.path());
    return files;
  }

  fs::path folder_;
};

TEST_F(RecyclingStateTest, ARestartKnowsWhatWasLearned) {
  {
    const auto drafter = Open();
    Learn(*drafter, "tenant");
  }
  const auto drafter = Open();
  EXPECT_TRUE(Knows(*drafter, "tenant"));
  EXPECT_FALSE(Knows(*drafter, "other tenant"));
  EXPECT_FALSE(Knows(*Open("other model"), "tenant"));
}

TEST_F(RecyclingStateTest, FilesAreTheirOwnersAlone) {
  Learn(*Open(), "tenant");
  ASSERT_EQ(Files().size(), 1U);
  struct stat info {};
  ASSERT_EQ(::stat(Files()[0].c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(RecyclingStateTest, DamagedAndForeignFilesAreNone) {
  Learn(*Open(), "tenant");
  ASSERT_EQ(Files().size(), 1U);
  const fs::path file = Files()[0];
  std::string good;
  {
    std::ifstream in(file, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto known = [&](const std::string& bytes) {
    std::ofstream(file, std::ios::binary) << bytes;
    return Knows(*Open(), "tenant");
  };
  EXPECT_TRUE(known(good));
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(known(bad)) << i;
    EXPECT_FALSE(known(good.substr(0, i))) << i;
  }
  EXPECT_FALSE(known(good + "x"));
  EXPECT_FALSE(known(""));
  // A table of another shape, under the right name.
  std::ofstream(file, std::ios::binary) << good;
  EXPECT_FALSE(Knows(*Open("model", 50), "tenant"));
}

TEST_F(RecyclingStateTest, AFolderThatCannotBeMadeIsAnError) {
  std::ofstream(folder_ / "file") << "x";
  const auto drafter = KeepRecyclingTables(std::make_unique<RecyclingDrafter>(RecyclingOptions{}),
                                           folder_ / "file" / "below", "model");
  EXPECT_FALSE(drafter.ok());
}

}  // namespace
}  // namespace octogate::workers
