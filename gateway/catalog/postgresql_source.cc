#include "gateway/catalog/postgresql_source.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/schema/inferred_keys.h"
#include "retrieval/schema/sensitive.h"

namespace octogate::gateway {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 20;       // of one query of the schema
constexpr size_t kMaxValueBytes = size_t{16} << 20;  // of one query of values
constexpr size_t kColumnsPerQuery = 32;

// Tables of a bare name, "c", in the schema "n".
constexpr char kVisible[] =
    "c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND "
    "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND "
    "pg_catalog.pg_table_is_visible(c.oid)";

// A row per column, in the order of tables and columns.
std::string ColumnsQuery() {
  return absl::StrCat(
      "SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), ",
      "i.indrelid IS NOT NULL AS is_key, ",
      "pg_catalog.left(pg_catalog.col_description(c.oid, a.attnum), ", schema::kMaxDescriptionBytes,
      "), ", "CASE WHEN a.attnum = pg_catalog.min(a.attnum) OVER (PARTITION BY c.oid) THEN ",
      "pg_catalog.left(pg_catalog.obj_description(c.oid, 'pg_class'), ",
      schema::kMaxDescriptionBytes, ") END, ",
      "c.reltuples::pg_catalog.int8, c.relkind IN ('r', 'p', 'm') ",
      "FROM pg_catalog.pg_class AS c ",
      "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace ",
      "JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT ",
      "a.attisdropped ",
      "LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = c.oid AND i.indisprimary AND ",
      "a.attnum = ANY (i.indkey) ", "WHERE ", kVisible,
      " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND ",
      "pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') ",
      "ORDER BY c.relname COLLATE \"C\", c.oid, a.attnum");
}

// A row per pair of columns, in the order of tables and keys.
std::string KeysQuery() {
  return absl::StrCat(
      "SELECT k.oid::pg_catalog.int8, c.relname, f.relname, a.attname, b.attname ",
      "FROM pg_catalog.pg_constraint AS k ", "JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid ",
      "JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace ",
      "JOIN pg_catalog.pg_class AS f ON f.oid = k.confrelid ",
      "CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(source, target, place) ",
      "JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.source ",
      "JOIN pg_catalog.pg_attribute AS b ON b.attrelid = f.oid AND b.attnum = u.target ",
      // Partitions repeat the keys of and to their tables.
      "WHERE k.contype = 'f' AND k.conparentid = 0 AND ", kVisible,
      " AND pg_catalog.pg_table_is_visible(f.oid) ",
      "ORDER BY c.relname COLLATE \"C\", k.oid, u.place");
}

constexpr char kOthersQuery[] =
    "SELECT pg_catalog.count(*), pg_catalog.min(n.nspname::pg_catalog.text) "
    "FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND "
    "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND "
    "NOT pg_catalog.pg_table_is_visible(c.oid) AND "
    "pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND "
    "pg_catalog.has_any_column_privilege(c.oid, 'SELECT')";

std::string TextOf(const SqlValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* integer = std::get_if<int64_t>(&value)) return absl::StrCat(*integer);
  if (const auto* real = std::get_if<double>(&value)) return absl::StrCat(*real);
  return "";
}

bool IsTrue(const SqlValue& value) { return TextOf(value) == "true"; }

int64_t NumberOf(const SqlValue& value) {
  const auto* integer = std::get_if<int64_t>(&value);
  return integer == nullptr ? 0 : *integer;
}

std::string QuotedName(std::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(ToAbsl(name), {{"\"", "\"\""}}), "\"");
}

// All rows of one of the queries above, which have `columns` columns.
absl::StatusOr<SqlResult> ReadAll(SqlDatabase& database, std::string_view query, size_t columns,
                                  absl::Time deadline) {
  SqlCallOptions call;
  call.max_rows = schema::kMaxColumns;
  call.max_bytes = kMaxBytes;
  call.deadline = deadline;
  OCTOGATE_ASSIGN_OR_RETURN(SqlResult result, database.Execute(query, call));
  if (result.truncation != SqlTruncation::kNone) {
    return absl::ResourceExhaustedError(absl::StrCat("the schema that the role sees has more than ",
                                                     schema::kMaxColumns, " columns or ", kMaxBytes,
                                                     " bytes; give it a shorter search_path"));
  }
  if (result.columns.size() != columns) {
    return absl::InternalError("PostgreSQL answers another query than was asked");
  }
  return result;
}

absl::Status AddColumns(const SqlResult& columns, schema::Schema* schema) {
  for (const std::vector<SqlValue>& row : columns.rows) {
    const std::string table = TextOf(row[0]);
    if (schema->tables.empty() || schema->tables.back().name != table) {
      if (schema->tables.size() == schema::kMaxTables) {
        return absl::ResourceExhaustedError(
            absl::StrCat("it has more than ", schema::kMaxTables, " tables"));
      }
      OCTOGATE_RETURN_IF_ERROR(schema::CheckName(table, schema->name));
      schema->tables.push_back({.name = table});
      // PostgreSQL estimates; -1 where it has not yet.
      schema->tables.back().rows = IsTrue(row[7]) ? NumberOf(row[6]) : -1;
    }
    schema::Table& into = schema->tables.back();
    schema::Column column;
    column.name = TextOf(row[1]);
    OCTOGATE_RETURN_IF_ERROR(schema::CheckName(column.name, absl::StrCat("table ", Quoted(table))));
    column.type = TextOf(row[2]);
    column.primary_key = IsTrue(row[3]);
    column.description = schema::CleanDescription(TextOf(row[4]));
    column.sensitive = schema::IsSensitiveName(column.name);
    column.values_truncated = !IsTrue(row[7]);
    if (const std::string comment = TextOf(row[5]); !comment.empty()) {
      into.description = schema::CleanDescription(comment);
    }
    into.columns.push_back(std::move(column));
  }
  return absl::OkStatus();
}

void AddKeys(const SqlResult& keys, schema::Schema* schema) {
  int64_t last = 0;
  schema::Table* table = nullptr;
  for (const std::vector<SqlValue>& row : keys.rows) {
    const std::string name = TextOf(row[1]);
    if (table == nullptr || table->name != name) {
      // The order of both lists is that of the names' bytes.
      const auto found =
          std::lower_bound(schema->tables.begin(), schema->tables.end(), name,
                           [](const schema::Table& a, const std::string& b) { return a.name < b; });
      table = found == schema->tables.end() || found->name != name ? nullptr : &*found;
    }
    if (table == nullptr) continue;
    if (NumberOf(row[0]) != last || table->foreign_keys.empty()) {
      table->foreign_keys.push_back({.columns = {}, .table = TextOf(row[2]), .references = {}});
    }
    last = NumberOf(row[0]);
    table->foreign_keys.back().columns.push_back(TextOf(row[3]));
    table->foreign_keys.back().references.push_back(TextOf(row[4]));
  }
}

// What is read of one table's columns.
class TableValues {
 public:
  TableValues(SqlDatabase& database, const PostgresqlValueOptions& options, absl::Time deadline,
              schema::Table* table)
      : database_(database), options_(options), deadline_(deadline), table_(*table) {}

  absl::Status Read() {
    std::vector<size_t> wanted;
    for (size_t c = 0; c < table_.columns.size(); ++c) {
      limits_.push_back(LimitOf(table_.columns[c]));
      if (limits_[c] > 0) wanted.push_back(c);
    }
    absl::Status status;
    if (!wanted.empty()) status = CountRows();
    for (size_t i = 0; i < wanted.size(); i += kColumnsPerQuery) {
      const size_t count = std::min(kColumnsPerQuery, wanted.size() - i);
      const std::vector<size_t> some(wanted.begin() + static_cast<std::ptrdiff_t>(i),
                                     wanted.begin() + static_cast<std::ptrdiff_t>(i + count));
      status.Update(ReadSome(some));
    }
    return status;
  }

 private:
  size_t LimitOf(const schema::Column& column) const {
    if (column.sensitive || column.values_truncated || column.type == "bytea") return 0;
    const schema::TypeClass type = schema::ClassOf(column.type);
    const bool text = type == schema::TypeClass::kText || type == schema::TypeClass::kUnknown;
    return text ? options_.max_values_per_column
                : std::min(options_.max_values_per_column, options_.max_other_values_per_column);
  }

  // Whether all rows are looked at. What PostgreSQL says of their number is an estimate.
  absl::Status CountRows() {
    SqlCallOptions call;
    call.max_rows = 1;
    call.deadline = std::min(deadline_, absl::Now() + options_.max_time_per_query);
    OCTOGATE_ASSIGN_OR_RETURN(
        const SqlResult result,
        database_.Execute(
            absl::StrCat("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM ", QuotedName(table_.name),
                         " LIMIT ", options_.max_rows_per_table + 1, ") AS s"),
            call));
    all_rows_ = !result.rows.empty() &&
                static_cast<size_t>(NumberOf(result.rows[0][0])) <= options_.max_rows_per_table;
    return absl::OkStatus();
  }

  absl::Status ReadSome(const std::vector<size_t>& columns) {
    std::string query;
    SqlCallOptions call;
    call.max_rows = 0;
    for (const size_t c : columns) {
      const size_t limit = limits_[c];
      // One more than is kept, to know of it.
      absl::StrAppend(&query, query.empty() ? "" : " UNION ALL ", "(SELECT DISTINCT ", c,
                      "::pg_catalog.int8 AS place, v FROM (SELECT ",
                      QuotedName(table_.columns[c].name), "::pg_catalog.text AS v FROM ",
                      QuotedName(table_.name), " LIMIT ", options_.max_rows_per_table,
                      ") AS s WHERE v <> '' AND pg_catalog.octet_length(v) <= ",
                      schema::kMaxValueBytes, " LIMIT ", limit + 1, ")");
      call.max_rows += limit + 1;
    }
    call.max_bytes = kMaxValueBytes;
    call.deadline = std::min(deadline_, absl::Now() + options_.max_time_per_query);
    const absl::StatusOr<SqlResult> result = database_.Execute(query, call);
    for (const size_t c : columns) {
      table_.columns[c].values_truncated =
          !result.ok() || !all_rows_ || result->truncation != SqlTruncation::kNone;
    }
    if (!result.ok()) return result.status();
    for (const std::vector<SqlValue>& row : result->rows) {
      const auto place = static_cast<size_t>(NumberOf(row[0]));
      if (place >= table_.columns.size()) return absl::InternalError("a column that is not there");
      schema::Column& column = table_.columns[place];
      if (column.values.size() < limits_[place]) {
        column.values.push_back(TextOf(row[1]));
      } else {
        column.values_truncated = true;
      }
    }
    for (const size_t c : columns) {
      std::sort(table_.columns[c].values.begin(), table_.columns[c].values.end());
    }
    return absl::OkStatus();
  }

  SqlDatabase& database_;
  const PostgresqlValueOptions& options_;
  const absl::Time deadline_;
  schema::Table& table_;
  std::vector<size_t> limits_;  // by column
  bool all_rows_ = false;
};

}  // namespace

absl::StatusOr<schema::Schema> ReadPostgresqlSchema(SqlDatabase& database, absl::Time deadline) {
  schema::Schema schema;
  OCTOGATE_ASSIGN_OR_RETURN(
      const SqlResult name,
      ReadAll(database, "SELECT pg_catalog.current_database()::pg_catalog.text", 1, deadline));
  if (!name.rows.empty()) schema.name = TextOf(name.rows[0][0]);
  OCTOGATE_ASSIGN_OR_RETURN(const SqlResult columns,
                            ReadAll(database, ColumnsQuery(), 8, deadline));
  OCTOGATE_RETURN_IF_ERROR(AddColumns(columns, &schema));
  OCTOGATE_ASSIGN_OR_RETURN(const SqlResult keys, ReadAll(database, KeysQuery(), 5, deadline));
  AddKeys(keys, &schema);
  OCTOGATE_ASSIGN_OR_RETURN(const SqlResult others, ReadAll(database, kOthersQuery, 2, deadline));
  if (!others.rows.empty() && NumberOf(others.rows[0][0]) > 0) {
    schema::Warn(absl::StrCat(NumberOf(others.rows[0][0]),
                              " tables of other schemas are left out, such as those of ",
                              Quoted(TextOf(others.rows[0][1])),
                              "; put their schemas into the role's search_path"),
                 &schema);
  }
  return schema;
}

void ReadPostgresqlValues(SqlDatabase& database, const PostgresqlValueOptions& options,
                          absl::Time deadline, schema::Schema* schema) {
  deadline = std::min(deadline, absl::Now() + options.max_time);
  for (schema::Table& table : schema->tables) {
    if (options.max_values_per_column == 0) return;
    const absl::Status status =
        absl::Now() < deadline
            ? TableValues(database, options, deadline, &table).Read()
            : absl::DeadlineExceededError("there was no time left for this table");
    if (status.ok()) continue;
    schema::Warn(
        absl::StrCat("values of ", Quoted(table.name), " are not complete: ", status.message()),
        schema);
  }
}

}  // namespace octogate::gateway
