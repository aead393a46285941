// Rows of functional tokens on the hidden states of frozen models: what they get right beside the
// lexical and the encoder head, and what it takes to learn one more.
//
// OCTOGATE_TEST_DATA names the evaluation data; the encoder is looked for as router_bench does, and
// left out where it is not there. One core: every model computes on one thread. Trains on the first
// examples of CLINC150's split for training and reports its split for testing, of every tenth
// intent.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gateway/in_process_model_client.h"
#include "gateway/replica_causal_model.h"
#include "gateway/replica_set.h"
#include "router/graph_manifest.h"
#include "router/router.h"
#include "tests/bench/cached_encoder.h"
#include "tests/bench/report.h"
#include "tests/bench/routing_evaluation.h"
#include "tests/bench/routing_suites.h"

namespace octogate::bench {
namespace {

constexpr size_t kEveryIntent = 10;
constexpr size_t kNewIntent = 3;  // Of those kept; learned at run time.
constexpr double kThreshold = 0.5;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << value.status() << '\n';
    std::exit(1);
  }
  return *std::move(value);
}

// A model in this process, on one thread.
class LocalModel {
 public:
  LocalModel(const std::string& root, const std::string& path) : worker_(OptionsOf(root)) {
    v1::Model model;
    model.set_name(path);
    model.set_path(path);
    std::vector<std::unique_ptr<gateway::ModelClient>> clients;
    clients.push_back(OrExit(worker_.Load(model, absl::InfiniteFuture())));
    replicas_ = gateway::ReplicaSet::Create(path, std::move(clients), {});
  }

  const std::shared_ptr<gateway::ReplicaSet>& replicas() const { return replicas_; }

 private:
  static gateway::InProcessWorkerOptions OptionsOf(const std::string& root) {
    gateway::InProcessWorkerOptions options;
    options.model_root = root;
    options.load.device.threads = 1;
    return options;
  }

  gateway::InProcessWorker worker_;
  std::shared_ptr<gateway::ReplicaSet> replicas_;  // Goes before the worker, which waits for it.
};

// Every tenth intent.
RoutingSuite Some(const RoutingSuite& whole) {
  RoutingSuite some;
  some.name = whole.name;
  some.train.none = whole.train.none;
  for (size_t c = 0; c < whole.train.classes.size(); c += kEveryIntent) {
    const auto label = static_cast<int>(some.train.classes.size());
    some.train.classes.push_back(whole.train.classes[c]);
    for (const auto& [text, place] : whole.test) {
      if (place == static_cast<int>(c)) some.test.emplace_back(text, label);
    }
  }
  some.outside = whole.outside;
  return some;
}

struct NamedHead {
  std::string name;
  v1::Head head;
};

class Bench {
 public:
  Bench(const std::string& data, const std::filesystem::path& minilm, Report* report)
      : suite_(Some(ReadRoutingSuite("clinc150", data))),
        report_(report),
        mini_(std::string(OCTOGATE_DEPLOY) + "/models", "octogate-mini"),
        stories_(data + "/stories260K", "hf") {
    v1::Head lexical;
    lexical.mutable_lexical();
    heads_.push_back({"lexical", lexical});
    if (std::filesystem::exists(minilm / "model.safetensors")) {
      encoder_ = std::make_shared<CachedEncoder>(minilm, "", /*threads=*/1);
      v1::Head encoder;
      encoder.mutable_encoder()->set_model("minilm");
      heads_.push_back({"encoder (MiniLM, 22 M)", encoder});
    } else {
      std::cerr << "no encoder in " << minilm << "\n";
    }
    v1::Head causal;
    causal.mutable_causal()->set_model("mini");
    causal.mutable_causal()->set_learned_rows(true);
    causal.mutable_causal()->set_argument_style(v1::ARGUMENT_STYLE_NONE);
    heads_.push_back({"causal rows (octogate-mini)", causal});
    causal.mutable_causal()->set_model("stories");
    causal.mutable_causal()->set_prompt("{query}");
    heads_.push_back({"causal rows (stories260K)", causal});
    for (NamedHead& head : heads_) head.head.set_threshold(kThreshold);
  }

  // All intents trained together, none of them in a vocabulary.
  void Compare(size_t examples) {
    const RoutingSuite few = WithFewExamples(suite_, examples);
    std::vector<v1::Head> heads;
    for (const NamedHead& head : heads_) heads.push_back(head.head);
    const auto snapshot = Build(GraphOf(few.train, heads), nullptr);
    std::vector<std::string_view> texts;
    for (const auto& [text, label] : few.test) texts.push_back(text);
    const auto answers = AskHeads(*snapshot, texts);
    const auto outside = AskHeads(*snapshot, {few.outside.begin(), few.outside.end()});
    for (size_t h = 0; h < heads_.size(); ++h) {
      double right = 0;
      double taken = 0;
      for (size_t i = 0; i < texts.size(); ++i) {
        if (answers[h][i].best != few.test[i].second) continue;
        ++right;
        taken += answers[h][i].confidence >= kThreshold ? 1 : 0;
      }
      const auto refused = static_cast<double>(
          std::count_if(outside[h].begin(), outside[h].end(),
                        [](const HeadAnswer& answer) { return answer.confidence < kThreshold; }));
      const std::string name = absl::StrCat(few.train.classes.size(), " intents, ", examples,
                                            " examples each, ", heads_[h].name);
      const auto count = static_cast<double>(texts.size());
      report_->Add({.name = name + ", accuracy", .value = 100 * right / count, .unit = "%"});
      report_->Add(
          {.name = name + ", right and over 0.5", .value = 100 * taken / count, .unit = "%"});
      report_->Add({.name = name + ", out of scope refused",
                    .value = 100 * refused / static_cast<double>(outside[h].size()),
                    .unit = "%"});
      RiskOfCoverage(name, answers[h], few);
    }
  }

  // One intent learned at run time beside the tokens of the example graph, by each head alone.
  void LearnOne(size_t examples) {
    for (const NamedHead& head : heads_) {
      v1::Graph graph = ExampleGraph(head.head);
      const absl::Time start = absl::Now();
      const auto before = Build(graph, nullptr);
      const absl::Time applied = absl::Now();
      v1::Node& added = *graph.mutable_spec()->add_nodes();
      added.set_name("new");
      added.set_token("<fn:new>");
      added.mutable_tool()->set_tool("reply");
      const std::vector<std::string>& texts = suite_.train.classes[kNewIntent];
      added.mutable_learned_examples()->Assign(texts.begin(),
                                               texts.begin() + static_cast<ptrdiff_t>(examples));
      for (v1::Node& node : *graph.mutable_spec()->mutable_nodes()) {
        if (node.name() == "main") node.mutable_router()->add_members("new");
      }
      const absl::Time learning = absl::Now();
      const auto after = Build(graph, before.get());
      const double seconds = absl::ToDoubleSeconds(absl::Now() - learning);
      double own = 0;
      double right = 0;
      double others = 0;
      double wrong = 0;
      for (size_t i = 0; i < suite_.test.size(); ++i) {
        const bool is_own = suite_.test[i].second == static_cast<int>(kNewIntent);
        const bool taken = Chosen(*after, suite_.test[i].first) == "new";
        (is_own ? own : others) += 1;
        (is_own ? right : wrong) += taken ? 1 : 0;
      }
      // The graph's own texts, which were trained on, stay with their nodes.
      double kept = 0;
      double texts_before = 0;
      for (const v1::Node& node : graph.spec().nodes()) {
        for (const std::string& text : node.examples()) {
          ++texts_before;
          kept += Chosen(*before, text) == Chosen(*after, text) ? 1 : 0;
        }
      }
      const std::string name =
          absl::StrCat("one more node from ", examples, " examples, ", head.name);
      report_->Add({.name = name + ", graph applied before",
                    .value = absl::ToDoubleSeconds(applied - start),
                    .unit = "s"});
      report_->Add({.name = name + ", learned", .value = seconds, .unit = "s"});
      report_->Add(
          {.name = name + ", its test texts taken", .value = 100 * right / own, .unit = "%"});
      report_->Add({.name = name + ", of 14 other intents taken",
                    .value = 100 * wrong / others,
                    .unit = "%"});
      report_->Add({.name = name + ", the graph's own texts decided as before",
                    .value = 100 * kept / texts_before,
                    .unit = "%"});
    }
  }

 private:
  // How many answers are wrong where a head may leave out those that it is least sure of.
  void RiskOfCoverage(const std::string& name, const std::vector<HeadAnswer>& answers,
                      const RoutingSuite& suite) {
    std::vector<size_t> order(answers.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return answers[a].confidence > answers[b].confidence;
    });
    size_t asked = 0;
    double wrong = 0;
    for (const size_t percent : {20, 40, 60, 80, 100}) {
      for (; asked < order.size() * percent / 100; ++asked) {
        const size_t i = order[asked];
        wrong += answers[i].best == suite.test[i].second ? 0 : 1;
      }
      report_->Add({.name = absl::StrCat(name, ", wrong of the surest ", percent, " %"),
                    .value = asked == 0 ? 0 : 100 * wrong / static_cast<double>(asked),
                    .unit = "%"});
    }
  }

  std::shared_ptr<const router::RoutingSnapshot> Build(const v1::Graph& graph,
                                                       const router::RoutingSnapshot* previous) {
    const auto causal =
        [this](std::string_view name) -> absl::StatusOr<std::shared_ptr<router::CausalModel>> {
      return std::make_shared<gateway::ReplicaCausalModel>(
          (name == "stories" ? stories_ : mini_).replicas());
    };
    const auto embedding =
        [this](std::string_view) -> absl::StatusOr<std::shared_ptr<router::EmbeddingModel>> {
      return encoder_;
    };
    return OrExit(router::RoutingSnapshot::Build(
        graph, 1, {.causal = causal, .embedding = embedding}, absl::InfiniteFuture(), previous));
  }

  // deploy/graphs/example.yaml with one head and no rewriting.
  static v1::Graph ExampleGraph(const v1::Head& head) {
    std::ifstream file(std::string(OCTOGATE_DEPLOY) + "/graphs/example.yaml");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    v1::Graph graph = OrExit(router::ParseGraphManifest(text, "example.yaml")).graph;
    for (v1::Node& node : *graph.mutable_spec()->mutable_nodes()) {
      if (!node.has_router()) continue;
      node.mutable_router()->clear_rewrite();
      node.mutable_router()->clear_heads();
      *node.mutable_router()->add_heads() = head;
    }
    router::ApplyDefaults(&graph);
    return graph;
  }

  static std::string Chosen(const router::RoutingSnapshot& snapshot, const std::string& text) {
    absl::Notification done;
    std::string node;
    snapshot.Route("main", text, {}, [&](const absl::StatusOr<v1::Decision>& decision) {
      node = decision.ok() ? decision->node() : decision.status().ToString();
      done.Notify();
    });
    done.WaitForNotification();
    return node;
  }

  const RoutingSuite suite_;
  Report* const report_;
  LocalModel mini_;
  LocalModel stories_;
  std::shared_ptr<CachedEncoder> encoder_;
  std::vector<NamedHead> heads_;
};

int Main(int argc, char** argv) {
  Report report("causal_rows", argc, argv);
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  const char* minilm = std::getenv("OCTOGATE_MINILM");
  if (data == nullptr) {
    std::cerr << "OCTOGATE_TEST_DATA is not set. Nothing is measured.\n";
    return report.Print();
  }
  Bench bench(data,
              minilm != nullptr
                  ? std::filesystem::path(minilm)
                  : std::filesystem::path(OCTOGATE_DEPLOY) / "models/all-MiniLM-L6-v2",
              &report);
  for (const size_t examples : {8, 16, 64}) bench.LearnOne(examples);
  for (const size_t examples : {8, 64}) bench.Compare(examples);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
