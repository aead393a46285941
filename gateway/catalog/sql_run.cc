#include "gateway/catalog/sql_run.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "gateway/catalog/catalog_access.h"
#include "gateway/model_root.h"
#include "gateway/sql/postgresql_database.h"
#include "gateway/sql/row_text.h"
#include "gateway/sql/sqlite_database.h"
#include "gateway/sql/statement_text.h"

namespace octogate::gateway {
namespace {

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& candidate) {
    return absl::EqualsIgnoreCase(candidate, name);
  });
}

// What of the catalog's tables `permissions` allow.
std::vector<SqlTablePermission> PermittedTables(const schema::Catalog& catalog,
                                                const schema::Permissions& permissions) {
  std::vector<SqlTablePermission> permitted;
  const auto add = [&](const std::string& table) {
    if (permissions.tables.has_value() && !Contains(*permissions.tables, table)) return;
    SqlTablePermission& permission = permitted.emplace_back(SqlTablePermission{.table = table});
    for (const auto& [name, columns] : permissions.columns) {
      if (absl::EqualsIgnoreCase(name, table)) permission.columns = columns;
    }
  };
  for (const schema::Entry& entry : catalog.entries()) {
    if (entry.members.empty()) add(entry->name);
    for (const auto& member : entry.members) add(member->table.name);
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
    return OpenPostgresqlDatabase({.connection = connection});
  }
  if (!catalog.has_sqlite()) return nullptr;
  OCTOGATE_ASSIGN_OR_RETURN(const std::filesystem::path file, ResolveBelow(root, catalog.sqlite()));
  return OpenSqliteDatabase({.path = file.string()});
}

absl::StatusOr<std::string> RunSql(const v1::SqlNode& node, const CatalogHandle& catalog,
                                   std::string_view input, const std::string& tenant,
                                   absl::Time deadline,
                                   std::shared_ptr<Cancellation> cancellation) {
  OCTOGATE_ASSIGN_OR_RETURN(const v1::CatalogAccess* const access,
                            AccessOf(catalog.spec(), tenant));
  SqlCallOptions options;
  if (const schema::Permissions permissions = PermissionsOf(access); permissions.restricts()) {
    options.permitted = PermittedTables(*catalog.snapshot()->catalog, permissions);
  }
  options.max_rows = static_cast<size_t>(node.max_rows());
  options.max_bytes = static_cast<size_t>(node.max_bytes());
  options.deadline = std::min(deadline, absl::Now() + absl::Milliseconds(node.timeout_ms()));
  options.cancellation = std::move(cancellation);
  const std::string_view statement = StatementIn(input);
  if (node.check_only()) {
    OCTOGATE_RETURN_IF_ERROR(catalog.database()->Check(statement, options));
    return std::string(statement);
  }
  OCTOGATE_ASSIGN_OR_RETURN(const SqlResult result,
                            catalog.database()->Execute(statement, options));
  return Render(result, node).text;
}

}  // namespace octogate::gateway
