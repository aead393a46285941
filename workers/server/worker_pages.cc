#include "workers/server/worker_pages.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>

#include "common/redis/redis_client.h"
#include "common/status_macros.h"
#include "workers/cache/redis_page_store.h"

namespace octogate::workers {

absl::StatusOr<MakePageStore> OpenWorkerPages(const WorkerStoreFlags& flags) {
  if (flags.url.empty()) return nullptr;
  OCTOGATE_ASSIGN_OR_RETURN(RedisOptions redis, WorkerStoreOptions(flags));
  OCTOGATE_ASSIGN_OR_RETURN(std::string secret, WorkerStoreSecret(flags));
  RedisPageStoreOptions options{.secret = std::move(secret)};
  redis.connections = options.readers + options.writers;
  return [share = ShareThroughRedis(RedisClient::Create(std::move(redis)), std::move(options))](
             const PageFormat& format) {
    const absl::Status size = CheckSharedPageSize(format);
    if (!size.ok()) spdlog::warn("{}", std::string(size.message()));
    return share(format);
  };
}

}  // namespace octogate::workers
