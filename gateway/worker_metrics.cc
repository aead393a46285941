#include "gateway/worker_metrics.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_type.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>

namespace octogate::gateway {
namespace {

// A number that workers tell.
struct WorkerSeries {
  const char* name;
  const char* help;
  prometheus::MetricType type;
  int64_t (v1::WorkerInfoResponse::*value)() const;
};
constexpr WorkerSeries kWorkerSeries[] = {
    {"octogate_worker_preemptions_total", "Times that a running sequence lost its KV pages",
     prometheus::MetricType::Counter, &v1::WorkerInfoResponse::preemptions},
    {"octogate_worker_preemptions_saved_total",
     "Preemptions at which what was computed was copied to the swap space",
     prometheus::MetricType::Counter, &v1::WorkerInfoResponse::preemptions_saved},
    {"octogate_worker_preemptions_without_room_total",
     "Preemptions at which it would have been, had the swap space had room",
     prometheus::MetricType::Counter, &v1::WorkerInfoResponse::preemptions_without_room},
    {"octogate_worker_restored_tokens_total", "Tokens copied back from the swap space",
     prometheus::MetricType::Counter, &v1::WorkerInfoResponse::restored_tokens},
    {"octogate_worker_recomputed_tokens_total", "Tokens computed again after a preemption",
     prometheus::MetricType::Counter, &v1::WorkerInfoResponse::recomputed_tokens},
    {"octogate_worker_waiting_tokens", "Tokens of prompts that wait to be read, or are being read",
     prometheus::MetricType::Gauge, &v1::WorkerInfoResponse::waiting_tokens},
    {"octogate_worker_swap_bytes", "Size of the swap space", prometheus::MetricType::Gauge,
     &v1::WorkerInfoResponse::swap_bytes},
    {"octogate_worker_swap_used_bytes", "Of the swap space, in use", prometheus::MetricType::Gauge,
     &v1::WorkerInfoResponse::swap_bytes_used},
};

// A number that workers which speculate tell of it.
struct SpeculationSeries {
  const char* name;
  const char* help;
  int64_t (v1::SpeculationUsage::*value)() const;
  double scale;
};
constexpr SpeculationSeries kSpeculationSeries[] = {
    {"octogate_worker_speculation_steps_total",
     "Passes of the model that chose tokens, one for each answer they did it for",
     &v1::SpeculationUsage::steps, 1},
    {"octogate_worker_drafted_tokens_total", "Drafted tokens that the model verified",
     &v1::SpeculationUsage::drafted_tokens, 1},
    {"octogate_worker_accepted_tokens_total", "Of these, tokens of answers",
     &v1::SpeculationUsage::accepted_tokens, 1},
    {"octogate_worker_draft_seconds_total", "Time of drafting", &v1::SpeculationUsage::draft_us,
     1e-6},
    {"octogate_worker_verify_seconds_total", "Time of passes that verified drafts",
     &v1::SpeculationUsage::verify_us, 1e-6},
    {"octogate_worker_plain_seconds_total", "Time of passes that chose tokens without drafts",
     &v1::SpeculationUsage::plain_us, 1e-6},
};
// Of each drafter.
struct DrafterSeries {
  const char* name;
  const char* help;
  int64_t (v1::DrafterUsage::*value)() const;
};
constexpr DrafterSeries kDrafterSeries[] = {
    {"octogate_worker_drafter_drafted_tokens_total",
     "Drafted tokens that the model verified, by drafter; those of several count for each",
     &v1::DrafterUsage::drafted_tokens},
    {"octogate_worker_drafter_accepted_tokens_total", "Of these, tokens of answers",
     &v1::DrafterUsage::accepted_tokens},
};
// Of each depth of drafts; what is deeper than the last counts for that.
struct DepthSeries {
  const char* name;
  const char* help;
  int64_t (v1::DepthUsage::*value)() const;
};
constexpr DepthSeries kDepthSeries[] = {
    {"octogate_worker_depth_drafted_tokens_total",
     "Drafted tokens that the model verified, by how many tokens behind the answer they stood",
     &v1::DepthUsage::drafted_tokens},
    {"octogate_worker_depth_accepted_tokens_total", "Of these, tokens of answers",
     &v1::DepthUsage::accepted_tokens},
};
constexpr int kDepthLabels = 16;
// A number of those that only some workers tell.
template <typename Usage>
struct UsageSeries {
  const char* name;
  const char* help;
  int64_t (Usage::*value)() const;
};
constexpr UsageSeries<v1::SharedDraftsUsage> kSharedDraftsSeries[] = {
    {"octogate_worker_shared_drafts_publications_total",
     "Times that a worker told others what its drafters had learned anew",
     &v1::SharedDraftsUsage::publications},
    {"octogate_worker_shared_drafts_snapshots_total",
     "Times that a worker told others all that its drafters knew",
     &v1::SharedDraftsUsage::snapshots},
    {"octogate_worker_shared_drafts_published_bytes_total", "Bytes of both",
     &v1::SharedDraftsUsage::published_bytes},
    {"octogate_worker_shared_drafts_merged_total",
     "Publications and snapshots of other workers that were taken in",
     &v1::SharedDraftsUsage::merged},
    {"octogate_worker_shared_drafts_read_bytes_total", "Bytes read of other workers' drafters",
     &v1::SharedDraftsUsage::read_bytes},
    {"octogate_worker_shared_drafts_refused_total",
     "Values of other workers' drafters that were not what they should have been",
     &v1::SharedDraftsUsage::refused},
    {"octogate_worker_shared_drafts_store_failures_total",
     "Calls that the store of drafts did not answer", &v1::SharedDraftsUsage::store_failures},
    {"octogate_worker_shared_drafts_store_losses_total",
     "Times that a connection to the store of drafts was lost or could not be made",
     &v1::SharedDraftsUsage::store_losses},
};
constexpr UsageSeries<v1::SharedPagesUsage> kSharedPagesSeries[] = {
    {"octogate_worker_shared_pages_lookups_total",
     "Requests for which the store of pages was asked", &v1::SharedPagesUsage::lookups},
    {"octogate_worker_shared_pages_lookup_tokens_total", "Their tokens that it was asked for",
     &v1::SharedPagesUsage::lookup_tokens},
    {"octogate_worker_shared_pages_hit_tokens_total", "Of these, those that came from it",
     &v1::SharedPagesUsage::hit_tokens},
    {"octogate_worker_shared_pages_read_bytes_total", "Bytes read from it",
     &v1::SharedPagesUsage::read_bytes},
    {"octogate_worker_shared_pages_written_bytes_total", "Bytes written to it",
     &v1::SharedPagesUsage::written_bytes},
    {"octogate_worker_shared_pages_declined_total",
     "Lookups that were not made, since computing was expected to be sooner",
     &v1::SharedPagesUsage::declined},
    {"octogate_worker_shared_pages_abandoned_total",
     "Fetches that took longer than expected and were given up", &v1::SharedPagesUsage::abandoned},
    {"octogate_worker_shared_pages_refused_total", "Pages that were not what they should have been",
     &v1::SharedPagesUsage::refused_pages},
    {"octogate_worker_shared_pages_dropped_total",
     "Pages that were not written, as too many waited or the store did not take them",
     &v1::SharedPagesUsage::dropped_pages},
    {"octogate_worker_shared_pages_store_failures_total", "Calls that the store did not answer",
     &v1::SharedPagesUsage::store_failures},
    {"octogate_worker_shared_pages_store_losses_total",
     "Times that a connection to the store was lost or could not be made",
     &v1::SharedPagesUsage::store_losses},
};
// A peer may name as many as it likes.
constexpr int kMaxDrafterLabels = 16;

void AddChoices(const std::vector<Metrics::Replica>& replicas,
                std::vector<prometheus::MetricFamily>& families) {
  prometheus::MetricFamily& family = families.emplace_back(prometheus::MetricFamily{
      "octogate_replica_choices_total",
      "Attempts given to a replica, by why it was chosen: it holds the prompt's beginning, its "
      "load, or there was no other",
      prometheus::MetricType::Counter,
      {}});
  for (const Metrics::Replica& replica : replicas) {
    for (int i = 0; i < kReplicaChoiceReasons; ++i) {
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label = {
          {"model", replica.model},
          {"replica", replica.address},
          {"reason", std::string(ReplicaChoiceReasonName(static_cast<ReplicaChoiceReason>(i)))}};
      metric.counter.value = static_cast<double>(replica.choices[static_cast<size_t>(i)]);
    }
  }
}

// Families of counters, and of what drafters hold, where any replica speculates.
void AddSpeculation(const std::vector<Metrics::Replica>& replicas,
                    std::vector<prometheus::MetricFamily>& families) {
  std::vector<const Metrics::Replica*> speculating;
  for (const Metrics::Replica& replica : replicas) {
    if (replica.info.has_speculation()) speculating.push_back(&replica);
  }
  if (speculating.empty()) return;
  const auto add = [](const Metrics::Replica& replica, int64_t value, double scale,
                      prometheus::MetricFamily& family) -> prometheus::ClientMetric& {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"model", replica.model}, {"replica", replica.address}};
    metric.counter.value = static_cast<double>(std::max<int64_t>(value, 0)) * scale;
    return metric;
  };
  for (const SpeculationSeries& series : kSpeculationSeries) {
    prometheus::MetricFamily& family = families.emplace_back(
        prometheus::MetricFamily{series.name, series.help, prometheus::MetricType::Counter, {}});
    for (const Metrics::Replica* replica : speculating) {
      add(*replica, (replica->info.speculation().*series.value)(), series.scale, family);
    }
  }
  prometheus::MetricFamily& bytes = families.emplace_back(
      prometheus::MetricFamily{"octogate_worker_draft_bytes",
                               "Memory that drafters hold: what they have learned, draft models, "
                               "datastores, running answers",
                               prometheus::MetricType::Gauge,
                               {}});
  for (const Metrics::Replica* replica : speculating) {
    prometheus::ClientMetric& metric = bytes.metric.emplace_back();
    metric.label = {{"model", replica->model}, {"replica", replica->address}};
    metric.gauge.value = static_cast<double>(std::max<int64_t>(replica->info.draft_bytes(), 0));
  }
  prometheus::MetricFamily& malformed = families.emplace_back(prometheus::MetricFamily{
      "octogate_worker_malformed_drafts_total",
      "Proposals of drafters that were not what they should have been, and were dropped",
      prometheus::MetricType::Counter,
      {}});
  for (const Metrics::Replica* replica : speculating) {
    add(*replica, replica->info.malformed_drafts(), 1, malformed);
  }
  for (const DrafterSeries& series : kDrafterSeries) {
    prometheus::MetricFamily& family = families.emplace_back(
        prometheus::MetricFamily{series.name, series.help, prometheus::MetricType::Counter, {}});
    for (const Metrics::Replica* replica : speculating) {
      const auto& drafters = replica->info.speculation().drafters();
      for (int i = 0; i < std::min(drafters.size(), kMaxDrafterLabels); ++i) {
        add(*replica, (drafters[i].*series.value)(), 1, family)
            .label.push_back({"drafter", drafters[i].drafter()});
      }
    }
  }
  for (const DepthSeries& series : kDepthSeries) {
    prometheus::MetricFamily& family = families.emplace_back(
        prometheus::MetricFamily{series.name, series.help, prometheus::MetricType::Counter, {}});
    for (const Metrics::Replica* replica : speculating) {
      std::array<int64_t, kDepthLabels> values{};
      int depth = 0;
      for (const v1::DepthUsage& usage : replica->info.speculation().depths()) {
        int64_t& value = values[static_cast<size_t>(std::min(depth++, kDepthLabels - 1))];
        // A peer's numbers, which may not overflow together.
        value += std::clamp<int64_t>((usage.*series.value)(), 0, int64_t{1} << 40);
      }
      for (int i = 0; i < std::min(depth, kDepthLabels); ++i) {
        add(*replica, values[static_cast<size_t>(i)], 1, family)
            .label.push_back({"depth", std::to_string(i + 1)});
      }
    }
  }
}

// Families of counters, where any replica tells them.
template <typename Usage, size_t kSeries>
void AddUsage(const std::vector<Metrics::Replica>& replicas,
              const UsageSeries<Usage> (&all_series)[kSeries],
              bool (v1::WorkerInfoResponse::*has)() const,
              const Usage& (v1::WorkerInfoResponse::*usage)() const,
              std::vector<prometheus::MetricFamily>& families) {
  for (const UsageSeries<Usage>& series : all_series) {
    prometheus::MetricFamily family{series.name, series.help, prometheus::MetricType::Counter, {}};
    for (const Metrics::Replica& replica : replicas) {
      if (!(replica.info.*has)()) continue;
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label = {{"model", replica.model}, {"replica", replica.address}};
      metric.counter.value =
          static_cast<double>(std::max<int64_t>(((replica.info.*usage)().*series.value)(), 0));
    }
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
}

// Whether a store answers, where any replica has one.
template <typename Usage>
void AddReachable(const std::vector<Metrics::Replica>& replicas, const char* name, const char* help,
                  bool (v1::WorkerInfoResponse::*has)() const,
                  const Usage& (v1::WorkerInfoResponse::*usage)() const,
                  std::vector<prometheus::MetricFamily>& families) {
  prometheus::MetricFamily family{name, help, prometheus::MetricType::Gauge, {}};
  for (const Metrics::Replica& replica : replicas) {
    if (!(replica.info.*has)()) continue;
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = {{"model", replica.model}, {"replica", replica.address}};
    metric.gauge.value = (replica.info.*usage)().store_reachable() ? 1 : 0;
  }
  if (!family.metric.empty()) families.push_back(std::move(family));
}

}  // namespace

void AddWorkerMetrics(const std::vector<Metrics::Replica>& replicas,
                      std::vector<prometheus::MetricFamily>& families) {
  if (replicas.empty()) return;
  for (const WorkerSeries& series : kWorkerSeries) {
    prometheus::MetricFamily& family =
        families.emplace_back(prometheus::MetricFamily{series.name, series.help, series.type, {}});
    for (const Metrics::Replica& replica : replicas) {
      prometheus::ClientMetric& metric = family.metric.emplace_back();
      metric.label = {{"model", replica.model}, {"replica", replica.address}};
      // A peer's numbers.
      const auto value = static_cast<double>(std::max<int64_t>((replica.info.*series.value)(), 0));
      metric.counter.value = metric.gauge.value = value;
    }
  }
  AddChoices(replicas, families);
  AddSpeculation(replicas, families);
  AddUsage(replicas, kSharedDraftsSeries, &v1::WorkerInfoResponse::has_shared_drafts,
           &v1::WorkerInfoResponse::shared_drafts, families);
  AddReachable(replicas, "octogate_worker_shared_drafts_store_reachable",
               "1 while the store of drafts answers, all of it",
               &v1::WorkerInfoResponse::has_shared_drafts, &v1::WorkerInfoResponse::shared_drafts,
               families);
  AddUsage(replicas, kSharedPagesSeries, &v1::WorkerInfoResponse::has_shared_pages,
           &v1::WorkerInfoResponse::shared_pages, families);
  AddReachable(replicas, "octogate_worker_shared_pages_store_reachable",
               "1 while the store of pages answers, all of it",
               &v1::WorkerInfoResponse::has_shared_pages, &v1::WorkerInfoResponse::shared_pages,
               families);
}

}  // namespace octogate::gateway
