#include "tests/bench/sql_prompts.h"

#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "retrieval/schema/link_index.h"
#include "retrieval/schema/linker.h"
#include "tests/bench/linking_suites.h"

namespace octogate::bench {
namespace {

struct Setting {
  std::string name;
  schema::LinkMode mode;
  schema::Recall recall;
  size_t max_columns;  // 0: as `recall` says
};

// Tokens of a prompt without its schema and question: of deploy/graphs/sql/joined.txt.
constexpr double kInstructionTokens = 55;

}  // namespace

absl::Status MeasurePrompts(const std::filesystem::path& text2sql, Report* report) {
  OCTOGATE_ASSIGN_OR_RETURN(const LinkingSuite bird, LoadBirdMiniDev(text2sql.string()));
  std::map<std::string, std::shared_ptr<const schema::LinkIndex>> indexes;
  const Setting settings[] = {
      {"as shipped", schema::LinkMode::kAuto, schema::Recall::kConservative, 0},
      {"focused", schema::LinkMode::kFocused, schema::Recall::kConservative, 0},
      {"focused, 17 columns", schema::LinkMode::kFocused, schema::Recall::kConservative, 17},
      {"focused, minimal", schema::LinkMode::kFocused, schema::Recall::kMinimal, 0},
  };
  for (const Setting& setting : settings) {
    for (const bool evidence : {false, true}) {
      double full = 0, rendered = 0, whole = 0, all_columns = 0, columns = 0, questions = 0;
      for (const LinkingQuestion& question : bird.questions) {
        auto& index = indexes[question.database];
        if (index == nullptr) {
          index = schema::LinkIndex::Build(bird.databases.at(question.database));
        }
        OCTOGATE_ASSIGN_OR_RETURN(const schema::Visibility visible, index->See({}));
        OCTOGATE_ASSIGN_OR_RETURN(const schema::LinkResult link,
                                  schema::Link(*index, visible,
                                               {.question = question.question,
                                                .evidence = evidence ? question.evidence : "",
                                                .mode = setting.mode,
                                                .recall = setting.recall,
                                                .token_budget = 2048,
                                                .max_columns = setting.max_columns}));
        full += static_cast<double>(link.tokens.full);
        rendered += static_cast<double>(link.tokens.rendered);
        whole += link.mode == schema::LinkResult::kFull ? 1 : 0;
        questions += static_cast<double>(question.question.size()) / 4 + kInstructionTokens;
        std::set<std::string> kept;
        for (const schema::LinkedTable& table : link.tables) {
          for (const schema::LinkedColumn& column : table.columns) {
            kept.insert(absl::AsciiStrToLower(absl::StrCat(table.name, ".", column.name)));
          }
        }
        columns += static_cast<double>(kept.size());
        bool has_all = true;
        for (const std::string& column : question.columns) has_all &= kept.contains(column);
        all_columns += has_all ? 1 : 0;
      }
      const auto count = static_cast<double>(bird.questions.size());
      const std::string title = absl::StrCat("BIRD mini-dev, links ", setting.name,
                                             evidence ? ", with evidence" : ", question only");
      const double saved = 100 * (1 - rendered / full);
      const double prompt_saved = 100 * (1 - (rendered + questions) / (full + questions));
      std::cerr << absl::StrFormat(
          "%s: %.0f tokens of %.0f, %.1f %% saved (%.1f %% of prompts); %.1f columns, all needed "
          "in "
          "%.1f %%; the whole schema for %.1f %%\n",
          title, rendered / count, full / count, saved, prompt_saved, columns / count,
          100 * all_columns / count, 100 * whole / count);
      report->Add({.name = title + ": tokens",
                   .value = rendered / count,
                   .unit = "tokens",
                   .beside = "whole schema",
                   .ratio = rendered / full});
      Figure below{.name = title + ": below the whole schema", .value = saved, .unit = "%"};
      if (setting.name == "focused") below.aim = AtLeast(75);
      report->Add(below);
      report->Add({.name = title + ": whole prompt below that with the whole schema",
                   .value = prompt_saved,
                   .unit = "%"});
      report->Add({.name = title + ": all columns needed are kept",
                   .value = 100 * all_columns / count,
                   .unit = "%"});
      report->Add({.name = title + ": columns kept", .value = columns / count, .unit = "columns"});
    }
  }
  return absl::OkStatus();
}

}  // namespace octogate::bench
