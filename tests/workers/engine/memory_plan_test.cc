#include "workers/engine/memory_plan.h"

#include <cstdint>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = uint64_t{1} << 20;

MemoryDemand Demand() {
  MemoryDemand demand;
  demand.weight_bytes = 100 * kMiB;
  demand.activation_bytes = 20 * kMiB;
  demand.page_bytes = kMiB;
  demand.page_size = 16;
  demand.pages = 50;
  return demand;
}

TEST(PlanPagesTest, GivesWhatIsAskedForWhereItFitsExactly) {
  const auto pages = PlanPages(Demand(), 170 * kMiB, "m");
  ASSERT_TRUE(pages.ok()) << pages.status();
  EXPECT_EQ(*pages, 50);
}

TEST(PlanPagesTest, RefusesOnePageTooManyAndSaysWhatWouldFit) {
  const auto pages = PlanPages(Demand(), 170 * kMiB - 1, "/models/m");
  EXPECT_EQ(pages.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(pages.status().message());
  for (const char* words : {"/models/m", "weights 100.0 MiB", "activations 20.0 MiB",
                            "KV cache 50.0 MiB (800 tokens)", "784 tokens (49.0 MiB) would fit"}) {
    EXPECT_THAT(message, HasSubstr(words));
  }
}

TEST(PlanPagesTest, LeavesRoomForTheSwapSpace) {
  MemoryDemand demand = Demand();
  demand.swap_bytes = 30 * kMiB;
  EXPECT_EQ(*PlanPages(demand, 200 * kMiB, "m"), 50);
  const auto pages = PlanPages(demand, 200 * kMiB - 1, "m");
  EXPECT_THAT(std::string(pages.status().message()),
              HasSubstr("activations 20.0 MiB + swap space 30.0 MiB + KV cache 50.0 MiB"));
  demand.flexible = true;
  EXPECT_EQ(*PlanPages(demand, 210 * kMiB, "m"), 30);
}

TEST(PlanPagesTest, SaysWhatIsNeededWhereNoPageFits) {
  const auto pages = PlanPages(Demand(), 110 * kMiB, "m");
  EXPECT_THAT(std::string(pages.status().message()), HasSubstr("at least 121.0 MiB are needed"));
}

TEST(PlanPagesTest, AFlexibleCacheTakesHalfOfWhatIsLeftButNoMoreThanIsOfUse) {
  MemoryDemand demand = Demand();
  demand.flexible = true;
  EXPECT_EQ(*PlanPages(demand, 180 * kMiB, "m"), 30);
  EXPECT_EQ(*PlanPages(demand, 1000 * kMiB, "m"), 50);
  demand.minimum_pages = 40;
  EXPECT_EQ(*PlanPages(demand, 180 * kMiB, "m"), 40);
  EXPECT_FALSE(PlanPages(demand, 150 * kMiB, "m").ok());
}

TEST(PlanPagesTest, KeepsTheLimitOfTheCacheItself) {
  MemoryDemand demand = Demand();
  demand.kv_limit_bytes = 10 * kMiB;
  EXPECT_THAT(std::string(PlanPages(demand, 1000 * kMiB, "m").status().message()),
              HasSubstr("the KV cache's limit of 10.0 MiB"));
  demand.flexible = true;
  EXPECT_EQ(*PlanPages(demand, 1000 * kMiB, "m"), 10);
}

TEST(AvailableMemoryTest, IsKnownAndPlausible) {
  EXPECT_GT(AvailableMemoryBytes(), 16 * kMiB);
  EXPECT_LT(AvailableMemoryBytes(), std::numeric_limits<uint64_t>::max());
}

}  // namespace
}  // namespace octogate::workers
