#include "common/strings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace octogate {
namespace {

TEST(QuotedTest, EscapesWhatWouldSpoilAMessage) {
  EXPECT_EQ(Quoted("plain"), "'plain'");
  EXPECT_EQ(Quoted("it's"), "'it\\'s'");
  EXPECT_EQ(Quoted("a\nb\t\x01\x7f"), "'a\\nb\\t\\x01\\x7f'");
  EXPECT_EQ(Quoted("\xff\xc3"), "'\\xff\\xc3'");
  EXPECT_EQ(Quoted("größer"), "'größer'");
}

TEST(QuotedTest, CutsBetweenCharacters) {
  EXPECT_EQ(Quoted("abcdef", 3), "'abc…'");
  EXPECT_EQ(Quoted("abü", 3), "'ab…'");
  EXPECT_EQ(Quoted("abü", 4), "'abü'");
}

TEST(FindInvalidUtf8Test, NamesTheFirstWrongByte) {
  EXPECT_EQ(FindInvalidUtf8("abc äöü 漢字 😀"), std::string_view::npos);
  EXPECT_EQ(FindInvalidUtf8("ab\xff"), 2u);
  EXPECT_EQ(FindInvalidUtf8("\xc0\xaf"), 0u) << "overlong";
  EXPECT_EQ(FindInvalidUtf8("\xed\xa0\x80"), 0u) << "surrogate";
  EXPECT_EQ(FindInvalidUtf8("\xf4\x90\x80\x80"), 0u) << "beyond U+10FFFF";
  EXPECT_EQ(FindInvalidUtf8("a\xe2\x82"), 1u) << "cut";
}

TEST(EditDistanceTest, CountsSlipsOfThePen) {
  EXPECT_EQ(EditDistance("examples", "examples", 3), 0u);
  EXPECT_EQ(EditDistance("exmaples", "examples", 3), 1u) << "two neighbours swapped";
  EXPECT_EQ(EditDistance("kitten", "sitting", 5), 3u);
  EXPECT_EQ(EditDistance("", "abc", 5), 3u);
  EXPECT_EQ(EditDistance("abcdef", "uvwxyz", 2), 3u) << "no more is counted than asked for";
}

}  // namespace
}  // namespace octogate
