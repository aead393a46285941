#include "workers/engine/swap_space.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

constexpr size_t kPageBytes = 24;

// A cache of pages that are bytes.
struct Cache {
  explicit Cache(size_t pages) : bytes(pages, std::vector<std::byte>(kPageBytes)) {}
  SwapSpace::Copier copier() {
    return {.out = [this](int32_t page,
                          std::span<std::byte> to) { std::ranges::copy(at(page), to.begin()); },
            .in = [this](std::span<const std::byte> from,
                         int32_t page) { std::ranges::copy(from, at(page).begin()); }};
  }
  std::vector<std::byte>& at(int32_t page) { return bytes[static_cast<size_t>(page)]; }
  std::vector<std::vector<std::byte>> bytes;
};

TEST(SwapSpaceTest, HoldsWhatItIsGivenUnderRandomLoad) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  Cache cache(20);
  const int slots = pick(1, 40);
  const auto space = SwapSpace::Make(
      kPageBytes, static_cast<uint64_t>(slots) * kPageBytes + kPageBytes - 1, cache.copier());
  ASSERT_NE(space, nullptr);
  EXPECT_EQ(space->total_bytes(), static_cast<uint64_t>(slots) * kPageBytes);
  struct Entry {
    std::unique_ptr<SwapSpace::Saved> saved;
    std::vector<std::vector<std::byte>> contents;
  };
  std::vector<Entry> live;
  int used = 0;
  bool was_full = false;
  for (int step = 0; step < 2000; ++step) {
    for (std::byte& byte : cache.at(pick(0, 19))) byte = static_cast<std::byte>(random());
    if (pick(0, 1) == 0) {
      std::vector<int32_t> pages;
      for (int i = pick(1, 8); i > 0; --i) pages.push_back(pick(0, 19));
      auto saved = space->Save(pages);
      const bool fits = used + static_cast<int>(pages.size()) <= slots;
      ASSERT_EQ(saved != nullptr, fits);
      was_full |= !fits;
      if (saved == nullptr) continue;
      ASSERT_EQ(saved->pages(), static_cast<int>(pages.size()));
      used += saved->pages();
      live.push_back({std::move(saved), {}});
      for (const int32_t page : pages) live.back().contents.push_back(cache.at(page));
    } else if (!live.empty()) {
      const auto index = static_cast<size_t>(pick(0, static_cast<int>(live.size()) - 1));
      const Entry entry = std::exchange(live[index], std::move(live.back()));
      live.pop_back();
      const int first = pick(0, entry.saved == nullptr ? 0 : entry.saved->pages());
      ASSERT_NE(entry.saved, nullptr);
      used -= entry.saved->pages();
      std::vector<int32_t> pages;
      for (int32_t page = 0; page < entry.saved->pages() - first; ++page) pages.push_back(page);
      space->Restore(*entry.saved, first, pages);
      for (size_t i = 0; i < pages.size(); ++i) {
        ASSERT_EQ(cache.at(pages[i]), entry.contents[static_cast<size_t>(first) + i]);
      }
    }
    int sum = 0;
    for (const Entry& entry : live) sum += entry.saved->pages();
    ASSERT_EQ(sum, used);
    ASSERT_EQ(space->used_bytes(), static_cast<uint64_t>(used) * kPageBytes);
  }
  EXPECT_TRUE(was_full);
  live.clear();
  EXPECT_EQ(space->used_bytes(), 0u);
}

TEST(SwapSpaceTest, KnowsWhatCopiesTakeOnceItHasMadeSome) {
  Cache cache(1);
  const auto space = SwapSpace::Make(kPageBytes, 10 * kPageBytes, cache.copier());
  ASSERT_NE(space, nullptr);
  EXPECT_EQ(space->RoundTripSeconds(7), 0);
  space->Measure();
  EXPECT_GT(space->RoundTripSeconds(1), 0);
  EXPECT_DOUBLE_EQ(space->RoundTripSeconds(6), 6 * space->RoundTripSeconds(1));
  EXPECT_EQ(space->used_bytes(), 0u);
  EXPECT_EQ(space->time(), absl::ZeroDuration()) << "of sequences' copies alone";
}

TEST(SwapSpaceTest, HasNoRoomWhereItIsSmallerThanAPage) {
  Cache cache(1);
  const auto space = SwapSpace::Make(kPageBytes, kPageBytes - 1, cache.copier());
  ASSERT_NE(space, nullptr);
  space->Measure();
  const std::vector<int32_t> page = {0};
  EXPECT_EQ(space->Save(page), nullptr);
  EXPECT_EQ(space->total_bytes(), 0u);
}

}  // namespace
}  // namespace octogate::workers
