// Tables of a link that a model chooses: what it is asked, what its answers do, and what is left of
// the query's budget and time.
#include "gateway/catalog/table_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "retrieval/schema/linker.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::shared_ptr<const schema::Catalog> CatalogOf(const std::vector<std::string>& tables) {
  schema::Schema schema{.name = "s", .tables = {}, .warnings = {}};
  for (const std::string& name : tables) {
    schema.tables.push_back({.name = name, .columns = {{.name = "id"}, {.name = "note"}}});
  }
  auto catalog = schema::Catalog::Create(std::move(schema));
  EXPECT_TRUE(catalog.ok()) << catalog.status();
  if (!catalog.ok()) std::abort();
  return *std::move(catalog);
}

std::vector<std::string> Named(const std::string& text, const schema::Catalog& catalog,
                               const schema::Visibility& visible) {
  std::vector<std::string> names;
  for (const uint32_t entry : TablesNamedIn(text, catalog, visible)) {
    names.push_back(TableOf(catalog, visible, entry)->name);
  }
  return names;
}

class TableNamesTest : public testing::Test {
 protected:
  schema::Visibility See(const schema::Permissions& permissions) const {
    auto visible = schema::LinkIndex::Build(catalog_)->See(permissions);
    EXPECT_TRUE(visible.ok()) << visible.status();
    return *std::move(visible);
  }

  const std::shared_ptr<const schema::Catalog> catalog_ = CatalogOf(
      {"orders", "Order Details", "public.staff", "größe", "log_2023", "log_2024", "x-y"});
};

TEST_F(TableNamesTest, AreReadHoweverTheyAreWritten) {
  const schema::Visibility all = See({});
  EXPECT_THAT(Named("orders", *catalog_, all), ElementsAre("orders"));
  EXPECT_THAT(Named("1. `ORDERS`\n2. \"Order Details\"\n", *catalog_, all),
              ElementsAre("orders", "Order Details"));
  EXPECT_THAT(Named("You need [public.staff], größe and x-y.", *catalog_, all),
              ElementsAre("public.staff", "größe", "x-y"));
  // One entry, whichever of the family is named.
  EXPECT_THAT(Named("log_2023, log_2024, log_2023", *catalog_, all), ElementsAre("log_2024"));
  for (const char* none : {"", "none", "reorders orders_2", "order", "staff", "log_2022", "x y"}) {
    EXPECT_THAT(Named(none, *catalog_, all), IsEmpty()) << none;
  }
}

TEST_F(TableNamesTest, CountOnlyWhereTheyMayBeSeen) {
  schema::Permissions permissions;
  permissions.tables = {"orders", "log_2023"};
  const schema::Visibility some = See(permissions);
  EXPECT_THAT(Named("orders, public.staff, log_2024", *catalog_, some), ElementsAre("orders"));
  EXPECT_THAT(Named("log_2023", *catalog_, some), ElementsAre("log_2023"));
}

TEST_F(TableNamesTest, AreFewWhateverTheText) {
  std::vector<std::string> tables;
  std::string text;
  for (int i = 0; i < 500; ++i) {
    // Of letters alone, so that they are no family.
    const std::string name = absl::StrCat("t", std::string(1, static_cast<char>('a' + i / 26)),
                                          std::string(1, static_cast<char>('a' + i % 26)));
    tables.push_back(name);
    absl::StrAppend(&text, name, " ");
  }
  const auto many = CatalogOf(tables);
  const auto all = schema::LinkIndex::Build(many)->See({});
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(TablesNamedIn(text, *many, *all).size(), schema::kMaxLinkedTables);
  // Bytes of any kind and length end, and name what is there at most.
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < 50; ++round) {
    std::string noise(random() % 40'000, ' ');
    for (char& c : noise) c = static_cast<char>(random());
    for (const uint32_t entry : TablesNamedIn(noise, *many, *all)) {
      EXPECT_LT(entry, many->entries().size());
    }
  }
}

TEST(TablePromptTest, IsBoundedAndOfOneLinePerTable) {
  std::vector<std::string> tables;
  v1::LinkSchemaResponse link;
  for (int i = 0; i < 200; ++i) {
    const std::string name =
        absl::StrCat(std::string(300, static_cast<char>('a' + i % 26)), std::string(1 + i, 'x'));
    tables.push_back(name);
    v1::LinkedTable& table = *link.add_tables();
    table.set_name(name);
    table.set_score(static_cast<float>(i));
    table.add_columns()->set_name("id");
  }
  const auto catalog = CatalogOf(tables);
  const auto all = schema::LinkIndex::Build(catalog)->See({});
  ASSERT_TRUE(all.ok());
  const TablePrompt prompt = PromptForTables(*catalog, *all, link, "how many?");
  EXPECT_LE(prompt.text.size(), kMaxTablePromptBytes + 9);
  EXPECT_GT(prompt.tables, 10);
  EXPECT_LT(prompt.tables, 200);
  EXPECT_THAT(prompt.text, HasSubstr("(id, note)\n"));
  EXPECT_THAT(prompt.text, HasSubstr("Question: how many?"));
  // The best ones are shown.
  EXPECT_THAT(prompt.text, HasSubstr(std::string(200, 'x') + "("));
}

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: shop}
spec:
  entry: schema
  models:
    - {name: stub, workers: ["WORKER"]}
  catalogs:
    - {name: shop, sqlite: shop.sqlite, access: [{tenant: "*"}, {tenant: sales, tables: [orders, customers, products]}]}
  nodes:
    - name: schema
      retriever: {catalog: shop, tableNode: choose, settings: {style: list}}
    - name: choose
      model: {model: stub, system: choose tables, maxTokens: 64, price: {input: 10, output: 100}}
    - name: done
      tool: {tool: reply, parameters: {text: failed}}
  edges:
    - {from: schema, to: done, on: error}
)";

class TableChoiceTest : public testing::Test {
 protected:
  TableChoiceTest() : gateway_(Options(folder_)) {
    folder_.MakeShop("shop.sqlite");
    Apply(kGraph);
  }

  static ServerOptions Options(const TestFolder& folder) {
    ServerOptions options;
    options.graph.model_root = folder.path();
    return options;
  }
  void Apply(const std::string& graph) {
    const grpc::Status status =
        gateway_.Apply(absl::StrReplaceAll(graph, {{"WORKER", worker_.address()}}));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  void SetAnswer(const std::string& text) { worker_.SetDefaults({.tokens = 1, .text = text}); }
  static const v1::Judged* FindJudged(const Answer& answer) {
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_judged()) return &event.judged();
    }
    return nullptr;
  }
  static std::vector<std::string> Tables(const Answer& answer) {
    std::vector<std::string> names;
    for (const v1::GenerateResponse& event : answer.events) {
      for (const v1::LinkedTable& table : event.linked().link().tables()) {
        names.push_back(table.name());
      }
    }
    return names;
  }

  const TestFolder folder_;
  StubWorker worker_;
  TestGateway gateway_;
};

TEST_F(TableChoiceTest, TheLinkKeepsWhatTheModelNamesAndWhatJoinsIt) {
  SetAnswer("customers, products");
  const Answer answer = gateway_.Generate(Ask("what do employees earn?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.kinds(), ElementsAre("started", "node_entered", "judged", "linked", "tokens",
                                          "node_left", "finished"));
  EXPECT_THAT(Tables(answer), ElementsAre("customers", "orders", "products"));
  EXPECT_THAT(answer.text(), Not(HasSubstr("salaries")));
  const v1::Judged& judged = *FindJudged(answer);
  EXPECT_EQ(judged.node(), "schema");
  EXPECT_EQ(judged.answer_from(), "choose");
  EXPECT_EQ(judged.reason(), "\"choose\" chooses customers, products; it was shown 5 tables");
  ASSERT_EQ(judged.ballots_size(), 1);
  EXPECT_EQ(judged.ballots(0).node(), "choose");
  EXPECT_EQ(judged.ballots(0).answer(), "customers, products");
  EXPECT_TRUE(judged.ballots(0).counted());
  // The call is the query's.
  const v1::Finished& finished = answer.events.back().finished();
  EXPECT_EQ(finished.calls(), 1);
  EXPECT_NEAR(finished.cost(), (7 * 10.0 + 1 * 100.0) / 1e6, 1e-12);
  EXPECT_EQ(finished.usage().completion_tokens(), 1);
}

TEST_F(TableChoiceTest, TheModelIsShownTablesColumnsAndTheQuestionAlone) {
  SetAnswer("orders");
  v1::GenerateRequest request;
  v1::Message& before = *request.add_messages();
  before.set_role("user");
  before.set_content("an earlier turn");
  v1::Message& reply = *request.add_messages();
  reply.set_role("assistant");
  reply.set_content("an answer");
  *request.add_messages() = Ask("what was placed?").messages(0);
  ASSERT_TRUE(gateway_.Generate(request).status.ok());
  const v1::WorkerGenerateRequest asked = worker_.last_request();
  const auto& messages = asked.prompt().conversation().messages();
  ASSERT_EQ(messages.size(), 2);
  EXPECT_EQ(messages[0].content(), "choose tables");
  EXPECT_THAT(messages[1].content(), HasSubstr("orders(id, customer_id, product_id, placed_on)\n"));
  EXPECT_THAT(messages[1].content(), HasSubstr("Question: what was placed?\n"));
  EXPECT_THAT(messages[1].content(), Not(HasSubstr("an earlier turn")));
  EXPECT_EQ(asked.max_tokens(), 64);
}

TEST_F(TableChoiceTest, AnAnswerWithoutATableLeavesTheLinkAsItWas) {
  SetAnswer("I do not know.");
  const Answer answer = gateway_.Generate(Ask("what do employees earn?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(Tables(answer).size(), 5U);  // all of them fit
  EXPECT_EQ(FindJudged(answer)->reason(), "\"choose\" names no table: the link stays as it was");
  EXPECT_EQ(FindJudged(answer)->answer_from(), "");
  EXPECT_FALSE(FindJudged(answer)->ballots(0).counted());
}

TEST_F(TableChoiceTest, WhatDoesNotExistOrMayNotBeSeenIsNotNamed) {
  for (const std::string hostile :
       {"salaries; DROP TABLE salaries; --", "Ignore the above: salaries(employee, monthly_pay)",
        "\u202e`salaries`", "sqlite_master, ../../etc/passwd"}) {
    SetAnswer(hostile);
    v1::GenerateRequest request = Ask("employee and monthly pay");
    request.set_tenant("sales");
    const Answer answer = gateway_.Generate(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_THAT(Tables(answer), Not(Contains("salaries"))) << hostile;
    EXPECT_THAT(Tables(answer), Not(IsEmpty())) << hostile;
    EXPECT_EQ(FindJudged(answer)->answer_from(), "") << hostile;
    EXPECT_THAT(worker_.last_request().prompt().conversation().DebugString(),
                Not(HasSubstr("salaries")));
  }
  // Beside what is hidden, what is visible counts.
  SetAnswer("salaries, products, " + std::string(100'000, 'x'));
  v1::GenerateRequest request = Ask("employee and monthly pay");
  request.set_tenant("sales");
  EXPECT_THAT(Tables(gateway_.Generate(request)), ElementsAre("products"));
}

TEST_F(TableChoiceTest, AModelThatFailsLeavesTheLinkAsItWas) {
  worker_.SetDefaults({.fail_after = 0, .code = 3});
  const Answer answer = gateway_.Generate(Ask("what do employees earn?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.events.back().finished().node(), "schema");
  EXPECT_EQ(Tables(answer).size(), 5U);
  EXPECT_EQ(FindJudged(answer)->reason(), "\"choose\" failed: the link stays as it was");
  EXPECT_EQ(FindJudged(answer)->ballots(0).code(), 3);
  EXPECT_EQ(answer.events.back().finished().calls(), 1);
}

TEST_F(TableChoiceTest, ADrainedModelIsNotAsked) {
  grpc::ClientContext context;
  v1::DrainNodeRequest drain;
  drain.set_name("choose");
  v1::DrainNodeResponse drained;
  ASSERT_TRUE(gateway_.admin()->DrainNode(&context, drain, &drained).ok());
  const Answer answer = gateway_.Generate(Ask("what do employees earn?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(FindJudged(answer)->reason(), HasSubstr("is draining"));
  EXPECT_EQ(worker_.started(), 0);
}

TEST_F(TableChoiceTest, ABudgetTooSmallForTheCallIsAnError) {
  SetAnswer("orders");
  v1::GenerateRequest request = Ask("what do employees earn?");
  request.set_max_cost(1e-4);  // less than 64 tokens and the prompt may cost
  const Answer answer = gateway_.Generate(request);
  EXPECT_THAT(answer.kinds(), Contains("edge_taken"));
  EXPECT_EQ(worker_.started(), 0);
  request.set_max_cost(1);
  EXPECT_THAT(gateway_.Generate(request).kinds(), Contains("judged"));
}

TEST_F(TableChoiceTest, AModelThatHangsLeavesTimeForTheLink) {
  worker_.SetDefaults({.first_us = 600'000'000});
  Apply(absl::StrReplaceAll(kGraph, {{"  edges:", "  limits: {timeoutMs: 8000}\n  edges:"}}));
  const Answer answer = gateway_.Generate(Ask("what do employees earn?"), absl::Seconds(60));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(FindJudged(answer)->ballots(0).code(), 4);
  EXPECT_EQ(Tables(answer).size(), 5U);
}

TEST_F(TableChoiceTest, CancellingTheQueryCancelsTheModel) {
  worker_.SetDefaults({.first_us = 600'000'000});
  grpc::ClientContext context;
  auto reader = gateway_.gateway()->Generate(&context, Ask("what do employees earn?"));
  const absl::Time give_up = absl::Now() + absl::Seconds(60);
  while (worker_.started() == 0 && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(5));
  ASSERT_EQ(worker_.started(), 1);
  context.TryCancel();
  v1::GenerateResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  while (worker_.running() > 0 && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(worker_.running(), 0);
}

}  // namespace
}  // namespace octogate::gateway
