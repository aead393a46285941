// Answers limited to a grammar: what a mask costs per token, what compiling costs, and how much
// memory both take, for the vocabularies of GPT-2 and Llama 3.
//
// Texts are real ones: gold queries of BIRD's mini-dev under the schema of their database, and the
// entries of Spider's dev set as JSON. Every token of a text is one mask and one step; "first" is
// a grammar that has seen nothing yet, "again" the same texts once more. Texts that a grammar does
// not hold are shown with the place: two of the queries refer to a table or a column that they have
// made themselves, by more than a letter, which the grammar of a schema cannot know.
//
// "hostile" are grammars made to take long, followed with random tokens: "most" is how long a mask
// or a step of theirs can hold up everything else.
//
// "share of a step" is what part of an engine's steps the grammar is, for random models of two
// sizes.
//
// "gold" is how much of real SQL the grammar holds: the share of gold queries of BIRD's mini-dev,
// Spider's dev set and KaggleDBQA that are texts of the grammar of their database's schema, and why
// the others are not: the first of each database are shown with the place.
//
// Reads tokenizers/ and text2sql/ in the folder OCTOGATE_TEST_DATA; without it nothing is measured.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/bench/grammar_share.h"
#include "tests/bench/report.h"
#include "workers/grammar/compiled_grammar.h"
#include "workers/grammar/sql_grammar.h"
#include "workers/model/tokenizer.h"

namespace octogate {
namespace {

using bench::AtMost;
using Clock = std::chrono::steady_clock;
using namespace workers;  // NOLINT: a benchmark of one library

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

double MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

nlohmann::json ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

double Percentile(std::vector<double>& times, size_t percent) {
  std::sort(times.begin(), times.end());
  return times[std::min(times.size() - 1, times.size() * percent / 100)];
}

struct Vocabulary {
  std::unique_ptr<Tokenizer> tokenizer;
  std::shared_ptr<const TokenTrie> trie;
};

Vocabulary Load(const std::filesystem::path& folder) {
  Vocabulary vocabulary{.tokenizer = OrExit(Tokenizer::Load(folder.string()))};
  TokenVocabulary tokens{.bytes = OrExit(vocabulary.tokenizer->TokenBytes())};
  for (const char* end : {"<|endoftext|>", "<|end_of_text|>"}) {
    if (const auto id = vocabulary.tokenizer->TokenId(end)) tokens.end_ids.push_back(*id);
  }
  vocabulary.trie = std::make_shared<const TokenTrie>(OrExit(TokenTrie::Create(std::move(tokens))));
  return vocabulary;
}

struct Times {
  std::vector<double> masks;
  std::vector<double> steps;
  int refused = 0;
  std::vector<std::string> refused_texts;
};

// Follows every text to its end, or to where the grammar does not allow it.
void Follow(const std::shared_ptr<const CompiledGrammar>& grammar, const Tokenizer& tokenizer,
            const std::vector<std::vector<int32_t>>& texts, Times& times) {
  std::vector<uint64_t> words(grammar->mask_words());
  for (const std::vector<int32_t>& ids : texts) {
    GrammarMatcher matcher(grammar);
    for (size_t i = 0; i < ids.size(); ++i) {
      auto start = Clock::now();
      const absl::Status filled = matcher.FillMask(words);
      times.masks.push_back(MicrosecondsSince(start));
      if (!filled.ok()) OrExit<int>(filled);
      start = Clock::now();
      const bool accepted = matcher.AcceptToken(ids[i]).ok();
      times.steps.push_back(MicrosecondsSince(start));
      if (accepted) continue;
      ++times.refused;
      const auto split = ids.begin() + static_cast<ptrdiff_t>(i);
      times.refused_texts.push_back(absl::StrCat(
          tokenizer.Decode(std::vector<int32_t>(ids.begin(), split), false), " <HERE> ",
          tokenizer.Decode(std::vector<int32_t>(split, ids.end()), false)));
      break;
    }
  }
}

void Measure(const std::string& name, const Grammar& parsed, const Vocabulary& vocabulary,
             const std::vector<std::string>& texts, bench::Report* report) {
  std::vector<std::vector<int32_t>> encoded;
  for (const std::string& text : texts) {
    encoded.push_back(OrExit(vocabulary.tokenizer->Encode(text, {.add_special_tokens = false})));
  }
  auto start = Clock::now();
  const auto grammar = OrExit(CompiledGrammar::Compile(parsed, vocabulary.trie));
  report->Add({.name = name + ", compile", .value = MicrosecondsSince(start) / 1e3, .unit = "ms"});
  Times first;
  Times again;
  Follow(grammar, *vocabulary.tokenizer, encoded, first);
  Follow(grammar, *vocabulary.tokenizer, encoded, again);
  if (first.refused > 0) {
    std::cerr << name << ": " << first.refused << " of " << texts.size()
              << " texts are followed only in part\n";
    for (const std::string& text : first.refused_texts) std::cerr << "  " << text << "\n";
  }
  report->Add({.name = name + ", mask, first, p50",
               .value = Percentile(first.masks, 50),
               .unit = "us",
               .aim = AtMost(50)});
  report->Add(
      {.name = name + ", mask, first, p99", .value = Percentile(first.masks, 99), .unit = "us"});
  report->Add({.name = name + ", mask, first, most",
               .value = *std::max_element(first.masks.begin(), first.masks.end()),
               .unit = "us"});
  report->Add({.name = name + ", mask, again, p50",
               .value = Percentile(again.masks, 50),
               .unit = "us",
               .aim = AtMost(50)});
  report->Add(
      {.name = name + ", mask, again, p99", .value = Percentile(again.masks, 99), .unit = "us"});
  report->Add(
      {.name = name + ", step, first, p50", .value = Percentile(first.steps, 50), .unit = "us"});
  report->Add(
      {.name = name + ", step, first, p99", .value = Percentile(first.steps, 99), .unit = "us"});
  const CompiledGrammar::Stats stats = grammar->stats();
  report->Add({.name = name + ", memory, states",
               .value = static_cast<double>(stats.state_bytes) / 1e6,
               .unit = "MB"});
  report->Add({.name = name + ", memory, masks",
               .value = static_cast<double>(stats.mask_bytes) / 1e6,
               .unit = "MB"});
  bench::MeasureShareOfSteps(name, OrExit(CompiledGrammar::Compile(parsed, vocabulary.trie)),
                             *report);
}

// Texts of printable characters, read in so many ways at once.
std::string ManyWays(int ways, int tail) {
  std::string text = "root ::= ";
  for (int i = 0; i < ways; ++i) absl::StrAppend(&text, i == 0 ? "" : " | ", "r", i);
  for (int i = 0; i < ways; ++i) {
    absl::StrAppend(&text, "\nr", i, " ::= [ -~]* [",
                    std::string(1, static_cast<char>('a' + i % 26)), "-z] [ -~]{", tail + i, "}");
  }
  return text;
}

void MeasureHostile(const std::string& name, const std::string& notation,
                    const Vocabulary& vocabulary, bench::Report* report) {
  auto start = Clock::now();
  const auto parsed = ParseGrammar(notation);
  const auto grammar =
      parsed.ok() ? CompiledGrammar::Compile(*parsed, vocabulary.trie)
                  : absl::StatusOr<std::shared_ptr<const CompiledGrammar>>(parsed.status());
  const std::string title = absl::StrCat("hostile: ", name);
  report->Add({.name = title + ", compile", .value = MicrosecondsSince(start) / 1e3, .unit = "ms"});
  if (!grammar.ok()) {
    std::cerr << title << ": " << grammar.status() << "\n";
    return;
  }
  std::mt19937 random(1);
  double most = 0;
  absl::Status status;
  int tokens = 0;
  GrammarMatcher matcher(*grammar);
  std::vector<uint64_t> words((*grammar)->mask_words());
  for (; status.ok() && tokens < 300; ++tokens) {
    start = Clock::now();
    status = matcher.FillMask(words);
    most = std::max(most, MicrosecondsSince(start));
    if (!status.ok()) break;
    std::vector<int32_t> allowed;
    for (int32_t id = 0; id < vocabulary.trie->vocab_size(); ++id) {
      if ((words[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0) allowed.push_back(id);
    }
    if (allowed.empty()) break;
    start = Clock::now();
    status = matcher.AcceptToken(allowed[random() % allowed.size()]);
    most = std::max(most, MicrosecondsSince(start));
  }
  std::cerr << title << ": " << tokens << " tokens, then "
            << (status.ok() ? "the end" : std::string(status.message())) << "\n";
  report->Add({.name = title + ", most", .value = most / 1e3, .unit = "ms", .aim = AtMost(50)});
}

SqlGrammarOptions SchemaOf(const nlohmann::json& database) {
  SqlGrammarOptions schema;
  schema.double_quoted_strings = true;  // as many of these queries have them
  schema.tables = database["table_names_original"].get<std::vector<std::string>>();
  for (const nlohmann::json& column : database["column_names_original"]) {
    if (column[0].get<int>() >= 0) schema.columns.push_back(column[1].get<std::string>());
  }
  return schema;
}

// How far the grammar follows the text; its size where it is a whole text of the grammar.
size_t Followed(const std::shared_ptr<const CompiledGrammar>& grammar, const std::string& text) {
  GrammarMatcher matcher(grammar);
  for (size_t i = 0; i < text.size(); ++i) {
    if (!matcher.AcceptByte(static_cast<uint8_t>(text[i])).ok()) return i;
  }
  return matcher.IsComplete() ? text.size() : text.size() - 1;
}

void MeasureGold(const std::string& name, const std::filesystem::path& tables,
                 const std::vector<std::filesystem::path>& questions, const char* key,
                 const Vocabulary& vocabulary, bench::Report* report) {
  std::map<std::string, std::vector<std::string>> queries;
  for (const std::filesystem::path& file : questions) {
    for (const nlohmann::json& entry : ReadJson(file)) {
      queries[entry["db_id"].get<std::string>()].push_back(entry[key].get<std::string>());
    }
  }
  size_t held = 0;
  size_t all = 0;
  for (const nlohmann::json& database : ReadJson(tables)) {
    const std::string id = database["db_id"].get<std::string>();
    if (!queries.contains(id)) continue;
    const auto grammar =
        OrExit(CompiledGrammar::Compile(OrExit(SqlGrammar(SchemaOf(database))), vocabulary.trie));
    bool shown = false;
    for (const std::string& query : queries[id]) {
      ++all;
      const size_t followed = Followed(grammar, query);
      if (followed == query.size()) {
        ++held;
      } else if (!shown) {
        shown = true;
        std::cerr << name << ", " << id << ": " << query.substr(0, followed) << " <HERE> "
                  << query.substr(followed) << "\n";
      }
    }
  }
  report->Add({.name = name + ", gold queries that are texts of the grammar",
               .value = 100.0 * static_cast<double>(held) / static_cast<double>(all),
               .unit = "%"});
}

int Main(int argc, char** argv) {
  bench::Report report("grammar", argc, argv);
  const char* named = std::getenv("OCTOGATE_TEST_DATA");
  if (named == nullptr) {
    std::cerr << "OCTOGATE_TEST_DATA names no folder; nothing is measured.\n";
    return report.Print();
  }
  const std::filesystem::path data(named);
  const nlohmann::json entries = ReadJson(data / "text2sql/spider/dev.json");
  std::vector<std::string> json_texts;
  for (size_t i = 0; i < 40; ++i) json_texts.push_back(entries[i * 20].dump(i % 2 == 0 ? -1 : 2));

  // The database with the most queries.
  SqlGrammarOptions schema;
  std::vector<std::string> queries;
  const std::string database = "card_games";
  for (const nlohmann::json& own : ReadJson(data / "text2sql/bird-schemas/dev_tables.json")) {
    if (own["db_id"] != database) continue;
    schema.tables = own["table_names_original"].get<std::vector<std::string>>();
    for (const nlohmann::json& column : own["column_names_original"]) {
      if (column[0].get<int>() >= 0) schema.columns.push_back(column[1].get<std::string>());
    }
  }
  for (const nlohmann::json& entry :
       ReadJson(data / "text2sql/bird-mini-dev/mini_dev_sqlite.json")) {
    if (entry["db_id"] == database) queries.push_back(entry["SQL"].get<std::string>());
  }
  for (const char* name : {"gpt2", "llama3"}) {
    const Vocabulary vocabulary = Load(data / "tokenizers" / name);
    Measure(absl::StrCat("JSON, ", name), OrExit(JsonGrammar()), vocabulary, json_texts, &report);
    Measure(absl::StrCat("SQL, ", name), OrExit(SqlGrammar(schema)), vocabulary, queries, &report);
  }
  const Vocabulary vocabulary = Load(data / "tokenizers/llama3");
  MeasureGold("BIRD mini-dev", data / "text2sql/bird-schemas/dev_tables.json",
              {data / "text2sql/bird-mini-dev/mini_dev_sqlite.json"}, "SQL", vocabulary, &report);
  MeasureGold("Spider dev", data / "text2sql/spider/tables.json",
              {data / "text2sql/spider/dev.json"}, "query", vocabulary, &report);
  std::vector<std::filesystem::path> kaggle;
  for (const auto& file :
       std::filesystem::directory_iterator(data / "text2sql/kaggledbqa/examples")) {
    const bool whole = file.path().stem().string().find('_') == std::string::npos;
    if (whole && file.path().extension() == ".json") kaggle.push_back(file.path());
  }
  std::sort(kaggle.begin(), kaggle.end());
  MeasureGold("KaggleDBQA", data / "text2sql/kaggledbqa/KaggleDBQA_tables.json", kaggle, "query",
              vocabulary, &report);
  MeasureHostile("ambiguous recursion", "root ::= root root | root root root | [a-z ] | \"\"",
                 vocabulary, &report);
  MeasureHostile("100 ways", ManyWays(100, 300), vocabulary, &report);
  MeasureHostile("2000 ways", ManyWays(2000, 20), vocabulary, &report);
  MeasureHostile("long tail", "root ::= [ -~]* [a-z] [ -~]{20000}", vocabulary, &report);
  MeasureHostile("nested",
                 "root ::= \"(\" root \")\" | (a | b)* \na ::= (b | [a-z ])*\nb ::= "
                 "(a | [a-f ])* [a-z]",
                 vocabulary, &report);
  MeasureHostile("repetition", "root ::= ([a-z ]{0,300} [a-f]){0,300}", vocabulary, &report);
  return report.Print();
}

}  // namespace
}  // namespace octogate

int main(int argc, char** argv) { return octogate::Main(argc, argv); }
