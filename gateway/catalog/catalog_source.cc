#include "gateway/catalog/catalog_source.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/catalog/postgresql_source.h"
#include "gateway/model_root.h"
#include "retrieval/schema/bird_reader.h"
#include "retrieval/schema/ddl_reader.h"
#include "retrieval/schema/json_reader.h"
#include "retrieval/schema/spider_reader.h"
#include "retrieval/schema/sqlite_reader.h"

namespace octogate::gateway {
namespace {

constexpr size_t kMaxStampedDescriptions = 256;
constexpr size_t kShownNames = 8;

const std::string& PathOf(const v1::Catalog& catalog) {
  switch (catalog.source_case()) {
    case v1::Catalog::kSqlite:
      return catalog.sqlite();
    case v1::Catalog::kDdl:
      return catalog.ddl();
    case v1::Catalog::kSpider:
      return catalog.spider();
    default:
      return catalog.json();
  }
}

absl::StatusOr<schema::Schema> PickDatabase(std::vector<schema::Schema> databases,
                                            const std::string& wanted, const std::string& path) {
  std::string names;
  for (size_t i = 0; i < databases.size(); ++i) {
    if (databases[i].name == wanted || (wanted.empty() && databases.size() == 1)) {
      return std::move(databases[i]);
    }
    if (i < kShownNames) absl::StrAppend(&names, i == 0 ? "" : ", ", Quoted(databases[i].name));
    if (i == kShownNames) absl::StrAppend(&names, ", …");
  }
  if (wanted.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(path), " has ", databases.size(),
        " databases; name one with 'database': ", names.empty() ? "it has none" : names));
  }
  return absl::NotFoundError(absl::StrCat(Quoted(path), " has no database ", Quoted(wanted),
                                          "; it has ", names.empty() ? "none" : names));
}

absl::StatusOr<schema::Schema> ReadSchema(const v1::Catalog& catalog,
                                          const std::filesystem::path& file, absl::Time deadline) {
  switch (catalog.source_case()) {
    case v1::Catalog::kSqlite: {
      schema::SqliteReaderOptions options;
      options.max_values_per_column = static_cast<size_t>(catalog.max_values());
      options.max_other_values_per_column =
          std::min(options.max_other_values_per_column, options.max_values_per_column);
      options.deadline = deadline;
      return schema::ReadSqliteSchema(file.string(), options);
    }
    case v1::Catalog::kDdl:
      return schema::ReadDdl(file.string());
    case v1::Catalog::kSpider: {
      OCTOGATE_ASSIGN_OR_RETURN(std::vector<schema::Schema> databases,
                                schema::ReadSpiderTables(file.string()));
      return PickDatabase(std::move(databases), catalog.database(), catalog.spider());
    }
    default:
      return schema::ReadJsonSchema(file.string());
  }
}

// The folder's files are as hostile as the others: none may be a link out of the root.
absl::Status Describe(const std::string& path, const std::filesystem::path& root,
                      CatalogSource* source) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::filesystem::path folder, ResolveFolderBelow(root, path));
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() != ".csv") continue;
    files.push_back(entry->path());
    if (files.size() > schema::kMaxTables) {
      return absl::ResourceExhaustedError(
          absl::StrCat(Quoted(path), " has more than ", schema::kMaxTables, " files"));
    }
  }
  if (error) {
    return absl::NotFoundError(absl::StrCat("cannot list ", Quoted(path), ": ", error.message()));
  }
  std::sort(files.begin(), files.end());
  source->stamps.push_back(StampOf(root / path, /*follows_links=*/true));
  for (const std::filesystem::path& file : files) {
    const std::string name = (std::filesystem::path(path) / file.filename()).string();
    OCTOGATE_RETURN_IF_ERROR(ResolveBelow(root, name).status());
    // A link in the folder that is replaced changes the folder.
    if (source->stamps.size() < kMaxStampedDescriptions) {
      source->stamps.push_back(StampOf(file, /*follows_links=*/false));
    }
  }
  return schema::DescribeFromBirdFolder(folder.string(), &source->schema);
}

// "table.column", where both may contain dots.
absl::Status MarkSensitive(const std::string& name, schema::Schema* schema) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const int table = schema::FindTable(*schema, std::string_view(name).substr(0, dot));
    if (table < 0) continue;
    std::vector<schema::Column>& columns = schema->tables[static_cast<size_t>(table)].columns;
    const int column = schema::FindColumn(schema->tables[static_cast<size_t>(table)],
                                          std::string_view(name).substr(dot + 1));
    if (column < 0) continue;
    columns[static_cast<size_t>(column)].sensitive = true;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'sensitive' names ", Quoted(name),
                   ", which is not there; names are written 'table.column'"));
}

absl::Status CheckTime(const std::string& path, absl::Time deadline) {
  if (absl::Now() < deadline) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("reading ", Quoted(path), " took too long"));
}

// The file that the schema comes from.
absl::Status ReadFile(const v1::Catalog& catalog, const std::filesystem::path& root,
                      absl::Time deadline, CatalogSource* source) {
  const std::string& path = PathOf(catalog);
  OCTOGATE_RETURN_IF_ERROR(CheckTime(path, deadline));
  OCTOGATE_ASSIGN_OR_RETURN(const std::filesystem::path file, ResolveBelow(root, path));
  source->stamps.push_back(StampOf(root / path, /*follows_links=*/true));
  // What is committed in WAL mode is in a file of its own at first, beside the file that links lead
  // to.
  if (catalog.has_sqlite()) {
    source->stamps.push_back(StampOf(file.string() + "-wal", /*follows_links=*/false));
  }
  OCTOGATE_ASSIGN_OR_RETURN(source->schema, ReadSchema(catalog, file, deadline));
  return CheckTime(path, deadline);
}

}  // namespace

FileStamp StampOf(const std::filesystem::path& file, bool follows_links) {
  FileStamp stamp{.file = file, .follows_links = follows_links};
  std::error_code error;
  if (follows_links) stamp.target = std::filesystem::canonical(file, error);
  if (std::filesystem::is_directory(file, error)) {
    stamp.written = std::filesystem::last_write_time(file, error);
    return stamp;
  }
  stamp.bytes = std::filesystem::file_size(file, error);
  if (error) stamp.bytes = 0;
  if (stamp.bytes > 0) stamp.written = std::filesystem::last_write_time(file, error);
  return stamp;
}

bool HaveChanged(const std::vector<FileStamp>& stamps) {
  return std::any_of(stamps.begin(), stamps.end(), [](const FileStamp& stamp) {
    return !(StampOf(stamp.file, stamp.follows_links) == stamp);
  });
}

absl::StatusOr<CatalogSource> ReadCatalogSource(const v1::Catalog& catalog,
                                                const std::filesystem::path& root,
                                                SqlDatabase* database, absl::Time deadline) {
  const bool of_server = catalog.source_case() == v1::Catalog::SOURCE_NOT_SET;
  CatalogSource source;
  if (of_server) {
    if (database == nullptr) return absl::InvalidArgumentError("it has no source");
    OCTOGATE_ASSIGN_OR_RETURN(source.schema, ReadPostgresqlSchema(*database, deadline));
  } else {
    OCTOGATE_RETURN_IF_ERROR(ReadFile(catalog, root, deadline, &source));
  }
  if (!catalog.descriptions().empty()) {
    OCTOGATE_RETURN_IF_ERROR(Describe(catalog.descriptions(), root, &source));
    OCTOGATE_RETURN_IF_ERROR(CheckTime(catalog.descriptions(), deadline));
  }
  for (const std::string& name : catalog.sensitive()) {
    OCTOGATE_RETURN_IF_ERROR(MarkSensitive(name, &source.schema));
  }
  if (of_server) {
    PostgresqlValueOptions options;
    options.max_values_per_column = static_cast<size_t>(catalog.max_values());
    ReadPostgresqlValues(*database, options, deadline, &source.schema);
  }
  return source;
}

std::string SourceText(const v1::Catalog& catalog) {
  const auto* field = v1::Catalog::descriptor()->FindFieldByNumber(catalog.source_case());
  if (field == nullptr) return absl::StrCat("postgresql ", catalog.postgresql());
  return absl::StrCat(field->name(), " ", PathOf(catalog));
}

}  // namespace octogate::gateway
