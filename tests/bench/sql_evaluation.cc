#include "tests/bench/sql_evaluation.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/bench/sql_text.h"

namespace octogate::bench {

EvaluatedSuite EvaluatedSuite::Sample(size_t count) const {
  EvaluatedSuite some{.name = name, .databases = databases};
  count = std::min(count, questions.size());
  for (size_t n = 0; n < count; ++n) {
    const size_t i = n * questions.size() / count;
    some.questions.push_back(questions[i]);
    some.gold_rows.push_back(gold_rows[i]);
  }
  return some;
}

absl::StatusOr<EvaluatedSuite> Prepare(const SqlSuite& suite, const std::filesystem::path& root) {
  EvaluatedSuite prepared{.name = suite.name, .questions = suite.questions};
  std::map<std::string, std::unique_ptr<ReferenceDatabase>> open;
  for (const SqlQuestion& question : suite.questions) {
    std::unique_ptr<ReferenceDatabase>& database = open[question.database];
    if (database == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(
          database, ReferenceDatabase::Open(root / absl::StrCat(question.database, ".sqlite")));
      OCTOGATE_ASSIGN_OR_RETURN(prepared.databases[question.database].schema, database->Schema());
    }
    absl::StatusOr<SqlRows> rows = database->Run(question.gold);
    if (!rows.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(question.database, ": ", question.gold, ": ", rows.status().message()));
    }
    prepared.gold_rows.push_back(*std::move(rows));
  }
  return prepared;
}

std::vector<double> SqlOutcomes::Milliseconds(const std::string& node) const {
  std::vector<double> times;
  for (const SqlOutcome& outcome : all) {
    const auto found = outcome.course.milliseconds.find(node);
    if (found == outcome.course.milliseconds.end()) continue;
    times.insert(times.end(), found->second.begin(), found->second.end());
  }
  std::sort(times.begin(), times.end());
  return times;
}

absl::StatusOr<SqlOutcomes> Evaluate(const EvaluatedSuite& suite, const SqlVariant& variant,
                                     const std::filesystem::path& graphs,
                                     const std::string& model_path, SqlPlayer* player,
                                     const ScriptOf& script, SqlGateway* gateway) {
  SqlOutcomes outcomes;
  std::string applied;
  for (size_t i = 0; i < suite.questions.size(); ++i) {
    const SqlQuestion& question = suite.questions[i];
    if (question.database != applied) {
      OCTOGATE_ASSIGN_OR_RETURN(
          const v1::Graph graph,
          SqlGraph(graphs, variant, absl::StrCat(question.database, ".sqlite"), model_path));
      OCTOGATE_RETURN_IF_ERROR(gateway->Apply(graph));
      applied = question.database;
    }
    if (player != nullptr) player->Play(script(i));
    SqlOutcome& outcome = outcomes.all.emplace_back();
    outcome.kind = question.kind;
    outcome.course = gateway->Ask(question.question);
    if (player != nullptr) outcome.played = player->played();
    outcome.correct =
        outcome.course.executable && !outcome.course.truncated &&
        SameRows(outcome.course.rows, suite.gold_rows[i], OrdersItsRows(question.gold));
    outcome.course.rows.clear();
  }
  return outcomes;
}

}  // namespace octogate::bench
