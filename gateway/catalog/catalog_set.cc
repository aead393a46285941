#include "gateway/catalog/catalog_set.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/catalog/catalog_access.h"
#include "gateway/catalog/catalog_encoder.h"
#include "gateway/catalog/sql_run.h"
#include "google/protobuf/util/message_differencer.h"

namespace octogate::gateway {
namespace {

constexpr size_t kShownWarnings = 3;
// Of what tenants may see of one catalog: a byte per column and tenant, and more per table.
constexpr size_t kMaxVisibilityBytes = size_t{512} << 20;
// Of all catalogs of a graph together.
constexpr size_t kMaxGraphColumns = schema::kMaxColumns;

using Fingerprints = std::map<std::string_view, uint64_t>;

Fingerprints FingerprintsOf(const schema::Catalog& catalog) {
  Fingerprints fingerprints;
  for (const schema::Entry& entry : catalog.entries()) {
    if (entry.members.empty()) fingerprints.emplace(entry->name, entry.table->fingerprint);
    for (const auto& member : entry.members) {
      fingerprints.emplace(member->table.name, member->fingerprint);
    }
  }
  return fingerprints;
}

// The catalog of the schema, with the tables of `similar` that are equal.
absl::StatusOr<std::shared_ptr<const schema::Catalog>> MakeCatalog(
    schema::Schema schema, const schema::CatalogOptions& options, const CatalogSnapshot* similar) {
  const bool usable = similar != nullptr && similar->catalog->options() == options &&
                      similar->catalog->name() == schema.name;
  if (!usable) return schema::Catalog::Create(std::move(schema), options);
  Fingerprints gone = FingerprintsOf(*similar->catalog);
  for (const schema::Table& table : schema.tables) gone.erase(table.name);
  std::vector<std::string> removed;
  for (const auto& [name, fingerprint] : gone) removed.emplace_back(name);
  return similar->catalog->Update(std::move(schema.tables), removed);
}

void AddWarnings(const std::string& catalog, const std::vector<std::string>& found,
                 std::vector<std::string>* warnings) {
  for (size_t i = 0; i < std::min(found.size(), kShownWarnings); ++i) {
    warnings->push_back(absl::StrCat("catalog ", Quoted(catalog), ": ", found[i]));
  }
  if (found.size() <= kShownWarnings) return;
  warnings->push_back(absl::StrCat(
      "catalog ", Quoted(catalog), ": ", found.size() == schema::kMaxWarnings ? "at least " : "",
      found.size() - kShownWarnings, " more such remarks; octoctl catalog describe ", catalog,
      " shows them"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<CatalogHandle>> CatalogHandle::Read(
    const v1::Catalog& spec, std::filesystem::path root, const CatalogSnapshot* similar,
    std::shared_ptr<router::EmbeddingModel> encoder, absl::Time deadline) {
  std::shared_ptr<CatalogHandle> handle(
      new CatalogHandle(spec, std::move(root), std::move(encoder)));
  OCTOGATE_ASSIGN_OR_RETURN(Content content, handle->ReadContent(similar, deadline));
  absl::MutexLock lock(&handle->mutex_);
  handle->content_ = std::move(content);
  return handle;
}

std::shared_ptr<const CatalogSnapshot> CatalogHandle::snapshot() const {
  absl::MutexLock lock(&mutex_);
  return content_.snapshot;
}

std::shared_ptr<SqlDatabase> CatalogHandle::database() const {
  absl::MutexLock lock(&mutex_);
  return content_.database;
}

absl::StatusOr<const schema::Visibility*> CatalogHandle::VisibleTo(const CatalogSnapshot& snapshot,
                                                                   std::string_view tenant) const {
  OCTOGATE_ASSIGN_OR_RETURN(const v1::CatalogAccess* const access, AccessOf(spec_, tenant));
  const auto visible =
      snapshot.visible.find(access == nullptr ? std::string_view(kAnyTenant) : access->tenant());
  return &visible->second;
}

absl::StatusOr<CatalogChanges> CatalogHandle::Refresh(absl::Time deadline) {
  CatalogChanges changes;
  {
    absl::MutexLock lock(&mutex_);
    const auto is_free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !refreshing_; };
    if (!mutex_.AwaitWithDeadline(absl::Condition(&is_free), deadline)) {
      return absl::DeadlineExceededError("another refresh of the catalog is still under way");
    }
    refreshing_ = true;
    changes.before = content_.snapshot;
  }
  absl::StatusOr<Content> read = ReadContent(changes.before.get(), deadline);
  {
    absl::MutexLock lock(&mutex_);
    refreshing_ = false;
    if (read.ok()) content_ = *read;
  }
  if (!read.ok()) return read.status();
  changes.after = std::move(read->snapshot);
  const Fingerprints before = FingerprintsOf(*changes.before->catalog);
  const Fingerprints after = FingerprintsOf(*changes.after->catalog);
  for (const auto& [name, fingerprint] : before) {
    if (!after.contains(name)) changes.removed.emplace_back(name);
  }
  for (const auto& [name, fingerprint] : after) {
    const auto known = before.find(name);
    if (known == before.end()) {
      changes.added.emplace_back(name);
    } else if (known->second != fingerprint) {
      changes.changed.emplace_back(name);
    }
  }
  return changes;
}

absl::StatusOr<CatalogHandle::Content> CatalogHandle::ReadContent(const CatalogSnapshot* similar,
                                                                  absl::Time deadline) const {
  Content content;
  OCTOGATE_ASSIGN_OR_RETURN(content.database, OpenDatabase(spec_, root_));
  auto snapshot = std::make_shared<CatalogSnapshot>();
  snapshot->read = absl::Now();
  OCTOGATE_ASSIGN_OR_RETURN(CatalogSource source,
                            ReadCatalogSource(spec_, root_, content.database.get(), deadline));
  snapshot->stamps = std::move(source.stamps);
  snapshot->warnings = std::move(source.schema.warnings);
  source.schema.warnings.clear();
  schema::CatalogOptions options;
  options.max_values_per_column = static_cast<size_t>(spec_.max_values());
  OCTOGATE_ASSIGN_OR_RETURN(snapshot->catalog,
                            MakeCatalog(std::move(source.schema), options, similar));
  for (const std::string& warning : snapshot->catalog->warnings()) {
    if (snapshot->warnings.size() < schema::kMaxWarnings) snapshot->warnings.push_back(warning);
  }
  snapshot->index = schema::LinkIndex::Build(snapshot->catalog,
                                             similar == nullptr ? nullptr : similar->index.get());
  for (const schema::Entry& entry : snapshot->catalog->entries()) {
    for (const schema::Column& column : entry->columns) {
      snapshot->num_values += column.values.size();
    }
  }
  OCTOGATE_RETURN_IF_ERROR(WorkOutVisibility(snapshot.get()));
  OCTOGATE_RETURN_IF_ERROR(EmbedColumns(similar, deadline, snapshot.get()));
  if (absl::Now() >= deadline) {
    return absl::DeadlineExceededError("indexing the schema took too long");
  }
  content.snapshot = std::move(snapshot);
  return content;
}

absl::Status CatalogHandle::WorkOutVisibility(CatalogSnapshot* snapshot) const {
  const size_t bytes = snapshot->catalog->num_columns() +
                       snapshot->catalog->entries().size() * sizeof(schema::CatalogTable*);
  if (bytes * static_cast<size_t>(spec_.access_size()) > kMaxVisibilityBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("'access' has ", spec_.access_size(), " entries, too many for ",
                     snapshot->catalog->num_columns(),
                     " columns; let tenants with the same rights share the entry '*'"));
  }
  if (spec_.access().empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(snapshot->visible[kAnyTenant], snapshot->index->See({}));
  }
  for (const v1::CatalogAccess& access : spec_.access()) {
    absl::StatusOr<schema::Visibility> visible = snapshot->index->See(PermissionsOf(&access));
    if (!visible.ok()) {
      return Annotate(visible.status(), absl::StrCat("access of ", Quoted(access.tenant())));
    }
    snapshot->visible.emplace(access.tenant(), *std::move(visible));
  }
  return absl::OkStatus();
}

absl::Status CatalogHandle::EmbedColumns(const CatalogSnapshot* similar, absl::Time deadline,
                                         CatalogSnapshot* snapshot) const {
  if (encoder_ == nullptr) return absl::OkStatus();
  const auto annotated = [this](const absl::Status& status) {
    return Annotate(status, absl::StrCat("its encoder ", Quoted(spec_.encoder())));
  };
  const absl::StatusOr<schema::TextEncoder> encoder = MakeTextEncoder(encoder_, deadline);
  if (!encoder.ok()) return annotated(encoder.status());
  absl::StatusOr<std::shared_ptr<const schema::DenseIndex>> dense = schema::DenseIndex::Build(
      snapshot->catalog, *encoder, similar == nullptr ? nullptr : similar->dense.get(),
      /*known=*/nullptr, {}, deadline);
  if (!dense.ok()) return annotated(dense.status());
  snapshot->dense = *std::move(dense);
  snapshot->encoder = encoder_;
  return absl::OkStatus();
}

absl::StatusOr<CatalogSet> ReadCatalogs(const v1::Graph& graph, const std::filesystem::path& root,
                                        const CatalogSet* previous, const CatalogModels* models,
                                        absl::Time deadline, std::vector<std::string>* warnings) {
  CatalogSet catalogs;
  size_t columns = 0;
  for (const v1::Catalog& spec : graph.spec().catalogs()) {
    const std::string where = absl::StrCat("catalog ", Quoted(spec.name()));
    const bool embeds = models != nullptr && !spec.encoder().empty();
    std::shared_ptr<CatalogHandle> handle;
    std::shared_ptr<const CatalogSnapshot> similar;
    if (previous != nullptr) {
      const auto known = previous->find(spec.name());
      if (known != previous->end()) {
        similar = known->second->snapshot();
        if (google::protobuf::util::MessageDifferencer::Equals(known->second->spec(), spec) &&
            (!embeds || models->is_unchanged(spec.encoder()))) {
          handle = known->second;
        }
      }
    }
    if (handle == nullptr) {
      std::shared_ptr<router::EmbeddingModel> encoder;
      if (embeds) {
        OCTOGATE_ASSIGN_OR_RETURN(encoder, models->find(spec.encoder()));
      }
      absl::StatusOr<std::shared_ptr<CatalogHandle>> read =
          CatalogHandle::Read(spec, root, similar.get(), std::move(encoder), deadline);
      if (!read.ok()) return Annotate(read.status(), where);
      handle = *std::move(read);
      AddWarnings(spec.name(), handle->snapshot()->warnings, warnings);
    }
    columns += handle->snapshot()->catalog->num_raw_columns();
    if (columns > kMaxGraphColumns) {
      return absl::ResourceExhaustedError(absl::StrCat(where, ": the graph's catalogs have ",
                                                       columns, " columns together; at most ",
                                                       kMaxGraphColumns, " are allowed"));
    }
    catalogs.emplace(spec.name(), std::move(handle));
  }
  return catalogs;
}

}  // namespace octogate::gateway
