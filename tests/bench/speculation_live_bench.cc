// What speculation gains on recorded answers when the kernels really run: decoding with drafters
// beside plain decoding of the same engine, interleaved in the same run.
//
//   speculation_live_bench --requests=FILE   from tests/bench/speculation_requests.py
//     --task=PREFIX                          only these
//     --batch=1,4,16                         sequences at the same time, at most 64
//     --drafters=recycling,suffix            any of those, lookahead, model and retrieval; of none
//                                            it shows how much two equal engines differ; with
//                                            several lists, by semicolons, each is another engine
//     --draft-model=FOLDER                   of the drafter model, with the tokenizer of the other
//     --threads=2                            of an engine, or several numbers, one for plain
//                                            decoding and one for each list of drafters
//     --verify-all                           drafts, whether or not they pay
//     --temperature=0                        of sampling
//     --activations=f32                      as workers have them: f32, bf16 or bf16-pairs
//     --layers=12                            of the random model
//     --tokens=64 --prompt=512               of an answer, and the last of its prompt
//     --sequences=4                          of a task, or a batch of more, at most 64
//     --repetitions=5
//     --warm=0                               so many other requests of the task are answered for a
//                                            tenant before its own
//     --times                                also of single answers: the first token, what is
//                                            between tokens, and all of a batch to its end
//     --placements=1                         as often all engines are made anew, each time another
//                                            one first, and measured in as many repetitions: where
//                                            its memory lies decides 1 to 4 % of an engine's speed
//   speculation_live_bench --stories=FOLDER  a trained model's own choices instead: FOLDER has its
//                                            hf/ and golden_greedy.json
//   speculation_live_bench --model=FOLDER --requests=FILE
//                                            the same of any model, FILE being of
//                                            tests/bench/speculation_prompts.py: what it answers
//                                            is its own, to its end; the answers of the file are
//                                            in the store of the drafter retrieval alone
//
// The model is a random Llama of about 430 MB in BF16, on two threads, whose every choice is forced
// to be the recorded token. So acceptance is a real model's (or a person's, where solutions are),
// and cost is that of real kernels; recycling learns successors alone, since what a random model
// holds probable says nothing. Recorded answers are greedy: with a temperature the sampler works as
// it would, but is left the one token. Sequences are the first of a task that are long enough, cut;
// of a batch of less than --sequences, as many one after the other as make these. Each repetition
// has a tenant of its own, so it begins with nothing learned, but prompts are computed only once,
// and the time of a first token is that of a prompt that is cached. Speed is that of decoding,
// after the last of the first tokens. Whatever differs from what plain decoding answered ends the
// program.
//
// A trained model chooses for itself, with all drafters as they are; its prompts are few, so that
// with a temperature each is asked with many seeds, and greedily the same is asked often. What was
// learned in one answer serves the next ones of the repetition.
//
// The drafter retrieval has a store of half the requests of all tasks; then only the other half is
// asked. "retrieval:2" looks for two tokens at least, "retrieval:2:0" besides takes no places to be
// unseen (RetrievalDrafterOptions). Behind the drafters of an engine, "prune:0.05" drops what
// was retrieved where the drafter model finds it less probable. "model:1" has a thread of its own,
// on which it drafts on while the model verifies, in at most 8 passes, "model:1:4" in at most 4.
//
// "Drafting" is what drafters take of a step beside its pass: what would be gained at most, were it
// done while a pass runs, on cores that nothing else needs.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/cpu/cpu_backend.h"
#ifdef OCTOGATE_MAKES_DRAFT_STORES
#include "retrieval/drafts/draft_store_writer.h"
#endif
#include "tests/bench/engine_speed.h"
#include "tests/bench/options.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/bench/recorded_decoding.h"
#include "tests/bench/report.h"
#include "tests/bench/speculation_replay.h"
#include "tests/bench/turns.h"
#include "workers/engine/engine.h"
#include "workers/engine/format_names.h"
#include "workers/model/checkpoint.h"
#include "workers/speculation/lookahead.h"
#include "workers/speculation/model_drafter.h"
#include "workers/speculation/recycling.h"
#include "workers/speculation/retrieval_drafter.h"
#include "workers/speculation/suffix.h"

namespace octogate::bench {
namespace {

using workers::Engine;

constexpr int kVocabulary = 32000;
constexpr int kMostSequences = 64;
constexpr int kDraftNodes = 63;
constexpr Hash128 kTokenizer = {.high = 1, .low = 2};

using DrafterNames = std::vector<std::string>;

struct Settings {
  std::string requests;  // a file, of recorded answers
  std::string stories;   // or a folder
  std::string model;     // a folder, whose own answers are measured
  std::string task;
  std::vector<size_t> batches;
  std::vector<DrafterNames> drafters;  // of each engine
  std::string draft_model;
  std::vector<int> threads;  // of each engine
  bool verify_all = false;
  double temperature = 0;
  kernels::Activations activations = kernels::Activations::kF32;
  int layers = 0;
  size_t tokens = 0;
  size_t prompt = 0;
  size_t sequences = 0;
  int repetitions = 0;
  int placements = 0;
  size_t warm = 0;
  bool times = false;
};

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

// A drafter that is not told what the model holds probable.
class WithoutCandidates : public workers::Drafter {
 public:
  explicit WithoutCandidates(std::unique_ptr<Drafter> drafter) : drafter_(std::move(drafter)) {}

  std::string_view name() const override { return drafter_->name(); }
  std::unique_ptr<workers::SequenceDrafter> Begin(std::string_view scope) override {
    return drafter_->Begin(scope);
  }
  uint64_t bytes() const override { return drafter_->bytes(); }

 private:
  const std::unique_ptr<Drafter> drafter_;
};

bool Retrieves(const Settings& settings) {
  for (const DrafterNames& names : settings.drafters) {
    for (const std::string& name : names) {
      if (name.starts_with("retrieval")) return true;
    }
  }
  return false;
}

using StorePtr = std::shared_ptr<const retrieval::DraftStore>;

StorePtr MakeStore(const std::vector<RecordedRequest>& requests, int vocab_size,
                   const std::string& path) {
#ifdef OCTOGATE_MAKES_DRAFT_STORES
  const auto writer = OrExit(retrieval::DraftStoreWriter::Create(
      path, {.tokenizer = kTokenizer, .vocab_size = vocab_size}));
  absl::Status status;
  for (const RecordedRequest& request : requests) {
    std::vector<int32_t> document = request.prompt;
    document.insert(document.end(), request.output.begin(), request.output.end());
    status.Update(writer->Add(document));
  }
  status.Update(writer->Finish());
  if (!status.ok()) OrExit<int>(status);
  return OrExit(retrieval::DraftStore::Open(path));
#else
  static_cast<void>(requests);
  static_cast<void>(vocab_size);
  static_cast<void>(path);
  std::cerr << "draft stores cannot be made here: libdivsufsort-dev is not installed\n";
  std::exit(2);
#endif
}

std::unique_ptr<workers::Drafter> MakeDrafter(const std::string& name, int vocab_size,
                                              const Settings& settings, const StorePtr& store,
                                              kernels::Backend* backend) {
  const bool with_candidates = !settings.stories.empty() || !settings.model.empty();
  if (name == "recycling") {
    auto recycling = std::make_unique<workers::RecyclingDrafter>(
        workers::RecyclingOptions{.table = {.vocab_size = vocab_size}});
    if (with_candidates) return recycling;
    return std::make_unique<WithoutCandidates>(std::move(recycling));
  }
  if (name == "suffix") return std::make_unique<workers::SuffixDrafter>(workers::SuffixOptions{});
  if (name == "lookahead") {
    return std::make_unique<workers::LookaheadDrafter>(workers::LookaheadOptions{});
  }
  const std::vector<std::string> parts = absl::StrSplit(name, ':');
  if (parts[0] == "model" && parts.size() <= 3) {
    auto checkpoint = std::make_shared<const workers::Checkpoint>(
        OrExit(workers::Checkpoint::Open(settings.draft_model)));
    workers::ModelDrafterOptions options{
        .draft_tokenizer = {}, .target_tokenizer = {}, .vocab_size = vocab_size, .pages = 4096};
    if (parts.size() == 1) {
      return OrExit(workers::ModelDrafter::Create(std::move(checkpoint), backend, options));
    }
    int threads = 0;
    options.ahead_passes = 8;
    if (absl::SimpleAtoi(parts[1], &threads) &&
        (parts.size() < 3 || absl::SimpleAtoi(parts[2], &options.ahead_passes))) {
      return OrExit(workers::ModelDrafter::Create(
          std::move(checkpoint),
          kernels::MakeCpuBackend({.threads = threads, .activations = settings.activations}),
          options));
    }
  }
  if (store != nullptr && parts[0] == "retrieval" && parts.size() <= 3) {
    workers::RetrievalDrafterOptions options{.tokenizer = kTokenizer, .vocab_size = vocab_size};
    if ((parts.size() < 2 || absl::SimpleAtoi(parts[1], &options.lookup.min_span)) &&
        (parts.size() < 3 || absl::SimpleAtof(parts[2], &options.unseen_places))) {
      return OrExit(workers::RetrievalDrafter::Create({{.store = store}}, options));
    }
  }
  std::cerr << "there is no drafter '" << name << "' here\n";
  std::exit(2);
}

std::unique_ptr<Engine> Create(const std::shared_ptr<const workers::Checkpoint>& checkpoint,
                               const Settings& settings, const StorePtr& store,
                               const DrafterNames& names, int threads) {
  auto backend = kernels::MakeCpuBackend(
      {.threads = threads, .activations = settings.activations, .pin_threads = true});
  std::vector<std::unique_ptr<workers::Drafter>> drafters;
  float prune_below = 0;
  for (const std::string& name : names) {
    if (name.starts_with("prune:")) {
      if (absl::SimpleAtof(name.substr(6), &prune_below)) continue;
      std::cerr << "'" << name << "' has no number\n";
      std::exit(2);
    }
    drafters.push_back(
        MakeDrafter(name, checkpoint->config().vocab_size, settings, store, backend.get()));
  }
  const auto positions = static_cast<int64_t>(settings.prompt + settings.tokens + 2 * kDraftNodes);
  return OrExit(Engine::Create(checkpoint, nullptr, std::move(backend),
                               {.max_sequences = kMostSequences,
                                .max_rows_per_step = 256,
                                .kv_tokens = kMostSequences * positions,
                                .step_cost_time = absl::Seconds(3),
                                .kv_dtype = kernels::DType::kF16,
                                .max_draft_nodes = names.empty() ? 0 : kDraftNodes,
                                .prune_retrieved_below = prune_below,
                                .verify_all_drafts = settings.verify_all},
                               std::move(drafters)));
}

// Of an engine since it began.
struct StepTimes {
  explicit StepTimes(const Engine& engine) {
    const workers::EngineStats stats = engine.stats();
    steps = static_cast<double>(stats.steps);
    pass = absl::ToDoubleMicroseconds(stats.step_time);
    if (!stats.speculation) return;
    drafting = absl::ToDoubleMicroseconds(stats.speculation->draft);
    drafted = static_cast<double>(stats.speculation->tokens.drafted);
  }

  double steps = 0;
  double pass = 0;      // microseconds
  double drafting = 0;  // likewise, beside passes
  double drafted = 0;   // tokens that were verified
};

using Tasks = std::map<std::string, std::vector<RecordedRequest>>;

// Of each task the first that are long enough.
Tasks Choose(std::vector<RecordedRequest> requests, const Settings& settings) {
  Tasks tasks;
  for (RecordedRequest& request : requests) {
    const std::string task = request.task.substr(0, request.task.find(' '));
    std::vector<RecordedRequest>& chosen = tasks[task];
    const bool is_own = !settings.model.empty();
    if (!task.starts_with(settings.task) || chosen.size() == kMostSequences + settings.warm ||
        (!is_own && request.output.size() < settings.tokens)) {
      continue;
    }
    request.output.resize(is_own ? 0 : settings.tokens);
    if (request.prompt.size() > settings.prompt) {
      request.prompt.erase(request.prompt.begin(),
                           request.prompt.end() - static_cast<std::ptrdiff_t>(settings.prompt));
    }
    chosen.push_back(std::move(request));
  }
  return tasks;
}

// Both halves; turns of one conversation, which are two requests, are in the same.
std::array<std::vector<RecordedRequest>, 2> Halve(std::vector<RecordedRequest> requests) {
  std::array<std::vector<RecordedRequest>, 2> halves;
  std::map<std::string, size_t> counts;
  for (RecordedRequest& request : requests) {
    const std::string task = request.task.substr(0, request.task.find(' '));
    const size_t number = counts[task]++;
    const size_t half = (task == "mt-bench" ? number / 2 : number) % 2;
    halves[half].push_back(std::move(request));
  }
  return halves;
}

// Prompts without recorded answers, each as often as it takes.
Tasks ReadStories(const std::string& folder) {
  std::ifstream file(folder + "/golden_greedy.json");
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array() || json.empty()) {
    std::cerr << folder << "/golden_greedy.json is not there, or no list of prompts\n";
    std::exit(2);
  }
  std::vector<RecordedRequest> requests;
  for (size_t i = 0; i < kMostSequences; ++i) {
    requests.push_back({"stories", json[i % json.size()]["prompt_ids"], {}});
  }
  return {{"stories", std::move(requests)}};
}

Settings Parse(int argc, char** argv) {
  Settings settings{
      .requests = Option(argc, argv, "--requests=", ""),
      .stories = Option(argc, argv, "--stories=", ""),
      .model = Option(argc, argv, "--model=", ""),
      .task = Option(argc, argv, "--task=", ""),
      .batches = {},
      .drafters = {},
      .draft_model = Option(argc, argv, "--draft-model=", ""),
      .threads = {},
      .verify_all = std::find(argv, argv + argc, std::string_view("--verify-all")) != argv + argc,
      .temperature = NumberOption<double>(argc, argv, "--temperature=", "0"),
      .layers = NumberOption<int>(argc, argv, "--layers=", "12"),
      .tokens = std::max<size_t>(2, NumberOption<size_t>(argc, argv, "--tokens=", "64")),
      .prompt = std::max<size_t>(1, NumberOption<size_t>(argc, argv, "--prompt=", "512")),
      .sequences = NumberOption<size_t>(argc, argv, "--sequences=", "4"),
      .repetitions = std::max(1, NumberOption<int>(argc, argv, "--repetitions=", "5")),
      .placements = std::max(1, NumberOption<int>(argc, argv, "--placements=", "1")),
      .warm = NumberOption<size_t>(argc, argv, "--warm=", "0"),
      .times = std::find(argv, argv + argc, std::string_view("--times")) != argv + argc};
  if (settings.requests.empty() && settings.stories.empty()) {
    std::cerr << "--requests=FILE or --stories=FOLDER is missing\n";
    std::exit(2);
  }
  const auto activations = workers::ParseActivations(Option(argc, argv, "--activations=", "f32"));
  if (!activations) {
    std::cerr << "--activations is f32, bf16 or bf16-pairs\n";
    std::exit(2);
  }
  settings.activations = *activations;
  const std::string drafters = Option(argc, argv, "--drafters=", "recycling,suffix");
  for (const auto names : absl::StrSplit(drafters, ';')) {
    settings.drafters.push_back(absl::StrSplit(names, ',', absl::SkipEmpty()));
  }
  for (const auto text : absl::StrSplit(Option(argc, argv, "--threads=", "2"), ',')) {
    int threads = 0;
    if (!absl::SimpleAtoi(text, &threads) || threads < 1) {
      std::cerr << "--threads is of numbers from 1 on\n";
      std::exit(2);
    }
    settings.threads.push_back(threads);
  }
  for (const auto text : absl::StrSplit(Option(argc, argv, "--batch=", "1,4,16"), ',')) {
    size_t batch = 0;
    if (!absl::SimpleAtoi(text, &batch) || batch < 1 || batch > kMostSequences) {
      std::cerr << "--batch is of numbers from 1 to " << kMostSequences << "\n";
      std::exit(2);
    }
    settings.batches.push_back(batch);
  }
  return settings;
}

// An engine's runs of one task and batch.
struct Way {
  std::vector<Decoding> runs;
  std::vector<double> speeds;
  double steps = 0;
  double pass = 0;
  double drafting = 0;
  double drafted = 0;
  double held = 0;  // bytes, by drafters, after the last run
};

struct Cell {
  size_t batch = 0;
  std::string task;
  std::span<const RecordedRequest> requests;
  std::span<const RecordedRequest> before;  // that warm drafters have seen
  std::vector<Way> ways;                    // the first has no drafters
};

// An engine of each way, made from this one on.
std::vector<std::unique_ptr<Engine>> CreateAll(
    const std::shared_ptr<const workers::Checkpoint>& checkpoint, const Settings& settings,
    const StorePtr& store, size_t first) {
  std::vector<std::unique_ptr<Engine>> engines(1 + settings.drafters.size());
  for (size_t i = 0; i < engines.size(); ++i) {
    const size_t way = (first + i) % engines.size();
    engines[way] =
        Create(checkpoint, settings, store, way == 0 ? DrafterNames{} : settings.drafters[way - 1],
               settings.threads[std::min(way, settings.threads.size() - 1)]);
  }
  return engines;
}

void MeasureCell(std::span<const std::unique_ptr<Engine>> engines, const Settings& settings,
                 int tenants, Cell& cell) {
  DecodingTerms terms{.tokens = 2,
                      .temperature = settings.temperature,
                      .to_own_end = !settings.model.empty(),
                      .vocab_size = kVocabulary,
                      .tenant = "first"};
  // Prompts are computed, and weights read.
  for (const auto& engine : engines) Decode(*engine, cell.requests, cell.batch, terms);
  terms.tokens = settings.tokens;
  std::vector<std::function<double(int)>> turns;
  for (size_t e = 0; e < engines.size(); ++e) {
    turns.emplace_back([&, e](int repetition) {
      Way& way = cell.ways[e];
      terms.tenant = absl::StrCat("tenant ", tenants + repetition);
      Decode(*engines[e], e == 0 ? std::span<const RecordedRequest>() : cell.before, 1, terms);
      const StepTimes before(*engines[e]);
      way.runs.push_back(Decode(*engines[e], cell.requests, cell.batch, terms));
      const StepTimes after(*engines[e]);
      way.steps += after.steps - before.steps;
      way.pass += after.pass - before.pass;
      way.drafting += after.drafting - before.drafting;
      way.drafted += after.drafted - before.drafted;
      way.held = static_cast<double>(engines[e]->stats().draft_bytes);
      return way.runs.back().tokens_per_second();
    });
  }
  const size_t runs_before = cell.ways[0].runs.size();  // of engines that were made before
  const std::vector<std::vector<double>> speeds = InTurns(turns, settings.repetitions);
  for (size_t e = 0; e < engines.size(); ++e) {
    Way& way = cell.ways[e];
    way.speeds.insert(way.speeds.end(), speeds[e].begin(), speeds[e].end());
    for (size_t run = runs_before; run < way.runs.size(); ++run) {
      if (way.runs[run].answers == cell.ways[0].runs[run].answers) continue;
      std::cerr << "with drafts the answers are others than without\n";
      std::exit(1);
    }
  }
}

// Of all answers of all runs, in milliseconds, what the given share of them stays below.
double Quantile(const Way& way, double share, double (*seconds)(const AnswerTimes&)) {
  std::vector<float> values;
  for (const Decoding& run : way.runs) {
    for (const AnswerTimes& times : run.times) {
      if (times.tokens > 1) values.push_back(static_cast<float>(1e3 * seconds(times)));
    }
  }
  return Percentile(std::move(values), share);
}

void AddTimes(Report& report, const std::string& name, const Way& way, const Way& plain) {
  const auto add = [&](const char* what, double share, double (*seconds)(const AnswerTimes&)) {
    const double with = Quantile(way, share, seconds);
    const double without = Quantile(plain, share, seconds);
    report.Add({.name = absl::StrCat(name, ": ", what),
                .value = with,
                .unit = "ms",
                .beside = absl::StrFormat("plain %.2f", without),
                .ratio = with / without});
  };
  add("first token, median", 0.5, [](const AnswerTimes& times) { return times.first; });
  add("between tokens, median", 0.5, [](const AnswerTimes& times) { return times.between(); });
  add("between tokens, 95 %", 0.95, [](const AnswerTimes& times) { return times.between(); });
  add("whole answer, median", 0.5, [](const AnswerTimes& times) { return times.last; });
}

void AddTo(Report& report, const Settings& settings, const Cell& cell) {
  const Way& plain = cell.ways[0];
  for (size_t e = 1; e < cell.ways.size(); ++e) {
    const Way& way = cell.ways[e];
    const Spread ratio = RatioOf(way.speeds, plain.speeds);
    const double steps = std::max(1.0, way.steps);
    const Decoding with = Median(way.runs);
    std::string name = absl::StrCat("batch ", cell.batch, ", ", cell.task);
    if (settings.temperature > 0) absl::StrAppend(&name, ", temperature ", settings.temperature);
    if (settings.warm > 0) absl::StrAppend(&name, ", warm");
    if (cell.ways.size() > 2) {
      absl::StrAppend(&name, ", ", absl::StrJoin(settings.drafters[e - 1], "+"));
    }
    report.Add({.name = name,
                .value = with.tokens_per_second(),
                .unit = "tokens/s",
                .beside = absl::StrFormat("plain %.0f; MAT %.3f; a step %.2f rows drafted, %.1f us "
                                          "drafting, %.1f us pass; drafters hold %.1f MB",
                                          Median(plain.runs).tokens_per_second(), with.mat(),
                                          way.drafted / steps, way.drafting / steps,
                                          way.pass / steps, way.held / 1e6),
                .ratio = ratio.median,
                .ratio_between = std::pair(ratio.low, ratio.high),
                .aim = AtLeast(0.98, Aim::kRatio)});
    if (settings.times) AddTimes(report, name, way, plain);
  }
}

int Main(int argc, char** argv) {
  Report report("speculation_live", argc, argv);
  const Settings settings = Parse(argc, argv);
  if (settings.stories.empty() && settings.model.empty()) {
    report.SetKind("replay of recorded choices, forced upon a random model; kernels are real");
  }
  const TemporaryFolder folder;
  std::filesystem::path path = folder.path();
  if (!settings.stories.empty()) {
    path = settings.stories + "/hf";
  } else if (!settings.model.empty()) {
    path = settings.model;
  } else if (absl::Status status = WriteRandomCheckpoint(
                 {.num_layers = settings.layers, .vocab_size = kVocabulary}, path);
             !status.ok()) {
    OrExit<int>(status);
  }
  const auto checkpoint =
      std::make_shared<const workers::Checkpoint>(OrExit(workers::Checkpoint::Open(path)));
  std::vector<RecordedRequest> requests_of_file;
  if (settings.stories.empty()) requests_of_file = ReadRequests(settings.requests);
  StorePtr store;
  if (Retrieves(settings)) {
    auto [stored, asked] = Halve(std::move(requests_of_file));
    store = MakeStore(stored, checkpoint->config().vocab_size, (folder.path() / "drafts").string());
    requests_of_file = std::move(asked);
  }
  const Tasks tasks = settings.stories.empty() ? Choose(std::move(requests_of_file), settings)
                                               : ReadStories(settings.stories);
  std::vector<Cell> cells;
  for (const size_t batch : settings.batches) {
    for (const auto& [task, requests] : tasks) {
      const size_t count =
          std::min(requests.size() / batch, std::max<size_t>(1, settings.sequences / batch)) *
          batch;
      if (count == 0) continue;
      cells.push_back({.batch = batch,
                       .task = task,
                       .requests = std::span(requests).first(count),
                       .before = std::span(requests).subspan(
                           count, std::min(settings.warm, requests.size() - count)),
                       .ways = std::vector<Way>(1 + settings.drafters.size())});
    }
  }
  for (int placement = 0; placement < settings.placements; ++placement) {
    const std::vector<std::unique_ptr<Engine>> engines =
        CreateAll(checkpoint, settings, store, static_cast<size_t>(placement));
    int tenants = 0;
    for (Cell& cell : cells) {
      std::cerr << absl::StrFormat("placement %d of %d: batch %d, %s\n", placement + 1,
                                   settings.placements, cell.batch, cell.task);
      MeasureCell(engines, settings, tenants, cell);
      tenants += settings.repetitions;
    }
  }
  for (const Cell& cell : cells) AddTo(report, settings, cell);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
