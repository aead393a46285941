// Questions to a database, end to end: what share of them is answered with a statement that is
// valid, that runs, and that gives the right rows, on the shipped graph (deploy/graphs/sql.yaml)
// behind a real gateway, over gRPC; with and without linking, grammar and correction.
//
// valid       the check node passed the statement: SQLite prepared it under the authorizer's rules
// executable  the run node ran it to its end, within the limits
// correct     its rows are those of the gold statement, which SQLite runs here without the gateway:
//             the same rows equally often, in the same order where the gold statement as a whole
//             has an ORDER BY; columns by place, numbers to nine digits
//
// Shares are of all questions, those without any answer included.
//
// Questions: 50 of this benchmark (sql/chinook.jsonl) about Chinook, a real database; the 272 of
// KaggleDBQA, whose databases are not public in its repository: rows are generated from a seed, and
// "correct" means equal on these rows.
//
// Answers are prepared (sql_player.h): no model's skill is measured with them, but what everything
// around a model makes of right and of broken statements:
// - gold: the gold statement.
// - broken: a statement with one mistake that a database should refuse (sql_faults.h); the answer
//   after a correction is the gold statement.
// - mixed: each answer, corrections included, has with probability `rate` one mistake of any kind,
//   drawn anew.
// - faults: every kind of mistake in every statement that has a place for it.
// Behind a grammar a prepared answer is written as far as the grammar holds it ("cut"), which is
// less than a model would do; or the right one is written where the grammar refuses the broken one
// ("second choice"), which is more.
//
// Models: the one that is shipped, and with --model=DIR another Hugging Face folder, on --questions
// of each suite.
//
//   sql_bench --part=NAME    one only: prompts, gold, broken, mixed, faults, models
//   sql_bench --suite=NAME   one only: chinook, kaggledbqa
//   sql_bench --model=DIR --questions=20 --rate=0.5 --seed=1
//
// Reads text2sql in the folder OCTOGATE_TEST_DATA; without it nothing is measured.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/in_process_model_client.h"
#include "tests/bench/report.h"
#include "tests/bench/sql_evaluation.h"
#include "tests/bench/sql_faults.h"
#include "tests/bench/sql_graph.h"
#include "tests/bench/sql_player.h"
#include "tests/bench/sql_prompts.h"
#include "tests/bench/sql_questions.h"

namespace octogate::bench {
namespace {

constexpr uint64_t kRowSeed = 20261128;

struct Settings {
  std::string part;
  std::string suite;
  std::string model;
  size_t questions = 20;
  double rate = 0.5;
  uint64_t seed = 1;
};

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << "sql_bench: " << value.status() << "\n";
  std::exit(1);
}

// A folder for this process, removed at the end.
class ScratchFolder {
 public:
  ScratchFolder()
      : path_(std::filesystem::temp_directory_path() / absl::StrCat("sql_bench_", getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::filesystem::path path_;
};

struct NamedVariant {
  std::string name;
  SqlVariant variant;
};

const std::vector<NamedVariant>& Variants() {
  static const auto& variants = *new std::vector<NamedVariant>{
      {"as shipped", {}},
      {"all three", {.linking = SqlLinking::kFocused}},
      {"no linking", {.linking = SqlLinking::kWhole}},
      {"no grammar", {.linking = SqlLinking::kFocused, .grammar = false}},
      {"no correction", {.linking = SqlLinking::kFocused, .correction = false}},
      {"none of them", {.linking = SqlLinking::kWhole, .grammar = false, .correction = false}},
  };
  return variants;
}

class SqlBench {
 public:
  SqlBench(const Settings& settings, std::vector<EvaluatedSuite> suites,
           const std::filesystem::path& root, Report* report)
      : settings_(settings),
        suites_(std::move(suites)),
        report_(*report),
        gateway_(root, [this](const v1::Model&, absl::Time) { return player_->NewClient(); }) {}

  void Gold() {
    for (const EvaluatedSuite& suite : suites_) {
      // How the statements are written in the source: strings in double quotes.
      if (std::any_of(suite.questions.begin(), suite.questions.end(),
                      [](const SqlQuestion& q) { return q.gold != q.original; })) {
        Add(suite, "gold as it is published, none of them",
            Run(suite, Variants().back().variant,
                [&](size_t i) { return SqlPlayer::Script{{suite.questions[i].original}}; }));
      }
      for (const NamedVariant& variant : Variants()) {
        const SqlOutcomes outcomes = Run(suite, variant.variant, [&](size_t i) {
          return SqlPlayer::Script{{suite.questions[i].gold}};
        });
        Add(suite, "gold, " + variant.name, outcomes);
        if (variant.variant.grammar) AddHeld(suite, "gold, " + variant.name, outcomes);
        if (variant.name == "all three") AddLinks(suite, outcomes);
      }
    }
  }

  void Broken() {
    for (const EvaluatedSuite& suite : suites_) {
      std::mt19937_64 random(settings_.seed);
      std::vector<std::string> broken;
      for (const SqlQuestion& question : suite.questions) {
        broken.push_back(Draw(suite, question, /*mechanical_only=*/true, random));
      }
      const auto measure = [&](const std::string& name, const SqlVariant& variant, bool second) {
        const SqlOutcomes outcomes = Run(suite, variant, [&](size_t i) {
          const std::string& gold = suite.questions[i].gold;
          SqlPlayer::Script script = {{broken[i]}, {gold}};
          if (second) script[0].push_back(gold);
          return script;
        });
        Add(suite, "broken, " + name, outcomes);
        if (variant.grammar && !second) AddHeld(suite, "broken, " + name, outcomes);
      };
      for (const NamedVariant& variant : Variants()) {
        measure(variant.name, variant.variant, /*second=*/false);
        if (variant.variant.grammar && variant.name != "as shipped") {
          measure(variant.name + ", second choice", variant.variant, /*second=*/true);
        }
      }
    }
  }

  void Mixed() {
    for (const EvaluatedSuite& suite : suites_) {
      std::mt19937_64 random(settings_.seed + 1);
      std::uniform_real_distribution<double> chance(0, 1);
      std::vector<SqlPlayer::Script> scripts;
      for (const SqlQuestion& question : suite.questions) {
        SqlPlayer::Script& script = scripts.emplace_back();
        for (int answer = 0; answer < 3; ++answer) {
          const bool wrong = chance(random) < settings_.rate;
          script.push_back({wrong ? Draw(suite, question, false, random) : question.gold});
        }
      }
      for (const NamedVariant& variant : Variants()) {
        const SqlOutcomes outcomes =
            Run(suite, variant.variant, [&](size_t i) { return scripts[i]; });
        Add(suite, absl::StrFormat("mixed at %.2f, %s", settings_.rate, variant.name), outcomes);
        if (variant.name == "all three") AddTimes(suite, outcomes);
      }
      const SqlOutcomes second = Run(suite, {.linking = SqlLinking::kFocused}, [&](size_t i) {
        SqlPlayer::Script script = scripts[i];
        for (auto& texts : script) texts.push_back(suite.questions[i].gold);
        return script;
      });
      Add(suite, absl::StrFormat("mixed at %.2f, all three, second choice", settings_.rate),
          second);
    }
  }

  // What catches each kind of mistake, of both suites together.
  void Faults() {
    for (const SqlFault fault : AllSqlFaults()) {
      SqlOutcomes free;     // without a grammar
      SqlOutcomes limited;  // with one
      for (const EvaluatedSuite& suite : suites_) {
        std::mt19937_64 random(settings_.seed + 2);
        EvaluatedSuite some = suite;
        some.questions.clear();
        some.gold_rows.clear();
        std::vector<std::string> broken;
        for (size_t i = 0; i < suite.questions.size(); ++i) {
          const SqlQuestion& question = suite.questions[i];
          const auto text =
              WithFault(question.gold, fault, suite.databases.at(question.database).schema, random);
          if (!text) continue;
          some.questions.push_back(question);
          some.gold_rows.push_back(suite.gold_rows[i]);
          broken.push_back(*text);
        }
        const auto script = [&](size_t i) {
          return SqlPlayer::Script{{broken[i], some.questions[i].gold}, {some.questions[i].gold}};
        };
        free.Append(Run(some, {.linking = SqlLinking::kFocused, .grammar = false}, script));
        limited.Append(Run(some, {.linking = SqlLinking::kFocused}, script));
      }
      AddFault(std::string(Name(fault)), free, limited);
    }
  }

  // `folder`: of the model; `title`: how the report calls it.
  void Model(const std::filesystem::path& folder, const std::string& title,
             const std::filesystem::path& root) {
    gateway::InProcessWorkerOptions options;
    const std::filesystem::path whole = std::filesystem::absolute(folder).lexically_normal();
    const std::filesystem::path named = whole.has_filename() ? whole : whole.parent_path();
    options.model_root = named.parent_path();
    gateway::InProcessWorker worker(options);
    SqlGateway gateway(root, [&worker](const v1::Model& model, absl::Time deadline) {
      return worker.Load(model, deadline);
    });
    const std::vector<NamedVariant> variants = {
        {"as shipped", {}},
        {"no grammar", {.linking = SqlLinking::kFocused, .grammar = false}},
        {"links of 96 tokens", {.token_budget = 96}},
        {"links of 96 tokens, no grammar", {.grammar = false, .token_budget = 96}},
    };
    for (const EvaluatedSuite& suite : suites_) {
      const EvaluatedSuite some = suite.Sample(settings_.questions);
      for (const NamedVariant& variant : variants) {
        const SqlOutcomes outcomes =
            OrExit(Evaluate(some, variant.variant, OCTOGATE_DEPLOY "/graphs",
                            named.filename().string(), nullptr, nullptr, &gateway));
        Add(suite, absl::StrCat(title, ", ", variant.name), outcomes);
        std::map<std::string, int> errors;
        for (const SqlOutcome& outcome : outcomes.all) {
          std::string error = outcome.course.error.substr(0, 110);
          std::replace_if(error.begin(), error.end(), absl::ascii_isdigit, '#');
          if (!error.empty()) ++errors[error];
        }
        int shown = 0;
        for (const auto& [error, times] : errors) {
          if (++shown <= 4) std::cerr << "    " << times << " times: " << error << "\n";
        }
        for (const SqlOutcome& outcome : outcomes.all) {
          if (outcome.course.statement.empty()) continue;
          std::cerr << "    e.g. " << outcome.course.statement.substr(0, 160) << "\n";
          break;
        }
      }
    }
  }

 private:
  SqlOutcomes Run(const EvaluatedSuite& suite, const SqlVariant& variant, const ScriptOf& script) {
    return OrExit(Evaluate(suite, variant, OCTOGATE_DEPLOY "/graphs", "prepared", player_.get(),
                           script, &gateway_));
  }

  static std::string Draw(const EvaluatedSuite& suite, const SqlQuestion& question,
                          bool mechanical_only, std::mt19937_64& random) {
    std::vector<std::string> texts;
    for (const SqlFault fault : AllSqlFaults()) {
      if (mechanical_only && !IsMechanical(fault)) continue;
      auto text =
          WithFault(question.gold, fault, suite.databases.at(question.database).schema, random);
      if (text) texts.push_back(*std::move(text));
    }
    return texts[random() % texts.size()];  // prose can be put before any
  }

  void Share(const std::string& name, double share) {
    report_.Add({.name = name, .value = 100 * share, .unit = "%"});
  }

  void Add(const EvaluatedSuite& suite, const std::string& name, const SqlOutcomes& outcomes) {
    const std::string title = absl::StrCat(suite.name, ", ", name);
    const double valid = outcomes.Share([](const SqlOutcome& o) { return o.course.valid; });
    const double runs = outcomes.Share([](const SqlOutcome& o) { return o.course.executable; });
    const double right = outcomes.Share([](const SqlOutcome& o) { return o.correct; });
    const double calls = outcomes.Mean(
        [](const SqlOutcome& o) { return static_cast<double>(o.course.model_calls); });
    std::cerr << absl::StrFormat(
        "%-58s %4d  valid %5.1f  executable %5.1f  correct %5.1f  %.2f calls\n", title,
        outcomes.all.size(), 100 * valid, 100 * runs, 100 * right, calls);
    Share(title + ": valid", valid);
    Share(title + ": executable", runs);
    Share(title + ": correct", right);
    report_.Add({.name = title + ": calls", .value = calls, .unit = "per question"});
    const double cut = outcomes.Share([](const SqlOutcome& o) { return o.course.truncated; });
    if (cut > 0) Share(title + ": rows left out", cut);
  }

  void AddHeld(const EvaluatedSuite& suite, const std::string& name, const SqlOutcomes& outcomes) {
    Share(
        absl::StrCat(suite.name, ", ", name, ": held by the grammar"),
        outcomes.Share([](const SqlOutcome& o) { return !o.played.empty() && o.played[0].held; }));
  }

  void AddLinks(const EvaluatedSuite& suite, const SqlOutcomes& outcomes) {
    report_.Add({.name = suite.name + ", links: tokens",
                 .value = outcomes.Mean(
                     [](const SqlOutcome& o) { return static_cast<double>(o.course.link_tokens); }),
                 .unit = "tokens"});
    report_.Add({.name = suite.name + ", prompts of generate",
                 .value = outcomes.Mean([](const SqlOutcome& o) {
                   return o.played.empty() ? 0 : static_cast<double>(o.played[0].prompt_bytes) / 4;
                 }),
                 .unit = "tokens"});
    const bool known = std::any_of(suite.questions.begin(), suite.questions.end(),
                                   [](const SqlQuestion& q) { return !q.kind.empty(); });
    if (!known) return;
    const std::map<std::string, std::string> classes = {
        {"easy", "easy"}, {"non-nested", "joined"}, {"nested", "nested"}};
    double right = 0;
    for (size_t i = 0; i < outcomes.all.size(); ++i) {
      right += outcomes.all[i].course.question_class == classes.at(outcomes.all[i].kind) ? 1 : 0;
    }
    Share(suite.name + ", questions classified as their author did",
          right / static_cast<double>(outcomes.all.size()));
  }

  void AddTimes(const EvaluatedSuite& suite, const SqlOutcomes& outcomes) {
    for (const char* node : {"link", "classify", "check", "widen", "run"}) {
      const std::vector<double> times = outcomes.Milliseconds(node);
      if (times.empty()) continue;
      for (const auto& [name, share] : {std::pair("p50", 0.5), std::pair("p99", 0.99)}) {
        report_.Add(
            {.name = absl::StrCat(suite.name, ", time in ", node, ", ", name),
             .value = times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))],
             .unit = "ms"});
      }
    }
  }

  void AddFault(const std::string& name, const SqlOutcomes& free, const SqlOutcomes& limited) {
    const std::string title = "fault, " + name;
    report_.Add({.name = title + ": statements",
                 .value = static_cast<double>(free.all.size()),
                 .unit = "of both suites"});
    const double excluded =
        limited.Share([](const SqlOutcome& o) { return !o.played.empty() && !o.played[0].held; });
    const double refused =
        free.Share([](const SqlOutcome& o) { return !o.course.first_error.empty(); });
    // What was not refused ran as the first answer.
    const double failed = free.Share(
        [](const SqlOutcome& o) { return o.course.first_error.empty() && !o.course.executable; });
    const double harmless =
        free.Share([](const SqlOutcome& o) { return o.course.first_error.empty() && o.correct; });
    const double silent = free.Share([](const SqlOutcome& o) {
      return o.course.first_error.empty() && o.course.executable && !o.correct;
    });
    const double repaired = free.Share([](const SqlOutcome& o) { return o.correct; });
    const double second = limited.Share([](const SqlOutcome& o) { return o.correct; });
    std::cerr << absl::StrFormat(
        "%-20s %4d  not in the grammar %5.1f  refused by check %5.1f  fails running %4.1f  "
        "right all the same %5.1f  silently wrong %5.1f  right in the end %5.1f, with the grammar "
        "%5.1f\n",
        name, free.all.size(), 100 * excluded, 100 * refused, 100 * failed, 100 * harmless,
        100 * silent, 100 * repaired, 100 * second);
    Share(title + ": not in the grammar of the links", excluded);
    Share(title + ": refused by check", refused);
    Share(title + ": fails running", failed);
    Share(title + ": right all the same", harmless);
    Share(title + ": silently wrong", silent);
    Share(title + ": right after correction", repaired);
    Share(title + ": right after grammar (second choice) and correction", second);
  }

  const Settings& settings_;
  const std::vector<EvaluatedSuite> suites_;
  Report& report_;
  const std::shared_ptr<SqlPlayer> player_ = std::make_shared<SqlPlayer>();
  SqlGateway gateway_;
};

Settings ReadSettings(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    // --NAME=VALUE, or --NAME VALUE
    const auto value = [&](std::string_view name) -> std::string {
      if (argument == name && i + 1 < argc) return argv[++i];
      const std::string begin = absl::StrCat(std::string(name), "=");
      return std::string(argument.substr(0, begin.size()) == begin ? argument.substr(begin.size())
                                                                   : std::string_view());
    };
    if (auto text = value("--part"); !text.empty()) settings.part = text;
    if (auto text = value("--suite"); !text.empty()) settings.suite = text;
    if (auto text = value("--model"); !text.empty()) settings.model = text;
    bool good = true;
    if (auto text = value("--questions"); !text.empty()) {
      good = absl::SimpleAtoi(text, &settings.questions);
    }
    if (auto text = value("--rate"); !text.empty()) good = absl::SimpleAtod(text, &settings.rate);
    if (auto text = value("--seed"); !text.empty()) good = absl::SimpleAtoi(text, &settings.seed);
    if (!good) {
      std::cerr << "sql_bench: not a number: " << argument << "\n";
      std::exit(2);
    }
  }
  return settings;
}

int Main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("sql_bench"));  // stdout is the report's
  spdlog::set_level(spdlog::level::warn);
  Report report("sql", argc, argv);
  const Settings settings = ReadSettings(argc, argv);
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) {
    std::cerr << "OCTOGATE_TEST_DATA names no folder; nothing is measured.\n";
    return report.Print();
  }
  const std::filesystem::path text2sql = std::filesystem::path(data) / "text2sql";
  const auto wanted = [&](std::string_view part) {
    return settings.part.empty() || settings.part == part;
  };
  if (wanted("prompts")) {
    const absl::Status status = MeasurePrompts(text2sql, &report);
    if (!status.ok()) OrExit<int>(status);
  }
  const ScratchFolder scratch;
  std::vector<EvaluatedSuite> suites;
  if (settings.suite != "kaggledbqa") {
    suites.push_back(OrExit(
        Prepare(OrExit(MakeChinook(text2sql, OCTOGATE_BENCH_SQL "/chinook.jsonl", scratch.path())),
                scratch.path())));
  }
  if (settings.suite != "chinook") {
    suites.push_back(OrExit(
        Prepare(OrExit(MakeKaggleDbqa(text2sql, kRowSeed, scratch.path())), scratch.path())));
  }
  for (const EvaluatedSuite& suite : suites) {
    double empty = 0;
    for (const SqlRows& rows : suite.gold_rows) empty += rows.empty() ? 1 : 0;
    report.Add(
        {.name = suite.name + ", questions", .value = static_cast<double>(suite.questions.size())});
    report.Add({.name = suite.name + ", gold statements that give no row",
                .value = 100 * empty / static_cast<double>(suite.questions.size()),
                .unit = "%"});
  }
  SqlBench bench(settings, std::move(suites), scratch.path(), &report);
  if (wanted("gold")) bench.Gold();
  if (wanted("broken")) bench.Broken();
  if (wanted("mixed")) bench.Mixed();
  if (wanted("faults")) bench.Faults();
  if (wanted("models")) {
    bench.Model(OCTOGATE_DEPLOY "/models/octogate-mini", "octogate-mini", scratch.path());
  }
  if (!settings.model.empty()) {
    bench.Model(settings.model, std::filesystem::path(settings.model).filename().string(),
                scratch.path());
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }
