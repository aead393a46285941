#include "tests/bench/routing_suites.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace octogate::bench {
namespace {

using nlohmann::json;

// Subjects of MMLU by the functional token of Octopus v4 that takes them.
struct TokenSubjects {
  const char* token;
  std::vector<const char*> subjects;
};
const std::vector<TokenSubjects>& OctopusTokens() {
  static const auto* const tokens = new std::vector<TokenSubjects>{
      {"physics", {"astronomy", "college_physics", "conceptual_physics", "high_school_physics"}},
      {"chemistry", {"college_chemistry", "high_school_chemistry"}},
      {"biology", {"college_biology", "high_school_biology"}},
      {"computer_science",
       {"college_computer_science", "computer_security", "high_school_computer_science",
        "machine_learning"}},
      {"math",
       {"abstract_algebra", "college_mathematics", "elementary_mathematics",
        "high_school_mathematics", "high_school_statistics"}},
      {"electrical_engineering", {"electrical_engineering"}},
      {"history",
       {"high_school_european_history", "high_school_us_history", "high_school_world_history",
        "prehistory"}},
      {"philosophy",
       {"formal_logic", "logical_fallacies", "moral_disputes", "moral_scenarios", "philosophy",
        "world_religions"}},
      {"law", {"international_law", "jurisprudence", "professional_law"}},
      {"politics",
       {"high_school_government_and_politics", "public_relations", "security_studies",
        "us_foreign_policy"}},
      {"culture", {"human_sexuality", "sociology"}},
      {"economics", {"econometrics", "high_school_macroeconomics", "high_school_microeconomics"}},
      {"geography", {"high_school_geography"}},
      {"psychology", {"high_school_psychology", "professional_psychology"}},
      {"business", {"business_ethics", "management", "marketing"}},
      {"health",
       {"anatomy", "clinical_knowledge", "college_medicine", "human_aging", "medical_genetics",
        "nutrition", "professional_medicine", "virology"}},
      {"general", {"global_facts", "miscellaneous", "professional_accounting"}}};
  return *tokens;
}

class Labels {
 public:
  int operator()(const std::string& name) {
    return labels_.try_emplace(name, static_cast<int>(labels_.size())).first->second;
  }

 private:
  std::map<std::string, int> labels_;
};

void AddTraining(int label, std::string text, RoutingSuite* suite) {
  auto& classes = suite->train.classes;
  classes.resize(std::max(classes.size(), static_cast<size_t>(label) + 1));
  classes[static_cast<size_t>(label)].push_back(std::move(text));
}

RoutingSuite ReadClinc150(const std::string& folder) {
  const json all = json::parse(std::ifstream(folder + "/routing/clinc150/data_full.json"));
  RoutingSuite suite;
  Labels labels;
  std::set<std::string> seen;
  for (const json& row : all.at("train")) {
    seen.insert(Normalised(row.at(0).get<std::string>()));
    AddTraining(labels(row.at(1)), row.at(0), &suite);
  }
  for (const json& row : all.at("oos_train")) {
    seen.insert(Normalised(row.at(0).get<std::string>()));
    suite.train.none.push_back(row.at(0));
  }
  for (const json& row : all.at("val")) suite.validation.emplace_back(row.at(0), labels(row.at(1)));
  const int none = static_cast<int>(suite.train.classes.size());
  for (const json& row : all.at("oos_val")) suite.validation.emplace_back(row.at(0), none);
  const auto is_new = [&](const json& row) {
    const bool known = seen.contains(Normalised(row.at(0).get<std::string>()));
    suite.dropped += known ? 1 : 0;
    return !known;
  };
  for (const json& row : all.at("test")) {
    if (is_new(row)) suite.test.emplace_back(row.at(0), labels(row.at(1)));
  }
  for (const json& row : all.at("oos_test")) {
    if (is_new(row)) suite.outside.push_back(row.at(0));
  }
  return suite;
}

struct Row {
  int label = 0;
  bool train = false;
  std::string text;
  std::string key;  // What may not be in both splits.
};

RoutingSuite Split(std::vector<Row> rows) {
  RoutingSuite suite;
  std::set<std::string> seen;
  for (const Row& row : rows) {
    if (row.train) seen.insert(Normalised(row.key));
  }
  for (Row& row : rows) {
    if (row.train) {
      AddTraining(row.label, std::move(row.text), &suite);
    } else if (seen.contains(Normalised(row.key))) {
      ++suite.dropped;
    } else {
      suite.test.emplace_back(std::move(row.text), row.label);
    }
  }
  return suite;
}

RoutingSuite ReadMmluPro(const std::string& folder, bool options) {
  std::ifstream file(folder + "/routing/mmlu_pro/questions.jsonl");
  std::vector<Row> rows;
  Labels labels;
  for (std::string line; std::getline(file, line);) {
    const json parsed = json::parse(line);
    Row row{.label = labels(parsed.at("category")),
            .train = parsed.at("split") == "train",
            .text = parsed.at("question"),
            .key = parsed.at("question")};
    if (options) {
      for (const json& option : parsed.at("options")) {
        row.text += "\n" + option.get<std::string>();
      }
    }
    rows.push_back(std::move(row));
  }
  return Split(std::move(rows));
}

RoutingSuite ReadMmlu57(const std::string& folder) {
  std::map<std::string, int> token_of;
  for (size_t token = 0; token < OctopusTokens().size(); ++token) {
    for (const char* subject : OctopusTokens()[token].subjects) {
      token_of[subject] = static_cast<int>(token);
    }
  }
  std::ifstream file(folder + "/routing/mmlu57/mmlu57.jsonl");
  std::vector<Row> rows;
  for (std::string line; std::getline(file, line);) {
    const json parsed = json::parse(line);
    rows.push_back({.label = token_of.at(parsed.at("subject")),
                    .train = parsed.at("split") == "train",
                    .text = parsed.at("prompt"),
                    .key = parsed.at("prompt")});
  }
  return Split(std::move(rows));
}

}  // namespace

std::vector<std::string_view> RoutingSuiteNames() {
  return {"clinc150", "mmlu_pro", "mmlu_pro_options", "mmlu57"};
}

RoutingSuite ReadRoutingSuite(std::string_view name, const std::string& folder) {
  RoutingSuite suite;
  if (name == "clinc150") {
    suite = ReadClinc150(folder);
  } else if (name == "mmlu57") {
    suite = ReadMmlu57(folder);
  } else if (name == "mmlu_pro" || name == "mmlu_pro_options") {
    suite = ReadMmluPro(folder, name == "mmlu_pro_options");
  } else {
    std::cerr << "there is no suite '" << name << "'\n";
    std::exit(2);
  }
  suite.name = name;
  return suite;
}

std::string Normalised(std::string_view text) {
  std::string normalised;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 'A' && byte <= 'Z') {
      normalised += static_cast<char>(byte - 'A' + 'a');
    } else if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte > 127) {
      normalised += c;
    } else if (!normalised.empty() && normalised.back() != ' ') {
      normalised += ' ';
    }
  }
  if (!normalised.empty() && normalised.back() == ' ') normalised.pop_back();
  return normalised;
}

RoutingSuite WithFewExamples(const RoutingSuite& suite, size_t count) {
  RoutingSuite few = suite;
  for (auto& texts : few.train.classes) texts.resize(std::min(texts.size(), count));
  few.train.none.resize(std::min(few.train.none.size(), count));
  return few;
}

}  // namespace octogate::bench
