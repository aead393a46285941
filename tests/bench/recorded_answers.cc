#include "tests/bench/recorded_answers.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

namespace octogate::bench {
namespace {

constexpr int kBins = 10;
// Questions that what all domains say is worth beside those of one.
constexpr double kPriorQuestions = 30;

[[noreturn]] void Fail(const std::string& what) {
  std::cerr << "recorded answers: " << what << "\n";
  std::exit(1);
}

std::vector<std::string> Split(std::string line) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  std::vector<std::string> fields;
  std::stringstream stream(line);
  for (std::string field; std::getline(stream, field, ',');) fields.push_back(field);
  if (!line.empty() && line.back() == ',') fields.emplace_back();
  return fields;
}

// Rows by question, and the columns of the models asked for.
using Table = std::map<std::string, std::vector<std::string>>;
Table ReadTable(const std::string& file, const std::vector<std::string>& models) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line)) Fail("cannot read " + file);
  const std::vector<std::string> heading = Split(line);
  std::vector<size_t> columns;
  for (const std::string& model : models) {
    const auto column = std::find(heading.begin(), heading.end(), model);
    if (column == heading.end()) Fail(file + " has no model " + model);
    columns.push_back(static_cast<size_t>(column - heading.begin()));
  }
  Table table;
  while (std::getline(in, line)) {
    const std::vector<std::string> row = Split(line);
    if (row.size() != heading.size()) Fail(file + " has a row of another length");
    for (const size_t column : columns) table[row[0]].push_back(row[column]);
  }
  return table;
}

std::string Prompt(const nlohmann::json& question) {
  std::string text = question.at("question").get<std::string>();
  char letter = 'A';
  for (const auto& option : question.at("options")) {
    text += "\n(" + std::string(1, letter++) + ") " + option.get<std::string>();
  }
  return text;
}

}  // namespace

const RecordedModel& RecordedAnswers::Find(const std::string& name) const {
  const auto found = std::find_if(models.begin(), models.end(),
                                  [&](const RecordedModel& model) { return model.name == name; });
  if (found == models.end()) Fail("no model " + name);
  return *found;
}

RecordedAnswers ReadRecordedAnswers(const std::string& folder,
                                    const std::vector<std::string>& models) {
  const Table letters = ReadTable(folder + "/preds.csv", models);
  const Table lengths = ReadTable(folder + "/output_chars.csv", models);
  RecordedAnswers answers;
  for (const std::string& model : models) answers.models.push_back({.name = model});
  std::ifstream in(folder + "/questions.jsonl");
  std::set<std::pair<bool, std::string>> seen;
  for (std::string line; std::getline(in, line);) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_discarded()) Fail("questions.jsonl has a line that is no JSON");
    RecordedQuestion question;
    question.id = std::to_string(json.at("question_id").get<int>());
    question.text = Prompt(json);
    question.domain = json.at("category").get<std::string>();
    question.right = json.at("answer").get<std::string>().at(0);
    question.is_test = json.at("split").get<std::string>() == "test";
    const auto row = letters.find(question.id);
    const auto length = lengths.find(question.id);
    if (row == letters.end() || length == lengths.end()) continue;
    if (!seen.emplace(question.is_test, question.text).second) {
      ++answers.left_out;
      continue;
    }
    for (size_t i = 0; i < models.size(); ++i) {
      const std::string& letter = row->second[i];
      const int chars = length->second[i].empty() ? 0 : std::stoi(length->second[i]);
      answers.models[i].letters.push_back(letter.empty() ? 0 : letter[0]);
      answers.models[i].tokens.push_back(std::max(1, (chars + 3) / 4));
    }
    answers.questions.push_back(std::move(question));
  }
  if (answers.questions.empty()) Fail("no questions in " + folder);
  return answers;
}

RecordedAnswers HoldOut(const RecordedAnswers& answers, int fold, int folds) {
  RecordedAnswers held;
  for (const RecordedModel& model : answers.models) held.models.push_back({.name = model.name});
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    if (answers.questions[i].is_test) continue;
    RecordedQuestion question = answers.questions[i];
    question.is_test = static_cast<int>(held.questions.size()) % folds == fold;
    held.questions.push_back(std::move(question));
    for (size_t m = 0; m < answers.models.size(); ++m) {
      held.models[m].letters.push_back(answers.models[m].letters[i]);
      held.models[m].tokens.push_back(answers.models[m].tokens[i]);
    }
  }
  return held;
}

std::vector<LengthBin> FitBins(const RecordedAnswers& answers, const RecordedModel& model,
                               const std::string& domain) {
  // Answers that nobody could find weigh nothing anyway, and are left out here.
  const auto used = [&](size_t i) {
    return !answers.questions[i].is_test && model.letters[i] != 0;
  };
  std::vector<int> lengths;
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    if (used(i)) lengths.push_back(model.tokens[i]);
  }
  std::sort(lengths.begin(), lengths.end());
  std::vector<LengthBin> bins;
  for (int b = 1; b <= kBins; ++b) {
    const int up_to = b == kBins ? 1'000'000 : lengths[lengths.size() * b / kBins];
    if (bins.empty() || up_to > bins.back().up_to_tokens) bins.push_back({.up_to_tokens = up_to});
  }
  const auto bin_of = [&](int tokens) {
    return static_cast<size_t>(
        std::find_if(bins.begin(), bins.end(),
                     [&](const LengthBin& bin) { return tokens <= bin.up_to_tokens; }) -
        bins.begin());
  };
  struct Count {
    double right = 0;
    double all = 0;
    double rate() const { return all == 0 ? 0 : right / all; }
  };
  std::vector<Count> everywhere(bins.size());
  std::vector<Count> here(bins.size());
  Count total;
  Count domain_total;
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    if (!used(i)) continue;
    const double right = model.letters[i] == answers.questions[i].right ? 1 : 0;
    const bool is_here = answers.questions[i].domain == domain;
    const size_t bin = bin_of(model.tokens[i]);
    for (Count* count : {&everywhere[bin], &total, is_here ? &here[bin] : nullptr,
                         is_here ? &domain_total : nullptr}) {
      if (count == nullptr) continue;
      count->right += right;
      count->all += 1;
    }
  }
  const double shift = domain.empty() ? 1 : domain_total.rate() / total.rate();
  for (size_t b = 0; b < bins.size(); ++b) {
    const double prior = std::min(1.0, everywhere[b].rate() * shift);
    bins[b].accuracy = domain.empty() ? everywhere[b].rate()
                                      : (here[b].right + kPriorQuestions * prior) /
                                            (here[b].all + kPriorQuestions);
  }
  return bins;
}

double BinAccuracy(const std::vector<LengthBin>& bins, int tokens) {
  for (const LengthBin& bin : bins) {
    if (tokens <= bin.up_to_tokens) return bin.accuracy;
  }
  return bins.back().accuracy;
}

void WriteRecording(const RecordedAnswers& answers, const RecordedModel& model,
                    const std::string& file) {
  std::ofstream out(file, std::ios::binary);
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    const RecordedQuestion& question = answers.questions[i];
    if (!question.is_test) continue;
    const char letter = model.letters[i];
    const nlohmann::json line = {
        {"query", question.text},
        {"answer", letter == 0 ? std::string("no answer")
                               : "The answer is (" + std::string(1, letter) + ")."},
        {"output_tokens", model.tokens[i]}};
    out << line.dump() << "\n";
  }
  if (!out) Fail("cannot write " + file);
}

}  // namespace octogate::bench
