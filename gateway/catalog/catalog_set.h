// The catalogs of a graph. Each holds the present snapshot of its database's schema.
#ifndef OCTOGATE_GATEWAY_CATALOG_CATALOG_SET_H_
#define OCTOGATE_GATEWAY_CATALOG_CATALOG_SET_H_

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/catalog/catalog_source.h"
#include "gateway/sql/sql_database.h"
#include "octogate/v1/graph.pb.h"
#include "retrieval/schema/catalog.h"
#include "retrieval/schema/dense_index.h"
#include "retrieval/schema/link_index.h"
#include "router/embedding_model.h"

namespace octogate::gateway {

// A catalog as it was read once. Immutable and thread-safe; whoever works with one keeps it.
struct CatalogSnapshot {
  std::shared_ptr<const schema::Catalog> catalog;
  std::shared_ptr<const schema::LinkIndex> index;
  // By the tenants of the catalog's `access`; everything for "*" where it has none.
  std::map<std::string, schema::Visibility, std::less<>> visible;
  // Vectors of the columns, and what embeds questions as they were; null without `encoder`.
  std::shared_ptr<const schema::DenseIndex> dense;
  std::shared_ptr<router::EmbeddingModel> encoder;
  absl::Time read;
  std::vector<FileStamp> stamps;
  std::vector<std::string> warnings;  // what was left out, and why; at most schema::kMaxWarnings
  size_t num_values = 0;              // distinct ones of columns that links look at

  // Whether the files are not as they were. Costs a look at each.
  bool SourceChanged() const { return HaveChanged(stamps); }
};

// What a refresh has changed: names of tables, ascending.
struct CatalogChanges {
  std::shared_ptr<const CatalogSnapshot> before, after;
  std::vector<std::string> added, removed, changed;
};

// Thread safety: all methods may be called from any thread.
class CatalogHandle {
 public:
  // Reads a catalog of a valid graph below `root`. Tables that `similar` (may be null) has equally
  // are taken from there, with what is indexed of them. `encoder`, which embeds the columns, is
  // null for a catalog without, or where vectors are of no use. Errors are those of
  // ReadCatalogSource and of schema::Catalog; INVALID_ARGUMENT for an `access` to what is not
  // there, RESOURCE_EXHAUSTED for too many entries of it; those of the encoder. Waits until
  // `deadline` at the latest where the source can be left.
  static absl::StatusOr<std::shared_ptr<CatalogHandle>> Read(
      const v1::Catalog& spec, std::filesystem::path root, const CatalogSnapshot* similar,
      std::shared_ptr<router::EmbeddingModel> encoder, absl::Time deadline);

  const v1::Catalog& spec() const { return spec_; }
  std::shared_ptr<const CatalogSnapshot> snapshot() const;

  // What the tenant may see of a snapshot of this catalog; valid as long as that is.
  // PERMISSION_DENIED for one that the catalog's `access` has no entry for.
  absl::StatusOr<const schema::Visibility*> VisibleTo(const CatalogSnapshot& snapshot,
                                                      std::string_view tenant) const;

  // What SQL nodes read; null where the catalog has no data.
  // A refresh follows the path anew.
  std::shared_ptr<SqlDatabase> database() const;

  // Reads the files again and swaps in what was found; where that fails the present snapshot stays.
  // One refresh at a time: others wait until their deadline.
  absl::StatusOr<CatalogChanges> Refresh(absl::Time deadline);

 private:
  CatalogHandle(const v1::Catalog& spec, std::filesystem::path root,
                std::shared_ptr<router::EmbeddingModel> encoder)
      : spec_(spec), root_(std::move(root)), encoder_(std::move(encoder)) {}

  struct Content {
    std::shared_ptr<const CatalogSnapshot> snapshot;
    std::shared_ptr<SqlDatabase> database;  // null where the catalog has no data
  };
  absl::StatusOr<Content> ReadContent(const CatalogSnapshot* similar, absl::Time deadline) const;
  absl::Status WorkOutVisibility(CatalogSnapshot* snapshot) const;
  absl::Status EmbedColumns(const CatalogSnapshot* similar, absl::Time deadline,
                            CatalogSnapshot* snapshot) const;

  const v1::Catalog spec_;
  const std::filesystem::path root_;
  const std::shared_ptr<router::EmbeddingModel> encoder_;  // null: by words alone
  mutable absl::Mutex mutex_;
  Content content_ ABSL_GUARDED_BY(mutex_);
  bool refreshing_ ABSL_GUARDED_BY(mutex_) = false;
};

// By name.
using CatalogSet = absl::flat_hash_map<std::string, std::shared_ptr<CatalogHandle>>;

// What catalogs embed with.
struct CatalogModels {
  router::FindEmbeddingModel find;
  // Whether a model is the same as of the previous version of the graph, replicas included.
  std::function<bool(const std::string& model)> is_unchanged;
};

// The catalogs of a valid graph. One that `previous` (may be null) has with an equal message, and
// whose encoder is unchanged, is taken from there as it is, with the snapshot that it has by now;
// others are read. `models` is null for a graph that is read for its errors only: nothing is
// embedded then. Errors are those of CatalogHandle::Read after the catalog's name. What was left
// out of those that are read is added to `warnings`, the first of each catalog with a count.
absl::StatusOr<CatalogSet> ReadCatalogs(const v1::Graph& graph, const std::filesystem::path& root,
                                        const CatalogSet* previous, const CatalogModels* models,
                                        absl::Time deadline, std::vector<std::string>* warnings);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_CATALOG_SET_H_
