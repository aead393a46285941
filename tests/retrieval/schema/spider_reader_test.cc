#include "retrieval/schema/spider_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_replace.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kTables[] = R"([{
  "db_id": "school",
  "table_names_original": ["student", "Has_Pet"], "table_names": ["student", "has pet"],
  "column_names_original": [[-1, "*"], [0, "StuID"], [0, "Fname"], [1, "StuID"], [1, "PetID"]],
  "column_names": [[-1, "*"], [0, "student id"], [0, "first name"], [1, "student id"], [1, "pet id"]],
  "column_types": ["text", "number", "text", "number", "number"],
  "column_descriptions": ["*", "", "given name", null, ""],
  "primary_keys": [1, [3, 4]], "foreign_keys": [[3, 1]]}])";

std::string ErrorWith(const char* from, const char* to) {
  const auto schemas = ParseSpiderTables(absl::StrReplaceAll(kTables, {{from, to}}), "t.json");
  return schemas.ok() ? "none" : std::string(schemas.status().message());
}

TEST(SpiderReader, ReadsTablesColumnsAndKeys) {
  const auto schemas = ParseSpiderTables(kTables, "t.json");
  ASSERT_TRUE(schemas.ok()) << schemas.status();
  ASSERT_EQ(schemas->size(), 1U);
  const Schema& school = schemas->front();
  EXPECT_EQ(school.name, "school");
  ASSERT_EQ(school.tables.size(), 2U);
  EXPECT_EQ(school.tables[0].columns[1].alias, "first name");
  EXPECT_EQ(school.tables[0].columns[1].description, "given name");
  EXPECT_EQ(school.tables[0].columns[0].type, "number");
  EXPECT_EQ(school.tables[1].description, "");  // "has pet" says nothing that Has_Pet does not
  EXPECT_TRUE(school.tables[1].columns[0].primary_key && school.tables[1].columns[1].primary_key);
  ASSERT_EQ(school.tables[1].foreign_keys.size(), 1U);
  EXPECT_EQ(school.tables[1].foreign_keys[0].table, "student");
  EXPECT_THAT(school.tables[1].foreign_keys[0].references, ElementsAre("StuID"));
}

TEST(SpiderReader, NamesThePlaceOfAnError) {
  EXPECT_THAT(ErrorWith("[3, 1]]", "[3, 9]]"),
              HasSubstr("foreign_keys[0][1]: there is no column 9"));
  EXPECT_THAT(ErrorWith("[3, 1]]", "[3, 0]]"), HasSubstr("there is no column 0"));
  EXPECT_THAT(ErrorWith("[3, 1]]", "[3]]"), HasSubstr("foreign_keys[0]: is not [from, to]"));
  EXPECT_THAT(ErrorWith("[1, \"PetID\"]", "[7, \"PetID\"]"), HasSubstr("there is no table 7"));
  EXPECT_THAT(ErrorWith("\"number\", \"number\"]", "\"number\"]]"), HasSubstr("is not JSON"));
  EXPECT_THAT(ErrorWith("[\"text\", \"number\", ", "["),
              HasSubstr("column_types: has another length"));
  EXPECT_THAT(ErrorWith("\"db_id\"", "\"db\""), HasSubstr("[0]"));
}

TEST(SpiderReader, ReadsThePublishedFiles) {
  for (const auto& [path, databases] : std::vector<std::pair<const char*, size_t>>{
           {"text2sql/spider/tables.json", 166},
           {"text2sql/kaggledbqa/KaggleDBQA_tables.json", 8},
           {"text2sql/bird-schemas/dev_tables.json", 11}}) {
    OCTOGATE_SKIP_WITHOUT_DATA(file, path);
    const auto schemas = ReadSpiderTables(file);
    ASSERT_TRUE(schemas.ok()) << schemas.status();
    EXPECT_EQ(schemas->size(), databases) << path;
    for (const Schema& schema : *schemas) {
      const auto catalog = Catalog::Create(schema);
      EXPECT_TRUE(catalog.ok()) << schema.name << ": " << catalog.status();
      if (!catalog.ok()) continue;
      EXPECT_THAT((*catalog)->warnings(), ::testing::IsEmpty()) << schema.name;
    }
  }
}

}  // namespace
}  // namespace octogate::schema
