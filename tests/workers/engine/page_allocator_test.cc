#include "workers/engine/page_allocator.h"

#include <algorithm>
#include <random>
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
  EXPECT_EQ(allocator.free(), 0);
}

TEST(PageAllocatorTest, AllocatesAllOrNothing) {
  PageAllocator allocator(3);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.Allocate(2, pages));
  EXPECT_FALSE(allocator.Allocate(2, pages));
  EXPECT_EQ(pages.size(), 2u);
  EXPECT_EQ(allocator.free(), 1);
}

TEST(PageAllocatorTest, SharedPageIsFreeWhenItsLastOwnerReleasesIt) {
  PageAllocator allocator(1);
  std::vector<int32_t> pages;
  ASSERT_TRUE(allocator.Allocate(1, pages));
  allocator.Share(pages[0]);
  allocator.Release(pages);
  EXPECT_EQ(allocator.free(), 0);
  allocator.Release(pages);
  EXPECT_EQ(allocator.free(), 1);
}

// Against a plain count of owners.
TEST(PageAllocatorTest, CountsOwnersUnderRandomUse) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  PageAllocator allocator(17);
  std::vector<int32_t> held;  // one entry for each ownership
  for (int i = 0; i < 5000; ++i) {
    const int choice = static_cast<int>(random() % 3);
    if (choice == 0) {
      const size_t before = held.size();
      const int count = static_cast<int>(random() % 5);
      const int free = allocator.free();
      EXPECT_EQ(allocator.Allocate(count, held), count <= free);
      for (size_t j = before; j < held.size(); ++j) {
        EXPECT_EQ(std::count(held.begin(), held.end(), held[j]), 1);
      }
    } else if (!held.empty()) {
      const size_t index = random() % held.size();
      if (choice == 1) {
        allocator.Share(held[index]);
        held.push_back(held[index]);
      } else {
        const int32_t page = held[index];
        held.erase(held.begin() + static_cast<ptrdiff_t>(index));
        allocator.Release({&page, 1});
      }
    }
    int used = 0;
    for (int32_t page = 0; page < allocator.total(); ++page) {
      const auto owners = std::count(held.begin(), held.end(), page);
      ASSERT_EQ(allocator.owners(page), owners);
      used += owners > 0 ? 1 : 0;
    }
    ASSERT_EQ(allocator.used(), used);
  }
}

}  // namespace
}  // namespace octogate::workers
