#include "common/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/file_store.h"
#include "common/memory_store.h"
#include "common/redis/redis_store.h"
#include "tests/common/redis/redis_server.h"

namespace octogate {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr size_t kMaxValueBytes = 1000;

class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "octogate-store-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }

  // The only file that is neither a lock nor hidden.
  fs::path OnlyFile() const {
    fs::path found;
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.path().filename().string().front() != '.') found = entry.path();
    }
    return found;
  }

 private:
  std::string path_;
};

// Every store keeps the same promises.
class AnyStoreTest : public testing::TestWithParam<std::string> {
 protected:
  AnyStoreTest() {
    const Clock clock = [this] { return now_; };
    if (GetParam() == "File") {
      auto store =
          OpenFileStore(folder_.path(), {.max_value_bytes = kMaxValueBytes, .clock = clock});
      EXPECT_TRUE(store.ok()) << store.status();
      store_ = *std::move(store);
    } else if (GetParam() == "Memory") {
      store_ = MakeMemoryStore({.max_value_bytes = kMaxValueBytes, .clock = clock});
    } else {
      redis_.emplace();
      client_ = RedisClient::Create(redis_->options());
      store_ = MakeRedisStore(client_.get(), {.max_value_bytes = kMaxValueBytes, .clock = clock});
    }
  }

  // Lets time pass, of the server too.
  void Advance(absl::Duration duration) {
    now_ += duration;
    if (redis_) absl::SleepFor(duration);
  }

  absl::Status Put(std::string_view key, std::string_view value,
                   absl::Time expires_at = absl::InfiniteFuture()) {
    return store_->Put(key, value, expires_at, absl::InfiniteFuture());
  }
  absl::StatusOr<std::string> Get(std::string_view key) {
    return store_->Get(key, absl::InfiniteFuture());
  }
  absl::Status CompareAndSet(std::string_view key, std::optional<std::string_view> expected,
                             std::string_view value) {
    return store_->CompareAndSet(key, expected, value, absl::InfiniteFuture(),
                                 absl::InfiniteFuture());
  }
  std::vector<std::string> List(std::string_view prefix, std::string_view after = "",
                                size_t limit = 100) {
    return store_->List(prefix, after, limit, absl::InfiniteFuture()).value();
  }

  Folder folder_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  std::optional<RedisServer> redis_;
  std::unique_ptr<RedisClient> client_;
  std::unique_ptr<Store> store_;
};

TEST_P(AnyStoreTest, GivesBackWhatWasPut) {
  const std::string bytes("\0\n\xff binary", 10);
  ASSERT_TRUE(Put("a", bytes).ok());
  EXPECT_EQ(Get("a").value(), bytes);
  ASSERT_TRUE(Put("a", "").ok());
  EXPECT_EQ(Get("a").value(), "");
  EXPECT_EQ(Get("b").status().code(), absl::StatusCode::kNotFound);
}

TEST_P(AnyStoreTest, ForgetsWhatHasExpired) {
  ASSERT_TRUE(Put("a", "1", now_ + absl::Seconds(5)).ok());
  EXPECT_EQ(Get("a").value(), "1");
  Advance(absl::Seconds(5) + absl::Milliseconds(1));
  EXPECT_EQ(Get("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(List("").empty());
  EXPECT_TRUE(CompareAndSet("a", std::nullopt, "2").ok());
}

TEST_P(AnyStoreTest, ComparesBeforeItSets) {
  EXPECT_EQ(CompareAndSet("a", "x", "1").code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(CompareAndSet("a", std::nullopt, "1").ok());
  EXPECT_EQ(CompareAndSet("a", std::nullopt, "2").code(), absl::StatusCode::kAborted);
  EXPECT_EQ(CompareAndSet("a", "x", "2").code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Get("a").value(), "1");
  EXPECT_TRUE(CompareAndSet("a", "1", "2").ok());
  EXPECT_EQ(Get("a").value(), "2");
}

TEST_P(AnyStoreTest, ListsByPrefixInOrderAndPage) {
  for (const char* key : {"b/2", "a", "b/1", "b", "b/3", "c"}) ASSERT_TRUE(Put(key, "x").ok());
  EXPECT_THAT(List("b/"), ElementsAre("b/1", "b/2", "b/3"));
  EXPECT_THAT(List("b/", "b/1", 1), ElementsAre("b/2"));
  EXPECT_THAT(List(""), ElementsAre("a", "b", "b/1", "b/2", "b/3", "c"));
  ASSERT_TRUE(store_->Delete("b/2", absl::InfiniteFuture()).ok());
  ASSERT_TRUE(store_->Delete("b/2", absl::InfiniteFuture()).ok());
  EXPECT_THAT(List("b/"), ElementsAre("b/1", "b/3"));
}

TEST_P(AnyStoreTest, RefusesBadKeysLargeValuesAndLateCalls) {
  EXPECT_EQ(Put("", "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Put(std::string(1025, 'k'), "x").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Put("a", std::string(kMaxValueBytes + 1, 'v')).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store_->Get("a", now_).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(store_->Put("a", "x", absl::InfiniteFuture(), now_).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Get("a").status().code(), absl::StatusCode::kNotFound);
}

TEST_P(AnyStoreTest, ManyAtOnceAreAsOneByOne) {
  const auto put = store_->PutMany(
      std::vector<Store::Entry>{{"a/1", "first"},
                                {"", "no key"},
                                {"b", std::string(kMaxValueBytes + 1, 'v')},
                                {"c", "gone", now_},
                                {"d", std::string("\0\r\n", 3), now_ + absl::Hours(1)},
                                {"a/1", "second"}},
      absl::InfiniteFuture());
  std::vector<absl::StatusCode> codes;
  for (const absl::Status& status : put) codes.push_back(status.code());
  EXPECT_THAT(codes, ElementsAre(absl::StatusCode::kOk, absl::StatusCode::kInvalidArgument,
                                 absl::StatusCode::kResourceExhausted, absl::StatusCode::kOk,
                                 absl::StatusCode::kOk, absl::StatusCode::kOk));
  const auto got = store_->GetMany(
      std::vector<std::string_view>{"d", "none", "a/1", "", "a/1", "c"}, absl::InfiniteFuture());
  ASSERT_EQ(got.size(), 6U);
  EXPECT_EQ(got[0].value(), std::string("\0\r\n", 3));
  EXPECT_EQ(got[1].status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(got[2].value(), "second") << "the later of two entries of one key";
  EXPECT_EQ(got[3].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(got[4].value(), "second");
  EXPECT_EQ(got[5].status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(List(""), ElementsAre("a/1", "d"));
  EXPECT_TRUE(store_->GetMany({}, absl::InfiniteFuture()).empty());
  EXPECT_TRUE(store_->PutMany({}, absl::InfiniteFuture()).empty());
  const auto late = store_->GetMany(std::vector<std::string_view>{"d"}, now_);
  EXPECT_EQ(late[0].status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(AnyStoreTest, NotifiesWhoWatches) {
  std::atomic<int> told = 0;
  std::atomic<int> others = 0;
  const auto other = store_->Watch("other", [&] { ++others; });
  auto watch = store_->Watch("topic", [&] { ++told; });
  ASSERT_NE(watch, nullptr);
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  // A store over the network may not listen yet.
  while (told == 0 || others == 0) {
    ASSERT_LT(absl::Now(), give_up);
    EXPECT_TRUE(store_->Notify("topic", absl::InfiniteFuture()).ok());
    EXPECT_TRUE(store_->Notify("other", absl::InfiniteFuture()).ok());
    absl::SleepFor(absl::Milliseconds(10));
  }
  for (int i = 0; i < 3; ++i) {
    const int before = told;
    EXPECT_TRUE(store_->Notify("topic", absl::InfiniteFuture()).ok());
    while (told == before) ASSERT_LT(absl::Now(), give_up);
  }
  watch = nullptr;
  const int before = told;
  EXPECT_TRUE(store_->Notify("topic", absl::InfiniteFuture()).ok());
  EXPECT_EQ(told, before);
}

// Random calls with hostile keys, against a map.
TEST_P(AnyStoreTest, BehavesLikeAMap) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  std::vector<std::string> keys = {".",
                                   "..",
                                   "../x",
                                   "/etc/passwd",
                                   "a/b",
                                   ".lock~",
                                   "x.~",
                                   "%41",
                                   "A",
                                   std::string("\0", 1),
                                   "~",
                                   std::string(1000, 'l'),
                                   std::string(999, 'l') + "m"};
  for (int i = 0; i < 8; ++i) {
    std::string key;
    for (int n = 1 + static_cast<int>(random() % 20); n > 0; --n) {
      key.push_back(static_cast<char>(random()));
    }
    keys.push_back(key);
  }
  std::map<std::string, std::string> model;
  for (int step = 0; step < 300; ++step) {
    const std::string& key = keys[random() % keys.size()];
    const std::string value(random() % 50, static_cast<char>(random()));
    const auto known = model.find(key);
    switch (random() % 4) {
      case 0:
        ASSERT_TRUE(Put(key, value).ok());
        model[key] = value;
        break;
      case 1:
        ASSERT_TRUE(store_->Delete(key, absl::InfiniteFuture()).ok());
        model.erase(key);
        break;
      case 2: {
        const std::string guess = random() % 2 == 0 && known != model.end() ? known->second : "?";
        const bool right = known != model.end() && known->second == guess;
        ASSERT_EQ(CompareAndSet(key, guess, value).ok(), right);
        if (right) model[key] = value;
        break;
      }
      default:
        if (known == model.end()) {
          ASSERT_EQ(Get(key).status().code(), absl::StatusCode::kNotFound);
        } else {
          ASSERT_EQ(Get(key).value(), known->second);
        }
    }
  }
  std::vector<std::string> names;
  for (const auto& [key, value] : model) names.push_back(key);
  EXPECT_EQ(List(""), names);
  for (const std::string& key : keys) {
    for (const size_t bytes : {size_t{1}, key.size() / 2, key.size()}) {
      const std::string prefix = key.substr(0, bytes);
      std::vector<std::string> wanted;
      for (const std::string& name : names) {
        if (name.starts_with(prefix)) wanted.push_back(name);
      }
      EXPECT_EQ(List(prefix), wanted);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, AnyStoreTest, testing::Values("File", "Memory", "Redis"),
                         [](const auto& info) { return info.param; });

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

class RedisStoreTest : public testing::Test {
 protected:
  void PutNames(const std::string& prefix, int count, absl::Time expires_at) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(store_->Put(prefix + std::to_string(i), "x", expires_at, Soon()).ok());
    }
  }
  int64_t Number(std::initializer_list<std::string_view> command) {
    const auto reply = client_->Call(command, Soon());
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(RedisReply()).integer;
  }
  // Waits until the server has no more of them: what it has forgotten counts no more.
  void AwaitKeys(int64_t most) {
    const absl::Time give_up = Soon();
    while (Number({"DBSIZE"}) > most) {
      ASSERT_LT(absl::Now(), give_up) << "keys stay";
      absl::SleepFor(absl::Milliseconds(10));
    }
  }
  int64_t Names(const std::string& part) { return Number({"ZCARD", "octogate:{/" + part + "}#"}); }

  RedisServer redis_;
  const std::unique_ptr<RedisClient> client_ = RedisClient::Create(redis_.options());
  const std::unique_ptr<Store> store_ = MakeRedisStore(client_.get());
};

TEST_F(RedisStoreTest, ListLooksAtNoNamesBehindThePrefix) {
  PutNames("part/a/", 10, absl::InfiniteFuture());
  PutNames("part/b/", 100, absl::InfiniteFuture());
  ASSERT_TRUE(client_->Call({"CONFIG", "RESETSTAT"}, Soon()).ok());
  EXPECT_EQ(store_->List("part/a/", "", 1000, Soon()).value().size(), 10U);
  const std::string stats = client_->Call({"INFO", "commandstats"}, Soon()).value().text;
  EXPECT_THAT(stats, HasSubstr("cmdstat_exists:calls=10,"));
}

TEST_F(RedisStoreTest, ListKnowsTheEndOfEveryPrefix) {
  const std::vector<std::string> names = {"p/a",           "p/a\xff", "p/a\xff\xff",
                                          "p/a\xff\xff/1", "p/b",     "p/\xff\xff"};
  for (const std::string& name : names) {
    ASSERT_TRUE(store_->Put(name, "x", absl::InfiniteFuture(), Soon()).ok());
  }
  EXPECT_THAT(store_->List("p/a\xff", "", 10, Soon()).value(),
              ElementsAre("p/a\xff", "p/a\xff\xff", "p/a\xff\xff/1"));
  EXPECT_THAT(store_->List("p/\xff", "", 10, Soon()).value(), ElementsAre("p/\xff\xff"));
  EXPECT_THAT(store_->List("p/a\xff\xff", "p/a\xff\xff", 10, Soon()).value(),
              ElementsAre("p/a\xff\xff/1"));
}

TEST_F(RedisStoreTest, WhatExpiresLeavesNothingBehind) {
  const absl::Time expires_at = absl::Now() + absl::Seconds(1);
  PutNames("drafts/", 3, expires_at);
  PutNames("others/", 1, expires_at);
  ASSERT_TRUE(store_->CompareAndSet("more/1", std::nullopt, "x", expires_at, Soon()).ok());
  const std::vector<Store::Entry> entries{{"many/1", "x", expires_at}, {"many/2", "x", expires_at}};
  for (const absl::Status& put : store_->PutMany(entries, Soon())) ASSERT_TRUE(put.ok()) << put;
  ASSERT_GT(Number({"DBSIZE"}), 0);
  AwaitKeys(0);
}

TEST_F(RedisStoreTest, NamesOfWhatHasExpiredGoByAndBy) {
  std::vector<std::string> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back("drafts/old/" + std::to_string(i));
  std::vector<Store::Entry> old;
  const absl::Time gone = absl::Now() + absl::Seconds(3);  // by then all are written
  for (const std::string& key : keys) old.push_back({key, "x", gone});
  for (const absl::Status& put : store_->PutMany(old, Soon())) ASSERT_TRUE(put.ok()) << put;
  PutNames("drafts/new/", 1, absl::Now() + absl::Hours(1));
  EXPECT_EQ(Names("drafts"), 1001);
  AwaitKeys(10);
  PutNames("drafts/new/", 1000, absl::Now() + absl::Hours(1));
  EXPECT_GE(Names("drafts"), 1000);
  EXPECT_LT(Names("drafts"), 1500);
  EXPECT_EQ(store_->List("drafts/new/", "", 2000, Soon()).value().size(), 1000U);
}

// However values come and go beside it, and whichever was first.
TEST_F(RedisStoreTest, TheNameOfAValueThatStaysStays) {
  const absl::Time soon_gone = absl::Now() + absl::Milliseconds(500);
  PutNames("one/a", 1, soon_gone);
  PutNames("one/b", 1, absl::InfiniteFuture());
  PutNames("two/b", 1, absl::InfiniteFuture());
  PutNames("two/a", 1, soon_gone);
  PutNames("three/a", 1, soon_gone);
  ASSERT_TRUE(
      store_->CompareAndSet("three/b0", std::nullopt, "x", absl::InfiniteFuture(), Soon()).ok());
  PutNames("three/c", 1, soon_gone);
  // A value that is to last longer makes the names last, and one that does not changes nothing.
  PutNames("four/b", 1, absl::Now() + absl::Hours(1));
  PutNames("four/a", 1, soon_gone);
  // What is left to a value is counted from when the server was told.
  const absl::Time give_up = Soon();
  while (store_->List("", "", 10, Soon()).value().size() > 4 && absl::Now() < give_up) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_THAT(store_->List("", "", 10, Soon()).value(),
              ElementsAre("four/b0", "one/b0", "three/b0", "two/b0"));
}

TEST(FileStoreTest, KeepsValuesForTheNextProcess) {
  const Folder folder;
  const std::string path = folder.path() + "/made/on/demand";
  ASSERT_TRUE(
      (*OpenFileStore(path))->Put("k", "v", absl::InfiniteFuture(), absl::InfiniteFuture()).ok());
  EXPECT_EQ((*OpenFileStore(path))->Get("k", absl::InfiniteFuture()).value(), "v");
}

TEST(FileStoreTest, ASecondProcessIsRefused) {
  const Folder folder;
  const auto store = OpenFileStore(folder.path());
  ASSERT_TRUE(store.ok()) << store.status();
  const auto second = OpenFileStore(folder.path());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(second.status().ToString(), HasSubstr(std::to_string(::getpid())));
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(OpenFileStore(folder.path()).status().code() == absl::StatusCode::kUnavailable ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

// Whatever byte is changed, cut off or added, the store notices and says which file it is.
TEST(FileStoreTest, NoticesEveryDamage) {
  const Folder folder;
  const auto store = OpenFileStore(folder.path()).value();
  const auto put = [&] {
    return store->Put("key", "a value", absl::InfiniteFuture(), absl::InfiniteFuture());
  };
  ASSERT_TRUE(put().ok());
  const fs::path file = folder.OnlyFile();
  std::string good;
  {
    std::ifstream in(file, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto expect_damaged = [&](const std::string& bytes, const std::string& how) {
    std::ofstream(file, std::ios::binary) << bytes;
    const auto value = store->Get("key", absl::InfiniteFuture());
    EXPECT_EQ(value.status().code(), absl::StatusCode::kDataLoss) << how;
    EXPECT_THAT(value.status().ToString(), HasSubstr(file.filename().string())) << how;
  };
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    expect_damaged(bad, "byte " + std::to_string(i) + " changed");
    expect_damaged(good.substr(0, i), "cut to " + std::to_string(i));
  }
  expect_damaged(good + "x", "byte added");
  EXPECT_TRUE(fs::exists(file)) << "damaged files are not deleted";
  ASSERT_TRUE(put().ok()) << "a new value can be put";
  EXPECT_EQ(store->Get("key", absl::InfiniteFuture()).value(), "a value");
}

TEST(FileStoreTest, AnotherKeysFileIsDamage) {
  const Folder folder;
  const auto store = OpenFileStore(folder.path()).value();
  ASSERT_TRUE(store->Put("a", "1", absl::InfiniteFuture(), absl::InfiniteFuture()).ok());
  fs::copy(folder.path() + "/a", folder.path() + "/b");
  EXPECT_EQ(store->Get("b", absl::InfiniteFuture()).status().code(), absl::StatusCode::kDataLoss);
}

TEST(MemoryStoreTest, IsBoundedAndDropsTheExpiredFirst) {
  absl::Time now = absl::FromUnixSeconds(1000);
  const auto store = MakeMemoryStore({.max_total_bytes = 100, .clock = [&] { return now; }});
  const auto put = [&](std::string_view key, absl::Time expires_at) {
    return store->Put(key, std::string(39, 'v'), expires_at, absl::InfiniteFuture());
  };
  ASSERT_TRUE(put("a", now + absl::Seconds(1)).ok());
  ASSERT_TRUE(put("b", absl::InfiniteFuture()).ok());
  EXPECT_EQ(put("c", absl::InfiniteFuture()).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(put("b", absl::InfiniteFuture()).ok()) << "replacing needs no more room";
  now += absl::Seconds(1);
  EXPECT_TRUE(put("c", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(store->Get("b", absl::InfiniteFuture()).ok());
}

// FIPS 180-4, and the million "a" of NIST's examples.
TEST(DigestTest, IsSha256) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace octogate
