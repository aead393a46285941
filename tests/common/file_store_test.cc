// What a store of files has written when the process is killed, or the machine stops.
#include "common/file_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace octogate {
namespace {

// What is asked of the system in the order in which it is asked.
std::vector<std::string>& Asked() {
  static std::vector<std::string> asked;
  return asked;
}
int failing_flush = 0;  // the errno that flushing ends with

}  // namespace
}  // namespace octogate

// In place of the C library's.
extern "C" {
int fsync(int fd) {
  octogate::Asked().push_back("flush");
  if (octogate::failing_flush != 0) {
    errno = octogate::failing_flush;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
int rename(const char* from, const char* to) {
  octogate::Asked().push_back("rename");
  return static_cast<int>(::syscall(SYS_renameat2, -100 /* AT_FDCWD */, from, -100, to, 0));
}
}

namespace octogate {
namespace {

using ::testing::ElementsAre;

class FileStoreTest : public testing::Test {
 protected:
  FileStoreTest() {
    std::string name = testing::TempDir() + "octogate-files-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~FileStoreTest() override { std::filesystem::remove_all(folder_); }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  static constexpr int kMany = 8;
  static std::string Key(int i) { return absl::StrCat("key/", i); }

  // Puts values of one generation under all keys.
  static std::vector<absl::Status> PutAll(Store& store, int generation) {
    std::vector<std::string> texts;
    for (int i = 0; i < kMany; ++i) texts.push_back(Key(i));
    texts.push_back(Value(generation));
    std::vector<Store::Entry> entries;
    for (int i = 0; i < kMany; ++i) {
      entries.push_back({.key = texts[static_cast<size_t>(i)], .value = texts.back()});
    }
    return store.PutMany(entries, absl::InfiniteFuture());
  }
  static std::string Value(int generation) {
    return absl::StrCat(generation, ":", std::string(20'000, 'v'));
  }

  std::string folder_;
};

// Whenever the machine stops, each name stands for a whole value: none is given before all are
// flushed, and the call does not return before names are, too.
TEST_F(FileStoreTest, ManyValuesAreFlushedBeforeAnyTakesItsPlaceAndNamesOnce) {
  const auto store = OpenFileStore(folder_).value();
  Asked().clear();
  for (const absl::Status& put : PutAll(*store, 1)) EXPECT_TRUE(put.ok()) << put;
  std::vector<std::string> expected(kMany, "flush");
  expected.resize(2 * kMany, "rename");
  expected.emplace_back("flush");
  EXPECT_EQ(Asked(), expected);
  Asked().clear();
  EXPECT_TRUE(store->Put("k", "v", absl::InfiniteFuture(), absl::InfiniteFuture()).ok());
  EXPECT_THAT(Asked(), ElementsAre("flush", "rename", "flush"));
}

TEST_F(FileStoreTest, WhatCannotBeFlushedChangesNothing) {
  const auto store = OpenFileStore(folder_).value();
  for (const absl::Status& put : PutAll(*store, 1)) EXPECT_TRUE(put.ok()) << put;
  const size_t files = Files().size();
  for (const auto& [error, code] : {std::pair(EIO, absl::StatusCode::kUnavailable),
                                    std::pair(ENOSPC, absl::StatusCode::kResourceExhausted)}) {
    failing_flush = error;
    for (const absl::Status& put : PutAll(*store, 2)) EXPECT_EQ(put.code(), code) << put;
    failing_flush = 0;
    EXPECT_EQ(Files().size(), files);
    for (int i = 0; i < kMany; ++i) {
      EXPECT_EQ(store->Get(Key(i), absl::InfiniteFuture()).value(), Value(1));
    }
  }
}

// A process that is killed while it writes leaves of each value the one before or after, and none
// before what it has said to be written.
TEST_F(FileStoreTest, AKilledProcessLeavesWholeValues) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  int generation = 0;
  for (int round = 0; round < 20; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const auto store = OpenFileStore(folder_);
      if (!store.ok()) ::_exit(1);
      for (int next = generation + 1;; ++next) {
        for (const absl::Status& put : PutAll(**store, next)) {
          if (!put.ok()) ::_exit(1);
        }
        if (::write(pipe[1], &next, sizeof next) != sizeof next) ::_exit(1);
      }
    }
    ::close(pipe[1]);
    // Once it writes.
    ASSERT_EQ(::read(pipe[0], &generation, sizeof generation), sizeof generation);
    absl::SleepFor(absl::Microseconds(random() % 5000));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(pipe[0], &generation, sizeof generation) > 0) {
    }
    ::close(pipe[0]);
    const auto store = OpenFileStore(folder_).value();
    for (int i = 0; i < kMany; ++i) {
      const auto value = store->Get(Key(i), absl::InfiniteFuture());
      ASSERT_TRUE(value.ok()) << value.status();
      EXPECT_TRUE(*value == Value(generation) || *value == Value(generation + 1))
          << value->substr(0, 10) << " after " << generation;
    }
  }
}

}  // namespace
}  // namespace octogate
