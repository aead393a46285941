#include "tests/bench/many_nodes.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "router/embedding_model.h"
#include "router/graph_validation.h"
#include "router/random_order.h"
#include "router/router.h"

namespace octogate::bench {
namespace {

using router::EmbeddingModel;
using router::RoutingSnapshot;

constexpr int kExamples = 8;
constexpr int kLearnedExamples = 32;
constexpr size_t kQueries = 2000;

double Milliseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since)
      .count();
}

// Of this process, in MiB.
double ResidentMemory() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

// Progress, too: the larger routers take minutes.
void Add(Report* report, const Figure& figure) {
  std::cerr << "  " << figure.name << ": " << figure.value << " " << figure.unit << "\n";
  report->Add(figure);
}

class Subjects {
 public:
  explicit Subjects(int nodes) : random_(17) {
    for (int i = 0; i < 20'000; ++i) {
      std::string& word = words_.emplace_back();
      for (int n = 2 + static_cast<int>(random_() % 3); n > 0; --n) {
        word += "bcdfghjklmnprstvwz"[random_() % 18];
        word += "aeiou"[random_() % 5];
      }
    }
    for (int i = 0; i < nodes; ++i) {
      auto& own = own_.emplace_back();
      for (int n = 0; n < 8; ++n) own.push_back(kCommon + random_() % (words_.size() - kCommon));
    }
  }

  std::string Text(size_t node, int words = 10) {
    std::string text;
    for (int i = 0; i < words; ++i) {
      // Common words by Zipf's law.
      const double u = std::uniform_real_distribution<>(0, 1)(random_);
      size_t word = static_cast<size_t>(std::pow(double{kCommon}, u)) - 1;
      if (random_() % 10 < 4) word = own_[node][random_() % own_[node].size()];
      absl::StrAppend(&text, text.empty() ? "" : " ", words_[word]);
    }
    return text;
  }

 private:
  static constexpr size_t kCommon = 3000;
  std::mt19937 random_;
  std::vector<std::string> words_;
  std::vector<std::vector<size_t>> own_;
};

// Sums a random vector for each word.
class WordVectors final : public EmbeddingModel {
 public:
  static constexpr size_t kDimension = 384;

  void Embed(const v1::WorkerEmbedRequest& request, const router::CallContext&,
             EmbedDone done) override {
    v1::WorkerEmbedResponse response;
    for (const std::string& input : request.inputs()) {
      std::vector<float> values(kDimension, 0);
      for (const absl::string_view word : absl::StrSplit(input, ' ')) {
        uint64_t seed = 0;
        for (const char c : word) seed = seed * 131 + static_cast<unsigned char>(c);
        router::Random random(seed);
        for (size_t i = 0; i < kDimension; i += 64) {
          const uint64_t bits = random.Next();
          for (size_t k = 0; k < 64; ++k) values[i + k] += (bits >> k & 1) != 0 ? 1.0F : -1.0F;
        }
      }
      double squares = 1e-6;
      for (const float value : values) squares += double{value} * double{value};
      v1::Embedding& embedding = *response.add_embeddings();
      for (const float value : values) {
        embedding.add_values(static_cast<float>(value / std::sqrt(squares)));
      }
    }
    done(std::move(response));
  }
  absl::StatusOr<std::string> Fingerprint(absl::Time) override { return "words"; }
};

v1::Graph GraphOf(int nodes, Subjects* subjects, bool encoder) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("bench");
  graph.mutable_spec()->set_entry("main");
  v1::Node& main = *graph.mutable_spec()->add_nodes();
  main.set_name("main");
  v1::RouterNode& router = *main.mutable_router();
  router.set_fallback("n0");
  v1::Head& head = *router.add_heads();
  head.set_threshold(0.5);
  if (encoder) {
    head.mutable_encoder()->set_model("words");
    head.mutable_encoder()->set_epochs(40);
    head.mutable_encoder()->set_seed(1);
    v1::Model& words = *graph.mutable_spec()->add_models();
    words.set_name("words");
    words.set_path("words");
  } else {
    head.mutable_lexical()->set_hash_bits(16);
    head.mutable_lexical()->set_epochs(40);
    head.mutable_lexical()->set_seed(1);
  }
  for (int c = 0; c < nodes; ++c) {
    v1::Node& node = *graph.mutable_spec()->add_nodes();
    node.set_name(absl::StrCat("n", c));
    node.set_token(absl::StrCat("<fn:n", c, ">"));
    node.mutable_tool()->set_tool("reply");
    for (int i = 0; i < kExamples; ++i) node.add_examples(subjects->Text(static_cast<size_t>(c)));
    router.add_members(node.name());
  }
  return graph;
}

void MeasureTimes(const RoutingSnapshot& snapshot, const std::vector<std::string>& queries,
                  const std::string& name, Aim aim, Report* report) {
  std::vector<double> micros;
  const size_t rounds = 1 + 4000 / queries.size();
  for (size_t round = 0; round <= rounds; ++round) {
    for (const std::string& query : queries) {
      const auto start = std::chrono::steady_clock::now();
      snapshot.Route("main", query, {}, [](const absl::StatusOr<v1::Decision>&) {});
      if (round > 0) micros.push_back(1000 * Milliseconds(start));  // The first round warms up.
    }
  }
  std::sort(micros.begin(), micros.end());
  Add(report,
      {.name = name + ", p50", .value = micros[micros.size() / 2], .unit = "us", .aim = aim});
  Add(report, {.name = name + ", p99", .value = micros[micros.size() * 99 / 100], .unit = "us"});
}

struct Quality {
  double right = 0;  // Of 100 queries, with the right node before all others.
  double sure = 0;   // The same, and taken.
};

Quality QualityOf(const RoutingSnapshot& snapshot, const std::vector<std::string>& queries,
                  const std::vector<size_t>& wanted) {
  Quality quality;
  const double each = 100.0 / static_cast<double>(queries.size());
  for (size_t i = 0; i < queries.size(); ++i) {
    snapshot.Route("main", queries[i], {}, [&](const absl::StatusOr<v1::Decision>& decision) {
      const bool best = decision.ok() && decision->heads(0).scores_size() > 0 &&
                        decision->heads(0).scores(0).node() == absl::StrCat("n", wanted[i]);
      quality.right += best ? each : 0;
      quality.sure += best && !decision->fallback() ? each : 0;
    });
  }
  return quality;
}

void MeasureHead(int nodes, bool encoder, Report* report) {
  Subjects subjects(nodes + 1);
  const std::string head = absl::StrCat(encoder ? "encoder head, " : "lexical, ", nodes, " nodes");
  std::cerr << head << "\n";
  v1::Graph graph = GraphOf(nodes, &subjects, encoder);
  std::vector<std::string> queries;
  std::vector<size_t> wanted;
  for (size_t i = 0; i < kQueries; ++i) {
    wanted.push_back(i * 7919 % static_cast<size_t>(nodes));
    queries.push_back(subjects.Text(wanted.back()));
  }

  auto start = std::chrono::steady_clock::now();
  const std::vector<router::GraphProblem> problems = router::ValidateGraph(graph);
  Add(report, {.name = head + ", validation", .value = Milliseconds(start), .unit = "ms"});
  for (const router::GraphProblem& problem : problems) {
    if (!problem.warning) std::cerr << problem.path << ": " << problem.message << "\n";
  }
  const double before = ResidentMemory();
  const auto model = std::make_shared<WordVectors>();
  const router::ModelFinder find = {
      .causal = nullptr,
      .embedding = [&](std::string_view) -> absl::StatusOr<std::shared_ptr<EmbeddingModel>> {
        return std::shared_ptr<EmbeddingModel>(model);
      }};
  start = std::chrono::steady_clock::now();
  const auto snapshot = RoutingSnapshot::Build(graph, 1, find, absl::InfiniteFuture());
  if (!snapshot.ok()) {
    std::cerr << snapshot.status() << "\n";
    return;
  }
  const double apply = Milliseconds(start);
  Add(report, {.name = head + ", apply", .value = apply / 1000, .unit = "s"});
  Add(report, {.name = head + ", apply, of each node", .value = apply / nodes, .unit = "ms"});
  Add(report,
      {.name = head + ", resident memory more", .value = ResidentMemory() - before, .unit = "MiB"});

  const Quality quality = QualityOf(**snapshot, queries, wanted);
  Add(report, {.name = head + ", best node right", .value = quality.right, .unit = "%"});
  Add(report, {.name = head + ", right and sure", .value = quality.sure, .unit = "%"});

  const Aim aim = AtMost(encoder ? 1000 : 50);
  for (const int words : {10, 350}) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < 200; ++i) texts.push_back(subjects.Text(wanted[i], words));
    MeasureTimes(**snapshot, texts, absl::StrCat(head, ", ", words, " words"), aim, report);
  }

  // One member more, which has only what it learned.
  const auto added = static_cast<size_t>(nodes);
  v1::Node& node = *graph.mutable_spec()->add_nodes();
  node.set_name(absl::StrCat("n", added));
  node.mutable_tool()->set_tool("reply");
  for (int i = 0; i < kLearnedExamples; ++i) node.add_learned_examples(subjects.Text(added));
  graph.mutable_spec()->mutable_nodes(0)->mutable_router()->add_members(node.name());
  start = std::chrono::steady_clock::now();
  const auto more = RoutingSnapshot::Build(graph, 2, find, absl::InfiniteFuture(), snapshot->get());
  if (!more.ok()) {
    std::cerr << more.status() << "\n";
    return;
  }
  Add(report, {.name = head + ", one more learns 32 examples",
               .value = Milliseconds(start) / 1000,
               .unit = "s",
               .aim = AtMost(1)});
  const Quality others = QualityOf(**more, queries, wanted);
  Add(report, {.name = head + ", best node right after it",
               .value = others.right,
               .unit = "%",
               .aim = AtLeast(quality.right - 0.5)});
  queries.clear();
  for (int i = 0; i < 500; ++i) queries.push_back(subjects.Text(added));
  Add(report, {.name = head + ", best node right of the one that learned",
               .value = QualityOf(**more, queries, std::vector<size_t>(500, added)).right,
               .unit = "%"});
}

}  // namespace

void MeasureManyNodes(int nodes, ManyNodesHead head, Report* report) {
  MeasureHead(nodes, head == ManyNodesHead::kEncoder, report);
}

}  // namespace octogate::bench
