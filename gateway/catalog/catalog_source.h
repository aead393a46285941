// What a catalog of a graph is read from.
#ifndef OCTOGATE_GATEWAY_CATALOG_CATALOG_SOURCE_H_
#define OCTOGATE_GATEWAY_CATALOG_CATALOG_SOURCE_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/sql/sql_database.h"
#include "octogate/v1/graph.pb.h"
#include "retrieval/schema/schema.h"

namespace octogate::gateway {

// A file as it was at one time. One that is not there is as one without bytes.
struct FileStamp {
  std::filesystem::path file;
  bool follows_links = false;
  std::filesystem::path target;  // Where links led; empty where that was not looked at.
  std::filesystem::file_time_type written;
  uintmax_t bytes = 0;

  bool operator==(const FileStamp&) const = default;
};

// `follows_links`: where links on the way lead counts too, so that one which is pointed elsewhere
// is a change, whatever is there.
FileStamp StampOf(const std::filesystem::path& file, bool follows_links);

// Whether one of the files is not as it was. Costs a look at each.
bool HaveChanged(const std::vector<FileStamp>& stamps);

struct CatalogSource {
  schema::Schema schema;          // with descriptions merged and sensitive columns marked
  std::vector<FileStamp> stamps;  // of before it was read; of the descriptions the first 256 files
};

// Reads the files of `catalog`, which is valid, below `root`; where its schema has none, that of
// `database`, which is then the catalog's own and else may be null. Errors name the file: those of
// the readers in retrieval/schema, of ReadPostgresqlSchema and of ResolveBelow; INVALID_ARGUMENT
// for a file of several databases without `database` and for `sensitive` columns that are not
// there, NOT_FOUND for a `database` that is not there, DEADLINE_EXCEEDED. Readers of text do not
// look at the clock inside of a file, which has 512 MiB at most.
absl::StatusOr<CatalogSource> ReadCatalogSource(const v1::Catalog& catalog,
                                                const std::filesystem::path& root,
                                                SqlDatabase* database, absl::Time deadline);

// Kind and path, e.g. "sqlite chinook.sqlite"; of a server its variable, "postgresql SHOP_DSN".
std::string SourceText(const v1::Catalog& catalog);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_CATALOG_SOURCE_H_
