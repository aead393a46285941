#include "retrieval/schema/json_reader.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "retrieval/schema/json_input.h"

namespace octogate::schema {
namespace {

absl::StatusOr<std::vector<std::string>> ReadTexts(const JsonPlace& place, const char* key) {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace items, place.Array(key));
  std::vector<std::string> texts;
  for (size_t i = 0; i < items.size(); ++i) {
    OCTOGATE_ASSIGN_OR_RETURN(std::string text, items.Item(i).AsText());
    texts.push_back(std::move(text));
  }
  return texts;
}

absl::StatusOr<Column> ReadColumn(const JsonPlace& place) {
  OCTOGATE_RETURN_IF_ERROR(
      place.ExpectOnly({"name", "type", "alias", "description", "value_description", "values",
                        "values_truncated", "primary_key", "sensitive"}));
  Column column;
  OCTOGATE_ASSIGN_OR_RETURN(column.name, place.Text("name"));
  OCTOGATE_RETURN_IF_ERROR(CheckName(column.name, place.path()));
  OCTOGATE_ASSIGN_OR_RETURN(column.type, place.Text("type"));
  OCTOGATE_ASSIGN_OR_RETURN(column.alias, place.Text("alias"));
  OCTOGATE_ASSIGN_OR_RETURN(column.description, place.Text("description"));
  OCTOGATE_ASSIGN_OR_RETURN(column.value_description, place.Text("value_description"));
  OCTOGATE_ASSIGN_OR_RETURN(column.values_truncated, place.Flag("values_truncated"));
  OCTOGATE_ASSIGN_OR_RETURN(column.primary_key, place.Flag("primary_key"));
  OCTOGATE_ASSIGN_OR_RETURN(column.sensitive, place.Flag("sensitive"));
  if (place.Has("values")) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace values, place.Array("values"));
    for (size_t i = 0; i < values.size(); ++i) {
      std::optional<std::string> text = CellText(values.Item(i).value());
      if (!text.has_value()) return values.Item(i).Error("is neither a text nor a number");
      column.values.push_back(*std::move(text));
    }
  }
  return column;
}

absl::StatusOr<Table> ReadTable(const JsonPlace& place) {
  OCTOGATE_RETURN_IF_ERROR(
      place.ExpectOnly({"name", "description", "rows", "columns", "foreign_keys"}));
  Table table;
  OCTOGATE_ASSIGN_OR_RETURN(table.name, place.Text("name"));
  OCTOGATE_RETURN_IF_ERROR(CheckName(table.name, place.path()));
  OCTOGATE_ASSIGN_OR_RETURN(table.description, place.Text("description"));
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<int64_t> rows, place.Integer("rows"));
  table.rows = rows.value_or(-1);
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace columns, place.Array("columns"));
  for (size_t i = 0; i < columns.size(); ++i) {
    OCTOGATE_ASSIGN_OR_RETURN(Column column, ReadColumn(columns.Item(i)));
    table.columns.push_back(std::move(column));
  }
  if (!place.Has("foreign_keys")) return table;
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace keys, place.Array("foreign_keys"));
  for (size_t i = 0; i < keys.size(); ++i) {
    const JsonPlace item = keys.Item(i);
    OCTOGATE_RETURN_IF_ERROR(item.ExpectOnly({"columns", "table", "references"}));
    ForeignKey key;
    OCTOGATE_ASSIGN_OR_RETURN(key.columns, ReadTexts(item, "columns"));
    OCTOGATE_ASSIGN_OR_RETURN(key.table, item.Text("table"));
    if (item.Has("references")) {
      OCTOGATE_ASSIGN_OR_RETURN(key.references, ReadTexts(item, "references"));
    }
    table.foreign_keys.push_back(std::move(key));
  }
  return table;
}

}  // namespace

absl::StatusOr<Schema> ParseJsonSchema(std::string_view text, std::string_view source) {
  OCTOGATE_ASSIGN_OR_RETURN(const nlohmann::json file, ParseJson(text, source));
  const JsonPlace root(file, absl::StrCat(ToAbsl(source), ": "));
  OCTOGATE_RETURN_IF_ERROR(root.ExpectOnly({"name", "tables"}));
  Schema schema;
  OCTOGATE_ASSIGN_OR_RETURN(schema.name, root.Text("name"));
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace tables, root.Array("tables"));
  for (size_t i = 0; i < tables.size(); ++i) {
    OCTOGATE_ASSIGN_OR_RETURN(Table table, ReadTable(tables.Item(i)));
    schema.tables.push_back(std::move(table));
  }
  return schema;
}

absl::StatusOr<Schema> ReadJsonSchema(const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path, kMaxJsonBytes));
  return ParseJsonSchema(text, path);
}

}  // namespace octogate::schema
