#include "workers/engine/stop.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/engine/request.h"

namespace octogate::workers {
namespace {

TEST(StopMatcherTest, WithoutStopStringsNothingIsHeldBack) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("any text"), "any text");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, FindsAStopStringAcrossPieces) {
  StopMatcher matcher({"</answer>"});
  EXPECT_EQ(matcher.Push("42</ans"), "42");
  EXPECT_EQ(matcher.Push("wer> and more"), "");
  EXPECT_EQ(matcher.found(), 0);
  EXPECT_EQ(matcher.Push("even more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, ReleasesTextThatCannotBecomeAStopStringAnyMore) {
  StopMatcher matcher({"abab!"});
  EXPECT_EQ(matcher.Push("ab"), "");
  EXPECT_EQ(matcher.Push("ab"), "");
  EXPECT_EQ(matcher.Push("ab"), "ab");  // "abab" may still go on to "abab!"
  EXPECT_EQ(matcher.Push("?"), "abab?");
  EXPECT_EQ(matcher.found(), -1);
}

TEST(StopMatcherTest, FlushGivesWhatOnlyMightHaveBeenAStopString) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Push("fine.\n\nUse"), "fine.");
  EXPECT_EQ(matcher.Flush(), "\n\nUse");
}

TEST(StopMatcherTest, TheFirstThatIsCompleteWins) {
  StopMatcher matcher({"abcd", "bc"});
  EXPECT_EQ(matcher.Push("xabcd"), "xa");
  EXPECT_EQ(matcher.found(), 1);
}

TEST(StopMatcherTest, OfThoseCompleteAtTheSameByteTheLongestWins) {
  StopMatcher matcher({"c", "abc", "bc"});
  EXPECT_EQ(matcher.Push("xabc"), "x");
  EXPECT_EQ(matcher.found(), 1);
}

struct Expected {
  std::string text;
  int found = -1;
};

// By trying all ends and all stop strings.
Expected FindNaively(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 0; end <= text.size(); ++end) {
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (std::string_view(text).substr(0, end).ends_with(stops[i]) &&
          (best < 0 || stops[i].size() > stops[static_cast<size_t>(best)].size())) {
        best = static_cast<int>(i);
      }
    }
    if (best >= 0) return {text.substr(0, end - stops[static_cast<size_t>(best)].size()), best};
  }
  return {text, -1};
}

size_t LongestPossibleStop(std::string_view text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) {
    for (size_t length = 1; length < stop.size(); ++length) {
      if (text.ends_with(std::string_view(stop).substr(0, length))) {
        longest = std::max(longest, length);
      }
    }
  }
  return longest;
}

TEST(StopMatcherTest, AgreesWithASearchOfTheWholeTextHoweverItIsCut) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const std::vector<std::string> alphabet = {"a", "b", "é", "😀"};
  const auto random_text = [&](size_t length) {
    std::vector<std::string> characters;
    for (size_t i = 0; i < length; ++i) {
      characters.push_back(alphabet[random() % alphabet.size()]);
    }
    return characters;
  };
  int found_count = 0;
  for (int trial = 0; trial < 5000; ++trial) {
    std::vector<std::string> stops;
    for (size_t i = random() % 4; i-- > 0;) {
      std::string stop;
      for (const std::string& c : random_text(1 + random() % 5)) stop += c;
      stops.push_back(stop);
    }
    const std::vector<std::string> characters = random_text(random() % 30);
    std::string whole;
    StopMatcher matcher(stops);
    std::string released;
    for (size_t i = 0; i < characters.size();) {
      std::string piece;
      for (size_t n = random() % 4; n-- > 0 && i < characters.size();) piece += characters[i++];
      whole += piece;
      released += matcher.Push(piece);
      const Expected expected = FindNaively(whole, stops);
      ASSERT_EQ(matcher.found(), expected.found);
      if (expected.found >= 0) {
        ASSERT_EQ(released, expected.text);
      } else {
        ASSERT_EQ(released, whole.substr(0, whole.size() - LongestPossibleStop(whole, stops)));
      }
    }
    found_count += matcher.found() >= 0 ? 1 : 0;
    released += matcher.Flush();
    ASSERT_EQ(released, FindNaively(whole, stops).text);
  }
  EXPECT_GT(found_count, 100);
}

TEST(ValidateStopStringsTest, NamesWhatIsWrong) {
  EXPECT_TRUE(ValidateStopStrings({}).ok());
  EXPECT_TRUE(ValidateStopStrings({"\n", "é"}).ok());
  EXPECT_EQ(ValidateStopStrings({"a", ""}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ValidateStopStrings({"a", ""}).message()),
              ::testing::HasSubstr("stop[1]"));
  for (const char* bad : {"\x80", "\xC3", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"}) {
    EXPECT_EQ(ValidateStopStrings({bad}).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(
      ValidateStopStrings({std::string(GenerateRequest::kMaxStopStringBytes + 1, 'x')}).ok());
  EXPECT_FALSE(
      ValidateStopStrings(std::vector<std::string>(GenerateRequest::kMaxStopStrings + 1, "x"))
          .ok());
}

}  // namespace
}  // namespace octogate::workers
