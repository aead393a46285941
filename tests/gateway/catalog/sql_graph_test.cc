// The graph that answers questions about a database, as it is shipped: what it does with statements
// that are right, wrong and hostile, and that a model behind its grammar writes nothing else than
// statements over what was linked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gateway/in_process_model_client.h"
#include "gateway/manifest_files.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kGraphs[] = OCTOGATE_SOURCE_DIR "/deploy/graphs";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// A model that always answers the same.
StubWorkerOptions Always(const std::string& answer) {
  StubWorkerOptions options;
  options.defaults.tokens = 1;
  options.defaults.text = answer;
  return options;
}

// A model whose answers always reach their length.
StubWorkerOptions Cut(const std::string& answer) {
  StubWorkerOptions options = Always(answer);
  options.defaults.length = true;
  return options;
}

// What nodes of that name were given, in turn.
std::vector<std::string> InputsOf(const Answer& answer, const std::string& node) {
  std::vector<std::string> inputs;
  for (const v1::GenerateResponse& event : answer.events) {
    if (event.node_entered().node() == node) inputs.push_back(event.node_entered().input());
  }
  return inputs;
}

// The names of the nodes that answered or failed, in their order.
std::vector<std::string> Course(const Answer& answer) {
  std::vector<std::string> nodes;
  for (const v1::GenerateResponse& event : answer.events) {
    if (event.has_node_left()) {
      nodes.push_back(
          absl::StrCat(event.node_left().node(), event.node_left().code() == 0 ? "" : " failed"));
    }
  }
  return nodes;
}

class SqlGraphTest : public testing::Test {
 protected:
  SqlGraphTest() {
    folder_.Execute("library.sqlite", ReadFile(absl::StrCat(kGraphs, "/sql/library.sql")));
    database_ = ReadFile(folder_.path() / "library.sqlite");
    ServerOptions options;
    options.graph.model_root = folder_.path();
    gateway_ = std::make_unique<TestGateway>(options);
  }
  ~SqlGraphTest() override {
    EXPECT_TRUE(ReadFile(folder_.path() / "library.sqlite") == database_) << "it was written to";
  }

  // The shipped graph with one model that writes and another one that corrects.
  void Apply(const StubWorker& writer, const StubWorker& corrector,
             const std::string& catalog_lines = "") {
    const auto manifest = InlineFiles(ReadFile(absl::StrCat(kGraphs, "/sql.yaml")), "sql.yaml",
                                      kGraphs, size_t{4} << 20);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    const grpc::Status status = gateway_->Apply(absl::StrReplaceAll(
        *manifest,
        {{"- {name: coder, path: coder}",
          absl::StrCat("- {name: coder, workers: [\"", writer.address(), "\"]}\n",
                       "    - {name: corrector, workers: [\"", corrector.address(), "\"]}")},
         {"model: coder\n        maxTokens: 256\n        grammar: {sql: {retriever: widen}}",
          "model: corrector\n        grammar: {sql: {retriever: widen}}"},
         {"sqlite: library.sqlite\n", absl::StrCat("sqlite: library.sqlite\n", catalog_lines)}}));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  TestFolder folder_;
  std::string database_;
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(SqlGraphTest, LinksClassifiesWritesChecksAndRuns) {
  const StubWorker writer(
      Always("```sql\nSELECT m.name, l.due FROM member m JOIN loan l ON l.member_id = m.id "
             "WHERE l.returned IS NULL ORDER BY l.due;\n```"));
  Apply(writer, writer);
  const Answer answer = gateway_->Generate(Ask("Which members have books that are overdue?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const std::vector<std::string> course = Course(answer);
  ASSERT_EQ(course.size(), 6u);
  EXPECT_EQ(course[0], "link");
  EXPECT_EQ(course[1], "classify");
  EXPECT_THAT(std::vector<std::string>(course.begin() + 3, course.end()),
              ElementsAre("generate", "check", "run"));
  EXPECT_THAT(answer.text(), AllOf(HasSubstr("Carl Berg"), HasSubstr("2026-05-13")));
  EXPECT_THAT(answer.text(), Not(HasSubstr("Noor Haddad")));
}

TEST_F(SqlGraphTest, WhatTheDatabaseRefusesIsCorrectedWithItsMessage) {
  const StubWorker writer(Always("SELECT surname FROM member"));
  const StubWorker corrector(Always("SELECT name FROM member ORDER BY name LIMIT 1"));
  Apply(writer, corrector);
  const Answer answer = gateway_->Generate(Ask("What is the first member called?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  std::vector<std::string> course = Course(answer);
  EXPECT_THAT(std::vector<std::string>(course.begin() + 3, course.end()),
              ElementsAre("generate", "check failed", "widen", "correct", "check", "run"));
  EXPECT_THAT(answer.text(), HasSubstr("Carl Berg"));
  EXPECT_THAT(
      InputsOf(answer, "correct"),
      ElementsAre(AllOf(HasSubstr("Statement: SELECT surname FROM member\n"),
                        HasSubstr("no such column: surname"), HasSubstr("CREATE TABLE member"),
                        HasSubstr("Question: What is the first member called?"))));
}

TEST_F(SqlGraphTest, WhatStaysWrongIsTheQuerysError) {
  const StubWorker writer(Always("SELECT surname FROM member"));
  Apply(writer, writer);
  const Answer answer = gateway_->Generate(Ask("What is the first member called?"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(),
              AllOf(HasSubstr("\"check\""), HasSubstr("no such column: surname")));
  EXPECT_EQ(writer.started(), 3) << "one statement and two corrections";
}

// The beginning of a statement may be one, too, of which nobody knows what it would have said.
TEST_F(SqlGraphTest, WhatIsCutOffIsCorrectedAndNeverRun) {
  const StubWorker writer(Cut("SELECT name, email FROM member"));
  const StubWorker corrector(Always("SELECT name FROM member ORDER BY name LIMIT 1"));
  Apply(writer, corrector);
  const Answer answer = gateway_->Generate(Ask("What is the first member called?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  std::vector<std::string> course = Course(answer);
  EXPECT_THAT(std::vector<std::string>(course.begin() + 3, course.end()),
              ElementsAre("generate failed", "widen", "correct", "check", "run"));
  EXPECT_THAT(answer.text(), AllOf(HasSubstr("Carl Berg"), Not(HasSubstr("Peter Hall"))));
  EXPECT_THAT(InputsOf(answer, "correct"),
              ElementsAre(AllOf(HasSubstr("Cut off: the answer had reached its 1 tokens before it"),
                                HasSubstr("Statement: \n"), HasSubstr("CREATE TABLE member"),
                                HasSubstr("Question: What is the first member called?"))));
}

TEST_F(SqlGraphTest, WhatIsAlwaysCutOffIsTheQuerysError) {
  const StubWorker writer(Cut("SELECT name FROM member"));
  Apply(writer, writer);
  const Answer answer = gateway_->Generate(Ask("What is the first member called?"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(answer.status.error_message(),
              AllOf(HasSubstr("\"correct\""), HasSubstr("raise maxTokens")));
  EXPECT_EQ(writer.started(), 3) << "one statement and two corrections";
  EXPECT_THAT(InputsOf(answer, "check"), ElementsAre());
  EXPECT_EQ(answer.text(), "");
}

TEST_F(SqlGraphTest, CorrectionsOfBothKindsAreBoundedTogether) {
  const StubWorker writer(Cut("SELECT name FROM member"));
  const StubWorker corrector(Always("SELECT surname FROM member"));
  Apply(writer, corrector);
  const Answer refused = gateway_->Generate(Ask("What is the first member called?"));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.status.error_message(),
              AllOf(HasSubstr("\"check\""), HasSubstr("no such column: surname")));
  EXPECT_EQ(writer.started() + corrector.started(), 3);
  EXPECT_EQ(refused.text(), "") << "the schema is no answer";

  const StubWorker wrong(Always("SELECT surname FROM member"));
  const StubWorker cut(Cut("SELECT name FROM member"));
  Apply(wrong, cut);
  const Answer answer = gateway_->Generate(Ask("What is the first member called?"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(wrong.started() + cut.started(), 3);
  const std::vector<std::string> prompts = InputsOf(answer, "correct");
  ASSERT_EQ(prompts.size(), 2u);
  // The second one has what is known of both failures.
  EXPECT_THAT(prompts[1], AllOf(HasSubstr("Statement: SELECT surname FROM member\n"),
                                HasSubstr("no such column: surname"),
                                HasSubstr("Cut off:  the answer had reached its 1 tokens")));
}

// A link that no model may be asked with is not begun: its schema would be the answer.
TEST_F(SqlGraphTest, WithoutACallLeftARefusalIsTheAnswer) {
  const StubWorker writer(Always("SELECT surname FROM member"));
  Apply(writer, writer);
  for (int calls = 1; calls <= 3; ++calls) {
    v1::GenerateRequest request = Ask("What is the first member called?");
    request.set_max_calls(calls);
    const int before = writer.started();
    const Answer answer = gateway_->Generate(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << calls;
    EXPECT_THAT(answer.status.error_message(), HasSubstr("no such column: surname"));
    EXPECT_EQ(answer.text(), "");
    EXPECT_EQ(writer.started() - before, calls);
    std::vector<std::string> refused;
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_edge_refused()) refused.push_back(event.edge_refused().reason());
    }
    if (calls == 3) continue;  // then the edge has been taken as often as it may be
    ASSERT_EQ(refused.size(), 1u);
    EXPECT_THAT(refused[0], HasSubstr(absl::StrCat("\"correct\" behind it: it needs up to 1 call, "
                                                   "and 0 of ",
                                                   calls)));
  }
}

TEST_F(SqlGraphTest, NothingButReadingIsPossible) {
  for (const char* const statement :
       {"DELETE FROM fine", "DROP TABLE loan", "WITH f AS (SELECT 1) DELETE FROM fine",
        "UPDATE fine SET amount = 0 RETURNING amount", "ATTACH '/tmp/x' AS x",
        "PRAGMA user_version", "SELECT load_extension('x')", "SELECT 1; DELETE FROM fine",
        "SELECT * FROM pragma_database_list", "SELECT * FROM sqlite_master"}) {
    const StubWorker writer(Always(statement));
    Apply(writer, writer);
    const Answer answer = gateway_->Generate(Ask(statement, "generate"));
    EXPECT_FALSE(answer.status.ok()) << statement;
    EXPECT_EQ(Course(answer).front(), "generate failed") << "the grammar has no links";
    for (const char* const node : {"check", "run"}) {
      const Answer direct = gateway_->Generate(Ask(statement, node));
      EXPECT_FALSE(direct.status.ok()) << statement;
    }
    const Answer whole = gateway_->Generate(Ask("Pay the fines"));
    EXPECT_FALSE(whole.status.ok()) << statement;
    EXPECT_THAT(whole.text(), Not(HasSubstr("5.4"))) << statement;
  }
}

TEST_F(SqlGraphTest, ATenantReadsWhatItsAccessSays) {
  const StubWorker writer(Always("SELECT name, email FROM member ORDER BY id LIMIT 1"));
  Apply(writer, writer, R"(      access:
        - {tenant: desk, columns: [{table: member, columns: [id, name]}]}
        - {tenant: office}
)");
  v1::GenerateRequest request = Ask("Who is the first member?");
  request.set_tenant("office");
  EXPECT_THAT(gateway_->Generate(request).text(), HasSubstr("peter@mail.example"));
  request.set_tenant("desk");
  const Answer refused = gateway_->Generate(request);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("email"));
  EXPECT_THAT(refused.status.error_message(), Not(HasSubstr("peter@")));
  request = Ask("SELECT name FROM member ORDER BY id LIMIT 1", "run");
  request.set_tenant("desk");
  EXPECT_THAT(gateway_->Generate(request).text(), HasSubstr("Peter Hall"));
  request.set_tenant("guest");
  EXPECT_EQ(gateway_->Generate(request).status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(SqlGraphTest, AStatementThatDoesNotEndIsEnded) {
  const StubWorker writer(Always("x"));
  Apply(writer, writer);
  v1::GenerateRequest request =
      Ask("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
          "run");
  const Answer answer = gateway_->Generate(request, absl::Seconds(60));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED)
      << answer.status.error_message();
}

// What a link hides of a family, SQL must not read in its other members.
TEST(SqlAccessTest, AFamilysMembersShareWhatIsHidden) {
  const TestFolder folder;
  folder.MakeShop("shop.sqlite");
  ServerOptions options;
  options.graph.model_root = folder.path();
  TestGateway gateway(options);
  const grpc::Status status = gateway.Apply(R"(apiVersion: octogate/v1
kind: Graph
metadata: {name: shop}
spec:
  entry: run
  catalogs:
    - name: shop
      sqlite: shop.sqlite
      access: [{tenant: desk, columns: [{table: visits_2024, columns: [page]}]}]
  nodes:
    - name: run
      sql: {catalog: shop, format: json}
)");
  ASSERT_TRUE(status.ok()) << status.error_message();
  const auto run = [&](const std::string& statement) {
    v1::GenerateRequest request = Ask(statement);
    request.set_tenant("desk");
    return gateway.Generate(request);
  };
  EXPECT_TRUE(run("SELECT page FROM visits_2023").status.ok());
  EXPECT_TRUE(run("SELECT monthly_pay FROM salaries").status.ok()) << "other tables are not named";
  for (const char* const table : {"visits_2023", "visits_2024"}) {
    EXPECT_EQ(run(absl::StrCat("SELECT visitor FROM ", table)).status.error_code(),
              grpc::StatusCode::PERMISSION_DENIED);
  }
  folder.Execute("shop.sqlite", "CREATE TABLE secrets (s TEXT); INSERT INTO secrets VALUES ('x')");
  EXPECT_EQ(run("SELECT s FROM secrets").status.error_code(), grpc::StatusCode::PERMISSION_DENIED)
      << "what came after the snapshot";
}

constexpr char kConstrained[] = R"(apiVersion: octogate/v1
kind: Graph
metadata: {name: constrained}
spec:
  entry: link
  models: [{name: tiny, path: llama3}]
  catalogs: [{name: library, sqlite: library.sqlite}]
  nodes:
    - name: link
      retriever: {catalog: library, settings: {mode: focused, recall: minimal}}
    - name: write
      model: {model: tiny, maxTokens: 200, grammar: {sql: {retriever: link}}}
    - name: anything
      model: {model: tiny, maxTokens: 200, grammar: {sql: {catalog: library}}}
    - name: check
      sql: {catalog: library, checkOnly: true}
    - name: both
      vote: {members: [write, anything]}
  edges:
    - {from: link, to: write, on: success, input: "{query}"}
    - {from: write, to: check, on: success}
    - {from: check, to: both, on: error, input: "{query}"}
)";

TEST(ConstrainedSqlTest, AModelWritesStatementsOverWhatWasLinked) {
  const TestFolder folder;
  folder.Execute("library.sqlite", ReadFile(absl::StrCat(kGraphs, "/sql/library.sql")));
  InProcessWorkerOptions worker_options;
  worker_options.model_root = std::string(OCTOGATE_FIXTURES) + "/checkpoints";
  worker_options.load.device.threads = 1;
  InProcessWorker worker(worker_options);
  ServerOptions options;
  options.graph.model_root = folder.path();
  options.load_model = [&](const v1::Model& model, absl::Time deadline) {
    return worker.Load(model, deadline);
  };
  TestGateway gateway(options);
  const grpc::Status status = gateway.Apply(kConstrained);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  int ended = 0;
  for (int round = 0; round < 30; ++round) {
    v1::GenerateRequest request = Ask("How many members are there?");
    request.mutable_sampling()->set_temperature(1.0);
    request.mutable_sampling()->set_seed(random());
    const Answer answer = gateway.Generate(request, absl::Seconds(120));
    std::string statement;
    bool cut = false;
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.node_entered().node() == "check") statement = event.node_entered().input();
      if (event.node_left().node() == "write") {
        cut = event.node_left().code() == grpc::StatusCode::OUT_OF_RANGE;
      }
    }
    // What has no end is not handed on.
    ASSERT_EQ(statement.empty(), cut) << answer.status.error_message();
    if (cut) continue;
    for (const char* const other : {"fine", "loan", "staff", "sqlite_master"}) {
      EXPECT_FALSE(
          absl::StrContains(absl::StrCat(" ", statement, " "), absl::StrCat(" ", other, " ")))
          << statement;
    }
    ++ended;
    // The grammar knows names, not which table has which column, nor what may be compared; and
    // aliases, of a letter and two digits or a table's initials, it allows everywhere.
    constexpr char kNoTable[] = "no such table: ";
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.node_left().node() != "check" || event.node_left().code() == 0) continue;
      const std::string& error = event.node_left().error();
      EXPECT_THAT(error, Not(HasSubstr("syntax error"))) << statement;
      if (const size_t at = error.find(kNoTable); at != std::string::npos) {
        const std::string name = error.substr(at + sizeof(kNoTable) - 1);
        EXPECT_LE(name.substr(0, name.find_first_of(" ,;\n")).size(), 3u) << error << statement;
      }
    }
  }
  EXPECT_GT(ended, 0);
}

}  // namespace
}  // namespace octogate::gateway
