#include "workers/server/worker_drafts.h"

#include <utility>

#include "common/redis/redis_client.h"
#include "common/redis/redis_store.h"
#include "common/status_macros.h"
#include "workers/cache/shared_drafts.h"

namespace octogate::workers {
namespace {

struct WorkerDrafts {
  std::unique_ptr<RedisClient> client;
  std::unique_ptr<Store> store;
  std::shared_ptr<DraftPlace> place;
};

}  // namespace

absl::StatusOr<std::shared_ptr<DraftPlace>> OpenWorkerDrafts(const WorkerStoreFlags& flags) {
  if (flags.url.empty()) return nullptr;
  OCTOGATE_ASSIGN_OR_RETURN(RedisOptions options, WorkerStoreOptions(flags));
  OCTOGATE_ASSIGN_OR_RETURN(std::string secret, WorkerStoreSecret(flags));
  options.connections = 1;  // one thread calls
  auto drafts = std::make_shared<WorkerDrafts>();
  drafts->client = RedisClient::Create(std::move(options));
  drafts->store = MakeRedisStore(drafts->client.get());
  const auto tell_store = [client = drafts->client.get()](SharedDraftsStats& stats) {
    const RedisClient::Stats now = client->stats();
    stats.store_failures = now.failures;
    stats.store_losses = now.losses;
    stats.store_reachable = now.reachable;
  };
  drafts->place =
      ShareDrafts(drafts->store.get(), {.secret = std::move(secret), .tell_store = tell_store});
  return std::shared_ptr<DraftPlace>(drafts, drafts->place.get());
}

}  // namespace octogate::workers
