#include "tests/bench/causal_route.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gateway/in_process_model_client.h"
#include "gateway/replica_causal_model.h"
#include "gateway/replica_set.h"
#include "router/graph_manifest.h"
#include "router/router.h"

namespace octogate::bench {
namespace {

constexpr char kRouter[] = "main";
constexpr double kBytesPerToken = 4.9;  // of general text; this model counts about twice as many
constexpr int kRepetitions = 40;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << value.status() << '\n';
    std::exit(1);
  }
  return *std::move(value);
}

// The example graph with one head, which always decides.
v1::Graph GraphWithCausalHead(v1::ArgumentStyle style) {
  std::ifstream file(std::string(OCTOGATE_DEPLOY) + "/graphs/example.yaml");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  v1::Graph graph = OrExit(router::ParseGraphManifest(text, "example.yaml")).graph;
  for (v1::Node& node : *graph.mutable_spec()->mutable_nodes()) {
    if (node.name() != kRouter) continue;
    auto& heads = *node.mutable_router()->mutable_heads();
    const auto causal =
        std::find_if(heads.begin(), heads.end(), [](const v1::Head& h) { return h.has_causal(); });
    v1::Head head = *causal;
    head.set_threshold(0);
    head.mutable_causal()->set_argument_style(style);
    heads.Clear();
    *heads.Add() = std::move(head);
  }
  return graph;
}

std::string Query(int tokens) {
  constexpr std::string_view kText = "find files larger than 100 MB under /var and ";
  const auto bytes = static_cast<size_t>(tokens * kBytesPerToken);
  std::string query;
  while (query.size() < bytes) query += kText;
  query.resize(bytes);
  return query;
}

double DecideOnce(const router::RoutingSnapshot& snapshot, const std::string& query) {
  absl::Notification done;
  const auto start = std::chrono::steady_clock::now();
  snapshot.Route(kRouter, query, {}, [&](const absl::StatusOr<v1::Decision>& decision) {
    if (!decision.ok() || decision->fallback()) {
      std::cerr << (decision.ok() ? absl::StrCat("no decision: ", decision->reason())
                                  : decision.status().ToString())
                << '\n';
      std::exit(1);
    }
    done.Notify();
  });
  done.WaitForNotification();
  const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
  return time.count();
}

}  // namespace

void MeasureCausalHead(Report* report) {
  gateway::InProcessWorkerOptions options;
  options.model_root = std::string(OCTOGATE_DEPLOY) + "/models";
  options.load.device.threads = 1;
  options.load.engine.share_prefixes = false;  // the same queries come again and again
  gateway::InProcessWorker worker(options);
  v1::Model model;
  model.set_name("octogate-mini");
  model.set_path("octogate-mini");
  std::vector<std::unique_ptr<gateway::ModelClient>> clients;
  clients.push_back(OrExit(worker.Load(model, absl::InfiniteFuture())));
  const auto replicas = gateway::ReplicaSet::Create(model.name(), std::move(clients), {});
  const auto find = [&](std::string_view) -> absl::StatusOr<std::shared_ptr<router::CausalModel>> {
    return std::make_shared<gateway::ReplicaCausalModel>(replicas);
  };
  struct Variant {
    v1::ArgumentStyle style;
    const char* name;
  };
  for (const Variant& variant : {Variant{v1::ARGUMENT_STYLE_NONE, "no argument"},
                                 Variant{v1::ARGUMENT_STYLE_RAW, "with argument"}}) {
    const auto snapshot = OrExit(router::RoutingSnapshot::Build(
        GraphWithCausalHead(variant.style), 1, {.causal = find}, absl::InfiniteFuture()));
    for (const int tokens : {8, 64, 192}) {
      std::cerr << "causal, " << tokens << " tokens, " << variant.name << '\n';
      const std::string query = Query(tokens);
      std::vector<double> millis;
      DecideOnce(*snapshot, query);  // warms up
      for (int i = 0; i < kRepetitions; ++i) millis.push_back(DecideOnce(*snapshot, query));
      std::sort(millis.begin(), millis.end());
      const std::string name = absl::StrCat("causal, ", tokens, " tokens, ", variant.name);
      report->Add({.name = name + ", p50", .value = millis[kRepetitions / 2], .unit = "ms"});
      report->Add({.name = name + ", p99", .value = millis[kRepetitions - 1], .unit = "ms"});
    }
  }
}

}  // namespace octogate::bench
