// Time of one decision on one core by the length of the query: of the lexical head by the number of
// nodes, and of the causal head with the model in the tree. How right decisions are is measured by
// router_bench.
//
// The nodes' examples and the queries are drawn from one vocabulary of invented words. A known word
// costs least, one that no example has the most, since it is taken apart into runs of characters;
// "unknown words" are queries of such words alone, of the same syllables. A token is counted as 4.9
// bytes of text.
//
//   route_bench                 everything
//   route_bench --nodes=1000    only how a router with so many members fares (many_nodes.h); may be
//                               given more than once
//   route_bench --head=encoder  of this only one head; or lexical

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "router/lexical_head.h"
#include "router/router.h"
#include "tests/bench/causal_route.h"
#include "tests/bench/many_nodes.h"
#include "tests/bench/report.h"

namespace octogate::router {
namespace {

using bench::Aim;
using bench::AtLeast;
using bench::AtMost;

constexpr double kBytesPerToken = 4.9;

class Words {
 public:
  explicit Words(unsigned seed) : random_(seed) {
    for (int i = 0; i < 3000; ++i) {
      std::string& word = words_.emplace_back();
      for (int n = 1 + static_cast<int>(random_() % 4); n > 0; --n) {
        word += "bcdfghjklmnprstvwz"[random_() % 18];
        word += "aeiou"[random_() % 5];
      }
    }
  }

  // Words by Zipf's law, as in natural text.
  std::string Text(size_t bytes) {
    std::string text;
    while (text.size() < bytes) {
      const double u = std::uniform_real_distribution<>(0, 1)(random_);
      const auto rank = static_cast<size_t>(std::pow(static_cast<double>(words_.size()), u)) - 1;
      absl::StrAppend(&text, text.empty() ? "" : " ", words_[std::min(rank, words_.size() - 1)]);
    }
    text.resize(bytes);
    return text;
  }

 private:
  std::mt19937 random_;
  std::vector<std::string> words_;
};

v1::LexicalHead Settings(int epochs) {
  v1::LexicalHead settings;
  settings.set_hash_bits(16);
  settings.set_epochs(epochs);
  settings.set_seed(1);
  return settings;
}

// A whole routing step: scores, decision and reason.
v1::Graph GraphOf(const RoutingExamples& examples, int epochs) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("bench");
  v1::Node& main = *graph.mutable_spec()->add_nodes();
  main.set_name("main");
  v1::RouterNode& router = *main.mutable_router();
  router.set_fallback("n0");
  v1::Head& head = *router.add_heads();
  head.set_threshold(0.5);
  *head.mutable_lexical() = Settings(epochs);
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    v1::Node& node = *graph.mutable_spec()->add_nodes();
    node.set_name(absl::StrCat("n", c));
    node.set_token(absl::StrCat("<fn:n", c, ">"));
    node.mutable_tool()->set_tool("reply");
    node.mutable_examples()->Assign(examples.classes[c].begin(), examples.classes[c].end());
    router.add_members(node.name());
  }
  return graph;
}

void MeasureTimes(const RoutingSnapshot& snapshot, Words* words, int tokens,
                  const std::string& name, std::optional<Aim> aim, bench::Report* report) {
  std::vector<std::string> queries;
  for (int i = 0; i < 200; ++i) {
    queries.push_back(words->Text(static_cast<size_t>(tokens * kBytesPerToken)));
  }
  std::vector<double> micros;
  const int rounds = std::max(2, 20'000 / (200 * std::max(1, tokens / 32)));
  for (int round = 0; round <= rounds; ++round) {
    for (const std::string& query : queries) {
      const auto start = std::chrono::steady_clock::now();
      snapshot.Route("main", query, {}, [](const absl::StatusOr<v1::Decision>&) {});
      const std::chrono::duration<double, std::micro> time =
          std::chrono::steady_clock::now() - start;
      if (round > 0) micros.push_back(time.count());  // The first round warms up.
    }
  }
  std::sort(micros.begin(), micros.end());
  report->Add(
      {.name = name + ", p50", .value = micros[micros.size() / 2], .unit = "us", .aim = aim});
  report->Add({.name = name + ", p99", .value = micros[micros.size() * 99 / 100], .unit = "us"});
}

void MeasureTimes(int classes, bench::Report* report) {
  Words words(7);
  RoutingExamples examples;
  for (int c = 0; c < classes; ++c) {
    auto& texts = examples.classes.emplace_back();
    for (int i = 0; i < 60; ++i) texts.push_back(words.Text(60));
  }
  std::cerr << "training " << classes << " nodes\n";
  const auto snapshot = RoutingSnapshot::Build(
      GraphOf(examples, 5), 1,
      {.causal = [](std::string_view) { return absl::NotFoundError("none"); }},
      absl::InfiniteFuture());
  if (!snapshot.ok()) {
    std::cerr << snapshot.status() << "\n";
    std::exit(1);
  }
  const std::string name = absl::StrCat("lexical, ", classes, " nodes, ");
  for (const int tokens : {8, 32, 128, 512, 2048}) {
    const std::optional<Aim> aim = tokens == 512 ? std::optional<Aim>(AtMost(50)) : std::nullopt;
    MeasureTimes(**snapshot, &words, tokens, absl::StrCat(name, tokens, " tokens"), aim, report);
  }
  Words unknown(11);
  for (const int tokens : {32, 512, 2048}) {
    const std::optional<Aim> aim = tokens == 512 ? std::optional<Aim>(AtMost(50)) : std::nullopt;
    MeasureTimes(**snapshot, &unknown, tokens, absl::StrCat(name, tokens, " tokens, unknown words"),
                 aim, report);
  }
}

int Main(int argc, char** argv) {
  bench::Report report("route", argc, argv);
  std::vector<int> many;
  std::vector<bench::ManyNodesHead> heads = {bench::ManyNodesHead::kEncoder,
                                             bench::ManyNodesHead::kLexical};
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (argument == "--head=encoder") heads = {bench::ManyNodesHead::kEncoder};
    if (argument == "--head=lexical") heads = {bench::ManyNodesHead::kLexical};
    if (!absl::ConsumePrefix(&argument, "--nodes=")) continue;
    int& nodes = many.emplace_back();
    if (!absl::SimpleAtoi(argument, &nodes) || nodes < 1 || nodes > 16'000) {
      std::cerr << "--nodes takes a number from 1 to 16000\n";
      return 2;
    }
  }
  const bool only = !many.empty();
  if (!only) many = {100, 1000, 3000, 10'000};
  for (const int nodes : many) {
    for (const bench::ManyNodesHead head : heads) bench::MeasureManyNodes(nodes, head, &report);
  }
  if (only) return report.Print();
  for (const int classes : {5, 20, 150}) MeasureTimes(classes, &report);
  bench::MeasureCausalHead(&report);
  return report.Print();
}

}  // namespace
}  // namespace octogate::router

int main(int argc, char** argv) { return octogate::router::Main(argc, argv); }
