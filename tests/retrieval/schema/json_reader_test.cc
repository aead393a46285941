#include "retrieval/schema/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace octogate::schema {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto schema = ParseJsonSchema(text, "s.json");
  return schema.ok() ? "none" : std::string(schema.status().message());
}

TEST(JsonReader, ReadsWhatItDocuments) {
  const auto schema = ParseJsonSchema(R"({"name": "shop", "tables": [
    {"name": "orders", "description": "d", "rows": 12, "columns": [
      {"name": "id", "type": "integer", "primary_key": true},
      {"name": "customer_id", "alias": "buyer", "value_description": "v", "values": ["a", 1, true],
       "values_truncated": true, "sensitive": true}],
     "foreign_keys": [{"columns": ["customer_id"], "table": "customers", "references": ["id"]}]}]})",
                                      "s.json");
  ASSERT_TRUE(schema.ok()) << schema.status();
  EXPECT_EQ(schema->name, "shop");
  ASSERT_EQ(schema->tables.size(), 1U);
  const Table& table = schema->tables[0];
  EXPECT_EQ(table.rows, 12);
  EXPECT_TRUE(table.columns[0].primary_key);
  EXPECT_THAT(table.columns[1].values, ElementsAre("a", "1", "true"));
  EXPECT_TRUE(table.columns[1].sensitive);
  EXPECT_EQ(table.foreign_keys[0].table, "customers");
}

TEST(JsonReader, NamesThePlaceOfAnError) {
  EXPECT_THAT(ErrorOf("{\n \"tables\": [}"), HasSubstr("s.json:2:13: is not JSON"));
  EXPECT_THAT(ErrorOf("{\n \"tables\": \"\xff\"}"), HasSubstr("s.json:2:13: is not valid UTF-8"));
  EXPECT_THAT(ErrorOf(R"({"tables": 3})"), HasSubstr(".tables: is not an array"));
  EXPECT_THAT(ErrorOf(R"({"tables": [{"name": "t", "colums": []}]})"),
              HasSubstr("tables[0]: the key 'colums' is not known"));
  EXPECT_THAT(ErrorOf(R"({"tables": [{"name": "t", "columns": [{"name": 3}]}]})"),
              HasSubstr("tables[0].columns[0].name: is not a text"));
  EXPECT_THAT(ErrorOf(R"({"tables": [{"name": "t", "columns": [{"name": "a\u0000"}]}]})"),
              HasSubstr("control characters"));
  EXPECT_THAT(ErrorOf(std::string(100'000, '[')), HasSubstr("nests deeper than 64"));
}

TEST(JsonReader, RefusesWhatWouldTakeTooMuchMemory) {
  // Sparse: the size is looked at before anything is read.
  char path[] = "/tmp/json_reader_test.XXXXXX";
  const int file = mkstemp(path);
  ASSERT_GE(file, 0);
  ASSERT_EQ(ftruncate(file, static_cast<off_t>(kMaxJsonBytes) + 1), 0);
  close(file);
  EXPECT_EQ(ReadJsonSchema(path).status().code(), absl::StatusCode::kResourceExhausted);
  std::filesystem::remove(path);
  const std::string text(kMaxJsonBytes + 1, ' ');
  EXPECT_EQ(ParseJsonSchema(text, "s.json").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(JsonReader, SaysThatAFileIsNotThere) {
  EXPECT_EQ(ReadJsonSchema("/nonexistent/s.json").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace octogate::schema
