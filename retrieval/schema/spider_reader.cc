#include "retrieval/schema/spider_reader.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "retrieval/schema/json_input.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

struct ColumnPlace {
  int table = -1;  // -1: "*"
  int column = -1;
};

// A name for people says something only where it is another than the one for SQL.
std::string AliasOf(const std::string& readable, const std::string& original) {
  return SplitWords(readable) == SplitWords(original) ? std::string() : readable;
}

absl::StatusOr<ColumnPlace> Resolve(const JsonPlace& number,
                                    const std::vector<ColumnPlace>& places) {
  OCTOGATE_ASSIGN_OR_RETURN(const int64_t index, number.AsInteger());
  if (index < 0 || index >= static_cast<int64_t>(places.size()) ||
      places[static_cast<size_t>(index)].table < 0) {
    return number.Error(absl::StrCat("there is no column ", index));
  }
  return places[static_cast<size_t>(index)];
}

absl::Status ReadTables(const JsonPlace& database, Schema* schema) {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace originals, database.Array("table_names_original"));
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace readable, database.Array("table_names"));
  if (originals.size() != readable.size())
    return readable.Error("has another length than table_names_original");
  for (size_t i = 0; i < originals.size(); ++i) {
    Table table;
    OCTOGATE_ASSIGN_OR_RETURN(table.name, originals.Item(i).AsText());
    OCTOGATE_ASSIGN_OR_RETURN(const std::string alias, readable.Item(i).AsText());
    table.description = AliasOf(alias, table.name);
    OCTOGATE_RETURN_IF_ERROR(CheckName(table.name, originals.Item(i).path()));
    schema->tables.push_back(std::move(table));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ColumnPlace>> ReadColumns(const JsonPlace& database, Schema* schema) {
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace originals, database.Array("column_names_original"));
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace readable, database.Array("column_names"));
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace types, database.Array("column_types"));
  if (readable.size() != originals.size())
    return readable.Error("has another length than column_names_original");
  // Public copies have files without the type of "*".
  const size_t shift = originals.size() == types.size() + 1 ? 1 : 0;
  if (types.size() + shift != originals.size())
    return types.Error("has another length than column_names_original");
  const bool described = database.Has("column_descriptions");
  std::vector<ColumnPlace> places;
  for (size_t i = 0; i < originals.size(); ++i) {
    const JsonPlace item = originals.Item(i);
    const JsonPlace readable_item = readable.Item(i);
    for (const JsonPlace& pair : {item, readable_item}) {
      if (!pair.value().is_array() || pair.size() != 2) return pair.Error("is not [table, name]");
    }
    OCTOGATE_ASSIGN_OR_RETURN(const int64_t table, item.Item(0).AsInteger());
    if (table < 0) {
      places.push_back({});
      continue;
    }
    if (table >= static_cast<int64_t>(schema->tables.size())) {
      return item.Error(absl::StrCat("there is no table ", table));
    }
    Column column;
    OCTOGATE_ASSIGN_OR_RETURN(column.name, item.Item(1).AsText());
    OCTOGATE_RETURN_IF_ERROR(CheckName(column.name, item.path()));
    OCTOGATE_ASSIGN_OR_RETURN(const std::string alias, readable_item.Item(1).AsText());
    column.alias = AliasOf(alias, column.name);
    if (i >= shift) {
      OCTOGATE_ASSIGN_OR_RETURN(column.type, types.Item(i - shift).AsText());
    }
    if (described) {
      OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace texts, database.Array("column_descriptions"));
      if (texts.size() != originals.size())
        return texts.Error("has another length than column_names_original");
      if (!texts.Item(i).value().is_null()) {
        OCTOGATE_ASSIGN_OR_RETURN(column.description, texts.Item(i).AsText());
      }
    }
    Table& owner = schema->tables[static_cast<size_t>(table)];
    places.push_back({static_cast<int>(table), static_cast<int>(owner.columns.size())});
    owner.columns.push_back(std::move(column));
  }
  return places;
}

absl::Status ReadKeys(const JsonPlace& database, const std::vector<ColumnPlace>& places,
                      Schema* schema) {
  if (database.Has("primary_keys")) {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace keys, database.Array("primary_keys"));
    for (size_t i = 0; i < keys.size(); ++i) {
      const JsonPlace key = keys.Item(i);
      // A key of several columns is an array of them.
      const size_t parts = key.value().is_array() ? key.size() : 1;
      for (size_t k = 0; k < parts; ++k) {
        OCTOGATE_ASSIGN_OR_RETURN(const ColumnPlace at,
                                  Resolve(key.value().is_array() ? key.Item(k) : key, places));
        schema->tables[static_cast<size_t>(at.table)]
            .columns[static_cast<size_t>(at.column)]
            .primary_key = true;
      }
    }
  }
  if (!database.Has("foreign_keys")) return absl::OkStatus();
  OCTOGATE_ASSIGN_OR_RETURN(const JsonPlace keys, database.Array("foreign_keys"));
  for (size_t i = 0; i < keys.size(); ++i) {
    const JsonPlace key = keys.Item(i);
    if (!key.value().is_array() || key.size() != 2) return key.Error("is not [from, to]");
    OCTOGATE_ASSIGN_OR_RETURN(const ColumnPlace from, Resolve(key.Item(0), places));
    OCTOGATE_ASSIGN_OR_RETURN(const ColumnPlace to, Resolve(key.Item(1), places));
    Table& owner = schema->tables[static_cast<size_t>(from.table)];
    const Table& target = schema->tables[static_cast<size_t>(to.table)];
    owner.foreign_keys.push_back(
        {.columns = {owner.columns[static_cast<size_t>(from.column)].name},
         .table = target.name,
         .references = {target.columns[static_cast<size_t>(to.column)].name}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Schema>> ParseSpiderTables(std::string_view text,
                                                      std::string_view source) {
  OCTOGATE_ASSIGN_OR_RETURN(const nlohmann::json file, ParseJson(text, source));
  const JsonPlace root(file, absl::StrCat(ToAbsl(source), ": "));
  OCTOGATE_RETURN_IF_ERROR(root.ExpectArray());
  std::vector<Schema> schemas;
  for (size_t i = 0; i < root.size(); ++i) {
    const JsonPlace database = root.Item(i);
    OCTOGATE_RETURN_IF_ERROR(database.ExpectObject());
    Schema schema;
    OCTOGATE_ASSIGN_OR_RETURN(schema.name, database.Text("db_id"));
    OCTOGATE_RETURN_IF_ERROR(CheckName(schema.name, database.path()));
    OCTOGATE_RETURN_IF_ERROR(ReadTables(database, &schema));
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<ColumnPlace> places,
                              ReadColumns(database, &schema));
    OCTOGATE_RETURN_IF_ERROR(ReadKeys(database, places, &schema));
    schemas.push_back(std::move(schema));
  }
  return schemas;
}

absl::StatusOr<std::vector<Schema>> ReadSpiderTables(const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path, kMaxJsonBytes));
  return ParseSpiderTables(text, path);
}

}  // namespace octogate::schema
