#include "retrieval/schema/bird_reader.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "retrieval/schema/csv.h"
#include "retrieval/schema/json_input.h"

namespace octogate::schema {
namespace {

absl::StatusOr<Column> ReadColumn(const JsonPlace& place, std::vector<ForeignKey>* keys) {
  OCTOGATE_RETURN_IF_ERROR(place.ExpectObject());
  Column column;
  OCTOGATE_ASSIGN_OR_RETURN(column.name, place.Text("name"));
  OCTOGATE_RETURN_IF_ERROR(CheckName(column.name, place.path()));
  OCTOGATE_ASSIGN_OR_RETURN(column.alias, place.Text("original_name"));
  OCTOGATE_ASSIGN_OR_RETURN(column.type, place.Text("type"));
  OCTOGATE_ASSIGN_OR_RETURN(column.description, place.Text("description"));
  OCTOGATE_ASSIGN_OR_RETURN(column.value_description, place.Text("value_description"));
  if (place.Has("sample_values")) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace values, place.Array("sample_values"));
    for (size_t i = 0; i < values.size(); ++i) {
      std::optional<std::string> text = CellText(values.Item(i).value());
      if (text.has_value()) column.values.push_back(*std::move(text));
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<int64_t> distinct, place.Integer("unique_count"));
    column.values_truncated =
        !distinct.has_value() || *distinct > static_cast<int64_t>(column.values.size());
  }
  if (place.Has("foreign_keys")) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace references, place.Array("foreign_keys"));
    for (size_t i = 0; i < references.size(); ++i) {
      const JsonPlace reference = references.Item(i);
      OCTOGATE_RETURN_IF_ERROR(reference.ExpectObject());
      // Each pair stands at both its ends; the key is where the many are.
      OCTOGATE_ASSIGN_OR_RETURN(const std::string relationship, reference.Text("relationship"));
      if (relationship == "one-to-many") continue;
      ForeignKey key{.columns = {column.name}, .table = {}, .references = {}};
      OCTOGATE_ASSIGN_OR_RETURN(key.table, reference.Text("reference_table"));
      OCTOGATE_ASSIGN_OR_RETURN(const std::string to, reference.Text("reference_column"));
      key.references.push_back(to);
      keys->push_back(std::move(key));
    }
  }
  return column;
}

absl::StatusOr<Table> ReadTable(const JsonPlace& place) {
  OCTOGATE_RETURN_IF_ERROR(place.ExpectObject());
  Table table;
  OCTOGATE_ASSIGN_OR_RETURN(table.name, place.Text("name"));
  OCTOGATE_RETURN_IF_ERROR(CheckName(table.name, place.path()));
  OCTOGATE_ASSIGN_OR_RETURN(table.description, place.Text("description"));
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<int64_t> rows, place.Integer("row_count"));
  table.rows = rows.value_or(-1);
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace columns, place.Array("columns"));
  if (columns.size() > kMaxColumnsPerTable) {
    return absl::ResourceExhaustedError(
        absl::StrCat(columns.path(), ": has more than ", kMaxColumnsPerTable, " columns"));
  }
  for (size_t i = 0; i < columns.size(); ++i) {
    OCTOGATE_ASSIGN_OR_RETURN(Column column, ReadColumn(columns.Item(i), &table.foreign_keys));
    table.columns.push_back(std::move(column));
  }
  if (place.Has("primary_key")) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace keys, place.Array("primary_key"));
    if (keys.size() > kMaxColumnsPerTable) return keys.Error("has more columns than a table may");
    for (size_t i = 0; i < keys.size(); ++i) {
      OCTOGATE_ASSIGN_OR_RETURN(const std::string name, keys.Item(i).AsText());
      const int column = FindColumn(table, name);
      if (column < 0) return keys.Item(i).Error(absl::StrCat("no column ", Quoted(name)));
      table.columns[static_cast<size_t>(column)].primary_key = true;
    }
  }
  return table;
}

struct CsvColumns {
  int name = -1, alias = -1, description = -1, format = -1, values = -1;
};

std::string Field(const CsvRow& row, int index) {
  if (index < 0 || index >= static_cast<int>(row.fields.size())) return {};
  return CleanDescription(row.fields[static_cast<size_t>(index)]);
}

}  // namespace

absl::StatusOr<std::vector<Schema>> ParseBirdMetadata(std::string_view text,
                                                      std::string_view source) {
  OCTOGATE_ASSIGN_OR_RETURN(const nlohmann::json file, ParseJson(text, source));
  const JsonPlace root(file, absl::StrCat(ToAbsl(source), ": "));
  OCTOGATE_RETURN_IF_ERROR(root.ExpectArray());
  std::vector<Schema> schemas;
  for (size_t i = 0; i < root.size(); ++i) {
    const JsonPlace database = root.Item(i);
    OCTOGATE_RETURN_IF_ERROR(database.ExpectObject());
    Schema schema;
    OCTOGATE_ASSIGN_OR_RETURN(schema.name, database.Text("name"));
    OCTOGATE_RETURN_IF_ERROR(CheckName(schema.name, database.path()));
    OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace tables, database.Array("tables"));
    for (size_t t = 0; t < tables.size(); ++t) {
      OCTOGATE_ASSIGN_OR_RETURN(Table table, ReadTable(tables.Item(t)));
      schema.tables.push_back(std::move(table));
    }
    schemas.push_back(std::move(schema));
  }
  return schemas;
}

absl::StatusOr<std::vector<Schema>> ReadBirdMetadata(const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path, kMaxJsonBytes));
  return ParseBirdMetadata(text, path);
}

absl::Status DescribeFromBirdCsv(std::string_view text, std::string_view source, Table* table,
                                 Schema* schema) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<CsvRow> rows,
                            ParseCsv(text, source, kMaxColumnsPerTable));
  if (rows.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(source), ":1: the file is empty"));
  }
  CsvColumns at;
  for (size_t i = 0; i < rows[0].fields.size(); ++i) {
    const std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(rows[0].fields[i]));
    if (name == "original_column_name") at.name = static_cast<int>(i);
    if (name == "column_name") at.alias = static_cast<int>(i);
    if (name == "column_description") at.description = static_cast<int>(i);
    if (name == "data_format") at.format = static_cast<int>(i);
    if (name == "value_description") at.values = static_cast<int>(i);
  }
  if (at.name < 0) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(source), ":", rows[0].line,
                                                   ": the first row has no original_column_name"));
  }
  for (size_t i = 1; i < rows.size(); ++i) {
    const std::string name = Field(rows[i], at.name);
    const int column = FindColumn(*table, name);
    if (column < 0) {
      Warn(absl::StrCat(ToAbsl(source), ":", rows[i].line, ": the table ", Quoted(table->name),
                        " has no column ", Quoted(name)),
           schema);
      continue;
    }
    Column& target = table->columns[static_cast<size_t>(column)];
    const auto take = [&](int index, std::string* into) {
      if (into->empty()) *into = Field(rows[i], index);
    };
    take(at.alias, &target.alias);
    take(at.description, &target.description);
    take(at.format, &target.type);
    take(at.values, &target.value_description);
  }
  return absl::OkStatus();
}

absl::Status DescribeFromBirdFolder(const std::string& folder, Schema* schema) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".csv") files.push_back(entry->path());
    if (files.size() > kMaxTables) {
      return absl::ResourceExhaustedError(
          absl::StrCat(folder, ": has more than ", kMaxTables, " files"));
    }
  }
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  std::sort(files.begin(), files.end());
  for (const std::filesystem::path& file : files) {
    const int table = FindTable(*schema, file.stem().string());
    if (table < 0) {
      Warn(absl::StrCat(file.string(), ": there is no such table"), schema);
      continue;
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(file.string()));
    OCTOGATE_RETURN_IF_ERROR(DescribeFromBirdCsv(
        text, file.string(), &schema->tables[static_cast<size_t>(table)], schema));
  }
  return absl::OkStatus();
}

}  // namespace octogate::schema
