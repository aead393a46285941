// The reader is checked against hiredis's, which is another implementation, on random answers in
// random pieces; what it refuses, against the protocol's words.
#include "common/redis/resp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hiredis/hiredis.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"

namespace octogate {
namespace {

using Kind = RedisReply::Kind;

// Gives the reader `bytes` in pieces of 1 to `most`; what is wrong with them.
absl::Status Feed(RespReader& reader, std::string_view bytes, size_t most,
                  std::mt19937_64& random) {
  while (!bytes.empty()) {
    size_t piece = std::min(bytes.size(), std::uniform_int_distribution<size_t>(1, most)(random));
    size_t put = 0;
    for (const iovec& space : reader.Space()) {
      const size_t part = std::min(space.iov_len, piece - put);
      if (part > 0) std::memcpy(space.iov_base, bytes.data() + put, part);
      put += part;
    }
    EXPECT_GT(put, 0u);
    bytes.remove_prefix(put);
    if (absl::Status status = reader.Came(put); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Feed(RespReader& reader, std::string_view bytes) {
  std::mt19937_64 random(1);
  return Feed(reader, bytes, bytes.size(), random);
}

std::string RandomAnswer(std::mt19937_64& random, int depth) {
  const auto below = [&](int64_t n) {
    return std::uniform_int_distribution<int64_t>(0, n - 1)(random);
  };
  switch (below(depth == 0 ? 5 : 6)) {
    case 0:
      return absl::StrCat("+", std::string(static_cast<size_t>(below(40)), 'o'), "\r\n");
    case 1:
      return "-ERR it is not so\r\n";
    case 2:
      return absl::StrCat(":", static_cast<int64_t>(random()), "\r\n");
    case 3:
      return below(2) == 0 ? "$-1\r\n" : "*-1\r\n";
    case 4: {
      const int64_t scale = int64_t{1} << below(24);
      std::string text(static_cast<size_t>(below(scale)), '\0');
      for (size_t i = 0; i < text.size(); i += 1 + text.size() / 50) {
        text[i] = "\r\n$*a"[below(5)];
      }
      return absl::StrCat("$", text.size(), "\r\n", text, "\r\n");
    }
    default: {
      const int64_t elements = below(5);
      std::string array = absl::StrCat("*", elements, "\r\n");
      for (int64_t i = 0; i < elements; ++i) array += RandomAnswer(random, depth - 1);
      return array;
    }
  }
}

void ExpectSame(const RedisReply& reply, const redisReply& theirs) {
  switch (theirs.type) {
    case REDIS_REPLY_NIL:
      EXPECT_EQ(reply.kind, Kind::kNil);
      break;
    case REDIS_REPLY_INTEGER:
      EXPECT_EQ(reply.kind, Kind::kInteger);
      EXPECT_EQ(reply.integer, theirs.integer);
      break;
    case REDIS_REPLY_ARRAY:
      EXPECT_EQ(reply.kind, Kind::kArray);
      ASSERT_EQ(reply.elements.size(), theirs.elements);
      for (size_t i = 0; i < theirs.elements; ++i) {
        ExpectSame(reply.elements[i], *theirs.element[i]);
      }
      break;
    default:
      EXPECT_EQ(reply.kind, theirs.type == REDIS_REPLY_ERROR ? Kind::kError : Kind::kText);
      EXPECT_TRUE(reply.text == std::string_view(theirs.str, theirs.len));
  }
}

TEST(RespReaderTest, ReadsAsHiredisDoesInAnyPieces) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    std::string bytes;
    for (int i = 0; i < 10; ++i) bytes += RandomAnswer(random, 4);
    const std::unique_ptr<redisReader, decltype(&redisReaderFree)> theirs(redisReaderCreate(),
                                                                          &redisReaderFree);
    ASSERT_EQ(redisReaderFeed(theirs.get(), bytes.data(), bytes.size()), REDIS_OK);
    RespReader reader(size_t{256} << 20);
    const size_t most = size_t{1} << std::uniform_int_distribution<int>(0, 22)(random);
    // Byte for byte only where that does not take all day.
    ASSERT_TRUE(Feed(reader, bytes, std::max(most, bytes.size() / 10'000 + 1), random).ok());
    for (int i = 0; i < 10; ++i) {
      void* raw = nullptr;
      ASSERT_EQ(redisReaderGetReply(theirs.get(), &raw), REDIS_OK);
      ASSERT_NE(raw, nullptr);
      const std::unique_ptr<void, decltype(&freeReplyObject)> owner(raw, &freeReplyObject);
      const std::optional<RedisReply> reply = reader.Next();
      ASSERT_TRUE(reply.has_value());
      ExpectSame(*reply, *static_cast<const redisReply*>(raw));
    }
    EXPECT_FALSE(reader.Next().has_value());
  }
}

TEST(RespReaderTest, WaitsForTheRest) {
  RespReader reader(1000);
  EXPECT_TRUE(Feed(reader, "*2\r\n$3\r\nab").ok());
  EXPECT_FALSE(reader.Next().has_value());
  EXPECT_TRUE(Feed(reader, "c\r\n:1\r\n+next").ok());
  const std::optional<RedisReply> reply = reader.Next();
  ASSERT_TRUE(reply.has_value());
  ASSERT_EQ(reply->elements.size(), 2u);
  EXPECT_EQ(reply->elements[0].text, "abc");
  EXPECT_EQ(reply->elements[1].integer, 1);
  EXPECT_FALSE(reader.Next().has_value());
}

TEST(RespReaderTest, RefusesWhatIsNoAnswer) {
  for (const std::string& bytes :
       {std::string("what\r\n"), std::string("\r\n"), std::string("+no end\n"),
        std::string(":x\r\n"), std::string(":\r\n"), std::string("$-2\r\n"), std::string("*-2\r\n"),
        std::string("$3\r\nabcd\r\n"), std::string("$99999999999999999999\r\n"),
        std::string("$1001\r\n"), std::string("*1048577\r\n"),
        std::string("*1\r\n") + "*1048576\r\n", std::string("+") + std::string(200'000, 'a'),
        // Deeper than anything that is asked for.
        std::string("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n")}) {
    RespReader reader(1000);
    EXPECT_EQ(Feed(reader, bytes).code(), absl::StatusCode::kInternal) << bytes.substr(0, 40);
    EXPECT_FALSE(reader.Next().has_value());
  }
}

TEST(RespReaderTest, RefusesAnAnswerThatIsTooLongAsAWhole) {
  RespReader reader(1000);
  std::string bytes = "*200\r\n";
  for (int i = 0; i < 199; ++i) bytes += "$4\r\nabcd\r\n";
  EXPECT_EQ(Feed(reader, bytes).message(), "its answer is too long");
}

TEST(RespReaderTest, AnswersTogetherMayBeLongerThanOneMayBe) {
  RespReader reader(1000);
  std::string bytes;
  for (int i = 0; i < 500; ++i) bytes += "$4\r\nabcd\r\n";
  std::mt19937_64 random(1);
  EXPECT_TRUE(Feed(reader, bytes, 700, random).ok());
  int answers = 0;
  while (reader.Next()) ++answers;
  EXPECT_EQ(answers, 500);
}

TEST(RespCommandTest, IsAnArrayOfStringsOfAnyBytes) {
  std::string bytes = "before";
  const RedisArgument arguments[] = {"SET", "", std::string_view("\0\r\n", 3)};
  AppendRespCommand(arguments, &bytes);
  EXPECT_EQ(bytes, std::string("before*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\n\0\r\n\r\n", 34));
}

TEST(RespCommandTest, PutsTheTrailerBehindASealedValue) {
  RedisSeal seal("key", "value");
  std::string bytes;
  const RedisArgument arguments[] = {RedisArgument::Sealed(seal)};
  AppendRespCommand(arguments, &bytes);
  EXPECT_EQ(bytes, "*1\r\n$26\r\nvalue" + RedisTrailer("key", "value") + "\r\n");
}

}  // namespace
}  // namespace octogate
