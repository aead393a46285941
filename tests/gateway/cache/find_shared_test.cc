#include "gateway/cache/find_shared.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "absl/time/clock.h"

namespace octogate::gateway {
namespace {

// Answers at once, or when it is told to.
struct Shared {
  struct Found {
    std::string value;
  };
  void Get(const std::string& query, std::function<void(Found found)> done) {
    if (query == "known") done({"value"});
    late = std::move(done);
  }
  std::function<void(Found found)> late;
};

TEST(FindSharedTest, ReturnsWhatHasCome) {
  Shared shared;
  EXPECT_EQ(FindShared(nullptr, shared, std::string("known"), absl::InfiniteFuture()).value,
            "value");
}

TEST(FindSharedTest, WaitsUntilTheDeadlineAndForgetsWhatComesLater) {
  Shared shared;
  auto graph = std::make_shared<const GraphState>();
  const std::weak_ptr<const GraphState> watched = graph;
  const absl::Time deadline = absl::Now() + absl::Milliseconds(20);
  EXPECT_EQ(FindShared(std::move(graph), shared, std::string("late"), deadline).value, "");
  EXPECT_GE(absl::Now(), deadline);
  EXPECT_FALSE(watched.expired()) << "what it may still be read for";
  shared.late({"value"});
  shared.late = nullptr;
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace octogate::gateway
