#include "tests/bench/routing_evaluation.h"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "router/graph_manifest.h"

namespace octogate::bench {
namespace {

v1::Decision Route(const router::RoutingSnapshot& snapshot, std::string_view text, bool all_heads) {
  absl::Notification done;
  absl::StatusOr<v1::Decision> result = absl::UnknownError("not called");
  router::RouteOptions options;
  options.all_heads = all_heads;
  snapshot.Route("router", text, std::move(options), [&](absl::StatusOr<v1::Decision> decision) {
    result = std::move(decision);
    done.Notify();
  });
  done.WaitForNotification();
  if (!result.ok()) {
    std::cerr << result.status() << "\n";
    std::exit(1);
  }
  return *std::move(result);
}

int ClassOf(const std::string& node) {
  int label = -1;
  if (!absl::SimpleAtoi(node.substr(1), &label)) return -1;
  return label;
}

}  // namespace

v1::Graph GraphOf(const router::RoutingExamples& examples, const std::vector<v1::Head>& heads) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("bench");
  v1::GraphSpec& spec = *graph.mutable_spec();
  v1::Node& root = *spec.add_nodes();
  root.set_name("router");
  root.mutable_router()->set_fallback("fallback");
  for (const v1::Head& head : heads) *root.mutable_router()->add_heads() = head;
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    root.mutable_router()->add_members(absl::StrCat("n", c));
  }
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    v1::Node& node = *spec.add_nodes();
    node.set_name(absl::StrCat("n", c));
    node.mutable_tool()->set_tool("echo");
    for (const std::string& text : examples.classes[c]) node.add_examples(text);
  }
  v1::Node& fallback = *spec.add_nodes();
  fallback.set_name("fallback");
  fallback.mutable_tool()->set_tool("echo");
  for (const std::string& text : examples.none) fallback.add_examples(text);
  router::ApplyDefaults(&graph);
  return graph;
}

std::vector<std::vector<HeadAnswer>> AskHeads(const router::RoutingSnapshot& snapshot,
                                              const std::vector<std::string_view>& texts) {
  std::vector<std::vector<HeadAnswer>> answers;
  for (const std::string_view text : texts) {
    const v1::Decision decision = Route(snapshot, text, /*all_heads=*/true);
    answers.resize(static_cast<size_t>(decision.heads_size()));
    for (int h = 0; h < decision.heads_size(); ++h) {
      const v1::HeadScore& head = decision.heads(h);
      if (!head.error().empty()) {
        std::cerr << head.error() << "\n";
        std::exit(1);
      }
      answers[static_cast<size_t>(h)].push_back(
          {.best = ClassOf(head.scores(0).node()),
           .confidence = head.scores(0).probability() * head.live_probability()});
    }
  }
  return answers;
}

std::vector<CascadeAnswer> AskCascade(const router::RoutingSnapshot& snapshot,
                                      const std::vector<std::string_view>& texts) {
  std::vector<CascadeAnswer> answers;
  for (const std::string_view text : texts) {
    const auto start = std::chrono::steady_clock::now();
    const v1::Decision decision = Route(snapshot, text, /*all_heads=*/false);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    answers.push_back({.chosen = decision.fallback() ? -1 : ClassOf(decision.node()),
                       .head = decision.head(),
                       .milliseconds = time.count()});
  }
  return answers;
}

std::vector<SetAnswer> AskSets(const router::RoutingSnapshot& snapshot,
                               const std::vector<std::string_view>& texts) {
  std::vector<SetAnswer> answers;
  for (const std::string_view text : texts) {
    const v1::Decision decision = Route(snapshot, text, /*all_heads=*/false);
    SetAnswer& answer = answers.emplace_back();
    answer.decided = decision.heads(0).decided();
    for (const std::string& name : decision.heads(0).set()) answer.set.push_back(ClassOf(name));
  }
  return answers;
}

}  // namespace octogate::bench
