#include "gateway/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/control_groups.h"
#include "common/status.h"
#include "gateway/feedback.h"
#include "gateway/node_grammar.h"

namespace octogate::gateway {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr absl::Duration kRestoreInterval = absl::Seconds(1);
constexpr absl::Duration kRestoreTime = absl::Minutes(30);
constexpr absl::Duration kStorePollTime = absl::Seconds(2);
// Of preparing what another gateway has applied, and of trying again what could not be.
constexpr absl::Duration kFollowTime = absl::Minutes(5);
// However often the store notifies, it is not asked more often than this.
constexpr absl::Duration kLeastPause = absl::Milliseconds(50);
constexpr absl::Duration kFollowPause = absl::Seconds(1);
constexpr absl::Duration kLongestFollowPause = absl::Minutes(1);
// Where nothing is notified the applied version is only looked for, and read each so many times: a
// store that was set back can have another one under its number.
constexpr int kPollsPerReading = 32;
constexpr int kToolThreads = 2;
constexpr int kLinkThreads = 2;
constexpr int kSqlThreads = 8;       // they wait for a database more than they compute
constexpr size_t kMaxWaiting = 128;  // of each kind; of one tenant at most half
constexpr char kGatewayService[] = "octogate.v1.Gateway";

int Threads(int wanted) {
  if (wanted > 0) return wanted;
  return std::max(1, AvailableCpus() / 2);
}

std::unique_ptr<EventLoops> MakeLoops(grpc::ServerBuilder* builder, int threads) {
  std::vector<std::unique_ptr<grpc::CompletionQueue>> queues;
  for (int i = 0; i < threads; ++i) queues.push_back(builder->AddCompletionQueue());
  return std::make_unique<EventLoops>(std::move(queues));
}

void Configure(const ServerOptions& options, const std::string& address, int* port,
               grpc::ServerBuilder* builder) {
  builder->AddListeningPort(address, grpc::InsecureServerCredentials(), port);
  builder->SetMaxReceiveMessageSize(options.max_message_bytes);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  // A port that another process has is an error, not shared with it.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Nobody asks gRPC for its own statistics of calls.
  builder->AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  // Clients may keep idle connections alive.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Reflection is the only service with threads of its own.
  builder->SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 1);
}

GraphBuilderOptions BuilderOptions(const ServerOptions& options, SharedValues* shared) {
  GraphBuilderOptions builder = options.graph;
  builder.shared_answers.values = shared;
  return builder;
}

router::GraphStoreOptions StoreOptions() {
  router::GraphStoreOptions options;
  options.checks = {CheckTools, CheckGrammars};
  return options;
}

// Null: there is no store that others share.
std::function<bool()> StoreReachable(const ServerOptions& options) {
  if (options.store_metrics == nullptr) return nullptr;
  return [store = options.store_metrics] { return store().reachable; };
}

}  // namespace

Server::Server(const ServerOptions& options, Store* store)
    : options_(options),
      traces_(options.traces),
      shared_(options.shared_values == nullptr
                  ? nullptr
                  : std::make_unique<SharedValues>(options.shared_values, options.shared_wait)),
      sessions_(options.sessions, shared_.get()),
      tool_threads_(kToolThreads, kMaxWaiting, "long tools"),
      link_threads_(kLinkThreads, kMaxWaiting, "links"),
      sql_threads_(kSqlThreads, kMaxWaiting, "SQL statements"),
      admission_(options.admission, &metrics_),
      graph_store_(store, StoreOptions()),
      feedback_(store, {}),
      loops_(MakeLoops(&builder_, Threads(options.threads))),
      admin_loops_(options.admin_listen.empty() ? nullptr : MakeLoops(&admin_builder_, 1)),
      graph_builder_(loops_.get(), options.load_model, BuilderOptions(options, shared_.get())),
      graphs_(&graph_store_, &graph_builder_, &drained_, &metrics_),
      gateway_service_(
          {&traces_, &metrics_, &drained_, &tool_threads_, &link_threads_, &sql_threads_,
           &sessions_},
          &admission_, options.links, [this] { return graphs_.state(); },
          [this](const v1::FeedbackRequest& request, absl::Time deadline) {
            return TakeFeedback(request, deadline, traces_, graphs_, &feedback_);
          }),
      admin_service_(&graphs_, &traces_, &feedback_, &drained_,
                     options.backend == nullptr ? [] { return std::string(); } : options.backend,
                     StoreReachable(options)),
      health_({kGatewayService}) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, Store* store) {
  grpc::EnableDefaultHealthCheckService(false);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<Server> server(new Server(options, store));
  server->metrics_.SetReplicas([graphs = &server->graphs_] { return graphs->Replicas(); });
  server->metrics_.SetStore(options.store_metrics);
  if (server->shared_ != nullptr || options.traces.shared != nullptr) {
    server->metrics_.SetShared([raw = server.get()] {
      SharedValues::Stats stats;
      if (raw->shared_ != nullptr) stats = raw->shared_->stats();
      const TraceStore::Stats traces = raw->traces_.stats();
      return Metrics::Shared{.found = stats.found,
                             .absent = stats.absent,
                             .failed = stats.failed,
                             .damaged = stats.damaged,
                             .written = stats.written,
                             .dropped = stats.dropped,
                             .traces_written = traces.written,
                             .traces_dropped = traces.dropped,
                             .traces_damaged = traces.damaged};
    });
  }
  if (!options.metrics_listen.empty()) {
    OCTOGATE_RETURN_IF_ERROR(server->metrics_.Serve(options.metrics_listen));
  }
  OCTOGATE_RETURN_IF_ERROR(server->Listen());
  server->watch_ =
      server->graph_store_.WatchChanges([raw = server.get()] { raw->OnStoreChanged(); });
  server->maintenance_ = std::thread([raw = server.get()] { raw->Maintain(); });
  server->store_poller_ = std::thread([raw = server.get()] { raw->PollStore(); });
  server->follower_ = std::thread([raw = server.get()] { raw->FollowGraph(); });
  return server;
}

absl::Status Server::Listen() {
  Configure(options_, options_.listen, &port_, &builder_);
  builder_.RegisterService(gateway_service_.grpc_service());
  builder_.RegisterService(health_.grpc_service());
  const bool own_admin = !options_.admin_listen.empty();
  if (own_admin) {
    Configure(options_, options_.admin_listen, &admin_port_, &admin_builder_);
    admin_builder_.RegisterService(admin_service_.grpc_service());
  } else {
    builder_.RegisterService(admin_service_.grpc_service());
  }
  server_ = builder_.BuildAndStart();
  if (server_ == nullptr || port_ == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on \"", options_.listen,
        "\": it must be HOST:PORT of this machine, and no other process may have the port"));
  }
  if (own_admin) {
    admin_server_ = admin_builder_.BuildAndStart();
    if (admin_server_ == nullptr || admin_port_ == 0) {
      return absl::UnavailableError(absl::StrCat(
          "cannot listen on \"", options_.admin_listen,
          "\" for Admin: it must be HOST:PORT of this machine, and no other process may have it"));
    }
  } else {
    admin_port_ = port_;
  }
  gateway_service_.Serve(loops_.get());
  health_.Serve(loops_.get());
  admin_service_.Serve(own_admin ? admin_loops_.get() : loops_.get());
  return absl::OkStatus();
}

Server::~Server() {
  if (!stopped_) Shutdown(absl::ZeroDuration(), absl::ZeroDuration());
}

bool Server::AwaitRestored(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithDeadline(absl::Condition(&restored_), deadline);
}

void Server::Shutdown(absl::Duration notice, absl::Duration grace) {
  stopped_ = true;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  if (server_ != nullptr) {
    health_.SetServing(false);
    absl::SleepFor(notice);
    health_.Shutdown();
    const auto deadline = absl::ToChronoTime(absl::Now() + grace);
    server_->Shutdown(deadline);
    if (admin_server_ != nullptr) admin_server_->Shutdown(deadline);
  }
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (SteadyEvent* event : {&stopped_maintaining_, &graph_changed_, &drained_changed_}) {
    event->Set();
  }
  watch_ = nullptr;
  if (maintenance_.joinable()) maintenance_.join();
  if (store_poller_.joinable()) store_poller_.join();
  if (follower_.joinable()) follower_.join();
  // Queries that still wait for it go on to their end.
  if (shared_ != nullptr) shared_->Stop();
  metrics_.SetShared(nullptr);
  metrics_.SetReplicas(nullptr);
  // Sessions with replicas hold the loops.
  graphs_.Close();
  // The loops end first: the events that end the calls still asked for, which a shut down server
  // puts on their queues, read the server.
  loops_ = nullptr;
  admin_loops_ = nullptr;
  server_ = nullptr;
  admin_server_ = nullptr;
}

void Server::Maintain() {
  while (!stopped_maintaining_.WaitFor(kTick)) {
    bool draining = false;
    bool restored = false;
    {
      absl::MutexLock lock(&mutex_);
      draining = draining_;
      restored = restored_;
    }
    if (!restored && !draining && SteadyNow() >= restore_at_) TryRestore();
    graphs_.Tick();
    admission_.Tick();
    gateway_service_.Tick();
    if (!draining) {
      const bool ready = graphs_.Ready();
      absl::MutexLock lock(&mutex_);
      if (!draining_) health_.SetServing(ready);
    }
  }
}

void Server::OnStoreChanged() {
  graph_changed_.Set();
  drained_changed_.Set();
}

std::optional<bool> Server::AwaitChange(SteadyEvent& changed, absl::Duration pause) {
  const absl::Time begun = SteadyNow();
  const bool is_changed = changed.WaitFor(pause);
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return std::nullopt;
  }
  absl::SleepFor(std::min(pause, kLeastPause) - (SteadyNow() - begun));
  return is_changed;
}

void Server::PollStore() {
  bool failed = false;
  const absl::Duration interval = options_.store_poll_interval;
  while (AwaitChange(drained_changed_, failed ? std::min(interval, kFollowPause) : interval)) {
    absl::Status status = graphs_.SyncDrained(absl::Now() + kStorePollTime);
    if (status.ok()) status = graphs_.SyncFlushes(absl::Now() + kStorePollTime);
    if (!status.ok() && !failed) {
      spdlog::warn(
          "the store does not say which nodes are drained and what is flushed, what is known "
          "holds: {}",
          status.ToString());
    }
    if (status.ok() && failed) {
      spdlog::info("the store says again which nodes are drained and what is flushed");
    }
    failed = !status.ok();
  }
}

void Server::FollowGraph() {
  bool asked = true;   // the store has answered
  std::string failed;  // the version that could not be taken over, and why
  std::string said;
  absl::Duration pause = options_.store_poll_interval;
  absl::Time retry_at = absl::InfinitePast();
  int polls = 0;
  for (;;) {
    // What could not be taken over is tried again, however seldom the store is asked otherwise.
    const absl::Duration wait =
        !asked           ? kFollowPause
        : failed.empty() ? options_.store_poll_interval
                         : std::clamp(retry_at - SteadyNow(), kLeastPause, kLongestFollowPause);
    const std::optional<bool> notified =
        AwaitChange(graph_changed_, std::min(wait, options_.store_poll_interval));
    if (!notified) return;
    {
      absl::MutexLock lock(&mutex_);
      if (draining_) continue;
      if (!restored_) {
        // What has been notified meanwhile may be newer than what is being restored.
        graph_changed_.Set();
        continue;
      }
    }
    const bool thorough = *notified || !asked || ++polls % kPollsPerReading == 0;
    const auto other = graphs_.FindOther(absl::Now() + kStorePollTime, thorough);
    absl::Status status = other.status();
    asked = status.ok();
    if (asked && !*other) failed.clear();  // what could not be taken over is not there any more
    if (other.ok() && *other) {
      const std::string identity = absl::StrCat((*other)->version(), " ", (*other)->digest());
      if (identity == failed && SteadyNow() < retry_at) continue;
      pause = identity == failed ? std::min(2 * pause, kLongestFollowPause) : kFollowPause;
      const absl::StatusOr<bool> taken = graphs_.Restore(absl::Now() + kFollowTime);
      status = taken.status();
      failed = status.ok() ? "" : identity;
      retry_at = SteadyNow() + pause;
      if (taken.ok() && *taken) {
        spdlog::info("graph version {}, which another gateway has applied, is applied here",
                     graphs_.state()->version());
      }
    }
    std::string words = status.ok() ? "" : status.ToString();
    if (words == said) continue;
    if (words.empty()) {
      spdlog::info("what other gateways apply is applied here again");
    } else {
      spdlog::warn("what other gateways apply cannot be taken over, what is applied holds: {}",
                   words);
    }
    said = std::move(words);
  }
}

void Server::TryRestore() {
  const absl::Status status = graphs_.Restore(absl::Now() + kRestoreTime).status();
  if (status.ok() || absl::IsNotFound(status)) {
    if (status.ok()) spdlog::info("graph version {} is applied", graphs_.state()->version());
    absl::MutexLock lock(&mutex_);
    restored_ = true;
    return;
  }
  restore_at_ = SteadyNow() + kRestoreInterval;
  if (restore_error_ == status.ToString()) return;
  restore_error_ = status.ToString();
  spdlog::error("the stored graph cannot be applied, trying again every second: {}",
                restore_error_);
}

}  // namespace octogate::gateway
