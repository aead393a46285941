// What near matches add to the drafter `retrieval` on recorded answers (speculation_replay.h), by
// task, and what a draft costs.
//
//   retrieval_replay_bench --requests=FILE   from tests/bench/speculation_requests.py
//     --corpus=FOLDER                        of texts that are in every store, too
//     --store=own                            or others, or all: what else the store has
//     --half=1                               of each task, the requests that are replayed
//     --task=PREFIX                          only these
//     --nodes=63                             budget
//     --pass-cost=1:6.6,2:6.8,4:9.2          what passes of so many rows take, in any unit, as
//                                            `octoctl describe model` or growth_bench tells;
//                                            between them by a straight line, behind the last two
//                                            as between these. The planner then chooses what is
//                                            drafted, speed is predicted, and lookups of two tokens
//                                            and of one are compared, without places that are taken
//                                            to be unseen, and
//     --unseen=4                             with so many of these
//     --prune=2,5                            percent: retrieved drafts that recycling finds less
//                                            probable are dropped, beside none of them; in place
//                                            of lookups of one token and of --unseen
//     --alone                                recycling, suffix, lookahead and retrieval each alone,
//                                            and together, in place of all these
//     --warm                                 drafters have learned from the requests before, of all
//                                            that are replayed of the task in their order
//     --believed-for=1                       requests in succession that know how often drafters
//                                            were right in the ones before
//     --tokens=0                             of an answer, at most; 0: all
//     --contexts=64                          of near matches, at most, times 1024
//     --window=8 --decay=0.8                 of the embedding
//     --near-below=6 --near=16               of the lookup; lists of numbers are compared
//
// Stores have nothing of what is replayed. Requests of a task are in two halves by their number,
// turns of a conversation together; `own` is the other half of the same task, `others` all tasks of
// other kinds, `all` that half of every task. Texts are tokenised with OCTOGATE_TEST_DATA's
// Llama 2. Every request has new drafters, unless they are warm. Options were chosen on half 0 of
// the tasks that may be tuned on.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/draft_store_writer.h"
#include "retrieval/drafts/near_index.h"
#include "tests/bench/options.h"
#include "tests/bench/report.h"
#include "tests/bench/speculation_replay.h"
#include "workers/engine/step_cost.h"
#include "workers/model/tokenizer.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/retrieval_drafter.h"
#include "workers/speculation/suffix.h"

namespace octogate::bench {
namespace {

using retrieval::DraftLookupOptions;
using retrieval::DraftStore;
using workers::Drafter;
using workers::RetrievalDrafter;

constexpr Hash128 kTokenizer = {.high = 1, .low = 2};

template <typename Value>
Value OrExit(absl::StatusOr<Value> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "retrieval_replay_bench: %s\n", value.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(value);
}

void OrExit(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "retrieval_replay_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

struct Arguments {
  std::string requests;
  std::string corpus;
  std::string store;
  std::string task;
  size_t half = 0;
  int nodes = 0;
  workers::CostCurve pass_cost;  // by rows
  size_t believed_for = 1;
  size_t tokens = 0;
  retrieval::NearIndexOptions index;
  std::vector<int> near_below;
  std::vector<int> near;
  std::vector<int> unseen;
  std::vector<int> prune;
  bool alone = false;
  bool warm = false;
};

// In passes of one row.
workers::CostCurve ParsePassCost(const std::string& text) {
  workers::CostCurve curve;
  double one_row = 0;
  for (const auto part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::vector<std::string> pair = absl::StrSplit(part, ':');
    const bool is_first = curve.points().empty();
    int rows = 0;
    double cost = 0;
    if (pair.size() != 2 || !absl::SimpleAtoi(pair[0], &rows) ||
        !absl::SimpleAtod(pair[1], &cost) || cost <= 0 ||
        (is_first ? rows != 1 : rows <= curve.points().back().x)) {
      std::fprintf(stderr, "--pass-cost is of ROWS:COST from one row to ever more, not '%s'\n",
                   std::string(part).c_str());
      std::exit(2);
    }
    if (is_first) one_row = cost;
    curve.Add(rows, cost / one_row);
  }
  if (curve.points().size() == 1) {
    std::fprintf(stderr, "--pass-cost of one row alone says nothing of more\n");
    std::exit(2);
  }
  return curve;
}

Arguments Parse(int argc, char** argv) {
  Arguments arguments = {
      .requests = Option(argc, argv, "--requests=", ""),
      .corpus = Option(argc, argv, "--corpus=", ""),
      .store = Option(argc, argv, "--store=", "own"),
      .task = Option(argc, argv, "--task=", ""),
      .half = NumberOption<size_t>(argc, argv, "--half=", "1"),
      .nodes = NumberOption<int>(argc, argv, "--nodes=", "63"),
      .pass_cost = ParsePassCost(Option(argc, argv, "--pass-cost=", "")),
      .believed_for = std::max<size_t>(1, NumberOption<size_t>(argc, argv, "--believed-for=", "1")),
      .tokens = NumberOption<size_t>(argc, argv, "--tokens=", "0"),
      .near_below = IntegersOption(argc, argv, "--near-below=", "6"),
      .near = IntegersOption(argc, argv, "--near=", "16"),
      .unseen = IntegersOption(argc, argv, "--unseen=", "4"),
      .prune = {},
      .alone = std::find(argv, argv + argc, std::string_view("--alone")) != argv + argc,
      .warm = std::find(argv, argv + argc, std::string_view("--warm")) != argv + argc};
  if (!Option(argc, argv, "--prune=", "").empty()) {
    arguments.prune = IntegersOption(argc, argv, "--prune=", "");
  }
  arguments.index.max_contexts =
      uint64_t{1024} * NumberOption<uint64_t>(argc, argv, "--contexts=", "64");
  arguments.index.embedding.window = NumberOption<int32_t>(argc, argv, "--window=", "8");
  arguments.index.embedding.decay = NumberOption<float>(argc, argv, "--decay=", "0.8");
  if (arguments.requests.empty() ||
      (arguments.store != "own" && arguments.store != "others" && arguments.store != "all")) {
    std::fprintf(stderr,
                 "usage: retrieval_replay_bench --requests=FILE [--store=own|others|all] …\n");
    std::exit(2);
  }
  return arguments;
}

using Document = std::vector<int32_t>;

std::vector<Document> ReadTexts(const std::string& folder) {
  std::vector<Document> documents;
  if (folder.empty()) return documents;
  const char* data = std::getenv("OCTOGATE_TEST_DATA");  // NOLINT(concurrency-mt-unsafe)
  const auto tokenizer = OrExit(
      workers::Tokenizer::Load(std::string(data == nullptr ? "" : data) + "/tokenizers/llama2"));
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.find('\0') != std::string::npos) continue;
    documents.push_back(OrExit(tokenizer->Encode(text, {.add_special_tokens = false})));
  }
  return documents;
}

// Both of code, or both summaries: what is in one helps with the other.
std::string KindOf(const std::string& task) {
  if (task == "humaneval" || task == "mbpp") return "code";
  return task.substr(0, task.find("-whole"));
}

struct Opened {
  std::shared_ptr<const DraftStore> store;
  std::shared_ptr<retrieval::NearIndex> near;
  double build_seconds = 0;
};

class Stores {
 public:
  Stores()
      : path_(std::filesystem::temp_directory_path() /
              ("retrieval_replay." + std::to_string(getpid()))) {}
  ~Stores() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    std::filesystem::remove(retrieval::NearIndexPath(path_.string()), ignored);
  }
  Stores(const Stores&) = delete;
  Stores& operator=(const Stores&) = delete;

  Opened Make(const std::vector<Document>& documents, int vocab_size,
              const retrieval::NearIndexOptions& options) const {
    const std::string path = path_.string();
    const auto writer = OrExit(retrieval::DraftStoreWriter::Create(
        path, {.tokenizer = kTokenizer, .vocab_size = vocab_size}));
    for (const Document& document : documents) OrExit(writer->Add(document));
    OrExit(writer->Finish());
    Opened opened;
    const auto begin = std::chrono::steady_clock::now();
    OrExit(retrieval::WriteNearIndex(path, options));
    opened.build_seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    opened.store = OrExit(DraftStore::Open(path));
    opened.near = OrExit(retrieval::NearIndex::Open(path, *opened.store));
    return opened;
  }

 private:
  const std::filesystem::path path_;
};

struct Way {
  std::string name;
  bool near = false;
  bool others = false;  // recycling and suffix beside it
  bool lookahead = false;
  bool retrieval = true;
  std::string alone = "";  // of the others
  float prune_below = 0;
  DraftLookupOptions lookup;
  std::optional<float> unseen_places = std::nullopt;
};

// What it is worth not to be sure of what few places say, where rows have a price.
std::vector<Way> PricedWays(const Arguments& arguments) {
  std::vector<Way> ways = {{.name = "recycling+suffix", .others = true, .retrieval = false}};
  std::vector<int> all_unseen = {0};
  all_unseen.insert(all_unseen.end(), arguments.unseen.begin(), arguments.unseen.end());
  for (const int min_span : {2, 1}) {
    for (const int unseen : all_unseen) {
      ways.push_back({.name = absl::StrFormat("recycling+suffix+retrieval:%d:%d", min_span, unseen),
                      .others = true,
                      .lookup = {.min_span = min_span},
                      .unseen_places = static_cast<float>(unseen)});
    }
  }
  return ways;
}

// What each drafter is worth, and what all together.
std::vector<Way> AloneWays() {
  return {{.name = "recycling", .retrieval = false, .alone = "recycling"},
          {.name = "suffix", .retrieval = false, .alone = "suffix"},
          {.name = "lookahead", .lookahead = true, .retrieval = false},
          {.name = "retrieval"},
          {.name = "recycling+suffix", .others = true, .retrieval = false},
          {.name = "recycling+suffix+retrieval", .others = true},
          {.name = "recycling+suffix+lookahead+retrieval", .others = true, .lookahead = true}};
}

std::vector<Way> PrunedWays(const Arguments& arguments) {
  std::vector<Way> ways = {{.name = "recycling+suffix+retrieval", .others = true}};
  for (const int percent : arguments.prune) {
    ways.push_back({.name = absl::StrFormat("recycling+suffix+retrieval, below %d %%", percent),
                    .others = true,
                    .prune_below = static_cast<float>(percent) / 100});
  }
  return ways;
}

std::vector<Way> Ways(const Arguments& arguments) {
  if (arguments.alone) return AloneWays();
  if (!arguments.prune.empty()) return PrunedWays(arguments);
  if (!arguments.pass_cost.points().empty()) return PricedWays(arguments);
  std::vector<Way> ways;
  for (const bool others : {false, true}) {
    const std::string before = others ? "recycling+suffix+" : "";
    if (others) ways.push_back({.name = "recycling+suffix", .others = true, .retrieval = false});
    for (const int min_span : {DraftLookupOptions().min_span, 1}) {
      Way way = {.name = before + (min_span == 1 ? "retrieval of one token, too" : "retrieval"),
                 .others = others,
                 .lookup = {.min_span = min_span}};
      ways.push_back(way);
      way.near = true;
      const std::string name = way.name + ", near";
      for (const int below : arguments.near_below) {
        for (const int count : arguments.near) {
          way.name = name;
          way.lookup.near_below = below;
          way.lookup.max_near = count;
          if (arguments.near_below.size() * arguments.near.size() > 1) {
            way.name += " (" + std::to_string(count) + " below " + std::to_string(below) + ")";
          }
          ways.push_back(way);
        }
      }
    }
  }
  return ways;
}

std::vector<std::unique_ptr<Drafter>> Drafters(const Way& way, const Opened& opened) {
  std::vector<std::unique_ptr<Drafter>> drafters;
  if (way.others || way.alone == "recycling") {
    workers::RecyclingOptions recycling;
    recycling.table.vocab_size = opened.store->vocab_size();
    drafters.push_back(std::make_unique<workers::RecyclingDrafter>(recycling));
  }
  if (way.others || way.alone == "suffix") {
    drafters.push_back(std::make_unique<workers::SuffixDrafter>(workers::SuffixOptions()));
  }
  if (way.lookahead) {
    drafters.push_back(std::make_unique<workers::LookaheadDrafter>(workers::LookaheadOptions()));
  }
  if (way.retrieval) {
    workers::RetrievalCorpus corpus = {.store = opened.store};
    if (way.near) corpus.near = opened.near;
    workers::RetrievalDrafterOptions options = {
        .tokenizer = kTokenizer, .vocab_size = opened.store->vocab_size(), .lookup = way.lookup};
    options.unseen_places = way.unseen_places.value_or(options.unseen_places);
    drafters.push_back(OrExit(RetrievalDrafter::Create({corpus}, options)));
  }
  return drafters;
}

// How right estimates were: the mean squared error of a node's (Brier score).
void ReportEstimates(const std::string& name, const ReplayTested& tested, Report& report) {
  if (tested.nodes == 0) return;
  const auto nodes = static_cast<double>(tested.nodes);
  report.Add({.name = name + ", nodes that were right",
              .value = static_cast<double>(tested.right) / nodes,
              .unit = "of " + std::to_string(tested.nodes),
              .beside = absl::StrFormat("expected %.4f; squared error %.4f",
                                        tested.expected / nodes, tested.squared_error / nodes)});
}

int Main(int argc, char** argv) {
  const Arguments arguments = Parse(argc, argv);
  Report report("retrieval_replay", argc, argv);
  report.SetKind(kReplayKind);
  const std::vector<Document> texts = ReadTexts(arguments.corpus);
  std::map<std::string, std::vector<RecordedRequest>> tasks;
  std::vector<RecordedRequest> recorded = ReadRequests(arguments.requests);
  int vocab_size = VocabularyOf(recorded);
  for (const Document& text : texts) {
    for (const int32_t id : text) vocab_size = std::max(vocab_size, id + 1);
  }
  for (RecordedRequest& request : recorded) {
    request.task = request.task.substr(0, request.task.find(' '));
    tasks[request.task].push_back(std::move(request));
  }
  // Turns of one conversation are two requests.
  const auto half_of = [](const std::string& task, size_t number) {
    return (task == "mt-bench" ? number / 2 : number) % 2;
  };
  const std::vector<Way> ways = Ways(arguments);
  std::function<double(int)> pass_cost;
  if (!arguments.pass_cost.points().empty()) {
    pass_cost = [&](int rows) { return arguments.pass_cost.At(rows); };
  }
  const Stores stores;
  std::map<std::string, ReplayCounts> all;
  for (const auto& [task, requests] : tasks) {
    if (!task.starts_with(arguments.task)) continue;
    std::vector<RecordedRequest> replayed;
    std::vector<Document> documents = texts;
    for (const auto& [other, candidates] : tasks) {
      for (size_t i = 0; i < candidates.size(); ++i) {
        const bool held_out = other == task && half_of(task, i) == arguments.half;
        if (held_out) {
          replayed.push_back(candidates[i]);
          std::vector<int32_t>& output = replayed.back().output;
          if (arguments.tokens > 0) output.resize(std::min(output.size(), arguments.tokens));
        }
        const bool wanted = arguments.store == "own"   ? other == task
                            : arguments.store == "all" ? half_of(other, i) != arguments.half
                                                       : KindOf(other) != KindOf(task);
        if (!wanted || held_out) continue;
        documents.push_back(candidates[i].prompt);
        documents.back().insert(documents.back().end(), candidates[i].output.begin(),
                                candidates[i].output.end());
      }
    }
    const Opened opened = stores.Make(documents, vocab_size, arguments.index);
    uint64_t tokens = 0;
    for (const auto& segment : opened.store->segments()) tokens += segment.suffixes();
    const auto& info = opened.near->info();
    report.Add({.name = task + ", requests", .value = static_cast<double>(replayed.size())});
    report.Add({.name = task + ", tokens of the store", .value = static_cast<double>(tokens)});
    report.Add({.name = task + ", contexts", .value = static_cast<double>(info.contexts)});
    report.Add(
        {.name = task + ", near matches made in", .value = opened.build_seconds, .unit = "s"});
    report.Add({.name = task + ", file of near matches",
                .value = static_cast<double>(info.file_bytes) / 1e6,
                .unit = "MB"});
    report.Add({.name = task + ", memory of near matches",
                .value = static_cast<double>(opened.near->bytes()) / 1e6,
                .unit = "MB"});
    std::map<std::string, double> measured;
    for (const Way& way : ways) {
      ReplayCounts counts;
      for (const auto& [_, one] : Replay(replayed, [&] { return Drafters(way, opened); },
                                         {.max_nodes = arguments.nodes,
                                         .warm = arguments.warm,
                                         .believed_for = arguments.believed_for,
                                         .pass_cost = pass_cost,
                                         .prune_below = way.prune_below})) {
        counts.Add(one);
      }
      all[way.name].Add(counts);
      Figure figure = {
          .name = task + ", " + way.name, .value = counts.mat(), .unit = "tokens/step"};
      measured[way.name] = counts.mat();
      const std::string without = way.name.substr(0, way.name.find(", near"));
      double best = 0;  // of one alone
      for (const char* const one : {"recycling", "suffix", "lookahead", "retrieval"}) {
        if (arguments.alone && way.others && way.retrieval) best = std::max(best, measured[one]);
      }
      if (best > 0) {
        figure.beside = "the best alone";
        figure.ratio = counts.mat() / best;
        figure.aim = AtLeast(1, Aim::kRatio);
      }
      if (way.near) {
        figure.beside = "without near matches";
        figure.ratio = counts.mat() / measured[without];
        figure.aim = AtLeast(1, Aim::kRatio);
      }
      report.Add(figure);
      if (arguments.pass_cost.points().empty()) continue;
      report.Add({.name = task + ", " + way.name + ", speed",
                  .value = counts.speedup(),
                  .unit = "x plain"});
    }
  }
  for (const Way& way : ways) {
    const ReplayCounts& counts = all[way.name];
    const auto steps = static_cast<double>(counts.steps);
    report.Add({.name = "all, " + way.name, .value = counts.mat(), .unit = "tokens/step"});
    report.Add({.name = "all, " + way.name + ", drafted",
                .value = static_cast<double>(counts.rows) / steps,
                .unit = "rows/step"});
    report.Add({.name = "all, " + way.name + ", draft, median",
                .value = Percentile(counts.microseconds, 0.5),
                .unit = "us"});
    report.Add({.name = "all, " + way.name + ", draft, 99 %",
                .value = Percentile(counts.microseconds, 0.99),
                .unit = "us",
                .aim = AtMost(100)});
    if (arguments.pass_cost.points().empty()) continue;
    report.Add(
        {.name = "all, " + way.name + ", speed", .value = counts.speedup(), .unit = "x plain"});
    if (way.retrieval && way.others) {
      ReportEstimates("all, " + way.name + ", of retrieval", counts.proposed[2], report);
    }
    ReportEstimates("all, " + way.name, counts.combined, report);
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
