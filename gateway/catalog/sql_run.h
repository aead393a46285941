// Runs SQL nodes.
#ifndef OCTOGATE_GATEWAY_CATALOG_SQL_RUN_H_
#define OCTOGATE_GATEWAY_CATALOG_SQL_RUN_H_

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "gateway/catalog/catalog_set.h"
#include "gateway/sql/sql_database.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

// The database that statements for the catalog run on; null where it has none. Paths start at
// `root`. FAILED_PRECONDITION for an environment variable that is not set.
absl::StatusOr<std::unique_ptr<SqlDatabase>> OpenDatabase(const v1::Catalog& catalog,
                                                          const std::filesystem::path& root);

// What the node answers to `input` of `tenant`: rows as text or, if it only checks, the statement.
// Blocks until `deadline`, or for the node's time, at most. Errors are those of SqlDatabase, and
// PERMISSION_DENIED where the tenant may see nothing. `catalog` has a database.
absl::StatusOr<std::string> RunSql(const v1::SqlNode& node, const CatalogHandle& catalog,
                                   std::string_view input, const std::string& tenant,
                                   absl::Time deadline, std::shared_ptr<Cancellation> cancellation);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_SQL_RUN_H_
