// The catalogs of a graph: what they are read from, and what stays when they are read again.
#include "gateway/catalog/catalog_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gateway/catalog/catalog_info.h"
#include "gateway/catalog/linking.h"
#include "retrieval/schema/linker.h"
#include "retrieval/schema/sqlite_reader.h"
#include "tests/gateway/catalog/catalog_fixture.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using CatalogSetTest = CatalogTest;

const schema::CatalogTable* Find(const CatalogSnapshot& snapshot, const std::string& table) {
  const int entry = snapshot.catalog->FindEntry(table);
  return entry < 0 ? nullptr : snapshot.catalog->entries()[static_cast<size_t>(entry)].table.get();
}

TEST_F(CatalogSetTest, ReadsEveryKindOfSource) {
  EXPECT_EQ(ReadOrFail("sqlite: 'shop.sqlite'")->snapshot()->catalog->num_tables(), 6);
  folder_.Write("shop.sql", "CREATE TABLE t (a INT, b TEXT); CREATE TABLE u (c INT);");
  EXPECT_EQ(ReadOrFail("ddl: 'shop.sql'")->snapshot()->catalog->num_tables(), 2);
  folder_.Write("shop.json", R"({"name": "s", "tables": [
      {"name": "t", "columns": [{"name": "a", "values": ["x"]}]}]})");
  EXPECT_EQ(ReadOrFail("json: 'shop.json'")->snapshot()->num_values, 1);
}

constexpr char kTwoDatabases[] = R"([
  {"db_id": "one", "table_names_original": ["t"], "table_names": ["t"],
   "column_names_original": [[-1, "*"], [0, "a"]], "column_names": [[-1, "*"], [0, "a"]],
   "column_types": ["text", "number"], "primary_keys": [], "foreign_keys": []},
  {"db_id": "two", "table_names_original": ["u"], "table_names": ["u"],
   "column_names_original": [[-1, "*"], [0, "b"]], "column_names": [[-1, "*"], [0, "b"]],
   "column_types": ["text", "number"], "primary_keys": [], "foreign_keys": []}])";

TEST_F(CatalogSetTest, OfSeveralDatabasesOneIsNamed) {
  folder_.Write("tables.json", kTwoDatabases);
  const auto two = ReadOrFail("spider: 'tables.json' database: 'two'");
  EXPECT_NE(Find(*two->snapshot(), "u"), nullptr);
  EXPECT_EQ(Find(*two->snapshot(), "t"), nullptr);
  const absl::Status unnamed = Read("spider: 'tables.json'").status();
  EXPECT_EQ(unnamed.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(unnamed.message(), AllOf(HasSubstr("'one', 'two'"), HasSubstr("'database'")));
  const absl::Status unknown = Read("spider: 'tables.json' database: 'three'").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(unknown.message(), HasSubstr("'one', 'two'"));
}

TEST_F(CatalogSetTest, DescriptionsAreMerged) {
  std::filesystem::create_directories(folder_.path() / "described");
  folder_.Write(
      "described/salaries.csv",
      "original_column_name,column_name,column_description,data_format,value_description\n"
      "monthly_pay,wage,gross wage of a month,real,in euro\n");
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite' descriptions: 'described'");
  const schema::Table& salaries = Find(*catalog->snapshot(), "salaries")->table;
  EXPECT_EQ(salaries.columns[2].alias, "wage");
  EXPECT_EQ(salaries.columns[2].description, "gross wage of a month");
  EXPECT_EQ(salaries.columns[2].value_description, "in euro");
}

TEST_F(CatalogSetTest, PathsStayBelowTheRoot) {
  const TestFolder outside;
  outside.MakeShop("other.sqlite");
  std::filesystem::create_symlink(outside.path() / "other.sqlite", folder_.path() / "link.sqlite");
  std::filesystem::create_directory_symlink(outside.path(), folder_.path() / "elsewhere");
  const std::string above = "../" + outside.path().filename().string();
  const std::vector<std::string> hostile = {(outside.path() / "other.sqlite").string(),
                                            above + "/other.sqlite",
                                            "x/../" + above + "/other.sqlite",
                                            "link.sqlite",
                                            "elsewhere/other.sqlite",
                                            "/etc/passwd",
                                            std::string("shop.sqlite\0x", 13)};
  for (const std::string& path : hostile) {
    v1::Catalog catalog = CatalogOf("");
    for (int kind = 0; kind < 4; ++kind) {
      if (kind == 0) catalog.set_sqlite(path);
      if (kind == 1) catalog.set_ddl(path);
      if (kind == 2) catalog.set_spider(path);
      if (kind == 3) catalog.set_json(path);
      EXPECT_EQ(
          CatalogHandle::Read(catalog, folder_.path(), nullptr, nullptr, Soon()).status().code(),
          absl::StatusCode::kInvalidArgument)
          << path;
    }
  }
  EXPECT_EQ(Read("sqlite: 'shop.sqlite' descriptions: 'elsewhere'").status().code(),
            absl::StatusCode::kInvalidArgument);
  // A folder inside, with a file that is not.
  std::filesystem::create_directories(folder_.path() / "described");
  outside.Write("secret.csv", "original_column_name,column_description\nid,secret\n");
  std::filesystem::create_symlink(outside.path() / "secret.csv",
                                  folder_.path() / "described" / "salaries.csv");
  EXPECT_EQ(Read("sqlite: 'shop.sqlite' descriptions: 'described'").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(CatalogSetTest, WhatIsMissingOrBrokenIsNamed) {
  EXPECT_THAT(Read("sqlite: 'none.sqlite'").status().message(), HasSubstr("'none.sqlite'"));
  EXPECT_EQ(Read("sqlite: 'none.sqlite'").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Read("sqlite: '.'").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Read("sqlite: 'shop.sqlite' descriptions: 'none'").status().code(),
            absl::StatusCode::kNotFound);
  folder_.Write("broken.sqlite", "this is no database, however long it may be");
  EXPECT_THAT(Read("sqlite: 'broken.sqlite'").status().message(), HasSubstr("broken.sqlite"));
  EXPECT_EQ(Read("sqlite: 'shop.sqlite' sensitive: 'orders.nothing'").status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto access = Read("sqlite: 'shop.sqlite' access {tenant: 'a' tables: 'nothing'}");
  EXPECT_EQ(access.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(access.status().message(), AllOf(HasSubstr("'nothing'"), HasSubstr("'a'")));
}

TEST_F(CatalogSetTest, AGraphsErrorsAndRemarksNameTheCatalog) {
  v1::Graph graph;
  *graph.mutable_spec()->add_catalogs() = CatalogOf("name: 'one' sqlite: 'none.sqlite'");
  std::vector<std::string> warnings;
  auto catalogs = ReadCatalogs(graph, folder_.path(), nullptr, nullptr, Soon(), &warnings);
  EXPECT_THAT(catalogs.status().message(), AllOf(HasSubstr("'one'"), HasSubstr("'none.sqlite'")));
  std::string ddl = "CREATE TABLE t (a INT";
  for (int i = 0; i < 20; ++i) ddl += absl::StrCat(", FOREIGN KEY (a) REFERENCES gone", i, " (x)");
  folder_.Write("keys.sql", ddl + ");");
  *graph.mutable_spec()->mutable_catalogs(0) = CatalogOf("name: 'one' ddl: 'keys.sql'");
  catalogs = ReadCatalogs(graph, folder_.path(), nullptr, nullptr, Soon(), &warnings);
  ASSERT_TRUE(catalogs.ok()) << catalogs.status();
  ASSERT_THAT(warnings, SizeIs(4));
  EXPECT_THAT(warnings[0], AllOf(HasSubstr("'one'"), HasSubstr("gone0")));
  EXPECT_THAT(warnings[3], HasSubstr("17 more"));
  EXPECT_THAT(catalogs->at("one")->snapshot()->warnings, SizeIs(20));
}

// A model whose vectors count letters: whatever else, texts of equal letters are near.
class LetterCounter final : public router::EmbeddingModel {
 public:
  void Embed(const v1::WorkerEmbedRequest& request, const router::CallContext& context,
             EmbedDone done) override {
    tenant_ = context.tenant;
    if (fails) {
      done(absl::UnavailableError("it sleeps"));
      return;
    }
    v1::WorkerEmbedResponse response;
    for (const std::string& text : request.inputs()) {
      std::vector<float> counts(26, 0.01F);
      for (const char c : text) {
        if (c >= 'a' && c <= 'z') ++counts[static_cast<size_t>(c - 'a')];
      }
      *response.add_embeddings()->mutable_values() = {counts.begin(), counts.end()};
      ++embedded;
    }
    done(std::move(response));
  }
  absl::StatusOr<std::string> Fingerprint(absl::Time deadline) override {
    waits_until = deadline;
    if (fingerprint.empty()) return absl::UnavailableError("nobody says");
    return fingerprint;
  }

  std::string fingerprint = "letters";
  absl::Time waits_until;
  bool fails = false;
  int embedded = 0;
  std::string tenant_;
};

TEST_F(CatalogSetTest, VectorsOfAnEncoderCountAndAreKept) {
  const auto model = std::make_shared<LetterCounter>();
  bool unchanged = true;
  const CatalogModels models = {
      .find = [&](std::string_view) { return std::shared_ptr<router::EmbeddingModel>(model); },
      .is_unchanged = [&](const std::string&) { return unchanged; }};
  v1::Graph graph;
  *graph.mutable_spec()->add_catalogs() = CatalogOf("sqlite: 'shop.sqlite' encoder: 'letters'");
  std::vector<std::string> warnings;
  // For its errors only: nothing is embedded.
  ASSERT_TRUE(ReadCatalogs(graph, folder_.path(), nullptr, nullptr, Soon(), &warnings).ok());
  EXPECT_EQ(model->embedded, 0);
  const auto set = ReadCatalogs(graph, folder_.path(), nullptr, &models, Soon(), &warnings);
  ASSERT_TRUE(set.ok()) << set.status();
  const std::shared_ptr<CatalogHandle> catalog = set->at("shop");
  EXPECT_EQ(CatalogInfoOf(*catalog, graph).vectors(), model->embedded - 1);  // one for its size
  v1::LinkSchemaRequest request;
  request.set_question("yltnohm ypa");  // No word of the schema, but letters of "monthly pay".
  request.mutable_settings()->set_mode(v1::LINK_MODE_FOCUSED);
  const auto link = LinkCatalog(*catalog, request, For("boss"));
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_EQ(model->tenant_, "boss");
  // A link waits for vectors, never for who made them.
  EXPECT_EQ(model->waits_until, absl::InfinitePast());
  model->fingerprint.clear();
  EXPECT_EQ(LinkCatalog(*catalog, request, For("boss")).status().code(),
            absl::StatusCode::kUnavailable);
  model->fingerprint = "letters";
  float dense = 0;
  for (const v1::LinkedTable& table : link->tables()) {
    for (const v1::LinkedColumn& column : table.columns()) dense += column.parts().dense();
  }
  EXPECT_GT(dense, 0);

  // What has not changed is not embedded again.
  int before = model->embedded;
  folder_.Execute("shop.sqlite", "CREATE TABLE news (headline TEXT)");
  const auto changes = catalog->Refresh(Soon());
  ASSERT_TRUE(changes.ok()) << changes.status();
  EXPECT_EQ(changes->after->dense->num_embedded(), 1);
  EXPECT_EQ(model->embedded, before + 2);
  const auto same = ReadCatalogs(graph, folder_.path(), &*set, &models, Soon(), &warnings);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->at("shop"), catalog);
  // Another model of that name is asked anew, for everything where its weights are others.
  unchanged = false;
  before = model->embedded;
  const auto moved = ReadCatalogs(graph, folder_.path(), &*set, &models, Soon(), &warnings);
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_NE(moved->at("shop"), catalog);
  EXPECT_EQ(model->embedded, before + 1);
  model->fingerprint = "others";
  before = model->embedded;
  ASSERT_TRUE(ReadCatalogs(graph, folder_.path(), &*set, &models, Soon(), &warnings).ok());
  EXPECT_GT(model->embedded, before + 10);

  // Without the question's vector there is no link, rather than another one.
  model->fails = true;
  const absl::Status failed = LinkCatalog(*catalog, request, For("boss")).status();
  EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(failed.message(), AllOf(HasSubstr("'shop'"), HasSubstr("it sleeps")));
  EXPECT_EQ(catalog->Refresh(Soon()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(catalog->snapshot(), changes->after);
}

TEST_F(CatalogSetTest, ValuesOfSensitiveColumnsAreNotKept) {
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite' sensitive: 'salaries.employee'");
  const schema::Table& salaries = Find(*catalog->snapshot(), "salaries")->table;
  EXPECT_TRUE(salaries.columns[1].sensitive);
  EXPECT_THAT(salaries.columns[1].values, IsEmpty());
  const schema::Table& customers = Find(*catalog->snapshot(), "customers")->table;
  EXPECT_THAT(customers.columns[1].values, Contains("Ann Chu"));
  EXPECT_THAT(customers.columns[3].values, IsEmpty());  // email, by its name
  EXPECT_EQ(ReadOrFail("sqlite: 'shop.sqlite' max_values: 0")->snapshot()->num_values, 0);
}

TEST_F(CatalogSetTest, ReadingEndsAtTheDeadline) {
  EXPECT_EQ(CatalogHandle::Read(CatalogOf("sqlite: 'shop.sqlite'"), folder_.path(), nullptr,
                                nullptr, absl::Now() - absl::Seconds(1))
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
  // Inside of a database, too, where a scan for values would take far longer.
  folder_.Execute("large.sqlite", R"sql(
      CREATE TABLE t (a TEXT);
      WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
      INSERT INTO t SELECT 'same' FROM n;)sql");
  schema::SqliteReaderOptions options;
  options.deadline = absl::Now();
  EXPECT_EQ(
      schema::ReadSqliteSchema((folder_.path() / "large.sqlite").string(), options).status().code(),
      absl::StatusCode::kDeadlineExceeded);
}

TEST_F(CatalogSetTest, AnEqualCatalogOfTheVersionBeforeIsTakenOver) {
  v1::Graph graph;
  *graph.mutable_spec()->add_catalogs() = CatalogOf("name: 'a' sqlite: 'shop.sqlite'");
  *graph.mutable_spec()->add_catalogs() = CatalogOf("name: 'b' sqlite: 'shop.sqlite'");
  std::vector<std::string> warnings;
  const auto before = ReadCatalogs(graph, folder_.path(), nullptr, nullptr, Soon(), &warnings);
  ASSERT_TRUE(before.ok()) << before.status();
  folder_.Execute("shop.sqlite", "CREATE TABLE news (headline TEXT)");
  graph.mutable_spec()->mutable_catalogs(1)->add_sensitive("orders.placed_on");
  const auto after = ReadCatalogs(graph, folder_.path(), &*before, nullptr, Soon(), &warnings);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->at("a"), before->at("a"));
  EXPECT_NE(after->at("b"), before->at("b"));
  const auto old_b = before->at("b")->snapshot();
  const auto new_b = after->at("b")->snapshot();
  EXPECT_NE(Find(*new_b, "news"), nullptr);
  EXPECT_EQ(Find(*new_b, "customers"), Find(*old_b, "customers"));
  EXPECT_NE(Find(*new_b, "orders"), Find(*old_b, "orders"));
}

TEST_F(CatalogSetTest, ARefreshSaysWhatChangedAndKeepsTheRest) {
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite'");
  const auto before = catalog->snapshot();
  EXPECT_FALSE(before->SourceChanged());
  folder_.Execute("shop.sqlite", R"sql(
      CREATE TABLE news (headline TEXT);
      DROP TABLE salaries;
      DROP TABLE visits_2023;
      INSERT INTO products VALUES (3, 'teapot', 8.0);)sql");
  EXPECT_TRUE(before->SourceChanged());
  EXPECT_TRUE(CatalogInfoOf(*catalog, {}).source_changed());
  const auto changes = catalog->Refresh(Soon());
  ASSERT_TRUE(changes.ok()) << changes.status();
  EXPECT_THAT(changes->added, ElementsAre("news"));
  EXPECT_THAT(changes->removed, ElementsAre("salaries", "visits_2023"));
  EXPECT_THAT(changes->changed, ElementsAre("products"));
  EXPECT_EQ(changes->before, before);
  EXPECT_EQ(changes->after, catalog->snapshot());
  EXPECT_FALSE(changes->after->SourceChanged());
  EXPECT_EQ(Find(*changes->after, "customers"), Find(*before, "customers"));
  EXPECT_NE(Find(*changes->after, "products"), Find(*before, "products"));
  EXPECT_NE(changes->after->catalog->version(), before->catalog->version());
  // The same as reading it for the first time.
  EXPECT_EQ(changes->after->catalog->version(),
            ReadOrFail("sqlite: 'shop.sqlite'")->snapshot()->catalog->version());

  const auto nothing = catalog->Refresh(Soon());
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_THAT(nothing->added, IsEmpty());
  EXPECT_THAT(nothing->removed, IsEmpty());
  EXPECT_THAT(nothing->changed, IsEmpty());
  EXPECT_EQ(nothing->after->catalog->version(), changes->after->catalog->version());
}

TEST_F(CatalogSetTest, ARefreshThatFailsLeavesTheSnapshot) {
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite' access {tenant: 'a' tables: 'salaries'}");
  const auto before = catalog->snapshot();
  // Rights to a table that is gone would silently be rights to nothing, or to its successor.
  folder_.Execute("shop.sqlite", "DROP TABLE salaries");
  EXPECT_EQ(catalog->Refresh(Soon()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(catalog->snapshot(), before);
  std::filesystem::remove(folder_.path() / "shop.sqlite");
  EXPECT_TRUE(before->SourceChanged());
  EXPECT_EQ(catalog->Refresh(Soon()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(catalog->snapshot(), before);
}

TEST_F(CatalogSetTest, WhatIsInTheLogOfWritesCountsAsAChange) {
  folder_.Execute("shop.sqlite", "PRAGMA journal_mode = WAL");
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite'");
  EXPECT_FALSE(catalog->snapshot()->SourceChanged());
  sqlite3* writer = nullptr;
  ASSERT_EQ(sqlite3_open((folder_.path() / "shop.sqlite").c_str(), &writer), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(writer, "CREATE TABLE news (headline TEXT)", nullptr, nullptr, nullptr),
            SQLITE_OK);
  EXPECT_TRUE(catalog->snapshot()->SourceChanged());
  const auto changes = catalog->Refresh(Soon());
  ASSERT_TRUE(changes.ok()) << changes.status();
  EXPECT_THAT(changes->added, ElementsAre("news"));
  sqlite3_close(writer);
}

TEST_F(CatalogSetTest, AChangedDescriptionCountsAsAChange) {
  std::filesystem::create_directories(folder_.path() / "described");
  folder_.Write("described/salaries.csv", "original_column_name,column_description\nid,number\n");
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite' descriptions: 'described'");
  EXPECT_FALSE(catalog->snapshot()->SourceChanged());
  folder_.Write("described/salaries.csv", "original_column_name,column_description\nid,a number\n");
  EXPECT_TRUE(catalog->snapshot()->SourceChanged());
}

TEST_F(CatalogSetTest, AChangeBehindALinkIsSeen) {
  std::filesystem::create_directory(folder_.path() / "blue");
  std::filesystem::create_directory(folder_.path() / "green");
  for (const char* file : {"blue/db.sqlite", "green/db.sqlite"}) {
    folder_.Execute(file, "CREATE TABLE stock (id INTEGER, place TEXT)");
  }
  // Twins but for their place, and what is there is no newer.
  std::filesystem::last_write_time(
      folder_.path() / "green/db.sqlite",
      std::filesystem::last_write_time(folder_.path() / "blue/db.sqlite"));
  const auto point = [&](const char* link, const char* target, bool folder) {
    std::filesystem::remove(folder_.path() / link);
    if (folder) {
      std::filesystem::create_directory_symlink(target, folder_.path() / link);
    } else {
      std::filesystem::create_symlink(target, folder_.path() / link);
    }
  };
  const struct {
    const char* link;
    const char* path;
    const char* before;
    const char* after;
    bool folder;
  } cases[] = {{"file.sqlite", "file.sqlite", "blue/db.sqlite", "green/db.sqlite", false},
               {"now", "now/db.sqlite", "blue", "green", true}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.path);
    point(c.link, c.before, c.folder);
    const auto read = CatalogHandle::Read(CatalogOf(absl::StrCat("sqlite: '", c.path, "'")),
                                          folder_.path(), nullptr, nullptr, Soon());
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_FALSE((*read)->snapshot()->SourceChanged());
    point(c.link, c.after, c.folder);
    EXPECT_TRUE((*read)->snapshot()->SourceChanged());
    point(c.link, c.before, c.folder);
    EXPECT_FALSE((*read)->snapshot()->SourceChanged());
    point(c.link, "gone", c.folder);
    EXPECT_TRUE((*read)->snapshot()->SourceChanged());
    point(c.link, c.after, c.folder);
    ASSERT_TRUE((*read)->Refresh(Soon()).ok());
    EXPECT_FALSE((*read)->snapshot()->SourceChanged());
    // And what the link leads to.
    folder_.Execute("green/db.sqlite", absl::StrCat("CREATE TABLE t", c.folder ? 2 : 1, " (a)"));
    EXPECT_TRUE((*read)->snapshot()->SourceChanged());
  }
}

}  // namespace
}  // namespace octogate::gateway
