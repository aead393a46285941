// What octogate-worker tells of the store that its drafters share, with a real redis-server.
#include "workers/server/worker_drafts.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/common/redis/redis_cluster.h"
#include "tests/common/redis/redis_server.h"
#include "tests/workers/speculation/drafter_streams.h"
#include "workers/speculation/kept_drafter.h"
#include "workers/speculation/recycling.h"

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(WorkerDraftsTest, TellWhetherTheStoreAnswersAndWhatItHasNot) {
  RedisServer redis;
  absl::StatusOr<std::shared_ptr<DraftPlace>> place =
      OpenWorkerDrafts({.url = absl::StrCat("unix:", redis.Socket()), .secret_file = ""});
  ASSERT_TRUE(place.ok()) << place.status();
  ASSERT_NE(*place, nullptr);
  const auto stats = [&] { return (*place)->shared_stats().value(); };
  const auto keeper = std::make_shared<DraftKeeper>(
      DraftKeeperOptions{.model = "model", .interval = absl::Milliseconds(20), .places = {*place}});
  const std::unique_ptr<Drafter> drafter = KeepDrafter(
      std::make_unique<RecyclingDrafter>(RecyclingOptions{.table = {.vocab_size = 100}}), keeper);
  int32_t token = 0;
  const auto learn = [&] {
    const auto learned = drafter->Begin("tenant");
    learned->Append(Tokens{1, 2});
    learned->Append(Tokens{3, token, token + 1, 4});
    token = (token + 2) % 98;
  };
  RedisCluster::AwaitTrue([&] {
    learn();
    return stats().publications > 0;
  });
  EXPECT_TRUE(stats().store_reachable);
  EXPECT_EQ(stats().store_failures, 0U);
  EXPECT_EQ(stats().store_losses, 0U);
  redis.Kill();
  RedisCluster::AwaitTrue([&] {
    learn();
    return stats().store_failures > 0 && stats().store_losses > 0 && !stats().store_reachable;
  });
  redis.Start();
  const uint64_t before = stats().publications;
  RedisCluster::AwaitTrue([&] {
    learn();
    return stats().publications > before && stats().store_reachable;
  });
}

TEST(WorkerDraftsTest, ErrorsNameTheFlagThatIsWrong) {
  const auto error = [](const WorkerStoreFlags& flags) {
    return std::string(OpenWorkerDrafts(flags).status().message());
  };
  const std::string url = "unix:/nonexistent/redis.sock", none = "/nonexistent/secret";
  EXPECT_THAT(error({.url = "http://x"}), StartsWith("--store: "));
  EXPECT_THAT(error({.url = "http://x", .flag = "--worker-store"}), StartsWith("--worker-store: "));
  EXPECT_THAT(error({.url = url, .secret_file = none}), StartsWith("--store-secret-file: " + none));
  EXPECT_THAT(error({.url = url, .secret_file = none, .flag = "--worker-store"}),
              StartsWith("--worker-store-secret-file: " + none));
  EXPECT_THAT(error({.url = url, .secret_file = "/dev/null"}), HasSubstr("has 0 bytes"));
}

TEST(WorkerDraftsTest, WithoutAStoreThereIsNoPlace) {
  const absl::StatusOr<std::shared_ptr<DraftPlace>> place = OpenWorkerDrafts({});
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(*place, nullptr);
}

}  // namespace
}  // namespace octogate::workers
