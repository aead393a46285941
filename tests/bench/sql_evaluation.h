// Suites of questions asked on a variant of the graph, and what became of each question.
#ifndef OCTOGATE_TESTS_BENCH_SQL_EVALUATION_H_
#define OCTOGATE_TESTS_BENCH_SQL_EVALUATION_H_

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/bench/sql_graph.h"
#include "tests/bench/sql_player.h"
#include "tests/bench/sql_questions.h"
#include "tests/bench/sql_rows.h"

namespace octogate::bench {

struct EvaluatedDatabase {
  SqlSchema schema;
};

// Questions with the rows that answer them.
struct EvaluatedSuite {
  std::string name;
  std::vector<SqlQuestion> questions;
  std::vector<SqlRows> gold_rows;  // of each question
  std::map<std::string, EvaluatedDatabase> databases;

  // `count` questions, or all where there are fewer, spread evenly over the suite.
  EvaluatedSuite Sample(size_t count) const;
};

// Runs the gold statements on the databases below `root`. INVALID_ARGUMENT, with the statement, for
// one that does not run.
absl::StatusOr<EvaluatedSuite> Prepare(const SqlSuite& suite, const std::filesystem::path& root);

struct SqlOutcome {
  std::string kind;  // the question's
  SqlCourse course;
  bool correct = false;
  std::vector<PlayedAnswer> played;  // in order; empty for models
};

struct SqlOutcomes {
  std::vector<SqlOutcome> all;

  void Append(const SqlOutcomes& more) { all.insert(all.end(), more.all.begin(), more.all.end()); }
  // 0 where there are none.
  template <typename Value>
  double Mean(const Value& value) const {
    double sum = 0;
    for (const SqlOutcome& outcome : all) sum += static_cast<double>(value(outcome));
    return all.empty() ? 0 : sum / static_cast<double>(all.size());
  }
  template <typename Holds>
  double Share(const Holds& holds) const {
    return Mean([&](const SqlOutcome& outcome) { return holds(outcome) ? 1.0 : 0.0; });
  }
  // In a node, of each time that it was entered, ascending.
  std::vector<double> Milliseconds(const std::string& node) const;
};

// The prepared answers of question number i of a suite.
using ScriptOf = std::function<SqlPlayer::Script(size_t)>;

// Applies the graph for each of the suite's databases in turn and asks its questions, one after the
// other. `player` may be null: then a model answers, and `script` is not called. Errors are those
// of the graph; a question's own are part of its outcome.
absl::StatusOr<SqlOutcomes> Evaluate(const EvaluatedSuite& suite, const SqlVariant& variant,
                                     const std::filesystem::path& graphs,
                                     const std::string& model_path, SqlPlayer* player,
                                     const ScriptOf& script, SqlGateway* gateway);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_EVALUATION_H_
