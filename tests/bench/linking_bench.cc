// Schema linking: what is found, what it costs in columns and tokens, and how long it takes.
//
// Recall is strict: a question counts if every table (or column) that its SQL reads is kept. The
// data is read from text2sql in the folder that OCTOGATE_TEST_DATA names; without it only times on
// a made-up warehouse are measured. "evidence" are BIRD's hints, which name columns: users have
// none. Weights were chosen on KaggleDBQA and on questions to Spider's training split
// (linking_questions.json), how often columns are read at all on the gold queries of that split.
//
//   linking_bench --suite=NAME   one only: kaggledbqa, train, spider, bird, warehouse
//   linking_bench --features=FILE   writes, beside FILE for each suite, what fit_linking.py fits
//   the linker's weights to linking_bench --weights=1,0.5,1,1,0.6,0.4,0.1,0   as LinkWeights has
//   them linking_bench --misses=20    what is missed at that many columns, on stderr linking_bench
//   --cache=FILE   keeps the encoder's vectors linking_bench --dense=off    words alone
//
// Where there is a sentence encoder (OCTOGATE_MINILM, or where deploy/fetch-minilm.sh puts it)
// everything is measured with words alone and with vectors, too.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "retrieval/schema/column_likelihood.h"
#include "retrieval/schema/dense_index.h"
#include "retrieval/schema/link_index.h"
#include "retrieval/schema/linker.h"
#include "retrieval/schema/words.h"
#include "tests/bench/dense_encoder.h"
#include "tests/bench/linking_suites.h"
#include "tests/bench/report.h"
#include "tests/bench/warehouse.h"

namespace octogate {
namespace {

using bench::AtLeast;
using bench::AtMost;
using Clock = std::chrono::steady_clock;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

struct Settings {
  std::string suite;
  schema::LinkWeights weights;
  size_t misses = 0;
  std::string cache;
  bool dense = true;
  std::string features;
};

// In columns by why they are missed.
struct Misses {
  size_t key = 0;    // an end of a join, or a primary key
  size_t table = 0;  // nothing of its table is kept
  size_t words = 0;  // shares a word with the question
  size_t other = 0;
};

struct Quality {
  double tables = 0, columns = 0, column_recall = 0, kept = 0, kept_tables = 0, tokens = 0;
  std::vector<double> milliseconds;
};

class SuiteRun {
 public:
  // `encoder` may be null.
  SuiteRun(const bench::LinkingSuite& suite, const Settings& settings,
           const schema::TextEncoder* encoder)
      : suite_(suite), settings_(settings), encoder_(encoder) {
    for (const auto& [name, catalog] : suite.databases) {
      const bool asked =
          std::any_of(suite.questions.begin(), suite.questions.end(),
                      [&](const auto& question) { return question.database == name; });
      if (!asked) continue;
      indexes_[name] = schema::LinkIndex::Build(catalog);
      if (encoder != nullptr) {
        vectors_[name] = OrExit(schema::DenseIndex::Build(catalog, *encoder));
      }
    }
  }

  // One line per column of each question: its database, number of the question, whether the SQL
  // reads it, and its features.
  void WriteFeatures(std::ostream& out) const {
    size_t number = 0;
    for (const bench::LinkingQuestion& question : suite_.questions) {
      const schema::LinkIndex& index = *indexes_.at(question.database);
      const schema::Visibility visible = OrExit(index.See({}));
      std::vector<schema::DenseColumns::Hit> hits;
      if (encoder_ != nullptr) {
        hits = OrExit(vectors_.at(question.database)
                          ->Query({bench::EmbedOne(*encoder_, question.question)}))
                   .Nearest(visible, schema::kMaxDense);
      }
      const auto matches = schema::Search(index, visible, schema::MakeQuery(question.question, ""));
      const auto cues = schema::CuesOf(question.question);
      schema::Ranking ranking =
          schema::RankColumns(index, visible, matches, hits, cues, settings_.weights);
      const auto features =
          schema::LikelihoodFeatures(index, visible, matches, hits, cues, &ranking);
      const std::set<std::string> gold(question.columns.begin(), question.columns.end());
      for (size_t i = 0; i < features.size(); ++i) {
        const schema::ColumnId id = ranking.columns[i].id;
        const std::string name = absl::AsciiStrToLower(absl::StrCat(
            index.catalog().entries()[id.entry]->name, ".", index.catalog().column(id).name));
        out << question.database << "\t" << number << "\t" << (gold.contains(name) ? 1 : 0);
        for (const float feature : features[i]) out << "\t" << feature;
        out << "\n";
      }
      ++number;
    }
  }

  // With `least_likelihood` as LinkRequest has it.
  Quality Measure(size_t max_columns, bool evidence, float least_likelihood = 0) const {
    Quality quality;
    double gold = 0;
    std::map<std::string, std::pair<int, int>> by_database;
    const bool tell = settings_.misses == max_columns;
    Misses misses;
    for (const bench::LinkingQuestion& question : suite_.questions) {
      const schema::LinkIndex& index = *indexes_.at(question.database);
      const schema::Visibility visible = OrExit(index.See({}));
      std::optional<schema::DenseQuery> dense;
      if (encoder_ != nullptr) {
        std::vector<std::vector<float>> vectors = {bench::EmbedOne(*encoder_, question.question)};
        if (evidence && !question.evidence.empty()) {
          vectors.push_back(bench::EmbedOne(*encoder_, question.evidence));
        }
        dense.emplace(OrExit(vectors_.at(question.database)->Query(std::move(vectors))));
      }
      const auto start = Clock::now();
      const schema::LinkResult result =
          OrExit(schema::Link(index, visible,
                              {.question = question.question,
                               .evidence = evidence ? question.evidence : "",
                               .mode = schema::LinkMode::kFocused,
                               .token_budget = 1'000'000,
                               .max_columns = max_columns,
                               .least_likelihood = least_likelihood},
                              {.weights = settings_.weights, .dense = dense ? &*dense : nullptr}));
      quality.milliseconds.push_back(MillisecondsSince(start));
      std::set<std::string> kept_tables;
      std::set<std::string> kept;
      for (const schema::LinkedTable& table : result.tables) {
        kept_tables.insert(absl::AsciiStrToLower(table.name));
        for (const std::string& member : table.family_members) {
          kept_tables.insert(absl::AsciiStrToLower(member));
        }
        for (const schema::LinkedColumn& column : table.columns) {
          kept.insert(absl::AsciiStrToLower(absl::StrCat(table.name, ".", column.name)));
          for (const std::string& member : table.family_members) {
            kept.insert(absl::AsciiStrToLower(absl::StrCat(member, ".", column.name)));
          }
          ++quality.kept;
        }
      }
      quality.kept_tables += static_cast<double>(result.tables.size());
      quality.tokens += static_cast<double>(result.tokens.rendered);
      const auto missing = [](const std::vector<std::string>& wanted,
                              const std::set<std::string>& found) {
        std::vector<std::string> missed;
        for (const std::string& name : wanted) {
          if (!found.contains(name)) missed.push_back(name);
        }
        return missed;
      };
      const auto missed = missing(question.columns, kept);
      quality.tables += missing(question.tables, kept_tables).empty() ? 1 : 0;
      quality.columns += missed.empty() ? 1 : 0;
      quality.column_recall += static_cast<double>(question.columns.size() - missed.size());
      gold += static_cast<double>(question.columns.size());
      auto& [found, all] = by_database[question.database];
      found += missed.empty() ? 1 : 0;
      ++all;
      if (tell && !missed.empty()) {
        Classify(question, index, missed, kept_tables, &misses);
        std::cerr << question.database << ": " << question.question << "\n  missed "
                  << absl::StrJoin(missed, ", ") << "\n  tables "
                  << absl::StrJoin(kept_tables, ", ") << "\n";
      }
    }
    if (tell) {
      std::cerr << "missed columns: keys " << misses.key << ", of tables not kept " << misses.table
                << ", with a word of the question " << misses.words << ", others " << misses.other
                << "\n";
      for (const auto& [name, counts] : by_database) {
        std::cerr << name << ": " << counts.first << " of " << counts.second << "\n";
      }
    }
    const auto count = static_cast<double>(suite_.questions.size());
    for (double* mean : {&quality.tables, &quality.columns, &quality.kept, &quality.kept_tables,
                         &quality.tokens}) {
      *mean /= count;
    }
    quality.column_recall /= gold;
    return quality;
  }

  static void Classify(const bench::LinkingQuestion& question, const schema::LinkIndex& index,
                       const std::vector<std::string>& missed,
                       const std::set<std::string>& kept_tables, Misses* misses) {
    std::set<std::string> words;
    for (const std::string& word : schema::SplitWords(question.question)) {
      words.insert(schema::Stem(word));
    }
    const schema::Catalog& catalog = index.catalog();
    for (const std::string& name : missed) {
      const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('.', 1));
      const int entry = catalog.FindEntry(parts[0]);
      if (entry < 0) continue;
      const schema::Table& table = *catalog.entries()[static_cast<size_t>(entry)];
      const int column = schema::FindColumn(table, parts[1]);
      if (column < 0) continue;
      const schema::ColumnId id{static_cast<uint32_t>(entry), static_cast<uint32_t>(column)};
      const bool key = table.columns[id.column].primary_key ||
                       std::any_of(catalog.edges().begin(), catalog.edges().end(),
                                   [&](const auto& e) { return e.from == id || e.to == id; });
      bool shares = false;
      for (const std::string& word : schema::SplitWords(parts[1])) {
        shares = shares || words.contains(schema::Stem(word));
      }
      ++(!kept_tables.contains(parts[0]) ? misses->table
         : key                           ? misses->key
         : shares                        ? misses->words
                                         : misses->other);
    }
  }

  // All columns of the suite's databases as the questions meet them, and their tokens.
  std::pair<double, double> Whole() const {
    double columns = 0;
    double tokens = 0;
    for (const bench::LinkingQuestion& question : suite_.questions) {
      const schema::LinkIndex& index = *indexes_.at(question.database);
      columns += static_cast<double>(index.catalog().num_columns());
      auto& known = full_tokens_[question.database];
      if (known == 0) {
        const schema::Visibility visible = OrExit(index.See({}));
        known = static_cast<double>(
            OrExit(schema::Link(index, visible,
                                {.question = question.question, .token_budget = 1'000'000}))
                .tokens.full);
      }
      tokens += known;
    }
    const auto count = static_cast<double>(suite_.questions.size());
    return {columns / count, tokens / count};
  }

 private:
  const bench::LinkingSuite& suite_;
  const Settings& settings_;
  const schema::TextEncoder* const encoder_;
  std::map<std::string, std::shared_ptr<const schema::LinkIndex>> indexes_;
  std::map<std::string, std::shared_ptr<const schema::DenseIndex>> vectors_;
  mutable std::map<std::string, double> full_tokens_;
};

struct Goal {
  size_t max_columns = 0;  // of the budget that is compared; 0: as links are by default
  double strict_recall = 0;
  std::string beside;   // what the lexical baseline reached, at how many columns
  double baseline = 0;  // its strict recall
};

void MeasureSuite(const bench::LinkingSuite& suite, const std::vector<size_t>& budgets,
                  bool evidence, const Goal& goal, const Settings& settings,
                  const schema::TextEncoder* encoder, bench::Report* report) {
  const SuiteRun run(suite, settings, encoder);
  if (!settings.features.empty()) {
    // One file for each suite, so that a second run replaces what the first has written.
    std::ofstream out(absl::StrCat(settings.features, ".", suite.name,
                                   encoder != nullptr ? ".vectors" : ".words"));
    run.WriteFeatures(out);
    return;
  }
  const std::string name = absl::StrCat(suite.name, evidence ? " with evidence" : "",
                                        encoder != nullptr ? ", with vectors" : "");
  struct Point {
    size_t columns;
    float least_likelihood;
  };
  std::vector<Point> points;
  for (const size_t budget : budgets) points.push_back({budget, 0});
  if (!evidence) {
    points.push_back({0, 0});  // as links are by default
    for (const float least : {0.2F, 0.13F, 0.1F, 0.09F, 0.085F, 0.08F, 0.06F})
      points.push_back({80, least});
  }
  for (const auto [budget, least] : points) {
    const Quality quality = run.Measure(budget, evidence, least);
    const std::string at = least > 0    ? absl::StrCat(name, ", columns likelier than ", least)
                           : budget > 0 ? absl::StrCat(name, ", at most ", budget, " columns")
                                        : absl::StrCat(name, ", by default");
    const bool compared = least == 0 && budget == goal.max_columns;
    std::fprintf(stderr,
                 "%s: columns SRR %.1f recall %.1f, tables SRR %.1f (%.1f kept), %.1f kept\n",
                 at.c_str(), 100 * quality.columns, 100 * quality.column_recall,
                 100 * quality.tables, quality.kept_tables, quality.kept);
    bench::Figure strict{.name = at + ": column SRR", .value = 100 * quality.columns, .unit = "%"};
    if (compared) {
      strict.beside = goal.beside;
      if (goal.baseline > 0) strict.ratio = 100 * quality.columns / goal.baseline;
      if (goal.strict_recall > 0) strict.aim = AtLeast(goal.strict_recall);
    }
    report->Add(strict);
    report->Add({.name = at + ": columns kept", .value = quality.kept, .unit = "columns"});
    report->Add({.name = at + ": table SRR", .value = 100 * quality.tables, .unit = "%"});
    report->Add({.name = at + ": tokens", .value = quality.tokens, .unit = "tokens"});
    if (!compared) continue;
    report->Add(
        {.name = at + ": link p50", .value = Percentile(quality.milliseconds, 0.5), .unit = "ms"});
    report->Add(
        {.name = at + ": link p99", .value = Percentile(quality.milliseconds, 0.99), .unit = "ms"});
  }
  if (evidence || encoder != nullptr) return;
  const auto [columns, tokens] = run.Whole();
  report->Add({.name = name + ", whole schema", .value = columns, .unit = "columns"});
  report->Add({.name = name + ", whole schema", .value = tokens, .unit = "tokens"});
}

void MeasureWarehouse(size_t columns, double shards, double aim_ms, const Settings& settings,
                      bench::Report* report) {
  bench::Warehouse warehouse = bench::MakeWarehouse(columns, shards, 400, 20261128);
  schema::Table changed = warehouse.schema.tables[warehouse.schema.tables.size() / 2];
  auto start = Clock::now();
  const auto catalog = OrExit(schema::Catalog::Create(std::move(warehouse.schema)));
  const double catalog_ms = MillisecondsSince(start);
  start = Clock::now();
  const auto index = schema::LinkIndex::Build(catalog);
  const double index_ms = MillisecondsSince(start);
  const std::string name = absl::StrCat("warehouse of ", catalog->num_raw_columns(), " columns (",
                                        catalog->num_columns(), " without shards)");
  const schema::Visibility visible = OrExit(index->See({}));
  std::vector<double> times;
  size_t found = 0;
  size_t linked_tables = 0;
  size_t fitting = 0;
  for (const bench::WarehouseQuestion& question : warehouse.questions) {
    fitting = std::max(fitting, question.fitting);
    start = Clock::now();
    const schema::LinkResult result = OrExit(schema::Link(
        *index, visible, {.question = question.question}, {.weights = settings.weights}));
    times.push_back(MillisecondsSince(start));
    const auto wanted = static_cast<uint32_t>(catalog->FindEntry(question.table));
    linked_tables += std::any_of(result.tables.begin(), result.tables.end(),
                                 [&](const auto& table) { return table.entry == wanted; })
                         ? 1
                         : 0;
    // The best 20 tables of a wide link.
    const schema::LinkResult wide = OrExit(
        schema::Link(*index, visible,
                     {.question = question.question, .token_budget = 1'000'000, .max_columns = 80},
                     {.weights = settings.weights}));
    std::vector<std::pair<float, uint32_t>> tables;
    for (const schema::LinkedTable& table : wide.tables)
      tables.emplace_back(-table.score, table.entry);
    std::sort(tables.begin(), tables.end());
    if (tables.size() > 20) tables.resize(20);
    found += std::any_of(tables.begin(), tables.end(),
                         [&](const auto& table) { return table.second == wanted; })
                 ? 1
                 : 0;
  }
  report->Add({.name = name + ": link p50", .value = Percentile(times, 0.5), .unit = "ms"});
  report->Add({.name = name + ": link p99",
               .value = Percentile(times, 0.99),
               .unit = "ms",
               .aim = AtMost(aim_ms)});
  bench::Figure families{
      .name = name + ": the table among the best 20",
      .value = 100.0 * static_cast<double>(found) / static_cast<double>(warehouse.questions.size()),
      .unit = "%"};
  if (shards > 0) families.aim = AtLeast(96);
  report->Add(families);
  report->Add({.name = name + ": the table is linked, of 24 columns",
               .value = 100.0 * static_cast<double>(linked_tables) /
                        static_cast<double>(warehouse.questions.size()),
               .unit = "%"});
  report->Add({.name = name + ": tables that fit a question, at most",
               .value = static_cast<double>(fitting),
               .unit = "tables"});
  report->Add({.name = name + ": catalog made", .value = catalog_ms, .unit = "ms"});
  report->Add({.name = name + ": index built", .value = index_ms, .unit = "ms"});
  std::vector<double> updates;
  std::shared_ptr<const schema::Catalog> current = catalog;
  std::shared_ptr<const schema::LinkIndex> linked = index;
  for (int round = 0; round < 21; ++round) {
    changed.columns[3].description = absl::StrCat("changed ", round);
    start = Clock::now();
    auto next = OrExit(current->Update({changed}));
    auto rebuilt = schema::LinkIndex::Build(next, linked.get());
    updates.push_back(MillisecondsSince(start));
    current = std::move(next);
    linked = std::move(rebuilt);
  }
  report->Add({.name = name + ": one table indexed anew, p50",
               .value = Percentile(updates, 0.5),
               .unit = "ms",
               .aim = AtMost(50)});
}

Settings ReadSettings(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    const auto value = [&](std::string_view name) {
      return argument.substr(0, name.size()) == name ? argument.substr(name.size())
                                                     : std::string_view();
    };
    if (const auto suite = value("--suite="); !suite.empty()) settings.suite = suite;
    if (const auto cache = value("--cache="); !cache.empty()) settings.cache = cache;
    if (const auto features = value("--features="); !features.empty()) settings.features = features;
    if (argument == "--dense=off") settings.dense = false;
    if (const auto misses = value("--misses="); !misses.empty()) {
      settings.misses = static_cast<size_t>(std::strtoul(std::string(misses).c_str(), nullptr, 10));
    }
    if (const auto weights = value("--weights="); !weights.empty()) {
      schema::LinkWeights& w = settings.weights;
      const std::vector<std::string> numbers = absl::StrSplit(std::string(weights), ',');
      const std::vector<float*> into = {&w.bm25, &w.character, &w.dense, &w.value,
                                        &w.name, &w.table,     &w.cue,   &w.prior};
      for (size_t k = 0; k < std::min(numbers.size(), into.size()); ++k) {
        if (!absl::SimpleAtof(numbers[k], into[k])) std::exit(2);
      }
    }
  }
  return settings;
}

int Main(int argc, char** argv) {
  bench::Report report("linking", argc, argv);
  const Settings settings = ReadSettings(argc, argv);
  const auto wanted = [&](std::string_view suite) {
    return settings.suite.empty() || settings.suite == suite;
  };
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) {
    std::cerr << "OCTOGATE_TEST_DATA is not set: recall is not measured.\n";
  } else {
    const std::string folder = absl::StrCat(data, "/text2sql");
    std::optional<schema::TextEncoder> encoder;
    const char* named = std::getenv("OCTOGATE_MINILM");
    const std::filesystem::path model =
        named != nullptr ? std::filesystem::path(named)
                         : std::filesystem::path(OCTOGATE_MODELS) / "all-MiniLM-L6-v2";
    if (settings.dense && std::filesystem::exists(model / "model.safetensors")) {
      encoder = bench::LoadTextEncoder(model, settings.cache);
    } else {
      std::cerr << model << " is not used: words alone are measured.\n";
    }
    // Vectors need fewer columns: `with_vectors` instead of the goal's.
    const auto measure = [&](const bench::LinkingSuite& suite, const std::vector<size_t>& budgets,
                             bool evidence, Goal goal, size_t with_vectors) {
      MeasureSuite(suite, budgets, evidence, goal, settings, nullptr, &report);
      goal.max_columns = with_vectors;
      if (encoder) MeasureSuite(suite, budgets, evidence, goal, settings, &*encoder, &report);
    };
    if (wanted("kaggledbqa")) {
      measure(OrExit(bench::LoadKaggleDbqa(folder)), {6, 10, 14, 20}, false, {}, 0);
    }
    if (wanted("train")) {
      measure(OrExit(bench::LoadSpiderTrain(folder, OCTOGATE_LINKING_QUESTIONS)), {12, 16, 20, 24},
              false, {}, 0);
    }
    if (!settings.features.empty()) return 0;
    if (wanted("spider")) {
      measure(OrExit(bench::LoadSpiderDev(folder)), {6, 8, 10, 12, 15}, false,
              {.strict_recall = 94,
               .beside = "words, trigrams and keys, 10 best: 11.4 columns",
               .baseline = 90.5},
              0);
    }
    if (wanted("bird")) {
      const bench::LinkingSuite bird = OrExit(bench::LoadBirdMiniDev(folder));
      measure(bird, {12, 16, 20, 22, 23, 24, 32, 40}, false,
              {.strict_recall = 80,
               .beside = "words, trigrams and keys, 15 best: 20.2 columns (BIRD dev)",
               .baseline = 70.0},
              0);
      measure(bird, {12, 16, 20, 22, 23, 24, 32, 40}, true,
              {.max_columns = 24,
               .strict_recall = 90,
               .beside = "DFIN conservative with GPT-4: 21.8 columns (BIRD dev)",
               .baseline = 86.4},
              23);
    }
  }
  if (wanted("warehouse")) {
    MeasureWarehouse(5'000, 0, 5, settings, &report);
    MeasureWarehouse(500'000, 0.7, 30, settings, &report);
    MeasureWarehouse(500'000, 0, 30, settings, &report);
  }
  return report.Print();
}

}  // namespace
}  // namespace octogate

int main(int argc, char** argv) { return octogate::Main(argc, argv); }
