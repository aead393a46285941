#include "retrieval/schema/bird_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "retrieval/schema/csv.h"
#include "retrieval/schema/spider_reader.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(Csv, ReadsQuotesAndLineEnds) {
  const auto rows = ParseCsv(
      "\xEF\xBB\xBF"
      "a,\"b,\"\"c\"\"\nd\",e\r\n\r\nf\"g,\n",
      "f.csv", 10);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_THAT(*rows, SizeIs(2));
  EXPECT_THAT((*rows)[0].fields, ElementsAre("a", "b,\"c\"\nd", "e"));
  EXPECT_THAT((*rows)[1].fields, ElementsAre("f\"g", ""));
  EXPECT_EQ((*rows)[1].line, 4U);
}

TEST(Csv, IsBounded) {
  EXPECT_THAT(ParseCsv("a\n\"b\n", "f.csv", 10).status().message(),
              HasSubstr("f.csv:2: a quoted field does not end"));
  EXPECT_EQ(ParseCsv("a\nb\nc\n", "f.csv", 2).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ParseCsv(std::string(5000, ','), "f.csv", 2).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(BirdReader, ReadsDescriptionsAndSamples) {
  const auto schemas = ParseBirdMetadata(R"([{"name": "db", "tables": [{
    "name": "t", "ai_description": "unread", "row_count": 7, "primary_key": ["id"], "columns": [
      {"name": "id", "original_name": null, "type": "integer", "unique_count": 3,
       "sample_values": [1, 2]},
      {"name": "seg", "original_name": "client segment", "type": "text", "description": "d",
       "value_description": "v", "unique_count": 2, "sample_values": ["a", "b"],
       "foreign_keys": [
        {"reference_table": "u", "reference_column": "s", "relationship": "many-to-one"},
        {"reference_table": "w", "reference_column": "s", "relationship": "one-to-many"}]}]}]}])",
                                         "m.json");
  ASSERT_TRUE(schemas.ok()) << schemas.status();
  const Table& table = schemas->at(0).tables.at(0);
  EXPECT_EQ(table.rows, 7);
  EXPECT_EQ(table.description, "");
  EXPECT_TRUE(table.columns[0].primary_key);
  EXPECT_TRUE(table.columns[0].values_truncated);
  EXPECT_EQ(table.columns[1].alias, "client segment");
  EXPECT_FALSE(table.columns[1].values_truncated);
  EXPECT_THAT(table.columns[1].values, ElementsAre("a", "b"));
  ASSERT_THAT(table.foreign_keys, SizeIs(1));
  EXPECT_EQ(table.foreign_keys[0].table, "u");
}

TEST(BirdReader, NamesThePlaceOfAnError) {
  const auto error = [](const char* text) {
    return std::string(ParseBirdMetadata(text, "m.json").status().message());
  };
  EXPECT_THAT(error(R"([{"name": "db"}])"), HasSubstr("[0]: has no array \"tables\""));
  EXPECT_THAT(
      error(R"([{"name": "db", "tables": [{"name": "t", "columns": [], "primary_key": ["x"]}]}])"),
      HasSubstr("primary_key[0]: no column 'x'"));
  EXPECT_THAT(error(R"({})"), HasSubstr("is not an array"));
}

TEST(BirdReader, DescribesFromAFolderOfCsvFiles) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / absl::StrCat("bird_", getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "Orders.csv")
      << "original_column_name,column_name,column_description,data_format,value_description\n"
         "status , order status,state of it,text,\"OPEN: not paid\n SHIPPED: gone\"\n"
         "gone,,\x93quoted\x94,,\n";
  std::ofstream(folder / "unknown.csv") << "original_column_name\n";
  Schema shop = Shop();
  ASSERT_TRUE(DescribeFromBirdFolder(folder.string(), &shop).ok());
  const Column& status = shop.tables[1].columns[3];
  EXPECT_EQ(status.alias, "order status");
  EXPECT_EQ(status.description, "state of it");
  EXPECT_THAT(status.value_description, HasSubstr("SHIPPED: gone"));
  EXPECT_THAT(shop.warnings, SizeIs(2));
  std::ofstream(folder / "orders.csv") << "column_name\nx\n";
  std::filesystem::remove(folder / "Orders.csv");
  EXPECT_THAT(DescribeFromBirdFolder(folder.string(), &shop).message(),
              HasSubstr("orders.csv:1: the first row has no original_column_name"));
  EXPECT_EQ(DescribeFromBirdFolder((folder / "none").string(), &shop).code(),
            absl::StatusCode::kNotFound);
  std::filesystem::remove_all(folder);
}

TEST(BirdReader, ReadsThePublishedFilesAndDescribesTheTablesOfTheOther) {
  OCTOGATE_SKIP_WITHOUT_DATA(tables, "text2sql/bird-schemas/dev_tables.json");
  OCTOGATE_SKIP_WITHOUT_DATA(cleaned, "text2sql/bird-schemas/dev_tables_cleaned.json");
  OCTOGATE_SKIP_WITHOUT_DATA(metadata, "text2sql/bird-schemas/dev_metadata.json");
  EXPECT_TRUE(ReadBirdMetadata(metadata).ok());
  auto schemas = ReadSpiderTables(tables);
  const auto descriptions = ReadBirdMetadata(cleaned);
  ASSERT_TRUE(schemas.ok() && descriptions.ok());
  size_t columns = 0;
  size_t described = 0;
  for (Schema& schema : *schemas) {
    for (const Schema& other : *descriptions) {
      if (other.name == schema.name) MergeDescriptions(other, &schema);
    }
    for (const Table& table : schema.tables) {
      columns += table.columns.size();
      for (const Column& column : table.columns) described += column.description.empty() ? 0 : 1;
    }
  }
  EXPECT_EQ(columns, 798U);
  EXPECT_GT(described, 600U);
}

}  // namespace
}  // namespace octogate::schema
