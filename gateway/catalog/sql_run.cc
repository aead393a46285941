#include "gateway/catalog/sql_run.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "gateway/model_root.h"
#include "gateway/sql/postgresql_database.h"
#include "gateway/sql/row_text.h"
#include "gateway/sql/sqlite_database.h"
#include "gateway/sql/statement_text.h"

namespace octogate::gateway {
namespace {

// Of SqlNode::timeout_ms.
constexpr absl::Duration kMaxTime = absl::Minutes(10);

// The tables and columns that are visible. They are named even where all of them are: what the
// database gets after the snapshot was taken is not permitted.
std::vector<SqlTablePermission> PermittedTables(const schema::Catalog& catalog,
                                                const schema::Visibility& visible) {
  std::vector<SqlTablePermission> permitted;
  for (uint32_t e = 0; e < catalog.entries().size(); ++e) {
    if (visible.tables[e] == nullptr) continue;
    const schema::Entry& entry = catalog.entries()[e];
    std::vector<std::string> columns;
    for (uint32_t c = 0; c < entry->columns.size(); ++c) {
      if (visible.columns[catalog.number({e, c})] != 0) columns.push_back(entry->columns[c].name);
    }
    if (entry.members.empty()) permitted.push_back({entry->name, columns});
    for (const auto& member : entry.members) {
      if (visible.AllowsMember(member->table.name)) {
        permitted.push_back({member->table.name, columns});
      }
    }
  }
  return permitted;
}

RowText Render(const SqlResult& result, const v1::SqlNode& node) {
  const auto max_bytes = static_cast<size_t>(node.max_bytes());
  switch (node.format()) {
    case v1::ROW_FORMAT_JSON:
      return RowsAsJson(result, max_bytes);
    case v1::ROW_FORMAT_CSV:
      return RowsAsCsv(result, max_bytes);
    default:
      return RowsAsTable(result, max_bytes);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqlDatabase>> OpenDatabase(const v1::Catalog& catalog,
                                                          const std::filesystem::path& root) {
  if (!catalog.postgresql().empty()) {
    const char* const connection = std::getenv(catalog.postgresql().c_str());
    if (connection == nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the gateway's environment has no variable ", Quoted(catalog.postgresql()),
          "; set it to a connection string of PostgreSQL and start the gateway again"));
    }
    return OpenPostgresqlDatabase({.connection = connection, .max_time = kMaxTime});
  }
  if (!catalog.has_sqlite()) return nullptr;
  OCTOGATE_ASSIGN_OR_RETURN(const std::filesystem::path file, ResolveBelow(root, catalog.sqlite()));
  return OpenSqliteDatabase({.path = file.string(), .max_time = kMaxTime});
}

absl::StatusOr<std::string> RunSql(const v1::SqlNode& node, const CatalogHandle& catalog,
                                   std::string_view input, const std::string& tenant,
                                   absl::Time deadline,
                                   std::shared_ptr<Cancellation> cancellation) {
  const std::shared_ptr<const CatalogSnapshot> snapshot = catalog.snapshot();
  OCTOGATE_ASSIGN_OR_RETURN(const schema::Visibility* const visible,
                            catalog.VisibleTo(*snapshot, tenant));
  SqlCallOptions options;
  if (!visible->everything) options.permitted = PermittedTables(*snapshot->catalog, *visible);
  options.max_rows = static_cast<size_t>(node.max_rows());
  options.max_bytes = static_cast<size_t>(node.max_bytes());
  options.deadline = std::min(deadline, absl::Now() + absl::Milliseconds(node.timeout_ms()));
  options.cancellation = std::move(cancellation);
  const std::string_view statement = StatementIn(input);
  const std::shared_ptr<SqlDatabase> database = catalog.database();
  if (node.check_only()) {
    OCTOGATE_RETURN_IF_ERROR(database->Check(statement, options));
    return std::string(statement);
  }
  OCTOGATE_ASSIGN_OR_RETURN(const SqlResult result, database->Execute(statement, options));
  return Render(result, node).text;
}

}  // namespace octogate::gateway
