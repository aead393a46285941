#include "common/utf8.h"

#include <google/protobuf/wrappers.pb.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace octogate {
namespace {

// Protocol Buffers' own check: parsing a string field of proto3 fails for invalid UTF-8.
bool ProtobufAccepts(const std::string& text) {
  google::protobuf::BytesValue bytes;  // has the wire format of StringValue
  bytes.set_value(text);
  google::protobuf::StringValue parsed;
  return parsed.ParseFromString(bytes.SerializeAsString());
}

std::string RandomBytes(std::mt19937& random) {
  // Fragments that are nearly right find more than single bytes.
  static const std::string kParts[] = {"a",
                                       "plain text",
                                       "\x80",
                                       "\xC3\xA9",
                                       "\xC0\xAF",
                                       "\xE2\x82",
                                       "\xE2\x82\xAC",
                                       "\xED\xA0\x80",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x9F\x98\x80",
                                       "\xF4\x90\x80\x80",
                                       "\xF5",
                                       "\xFF",
                                       std::string(1, '\0')};
  std::string text;
  const int parts = std::uniform_int_distribution<int>(0, 12)(random);
  for (int i = 0; i < parts; ++i) {
    text += kParts[std::uniform_int_distribution<size_t>(0, std::size(kParts) - 1)(random)];
    if (random() % 16 == 0) text += static_cast<char>(random());
  }
  return text;
}

TEST(Utf8, AgreesWithProtocolBuffers) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  int valid = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::string text = RandomBytes(random);
    ASSERT_EQ(IsValidUtf8(text), ProtobufAccepts(text)) << testing::PrintToString(text);
    valid += IsValidUtf8(text) ? 1 : 0;
  }
  EXPECT_GT(valid, 1000);
}

TEST(Utf8, SanitizedTextIsValidAndBounded) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 10'000; ++i) {
    const std::string text = RandomBytes(random);
    const size_t limit = random() % 20;
    const std::string sanitized = SanitizeUtf8(text, limit);
    ASSERT_TRUE(IsValidUtf8(sanitized)) << testing::PrintToString(text);
    ASSERT_LE(sanitized.size(), limit);
    if (IsValidUtf8(text)) {
      ASSERT_EQ(sanitized, TruncateUtf8(text, limit));
    }
  }
}

TEST(Utf8, TruncationKeepsCharactersWhole) {
  EXPECT_EQ(TruncateUtf8("a\xE2\x82\xAC", 4), "a\xE2\x82\xAC");
  EXPECT_EQ(TruncateUtf8("a\xE2\x82\xAC", 3), "a");
  EXPECT_EQ(TruncateUtf8("abc", 0), "");
}

}  // namespace
}  // namespace octogate
