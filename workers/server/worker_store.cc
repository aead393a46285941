#include "workers/server/worker_store.h"

#include <cstdlib>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace octogate::workers {
namespace {

constexpr size_t kMinSecretBytes = 16;
constexpr size_t kMaxSecretBytes = 4096;

}  // namespace

void DefineWorkerStoreFlags(CLI::App& app, WorkerStoreFlags& flags) {
  CLI::Option* const store =
      app.add_option("--store", flags.url,
                     "Redis that workers share, redis://[USER@]HOST[:PORT][/DATABASE], "
                     "redis+cluster://[USER@]HOST[:PORT][,…] or unix:PATH; the password is "
                     "OCTOGATE_REDIS_PASSWORD (default: none, nothing is shared)");
  app.add_option("--store-secret-file", flags.secret_file,
                 "file with a secret of all workers that share: what was written without it is not "
                 "used (default: whoever can write to the store is trusted)")
      ->needs(store);
}

absl::StatusOr<RedisOptions> WorkerStoreOptions(const WorkerStoreFlags& flags) {
  absl::StatusOr<RedisOptions> options = ParseRedisUrl(flags.url);
  if (!options.ok()) return Annotate(options.status(), flags.flag);
  if (const char* password = std::getenv("OCTOGATE_REDIS_PASSWORD")) options->password = password;
  return options;
}

absl::StatusOr<std::string> WorkerStoreSecret(const WorkerStoreFlags& flags) {
  if (flags.secret_file.empty()) return "";
  std::ifstream file(flags.secret_file, std::ios::binary);
  std::string secret(kMaxSecretBytes + 2, '\0');
  file.read(secret.data(), static_cast<std::streamsize>(secret.size()));
  if (file.bad() || (file.fail() && !file.eof())) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.flag, "-secret-file: ", flags.secret_file, " cannot be read"));
  }
  secret.resize(static_cast<size_t>(file.gcount()));
  while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
  if (secret.size() < kMinSecretBytes || secret.size() > kMaxSecretBytes) {
    return absl::InvalidArgumentError(absl::StrCat(flags.flag, "-secret-file: ", flags.secret_file,
                                                   " has ", secret.size(), " bytes; it must have ",
                                                   kMinSecretBytes, " to ", kMaxSecretBytes,
                                                   ", e.g. of `openssl rand -hex 32`"));
  }
  return secret;
}

}  // namespace octogate::workers
