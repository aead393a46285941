// The parts of the sql benchmark, on the library's database of deploy/graphs/sql: what it breaks is
// broken, what it compares is compared, and the shipped graph answers right statements with their
// rows and repairs wrong ones. Chinook's gold statements are run where OCTOGATE_TEST_DATA is set.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/in_process_model_client.h"
#include "tests/bench/sql_evaluation.h"
#include "tests/bench/sql_faults.h"
#include "tests/bench/sql_text.h"

namespace octogate::bench {
namespace {

constexpr char kGraphs[] = OCTOGATE_DEPLOY "/graphs";

const std::vector<SqlQuestion>& LibraryQuestions() {
  static const auto& questions = *new std::vector<SqlQuestion>{
      {"library", "easy", "What are the titles of books in French?",
       "SELECT title FROM book WHERE language = 'French'", ""},
      {"library", "non-nested", "Which members have not returned a book? Order them by name.",
       "SELECT m.name FROM member m JOIN loan l ON l.member_id = m.id WHERE l.returned IS NULL "
       "ORDER BY m.name",
       ""},
      {"library", "nested", "Which books were never lent?",
       "SELECT title FROM book WHERE id NOT IN (SELECT c.book_id FROM copy c JOIN loan l ON "
       "l.copy_id = c.id)",
       ""}};
  return questions;
}

class SqlBenchTest : public testing::Test {
 protected:
  SqlBenchTest() : root_(absl::StrCat(testing::TempDir(), "/sql_bench_", getpid())) {
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
    std::ifstream file(absl::StrCat(kGraphs, "/sql/library.sql"));
    const std::string script{std::istreambuf_iterator<char>(file), {}};
    EXPECT_TRUE(ExecuteSql(root_ / "library.sqlite", script).ok());
    auto suite = Prepare({"library", LibraryQuestions()}, root_);
    EXPECT_TRUE(suite.ok()) << suite.status();
    if (suite.ok()) suite_ = *std::move(suite);
    const unsigned seed = std::random_device{}();
    trace_ =
        std::make_unique<testing::ScopedTrace>(__FILE__, __LINE__, absl::StrCat("seed ", seed));
    random_.seed(seed);
  }
  ~SqlBenchTest() override { std::filesystem::remove_all(root_); }

  const SqlSchema& schema() const { return suite_.databases.at("library").schema; }

  SqlOutcomes Run(const SqlVariant& variant, const ScriptOf& script) {
    const auto player = std::make_shared<SqlPlayer>();
    SqlGateway gateway(root_, [&](const v1::Model&, absl::Time) { return player->NewClient(); });
    auto outcomes = Evaluate(suite_, variant, kGraphs, "prepared", player.get(), script, &gateway);
    EXPECT_TRUE(outcomes.ok()) << outcomes.status();
    return outcomes.ok() ? *std::move(outcomes) : SqlOutcomes();
  }

  const std::filesystem::path root_;
  EvaluatedSuite suite_;
  std::mt19937_64 random_;
  std::unique_ptr<testing::ScopedTrace> trace_;
};

TEST(SqlTextTest, ReadsTokens) {
  std::string joined;
  for (const SqlToken& token :
       LexSql("SELECT \"a b\".[c], 'it''s' -- no\nFROM t WHERE x>=1.5 AND y IN (SELECT 'z")) {
    absl::StrAppend(&joined, token.text, "/", token.depth, " ");
  }
  EXPECT_EQ(joined,
            "SELECT/0 \"a b\"/0 ./0 [c]/0 ,/0 'it''s'/0 FROM/0 t/0 WHERE/0 x/0 >=/0 1.5/0 AND/0 "
            "y/0 IN/0 (/0 SELECT/1 'z/1 ");
  EXPECT_TRUE(OrdersItsRows("SELECT a FROM t ORDER BY a"));
  EXPECT_FALSE(OrdersItsRows("SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)"));
  EXPECT_EQ(WithSingleQuotes("SELECT \"Name\" FROM t WHERE a = \"it's\"", {"name"}),
            "SELECT \"Name\" FROM t WHERE a = 'it''s'");
}

TEST_F(SqlBenchTest, RowsAreComparedAsAMultisetOrInOrder) {
  for (int round = 0; round < 50; ++round) {
    SqlRows rows;
    const size_t count = 2 + random_() % 20;
    for (size_t i = 0; i < count; ++i) {
      rows.push_back({static_cast<int64_t>(random_() % 5), absl::StrCat("t", random_() % 3)});
      if (random_() % 4 == 0) rows.back()[0] = nullptr;
    }
    SqlRows shuffled = rows;
    std::shuffle(shuffled.begin(), shuffled.end(), random_);
    EXPECT_TRUE(SameRows(rows, shuffled, /*ordered=*/false));
    EXPECT_EQ(SameRows(rows, shuffled, /*ordered=*/true), rows == shuffled);
    SqlRows other = shuffled;
    other[random_() % count][1] = "u";
    EXPECT_FALSE(SameRows(rows, other, /*ordered=*/false));
    shuffled.pop_back();
    EXPECT_FALSE(SameRows(rows, shuffled, /*ordered=*/false));
  }
  EXPECT_TRUE(SameRows({{1}}, {{1.0}}, true));
  EXPECT_TRUE(SameRows({{0.1 + 0.2}}, {{0.3}}, true));
  EXPECT_FALSE(SameRows({{1}}, {{"1"}}, true));
  EXPECT_FALSE(SameRows({{1}}, {{1, 2}}, true));
}

TEST_F(SqlBenchTest, WhatIsBrokenIsRefusedOrRunsAsItsKindSays) {
  auto database = ReferenceDatabase::Open(root_ / "library.sqlite");
  ASSERT_TRUE(database.ok()) << database.status();
  std::map<SqlFault, int> made;
  for (int round = 0; round < 20; ++round) {
    for (const SqlQuestion& question : suite_.questions) {
      for (const SqlFault fault : AllSqlFaults()) {
        const auto broken = WithFault(question.gold, fault, schema(), random_);
        if (!broken) continue;
        ++made[fault];
        EXPECT_NE(*broken, question.gold);
        const bool runs = (*database)->Run(*broken).ok();
        // A table or column in place of another one may well be there.
        if (fault == SqlFault::kWrongTable || fault == SqlFault::kMissingJoin ||
            fault == SqlFault::kOtherColumn) {
          continue;
        }
        EXPECT_EQ(runs, !IsMechanical(fault)) << Name(fault) << ": " << *broken;
      }
    }
  }
  for (const SqlFault fault : AllSqlFaults()) {
    // None of the statements adds anything up.
    if (fault != SqlFault::kOtherAggregate) {
      EXPECT_GT(made[fault], 0) << Name(fault);
    }
  }
}

TEST_F(SqlBenchTest, GoldStatementsAreRightInEveryVariant) {
  for (const SqlLinking linking : {SqlLinking::kShipped, SqlLinking::kWhole}) {
    for (const bool on : {true, false}) {
      const SqlOutcomes outcomes =
          Run({.linking = linking, .grammar = on, .correction = on},
              [&](size_t i) { return SqlPlayer::Script{{suite_.questions[i].gold}}; });
      for (const SqlOutcome& outcome : outcomes.all) {
        EXPECT_TRUE(outcome.course.valid && outcome.course.executable && outcome.correct)
            << outcome.course.error;
        EXPECT_EQ(outcome.course.model_calls, 1);
        ASSERT_EQ(outcome.played.size(), 1u);
        EXPECT_EQ(outcome.played[0].limited, on);
        EXPECT_TRUE(outcome.played[0].held);
        EXPECT_EQ(outcome.course.milliseconds.count("link"), 1u);
      }
    }
  }
}

TEST_F(SqlBenchTest, CorrectionRepairsWhatCheckRefuses) {
  const ScriptOf script = [&](size_t i) {
    const std::string& gold = suite_.questions[i].gold;
    return SqlPlayer::Script{{absl::StrCat(gold, " AND nothing = 1")}, {gold}};
  };
  for (const SqlOutcome& outcome : Run({.grammar = false, .correction = false}, script).all) {
    EXPECT_FALSE(outcome.course.valid || outcome.course.executable || outcome.correct);
    EXPECT_FALSE(outcome.course.error.empty());
  }
  for (const SqlOutcome& outcome : Run({.grammar = false}, script).all) {
    EXPECT_TRUE(outcome.correct) << outcome.course.error;
    EXPECT_EQ(outcome.course.model_calls, 2);
    EXPECT_FALSE(outcome.course.first_error.empty());
  }
}

TEST_F(SqlBenchTest, GrammarKeepsTheFirstTextThatItHolds) {
  const auto ask = [&](bool second) {
    return Run({.correction = false}, [&, second](size_t i) {
      SqlPlayer::Script script = {{"Sure: " + suite_.questions[i].gold}};
      if (second) script[0].push_back(suite_.questions[i].gold);
      return script;
    });
  };
  for (const SqlOutcome& outcome : ask(true).all) {
    EXPECT_FALSE(outcome.played.at(0).held);
    EXPECT_TRUE(outcome.correct) << outcome.course.error;
  }
  for (const SqlOutcome& outcome : ask(false).all) {
    EXPECT_EQ(outcome.played.at(0).text, "S") << "the beginning of SELECT";
    EXPECT_FALSE(outcome.course.valid);
  }
}

TEST_F(SqlBenchTest, RunsThatAreWrongAreNotCorrect) {
  const SqlOutcomes outcomes =
      Run({}, [&](size_t) { return SqlPlayer::Script{{"SELECT name FROM branch"}}; });
  for (const SqlOutcome& outcome : outcomes.all) {
    EXPECT_TRUE(outcome.course.executable) << outcome.course.error;
    EXPECT_FALSE(outcome.correct);
  }
}

TEST_F(SqlBenchTest, GeneratedRowsAnswerTheStatements) {
  const auto database = nlohmann::json::parse(R"({
    "table_names_original": ["plants", "owners"],
    "column_names_original": [[-1, "*"], [0, "Name"], [0, "Capacity"], [0, "owner"], [1, "owner"],
                              [1, "Country"]],
    "column_types": ["text", "text", "text", "number", "number", "text"],
    "primary_keys": [4], "foreign_keys": [[3, 4]]})");
  const std::vector<std::string> statements = {
      "SELECT Name FROM plants WHERE Capacity > 100",
      "SELECT count(*) FROM plants p JOIN owners o ON p.owner = o.owner WHERE o.Country = 'Peru' "
      "AND p.Name LIKE '%dam%'"};
  const uint64_t seed = random_();
  const std::string script = MakeRows(database, statements, 20, seed);
  EXPECT_EQ(script, MakeRows(database, statements, 20, seed));
  EXPECT_NE(script, MakeRows(database, statements, 20, seed + 1));
  ASSERT_TRUE(ExecuteSql(root_ / "plants.sqlite", script).ok());
  const auto made = ReferenceDatabase::Open(root_ / "plants.sqlite");
  ASSERT_TRUE(made.ok());
  const auto names = (*made)->Run(statements[0]);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_FALSE(names->empty());
  const auto count = (*made)->Run(statements[1]);
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_GE((*count)[0][0].get<int>(), 1);
}

TEST_F(SqlBenchTest, ACheckpointAnswers) {
  gateway::InProcessWorkerOptions options;
  options.model_root = OCTOGATE_FIXTURES "/checkpoints";
  options.load.device.threads = 1;
  gateway::InProcessWorker worker(options);
  SqlGateway gateway(root_, [&worker](const v1::Model& model, absl::Time deadline) {
    return worker.Load(model, deadline);
  });
  const auto outcomes = Evaluate(suite_.Sample(1), {.correction = false, .token_budget = 96},
                                 kGraphs, "llama3", nullptr, nullptr, &gateway);
  ASSERT_TRUE(outcomes.ok()) << outcomes.status();
  ASSERT_EQ(outcomes->all.size(), 1u);
  const SqlCourse& course = outcomes->all[0].course;
  EXPECT_EQ(course.model_calls, 1) << course.error;
  // What its context leaves no room to end is no statement.
  if (course.checks == 0) {
    EXPECT_THAT(course.error, testing::HasSubstr("before it was a whole text of its grammar"));
    EXPECT_EQ(course.statement, "");
    return;
  }
  // Behind the grammar not even a model of random weights writes anything else.
  const std::vector<SqlToken> tokens = LexSql(course.statement);
  ASSERT_FALSE(tokens.empty());
  EXPECT_THAT((std::vector<std::string>{"select", "with", "values", ""}),
              testing::Contains(tokens[0].name))
      << course.statement;
}

TEST_F(SqlBenchTest, GoldStatementsOfChinookRun) {
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: Chinook is not read";
  const auto suite = MakeChinook(std::filesystem::path(data) / "text2sql",
                                 OCTOGATE_BENCH_SQL "/chinook.jsonl", root_);
  ASSERT_TRUE(suite.ok()) << suite.status();
  const auto prepared = Prepare(*suite, root_);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  EXPECT_GE(prepared->questions.size(), 40u);
  for (size_t i = 0; i < prepared->questions.size(); ++i) {
    EXPECT_FALSE(prepared->gold_rows[i].empty()) << prepared->questions[i].question;
  }
}

}  // namespace
}  // namespace octogate::bench
