// octogate: the gateway.
#include <google/protobuf/stubs/logging.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/file_store.h"
#include "common/redis/redis_client.h"
#include "common/redis/redis_record_streams.h"
#include "common/redis/redis_store.h"
#include "common/redis/redis_value_cache.h"
#include "common/status.h"
#include "gateway/in_process_model_client.h"
#include "gateway/manifest_files.h"
#include "gateway/server.h"
#include "router/graph_manifest.h"
#include "workers/engine/device.h"
#include "workers/server/termination.h"
#include "workers/server/worker_drafts.h"
#include "workers/server/worker_pages.h"
#include "workers/server/worker_store.h"

namespace octogate::gateway {
namespace {

struct Flags {
  std::string data_dir = "octogate-data";
  std::string store;
  workers::WorkerStoreFlags worker_store{.flag = "--worker-store"};
  std::string model_root = ".";
  std::string graph;
  double memory_limit_gib = 0;
  std::string worker_device = "cpu";
  int worker_threads = 0;
  bool pin_threads = false;
  int64_t kv_tokens = 0;
  double swap_gib = 0;
  double step_cost_seconds = 0.25;
  std::optional<double> max_step_slowdown;
  int max_sequences = 16;
  double max_wait_seconds = 2;
  double store_poll_seconds = 1;
  double notice_seconds = 0;
  double grace_seconds = 30;
  std::string log_level = "info";
  ServerOptions server;
};

constexpr char kExamples[] =
    "Examples:\n"
    "  octogate --graph deploy/graphs/example.yaml --model-root deploy/models\n"
    "  octogate --listen 0.0.0.0:7070 --admin-listen 127.0.0.1:7072 --metrics-address "
    "0.0.0.0:9090\n"
    "\n"
    "Admin calls are not authenticated: whoever reaches their port can change the graph. With\n"
    "--listen on a public address, give --admin-listen a private one.\n"
    "\n"
    "Exit status: 0 after a clean end, 1 where the gateway cannot start, 2 for wrong flags.";

void Define(CLI::App& app, Flags& flags) {
  ServerOptions& server = flags.server;
  app.add_option("--listen", server.listen, "host:port for clients; port 0 picks one")
      ->capture_default_str();
  app.add_option("--admin-listen", server.admin_listen,
                 "host:port for Admin (default: with --listen)");
  app.add_option("--metrics-address", server.metrics_listen,
                 "host:port of http://…/metrics (default: none)");
  app.add_option("--data-dir", flags.data_dir, "folder for the versions of the graph")
      ->capture_default_str();
  app.add_option(
      "--store", flags.store,
      "redis://[USER@]HOST[:PORT][/DATABASE], redis+cluster://[USER@]HOST[:PORT][,…] or "
      "unix:SOCKET in place of --data-dir: gateways with the same one have one graph, and share "
      "sessions, traces, answers that are kept, and decisions of graphs that say so; its password "
      "is read from OCTOGATE_REDIS_PASSWORD");
  CLI::Option* const worker_store =
      app.add_option("--worker-store", flags.worker_store.url,
                     "what octogate-worker has as --store, with the same password: in-process "
                     "models share through it pages of keys and values, and what drafters learn "
                     "(default: nowhere)");
  app.add_option("--worker-store-secret-file", flags.worker_store.secret_file,
                 "octogate-worker's --store-secret-file")
      ->needs(worker_store);
  app.add_option("--model-root", flags.model_root,
                 "folder where relative paths of models and recordings start")
      ->capture_default_str();
  app.add_option("--graph", flags.graph,
                 "manifest to apply at start, unless it is applied already");
  app.add_option("--threads", server.threads, "network threads; 0: half of the cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--worker-device", flags.worker_device,
                 "where in-process models run: cpu, auto (a GPU where one answers), or cuda (a GPU "
                 "or nothing; cuda:1 is the second)")
      ->check(workers::WhyNoDevice)
      ->capture_default_str();
  app.add_option("--worker-threads", flags.worker_threads,
                 "compute threads of each in-process model on the CPU; 0: one for each CPU that "
                 "the process may use, by its group's quota too")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--pin-threads", flags.pin_threads,
               "keep each compute thread of in-process models on a CPU of its own; for machines "
               "that do nothing else");
  app.add_option("--memory-limit", flags.memory_limit_gib,
                 "GiB for all in-process models; 0: what is available")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--max-sequences", flags.max_sequences,
                 "sequences that one in-process model runs at the same time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--kv-tokens", flags.kv_tokens,
                 "positions of each in-process model's KV cache; 0: as needed and possible")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--swap-space", flags.swap_gib,
                 "GiB of host memory of each in-process model for what preempted sequences have "
                 "computed; 0: they compute it again")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--step-cost-time", flags.step_cost_seconds,
                 "seconds to measure, while an in-process model is loaded, what its steps cost; 0: "
                 "do not")
      ->check(CLI::Range(0.0, 60.0))
      ->capture_default_str();
  app.add_option("--max-step-slowdown", flags.max_step_slowdown,
                 "a step of an in-process model with prompts takes at most so many times what the "
                 "sequences that decode would take alone, by what steps were measured to cost; 0: "
                 "no limit, as without --step-cost-time")
      ->check(CLI::Range(0.0, 1e6))
      ->default_str(absl::StrCat(workers::EngineOptions::kUsualStepSlowdown));
  app.add_option("--max-concurrent", server.admission.max_concurrent,
                 "queries that run at the same time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-waiting", server.admission.max_waiting,
                 "queries that wait for their turn; more are refused")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-wait", flags.max_wait_seconds, "seconds that a query waits at most")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--max-per-tenant", server.admission.max_per_tenant,
                 "queries of one tenant that run or wait")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--traces-per-second", server.traces.traces_per_second,
                 "queries traced per second at most")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option(
         "--store-poll", flags.store_poll_seconds,
         "seconds after which what another gateway with the same store applies or drains is "
         "noticed where the store's notification is lost")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  app.add_option("--notice", flags.notice_seconds,
                 "seconds between saying NOT_SERVING and refusing calls, at the end")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--grace", flags.grace_seconds,
                 "seconds that queries under way get when the gateway is stopped")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  app.add_option("--log-level", flags.log_level, "what is logged to stderr")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.footer(kExamples);
}

absl::StatusOr<std::string> ReadManifest(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError("cannot read the manifest " + path);
  }
  return InlineFiles(text.str(), path, std::filesystem::path(path).parent_path().string(),
                     router::kMaxManifestBytes);
}

absl::Status ApplyFile(const std::string& path, GraphManager* graphs) {
  v1::ApplyGraphRequest request;
  OCTOGATE_ASSIGN_OR_RETURN(*request.mutable_manifest(), ReadManifest(path));
  request.set_source(path);
  OCTOGATE_ASSIGN_OR_RETURN(const v1::ApplyGraphResponse response,
                            graphs->Apply(request, absl::Now() + AdminService::kMaxCallTime));
  for (const std::string& warning : response.warnings()) spdlog::warn("{}", warning);
  spdlog::info("{} is applied as version {}", path, response.version());
  return absl::OkStatus();
}

int Fail(const absl::Status& status) {
  spdlog::error("{}", std::string(status.message()));
  return 1;
}

// The server need not be there yet: the gateway starts, and restores the graph when it is.
absl::StatusOr<std::unique_ptr<Store>> OpenRedis(const std::string& address,
                                                 std::unique_ptr<RedisClient>* client) {
  absl::StatusOr<RedisOptions> parsed = ParseRedisUrl(address);
  if (!parsed.ok()) return Annotate(parsed.status(), "--store");
  RedisOptions options = *std::move(parsed);
  if (const char* password = std::getenv("OCTOGATE_REDIS_PASSWORD")) options.password = password;
  *client = RedisClient::Create(std::move(options));
  const absl::Status kept = CheckRedisKeepsValues(**client, absl::Now() + absl::Seconds(2));
  if (!kept.ok()) spdlog::warn("--store: {}", kept.ToString());
  return MakeRedisStore(client->get());
}

absl::Status ApplyAtStart(const Flags& flags, Server& server) {
  const bool restored = server.AwaitRestored(absl::Now() + absl::Minutes(1));
  if (flags.store.empty()) {
    // A stored graph that cannot be restored must not stand in the way of the one given here.
    return ApplyFile(flags.graph, &server.graphs());
  }
  // A gateway that starts changes nothing for those that run.
  if (!restored || server.graphs().state() != nullptr) {
    spdlog::info("{} is not applied: --store {}", flags.graph,
                 restored ? "has a graph" : "does not answer, or has a graph that is not ready");
    return absl::OkStatus();
  }
  const absl::Status applied = ApplyFile(flags.graph, &server.graphs());
  if (!absl::IsAborted(applied)) return applied;
  spdlog::info("{} is not applied: another gateway was faster", flags.graph);
  return absl::OkStatus();
}

int Serve(Flags flags) {
  InProcessWorkerOptions worker_options;
  worker_options.model_root = flags.model_root;
  worker_options.memory_limit_bytes =
      static_cast<uint64_t>(flags.memory_limit_gib * static_cast<double>(uint64_t{1} << 30));
  const workers::DeviceName device =
      workers::ParseDevice(flags.worker_device).value_or(workers::DeviceName());
  worker_options.load.device.device = device.device;
  worker_options.load.device.gpu = device.gpu;
  worker_options.load.device.threads = flags.worker_threads;
  worker_options.load.device.pin_threads = flags.pin_threads;
  worker_options.load.engine.max_sequences = flags.max_sequences;
  worker_options.load.engine.kv_tokens = flags.kv_tokens;
  worker_options.load.engine.swap_bytes =
      static_cast<uint64_t>(flags.swap_gib * static_cast<double>(uint64_t{1} << 30));
  worker_options.load.engine.step_cost_time = absl::Seconds(flags.step_cost_seconds);
  worker_options.load.engine.max_step_slowdown = flags.max_step_slowdown.value_or(
      flags.step_cost_seconds > 0 ? workers::EngineOptions::kUsualStepSlowdown : 0);
  auto pages = workers::OpenWorkerPages(flags.worker_store);
  if (!pages.ok()) return Fail(pages.status());
  worker_options.load.engine.make_page_store = *std::move(pages);
  worker_options.open_drafts = [&flags] { return workers::OpenWorkerDrafts(flags.worker_store); };
  InProcessWorker worker(worker_options);

  std::unique_ptr<RedisClient> redis;  // Before the store, which uses it.
  const absl::StatusOr<std::unique_ptr<Store>> store =
      flags.store.empty() ? OpenFileStore(flags.data_dir) : OpenRedis(flags.store, &redis);
  if (!store.ok()) return Fail(store.status());
  ServerOptions options = flags.server;
  options.graph.model_root = flags.model_root;
  options.admission.max_wait = absl::Seconds(flags.max_wait_seconds);
  options.store_poll_interval = absl::Seconds(flags.store_poll_seconds);
  std::unique_ptr<ValueCache> shared_values;
  std::unique_ptr<RecordStreams> shared_traces;
  if (redis != nullptr) {
    shared_values = MakeRedisValueCache(redis.get());
    options.shared_values = shared_values.get();
    shared_traces = MakeRedisRecordStreams(redis.get());
    options.traces.shared = shared_traces.get();
    options.store_metrics = [client = redis.get()] {
      const RedisClient::Stats stats = client->stats();
      return Metrics::Store{.calls = stats.calls,
                            .failures = stats.failures,
                            .connections = stats.connections,
                            .pending_bytes = stats.pending_bytes,
                            .reachable = stats.reachable};
    };
  }
  options.load_model = [&worker](const v1::Model& model, absl::Time deadline) {
    return worker.Load(model, deadline);
  };
  options.backend = [&worker] { return worker.backend(); };
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options, store->get());
  if (!server.ok()) return Fail(server.status());
  spdlog::info("octogate {} listens on port {}, Admin on port {}", OCTOGATE_VERSION,
               (*server)->port(), (*server)->admin_port());
  if (!flags.graph.empty()) {
    if (const absl::Status applied = ApplyAtStart(flags, **server); !applied.ok()) {
      return Fail(applied);
    }
  }

  const int signal = workers::WaitForTermination();
  spdlog::info("signal {}: ending, with {} s for queries under way", signal, flags.grace_seconds);
  (*server)->Shutdown(absl::Seconds(flags.notice_seconds), absl::Seconds(flags.grace_seconds));
  *server = nullptr;  // Before the worker, whose models it holds.
  spdlog::info("ended");
  return 0;
}

int Main(int argc, char** argv) {
  // A debugging aid that takes a twentieth of the CPU, on by default in Debian's library.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // It would write a line for each request that is not UTF-8; the status says so.
  google::protobuf::SetLogHandler(nullptr);
  // Before anything starts a thread.
  workers::BlockTerminationSignals();
  spdlog::set_default_logger(spdlog::stderr_color_mt("octogate"));
  Flags flags;
  CLI::App app("octogate routes queries through a live graph of models and tools.");
  app.set_version_flag("--version", OCTOGATE_VERSION);
  Define(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  spdlog::set_level(spdlog::level::from_str(flags.log_level));
  return Serve(std::move(flags));
}

}  // namespace
}  // namespace octogate::gateway

int main(int argc, char** argv) {
  try {
    return octogate::gateway::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "octogate: " << error.what() << "\n";
    return 1;
  }
}
