// What a suffix automaton knows of texts, beside a search through all of them.
#include "workers/speculation/suffix_automaton.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

using Text = std::vector<int32_t>;
using Texts = std::vector<Text>;

Texts RandomTexts(std::mt19937_64& random, size_t most) {
  Texts texts(1 + random() % 5);
  const auto alphabet = 1 + random() % 4;
  for (Text& text : texts) {
    text.resize(random() % most);
    for (int32_t& token : text) token = static_cast<int32_t>(random() % alphabet);
  }
  return texts;
}

SuffixAutomaton Build(const Texts& texts, int counted_contexts) {
  SuffixAutomaton automaton(counted_contexts);
  for (const Text& text : texts) {
    automaton.Break();
    for (int32_t token : text) automaton.Append(token);
  }
  return automaton;
}

// -1: the context has not occurred.
int32_t StateOf(const SuffixAutomaton& automaton, const Text& context) {
  int32_t state = 0;
  for (int32_t token : context) {
    if (state >= 0) state = automaton.Next(state, token);
  }
  return state;
}

struct Occurrences {
  int count = 0;
  std::set<int32_t> followers;
};

Occurrences Search(const Texts& texts, const Text& context) {
  Occurrences found;
  for (const Text& text : texts) {
    for (size_t at = 0; at + context.size() <= text.size(); ++at) {
      if (!std::equal(context.begin(), context.end(), text.begin() + static_cast<int64_t>(at))) {
        continue;
      }
      ++found.count;
      if (at + context.size() < text.size()) found.followers.insert(text[at + context.size()]);
    }
  }
  return found;
}

size_t LongestEnd(const Texts& texts, const Text& text) {
  for (size_t length = text.size(); length > 0; --length) {
    if (Search(texts, Text(text.end() - static_cast<int64_t>(length), text.end())).count > 0) {
      return length;
    }
  }
  return 0;
}

TEST(SuffixAutomatonTest, KnowsEachContextItsCountAndWhatFollowed) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 30; ++round) {
    const Texts texts = RandomTexts(random, 40);
    const SuffixAutomaton automaton = Build(texts, 1 << 30);
    for (int i = 0; i < 200; ++i) {
      Text context(1 + random() % 6);
      for (int32_t& token : context) token = static_cast<int32_t>(random() % 4);
      const Text& source = texts[random() % texts.size()];
      if (!source.empty() && random() % 2 == 0) {
        const size_t at = random() % source.size();
        const size_t length = 1 + random() % (source.size() - at);
        context.assign(source.begin() + static_cast<int64_t>(at),
                       source.begin() + static_cast<int64_t>(at + length));
      }
      const Occurrences expected = Search(texts, context);
      const int32_t state = StateOf(automaton, context);
      ASSERT_EQ(state >= 0, expected.count > 0);
      if (state < 0) continue;
      EXPECT_EQ(automaton.Count(state), expected.count);
      EXPECT_GE(automaton.Length(state), static_cast<int32_t>(context.size()));
      EXPECT_LT(automaton.Length(automaton.Link(state)), static_cast<int32_t>(context.size()));
      std::set<int32_t> followers;
      for (int32_t place = automaton.First(state); place >= 0;
           place = automaton.transition(place).next) {
        EXPECT_TRUE(followers.insert(automaton.transition(place).token).second);
      }
      EXPECT_EQ(followers, expected.followers);
    }
  }
}

TEST(SuffixAutomatonTest, AMatchIsTheLongestEnd) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    const Texts texts = RandomTexts(random, 40);
    const SuffixAutomaton automaton = Build(texts, 1 << 30);
    SuffixMatch match;
    Text text;
    for (int i = 0; i < 60; ++i) {
      text.push_back(static_cast<int32_t>(random() % 4));
      match.Advance(automaton, text.back());
      const size_t length = LongestEnd(texts, text);
      ASSERT_EQ(match.length, static_cast<int32_t>(length));
      ASSERT_EQ(match.state,
                StateOf(automaton, Text(text.end() - static_cast<int64_t>(length), text.end())));
    }
  }
}

TEST(SuffixAutomatonTest, AMatchOutlivesWhatIsAddedMeanwhile) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    SuffixAutomaton automaton(1 << 30);
    SuffixMatch match;
    Texts texts;
    Text text;
    for (int i = 0; i < 100; ++i) {
      if (random() % 3 == 0) {
        texts.push_back(RandomTexts(random, 10)[0]);
        automaton.Break();
        for (int32_t token : texts.back()) automaton.Append(token);
      }
      match.Normalize(automaton);
      const Text end(text.end() - match.length, text.end());
      ASSERT_EQ(match.state, StateOf(automaton, end));
      text.push_back(static_cast<int32_t>(random() % 3));
      match.Advance(automaton, text.back());
      ASSERT_LE(static_cast<size_t>(match.length), LongestEnd(texts, text));
    }
  }
}

TEST(SuffixAutomatonTest, TheLinkOfATextIsItsLongestEndThatOccurredBefore) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  SuffixAutomaton automaton;
  Text text;
  for (int i = 0; i < 200; ++i) {
    text.push_back(static_cast<int32_t>(random() % 3));
    automaton.Append(text.back());
    size_t longest = 0;
    for (size_t length = 1; length < text.size(); ++length) {
      const Text end(text.end() - static_cast<int64_t>(length), text.end());
      if (Search({text}, end).count > 1) longest = length;
    }
    EXPECT_EQ(automaton.Length(automaton.Link(automaton.last())), static_cast<int32_t>(longest));
  }
}

TEST(SuffixAutomatonTest, GrowsLinearly) {
  std::mt19937_64 random(FreshSeed());
  for (const uint64_t alphabet : {1, 2, 30, 30000}) {
    SuffixAutomaton automaton;
    const size_t count = 50000;
    for (size_t i = 0; i < count; ++i) automaton.Append(static_cast<int32_t>(random() % alphabet));
    EXPECT_EQ(automaton.tokens(), count);
    EXPECT_LE(automaton.states(), 2 * count);
    EXPECT_LE(automaton.bytes(), 250 * count);
  }
}

}  // namespace
}  // namespace octogate::workers
