// Sessions are remembered apart from each other, for a time, and in a bounded number.
#include "gateway/session_store.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {
namespace {

TEST(SessionStoreTest, NamesAreKeptApartWhateverTheyAre) {
  SessionStore store({});
  store.Set("a", "s", "main", "one");
  store.Set("b", "s", "main", "two");
  store.Set("a", "s", "inner", "three");
  store.Set("a", "t", "main", "four");
  EXPECT_EQ(store.Find("a", "s", "main"), "one") << "two tenants with one session's name";
  EXPECT_EQ(store.Find("b", "s", "main"), "two");
  EXPECT_EQ(store.Find("a", "s", "inner"), "three");
  EXPECT_EQ(store.Find("a", "t", "main"), "four");
  EXPECT_EQ(store.Find("c", "s", "main"), "");
  // What is put together the same way is not the same.
  store.Set("x1:y", "z", "r", "five");
  EXPECT_EQ(store.Find("x", "1:yz", "r"), "");
  EXPECT_EQ(store.Find("x1:", "yz", "r"), "");
  store.Set("p", "q1", "r", "six");
  EXPECT_EQ(store.Find("p", "q", "1r"), "");
}

// Against a list of what was set, in order.
TEST(SessionStoreTest, KeepsWhatWasUsedLastForItsTime) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  absl::Time now = absl::FromUnixSeconds(1'000'000);
  constexpr size_t kMax = 5;
  const absl::Duration kept_for = absl::Seconds(20);
  SessionStore store({.max_entries = kMax, .kept_for = kept_for, .clock = [&now] { return now; }});
  struct Known {
    std::string session;
    std::string node;
    absl::Time used;
  };
  std::deque<Known> known;  // used last first
  for (int round = 0; round < 2000; ++round) {
    now += absl::Seconds(random() % 4);
    const std::string session = absl::StrCat(random() % 8);
    while (!known.empty() && now >= known.back().used + kept_for) known.pop_back();
    auto found = known.begin();
    while (found != known.end() && found->session != session) ++found;
    ASSERT_EQ(store.Find("t", session, "main"), found == known.end() ? "" : found->node);
    if (random() % 2 == 0) continue;
    if (found != known.end()) known.erase(found);
    const std::string node = absl::StrCat("node", random() % 100);
    known.push_front({session, node, now});
    if (known.size() > kMax) known.pop_back();
    store.Set("t", session, "main", node);
  }
}

}  // namespace
}  // namespace octogate::gateway
