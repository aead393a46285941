#include "retrieval/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/model/test_folder.h"

namespace octogate::retrieval {
namespace {

using testing::HasSubstr;

std::string TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class FilesTest : public testing::Test {
 protected:
  std::string Path(const std::string& name) const { return (folder_.path() / name).string(); }
  auto Names() const {
    return std::distance(std::filesystem::directory_iterator(folder_.path()), {});
  }
  absl::Status Replace(const std::string& path, const std::vector<std::string>& texts) {
    std::vector<std::span<const std::byte>> parts;
    for (const std::string& text : texts) parts.push_back(std::as_bytes(std::span(text)));
    return ReplaceFile(path, 0640, parts);
  }

  const uint32_t seed_ = workers::FreshSeed();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, workers::DescribeSeed(seed_)};
  workers::TestFolder folder_;
};

TEST_F(FilesTest, WhatIsMappedIsWhatWasWritten) {
  std::mt19937_64 random(seed_);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> texts(random() % 4);
    std::string whole;
    for (std::string& text : texts) {
      text.resize(random() % 9000);
      for (char& c : text) c = static_cast<char>(random());
      whole += text;
    }
    ASSERT_TRUE(Replace(Path("file"), texts).ok());
    const auto file = MappedFile::Open(Path("file"));
    ASSERT_TRUE(file.ok()) << file.status();
    file->ExpectRandomReads();
    EXPECT_EQ(TextOf(file->bytes()), whole);
    EXPECT_EQ(Names(), 1) << "nothing is left behind";
    struct stat status;
    ASSERT_EQ(stat(Path("file").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, mode_t{0640});
  }
}

TEST_F(FilesTest, WhoeverHasAFileKeepsItWhenItIsReplaced) {
  ASSERT_TRUE(Replace(Path("file"), {"old"}).ok());
  auto old = MappedFile::Open(Path("file"));
  ASSERT_TRUE(old.ok());
  ASSERT_TRUE(Replace(Path("file"), {"the new one"}).ok());
  MappedFile moved = *std::move(old);
  EXPECT_EQ(TextOf(moved.bytes()), "old");
  auto now = MappedFile::Open(Path("file"));
  ASSERT_TRUE(now.ok());
  moved = *std::move(now);
  EXPECT_EQ(TextOf(moved.bytes()), "the new one");
}

TEST_F(FilesTest, SaysWhatIsWrong) {
  EXPECT_TRUE(absl::IsNotFound(MappedFile::Open(Path("none")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(folder_.path().string()).status()));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(MappedFile::Open(Path("pipe")).status()));

  std::filesystem::create_directory(Path("folder"));
  const absl::Status replaced = Replace(Path("folder"), {"text"});
  EXPECT_FALSE(replaced.ok());
  EXPECT_THAT(std::string(replaced.message()), HasSubstr("cannot replace"));
  EXPECT_EQ(Names(), 2) << "nothing is left behind";
  const absl::Status nowhere = Replace(Path("none/file"), {"text"});
  EXPECT_TRUE(absl::IsNotFound(nowhere)) << nowhere;
  EXPECT_THAT(std::string(nowhere.message()), HasSubstr("cannot write beside"));
}

}  // namespace
}  // namespace octogate::retrieval
