#include "workers/engine/page_allocator.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

using ::testing::UnorderedElementsAre;

TEST(PageAllocatorTest, GivesOutEachPageOnce) {
  PageAllocator allocator(3);
  std::vector<int32_t> pages;
  EXPECT_TRUE(allocator.Allocate(3, pages));
  EXPECT_THAT(pages, UnorderedElementsAre(0, 1, 2));
  EXPECT_EQ(allocator.available(), 0);
}

TEST(PageAllocatorTest, AllocatesAllOrNothing) {
  PageAllocator allocator(3);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.Allocate(2, pages));
  EXPECT_FALSE(allocator.Allocate(2, pages));
  EXPECT_EQ(pages.size(), 2u);
  EXPECT_EQ(allocator.available(), 1);
}

TEST(PageAllocatorTest, SharedPageIsFreeWhenItsLastOwnerReleasesIt) {
  PageAllocator allocator(1);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.Allocate(1, pages));
  allocator.Share(pages[0]);
  allocator.Release(pages);
  EXPECT_EQ(allocator.available(), 0);
  allocator.Release(pages);
  EXPECT_EQ(allocator.available(), 1);
}

TEST(PageAllocatorTest, ADiscardedPageIsFreeOnceItHasNoOwner) {
  PageAllocator allocator(3);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.Allocate(3, pages));
  for (const int32_t page : pages) allocator.Keep(page);
  allocator.Release(std::vector<int32_t>{pages[0], pages[1]});
  EXPECT_EQ(allocator.idle(), 2);
  allocator.Discard(pages[0]);
  allocator.Discard(pages[2]);  // has an owner
  EXPECT_EQ(allocator.idle(), 1);
  EXPECT_EQ(allocator.available(), 2);
  EXPECT_FALSE(allocator.kept(pages[2]));
  allocator.Release(std::vector<int32_t>{pages[2]});
  EXPECT_EQ(allocator.idle(), 1);
  EXPECT_EQ(allocator.available(), 3);
  allocator.Discard(pages[0]);  // is free already
  std::vector<int32_t> all;
  ASSERT_TRUE(allocator.Allocate(3, all));
  EXPECT_THAT(all, UnorderedElementsAre(0, 1, 2));
  EXPECT_EQ(all[2], pages[1]) << "an idle page is given out after the free ones";
}

TEST(PageAllocatorTest, AKeptPageIsIdleUntilItIsSharedOrGivenOut) {
  PageAllocator allocator(2);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.Allocate(1, pages));
  allocator.Keep(pages[0]);
  allocator.Release(pages);
  EXPECT_EQ(allocator.idle(), 1);
  EXPECT_EQ(allocator.used(), 0);
  allocator.Share(pages[0]);
  EXPECT_EQ(allocator.idle(), 0);
  EXPECT_EQ(allocator.used(), 1);
  EXPECT_TRUE(allocator.kept(pages[0]));
  allocator.Release(pages);
  std::vector<int32_t> all;
  ASSERT_TRUE(allocator.Allocate(2, all));
  EXPECT_EQ(all[1], pages[0]) << "the idle page is given out before the free one";
  EXPECT_FALSE(allocator.kept(pages[0]));
}

TEST(PageAllocatorTest, GivesOutIdlePagesLeastRecentlyUsedFirstAndTheEndOfASequenceBeforeItsBegin) {
  PageAllocator allocator(4);
  std::vector<int32_t> first;
  std::vector<int32_t> second;
  ASSERT_TRUE(allocator.Allocate(2, first));
  ASSERT_TRUE(allocator.Allocate(2, second));
  for (int32_t page : first) allocator.Keep(page);
  for (int32_t page : second) allocator.Keep(page);
  allocator.Release(first);
  allocator.Release(second);
  allocator.Share(first[1]);
  allocator.Release({&first[1], 1});  // used again
  std::vector<int32_t> given;
  ASSERT_TRUE(allocator.Allocate(4, given));
  EXPECT_EQ(given, (std::vector<int32_t>{first[0], second[1], second[0], first[1]}));
}

// Against a plain count of owners.
TEST(PageAllocatorTest, CountsOwnersUnderRandomUse) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  PageAllocator allocator(17);
  std::vector<int32_t> held;  // one entry for each ownership
  std::set<int32_t> kept;
  for (int i = 0; i < 5000; ++i) {
    const int choice = static_cast<int>(random() % 4);
    if (choice == 0) {
      const size_t before = held.size();
      const int count = static_cast<int>(random() % 5);
      const int free = allocator.available();
      EXPECT_EQ(allocator.Allocate(count, held), count <= free);
      for (size_t j = before; j < held.size(); ++j) {
        EXPECT_EQ(std::count(held.begin(), held.end(), held[j]), 1);
        kept.erase(held[j]);
      }
    } else if (!held.empty()) {
      const size_t index = random() % held.size();
      if (choice == 1) {
        allocator.Share(held[index]);
        held.push_back(held[index]);
      } else if (choice == 2) {
        allocator.Keep(held[index]);
        kept.insert(held[index]);
      } else {
        const int32_t page = held[index];
        held.erase(held.begin() + static_cast<ptrdiff_t>(index));
        allocator.Release({&page, 1});
      }
    }
    int used = 0;
    int idle = 0;
    for (int32_t page = 0; page < allocator.total(); ++page) {
      const auto owners = std::count(held.begin(), held.end(), page);
      ASSERT_EQ(allocator.owners(page), owners);
      ASSERT_EQ(allocator.kept(page), kept.contains(page));
      used += owners > 0 ? 1 : 0;
      idle += owners == 0 && kept.contains(page) ? 1 : 0;
    }
    ASSERT_EQ(allocator.idle(), idle);
    ASSERT_EQ(allocator.used(), used);
  }
}

}  // namespace
}  // namespace octogate::workers
