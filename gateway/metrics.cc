#include "gateway/metrics.h"

#include <netinet/in.h>
#include <prometheus/client_metric.h>
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gateway/worker_metrics.h"

namespace octogate::gateway {
namespace {

constexpr int kCodes = 17;
constexpr std::array<std::string_view, 3> kRefusals = {"queue", "tenant", "deadline"};

size_t IndexOf(absl::StatusCode code) {
  const int index = static_cast<int>(code);
  return static_cast<size_t>(index < kCodes ? index : static_cast<int>(absl::StatusCode::kUnknown));
}

// Seconds, from what a router needs to what a long answer takes.
const prometheus::Histogram::BucketBoundaries kRouteBuckets = {
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.5, 1};
const prometheus::Histogram::BucketBoundaries kQueryBuckets = {
    250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

// A connection that is closed at once.
void Knock(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  (void)connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  close(fd);
}

// The page's server sleeps for up to two seconds at a time until somebody connects, and only then
// sees that it shall stop. Where it does not listen on the loopback address it takes that long.
void Stop(std::unique_ptr<prometheus::Exposer> exposer) {
  const std::vector<int> ports = exposer->GetListeningPorts();
  absl::Notification stopped;
  std::thread stopper([&] {
    exposer = nullptr;
    stopped.Notify();
  });
  while (!stopped.WaitForNotificationWithTimeout(absl::Milliseconds(5))) {
    for (const int port : ports) Knock(port);
  }
  stopper.join();
}

// What workers and the store tell, as it is when the page is made.
class WorkerMetrics final : public prometheus::Collectable {
 public:
  void SetReplicas(std::function<std::vector<Metrics::Replica>()> replicas) {
    absl::MutexLock lock(&mutex_);
    replicas_ = std::move(replicas);
  }

  void SetStore(std::function<Metrics::Store()> store) {
    absl::MutexLock lock(&mutex_);
    store_ = std::move(store);
  }

  void SetShared(std::function<Metrics::Shared()> shared) {
    absl::MutexLock lock(&mutex_);
    shared_ = std::move(shared);
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<Metrics::Replica> replicas;
    {
      absl::MutexLock lock(&mutex_);
      if (replicas_ != nullptr) replicas = replicas_();
    }
    std::vector<prometheus::MetricFamily> families;
    AddStore(families);
    AddShared(families);
    AddWorkerMetrics(replicas, families);
    return families;
  }

 private:
  void AddShared(std::vector<prometheus::MetricFamily>& families) const {
    absl::MutexLock lock(&mutex_);
    if (shared_ == nullptr) return;
    const Metrics::Shared shared = shared_();
    const auto add = [&families](const char* name, const char* help, const char* label,
                                 std::vector<std::pair<const char*, uint64_t>> values) {
      prometheus::MetricFamily& family = families.emplace_back(
          prometheus::MetricFamily{name, help, prometheus::MetricType::Counter, {}});
      for (const auto& [result, value] : values) {
        prometheus::ClientMetric& metric = family.metric.emplace_back();
        metric.label = {{label, result}};
        metric.counter.value = static_cast<double>(value);
      }
    };
    add("octogate_shared_reads_total", "Values read that gateways share", "result",
        {{"found", shared.found},
         {"absent", shared.absent},
         {"failed", shared.failed},
         {"damaged", shared.damaged}});
    add("octogate_shared_writes_total", "Values written that gateways share", "result",
        {{"written", shared.written}, {"dropped", shared.dropped}});
    add("octogate_shared_traces_total", "Traces for other gateways; damaged ones were read",
        "result",
        {{"written", shared.traces_written},
         {"dropped", shared.traces_dropped},
         {"damaged", shared.traces_damaged}});
  }

  void AddStore(std::vector<prometheus::MetricFamily>& families) const {
    absl::MutexLock lock(&mutex_);
    if (store_ == nullptr) return;
    const Metrics::Store store = store_();
    const auto add = [&families](const char* name, const char* help, prometheus::MetricType type,
                                 uint64_t value) {
      prometheus::ClientMetric metric;
      metric.counter.value = metric.gauge.value = static_cast<double>(value);
      families.push_back({name, help, type, {metric}});
    };
    add("octogate_store_calls_total", "Calls of the store", prometheus::MetricType::Counter,
        store.calls);
    add("octogate_store_failures_total", "Of these, those that it did not answer",
        prometheus::MetricType::Counter, store.failures);
    add("octogate_store_connections_total", "Connections that were made to the store",
        prometheus::MetricType::Counter, store.connections);
    add("octogate_store_pending_bytes", "Commands that the store has not answered yet",
        prometheus::MetricType::Gauge, store.pending_bytes);
    add("octogate_store_reachable", "1 while the store answers, all of it",
        prometheus::MetricType::Gauge, store.reachable ? 1 : 0);
  }

  mutable absl::Mutex mutex_;
  std::function<std::vector<Metrics::Replica>()> replicas_ ABSL_GUARDED_BY(mutex_);
  std::function<Metrics::Store()> store_ ABSL_GUARDED_BY(mutex_);
  std::function<Metrics::Shared()> shared_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

struct Metrics::Series {
  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::shared_ptr<WorkerMetrics> workers = std::make_shared<WorkerMetrics>();
  std::array<prometheus::Counter*, kCodes> queries{};
  std::array<prometheus::Counter*, kRefusals.size()> refused{};
  prometheus::Gauge* in_flight = nullptr;
  prometheus::Histogram* duration = nullptr;
  prometheus::Histogram* route = nullptr;
  prometheus::Counter* sessions_kept = nullptr;
  struct Outcomes {
    prometheus::Counter* answered = nullptr;
    prometheus::Counter* failed = nullptr;
  };
  std::array<Outcomes, 3> judged;  // By Judging.
  struct Lookups {
    prometheus::Counter* hits = nullptr;
    prometheus::Counter* misses = nullptr;
  };
  std::array<Lookups, 4> caches;  // By Cache.
  prometheus::Counter* answers_shared = nullptr;
  prometheus::Histogram* first_token = nullptr;
  prometheus::Counter* prompt_tokens = nullptr;
  prometheus::Counter* completion_tokens = nullptr;
  prometheus::Counter* cached_tokens = nullptr;
  prometheus::Counter* shared_tokens = nullptr;
  std::array<prometheus::Counter*, kCodes> links{};
  std::array<prometheus::Counter*, kCodes> statements{};
  prometheus::Histogram* statement = nullptr;
  prometheus::Histogram* link = nullptr;
  prometheus::Counter* applied = nullptr;
  prometheus::Counter* apply_failures = nullptr;
  prometheus::Gauge* version = nullptr;
  std::unique_ptr<prometheus::Exposer> exposer;
};

Metrics::Metrics() : series_(std::make_unique<Series>()) {
  prometheus::Registry& registry = *series_->registry;
  auto& queries = prometheus::BuildCounter()
                      .Name("octogate_queries_total")
                      .Help("Queries that have ended, by canonical code")
                      .Register(registry);
  for (int code = 0; code < kCodes; ++code) {
    series_->queries[code] =
        &queries.Add({{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
  auto& refused = prometheus::BuildCounter()
                      .Name("octogate_queries_refused_total")
                      .Help("Queries refused by admission, by reason")
                      .Register(registry);
  for (size_t i = 0; i < kRefusals.size(); ++i) {
    series_->refused[i] = &refused.Add({{"reason", std::string(kRefusals[i])}});
  }
  series_->in_flight = &prometheus::BuildGauge()
                            .Name("octogate_queries_in_flight")
                            .Help("Queries admitted and not ended")
                            .Register(registry)
                            .Add({});
  series_->duration = &prometheus::BuildHistogram()
                           .Name("octogate_query_duration_seconds")
                           .Help("Time of whole queries")
                           .Register(registry)
                           .Add({}, kQueryBuckets);
  series_->route = &prometheus::BuildHistogram()
                        .Name("octogate_route_duration_seconds")
                        .Help("Time of routing decisions")
                        .Register(registry)
                        .Add({}, kRouteBuckets);
  series_->sessions_kept =
      &prometheus::BuildCounter()
           .Name("octogate_sessions_kept_total")
           .Help(
               "Decisions by which a conversation stayed where the scores alone would have moved "
               "it")
           .Register(registry)
           .Add({});
  constexpr std::array<std::array<const char*, 2>, 3> kJudging = {{
      {"octogate_choices_total", "Decisions of choice nodes, by outcome"},
      {"octogate_votes_total", "Votes of vote nodes, by outcome"},
      {"octogate_verifications_total", "Verifications of verify nodes, by outcome"},
  }};
  for (size_t kind = 0; kind < kJudging.size(); ++kind) {
    auto& family = prometheus::BuildCounter()
                       .Name(kJudging[kind][0])
                       .Help(kJudging[kind][1])
                       .Register(registry);
    series_->judged[kind] = {.answered = &family.Add({{"outcome", "answered"}}),
                             .failed = &family.Add({{"outcome", "failed"}})};
  }
  auto& lookups = prometheus::BuildCounter()
                      .Name("octogate_cache_lookups_total")
                      .Help("Times that a cache of queries was asked, by cache and outcome")
                      .Register(registry);
  constexpr std::array<const char*, 4> kCaches = {"decisions", "answers", "shared_answers",
                                                  "shared_decisions"};
  for (size_t cache = 0; cache < kCaches.size(); ++cache) {
    series_->caches[cache] = {
        .hits = &lookups.Add({{"cache", kCaches[cache]}, {"outcome", "hit"}}),
        .misses = &lookups.Add({{"cache", kCaches[cache]}, {"outcome", "miss"}})};
  }
  series_->answers_shared =
      &prometheus::BuildCounter()
           .Name("octogate_answers_shared_total")
           .Help("Queries that were given the answer of an equal one under way")
           .Register(registry)
           .Add({});
  series_->first_token = &prometheus::BuildHistogram()
                              .Name("octogate_first_token_seconds")
                              .Help("Time from a model node's begin to its first token")
                              .Register(registry)
                              .Add({}, kQueryBuckets);
  auto& tokens = prometheus::BuildCounter()
                     .Name("octogate_tokens_total")
                     .Help("Tokens of model nodes, by kind")
                     .Register(registry);
  series_->prompt_tokens = &tokens.Add({{"kind", "prompt"}});
  series_->completion_tokens = &tokens.Add({{"kind", "completion"}});
  // Not a kind of the tokens above: it is part of the prompts.
  series_->cached_tokens = &prometheus::BuildCounter()
                                .Name("octogate_cached_prompt_tokens_total")
                                .Help("Prompt tokens that workers found in their prefix caches")
                                .Register(registry)
                                .Add({});
  series_->shared_tokens = &prometheus::BuildCounter()
                                .Name("octogate_shared_prompt_tokens_total")
                                .Help("Those of them that came from the store that workers share")
                                .Register(registry)
                                .Add({});
  auto& links = prometheus::BuildCounter()
                    .Name("octogate_links_total")
                    .Help("Links of catalogs that have ended, by canonical code")
                    .Register(registry);
  for (int code = 0; code < kCodes; ++code) {
    series_->links[code] =
        &links.Add({{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
  auto& statements = prometheus::BuildCounter()
                         .Name("octogate_sql_statements_total")
                         .Help("SQL statements that nodes have run or checked, by status code")
                         .Register(registry);
  for (int code = 0; code < kCodes; ++code) {
    series_->statements[code] =
        &statements.Add({{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
  }
  series_->link = &prometheus::BuildHistogram()
                       .Name("octogate_link_duration_seconds")
                       .Help("Time of links of catalogs, the wait for a thread included")
                       .Register(registry)
                       .Add({}, kQueryBuckets);
  series_->statement = &prometheus::BuildHistogram()
                            .Name("octogate_sql_statement_duration_seconds")
                            .Help("Time of SQL statements, the wait for a thread included")
                            .Register(registry)
                            .Add({}, kQueryBuckets);
  auto& applies = prometheus::BuildCounter()
                      .Name("octogate_graph_applies_total")
                      .Help("Applications of graphs, by outcome")
                      .Register(registry);
  series_->applied = &applies.Add({{"outcome", "applied"}});
  series_->apply_failures = &applies.Add({{"outcome", "refused"}});
  series_->version = &prometheus::BuildGauge()
                          .Name("octogate_graph_version")
                          .Help("The applied version of the graph")
                          .Register(registry)
                          .Add({});
}

Metrics::~Metrics() {
  if (series_->exposer != nullptr) Stop(std::move(series_->exposer));
}

void Metrics::OnQueryStarted() { series_->in_flight->Increment(); }

void Metrics::OnQueryDone(absl::StatusCode code, absl::Duration duration) {
  series_->in_flight->Decrement();
  series_->queries[IndexOf(code)]->Increment();
  series_->duration->Observe(absl::ToDoubleSeconds(duration));
}

void Metrics::OnQueryRefused(std::string_view reason) {
  for (size_t i = 0; i < kRefusals.size(); ++i) {
    if (kRefusals[i] == reason) series_->refused[i]->Increment();
  }
}

void Metrics::OnRoute(absl::Duration duration) {
  series_->route->Observe(absl::ToDoubleSeconds(duration));
}

void Metrics::OnSessionKept() { series_->sessions_kept->Increment(); }

void Metrics::OnJudged(Judging kind, const absl::Status& status) {
  const Series::Outcomes& outcomes = series_->judged[static_cast<size_t>(kind)];
  (status.ok() ? outcomes.answered : outcomes.failed)->Increment();
}

void Metrics::OnCacheLookup(Cache cache, bool hit) {
  const Series::Lookups& lookups = series_->caches[static_cast<size_t>(cache)];
  (hit ? lookups.hits : lookups.misses)->Increment();
}

void Metrics::OnAnswerShared() { series_->answers_shared->Increment(); }

void Metrics::OnFirstToken(absl::Duration since_entered) {
  series_->first_token->Observe(absl::ToDoubleSeconds(since_entered));
}

void Metrics::OnTokens(const v1::Usage& usage) {
  // A peer's numbers: counters only grow.
  const auto add = [](int64_t count, prometheus::Counter* counter) {
    if (count > 0) counter->Increment(static_cast<double>(count));
  };
  add(usage.prompt_tokens(), series_->prompt_tokens);
  add(usage.completion_tokens(), series_->completion_tokens);
  add(usage.cached_tokens(), series_->cached_tokens);
  add(usage.shared_tokens(), series_->shared_tokens);
}

void Metrics::OnLink(absl::StatusCode code, absl::Duration duration) {
  series_->links[IndexOf(code)]->Increment();
  series_->link->Observe(absl::ToDoubleSeconds(duration));
}

void Metrics::OnSqlStatement(absl::StatusCode code, absl::Duration duration) {
  series_->statements[IndexOf(code)]->Increment();
  series_->statement->Observe(absl::ToDoubleSeconds(duration));
}

void Metrics::OnGraphApplied(int64_t version) {
  series_->applied->Increment();
  series_->version->Set(static_cast<double>(version));
}

void Metrics::OnGraphRefused() { series_->apply_failures->Increment(); }

void Metrics::SetReplicas(std::function<std::vector<Replica>()> replicas) {
  series_->workers->SetReplicas(std::move(replicas));
}

void Metrics::SetShared(std::function<Shared()> shared) {
  series_->workers->SetShared(std::move(shared));
}

void Metrics::SetStore(std::function<Store()> store) {
  series_->workers->SetStore(std::move(store));
}

absl::Status Metrics::Serve(const std::string& address) {
  try {
    series_->exposer = std::make_unique<prometheus::Exposer>(address, /*num_threads=*/1);
    series_->exposer->RegisterCollectable(series_->registry);
    series_->exposer->RegisterCollectable(series_->workers);
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on \"", address, "\": ", error.what()));
  }
  return absl::OkStatus();
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families = series_->registry->Collect();
  for (prometheus::MetricFamily& family : series_->workers->Collect()) {
    families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace octogate::gateway
