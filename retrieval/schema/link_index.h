// A catalog's snapshot with everything that linking needs of it, and what a caller may see of it.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_LINK_INDEX_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_LINK_INDEX_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "retrieval/schema/catalog.h"
#include "retrieval/schema/lexical_shard.h"

namespace octogate::schema {

// Tables by name, in any case. What is not allowed is as if it were not in the catalog.
struct Permissions {
  std::optional<std::vector<std::string>> tables;  // nullopt: all
  // Of a table named here these columns only.
  std::map<std::string, std::vector<std::string>> columns;

  bool restricts() const { return tables.has_value() || !columns.empty(); }
};

// What Permissions allow of one index, worked out once: worth keeping while the index lives.
struct Visibility {
  bool everything = true;        // the vectors below are empty
  std::vector<uint8_t> columns;  // by number (Catalog::number)
  // By entry: the table that stands for it, null for none. Of a family the last allowed member.
  std::vector<const CatalogTable*> tables;
  bool every_table = true;
  std::vector<std::string> table_names;  // those allowed otherwise, in lower case, ascending
  // Of families whose indexed table may not be seen: those of `tables` in its place, and the entry
  // of each. Null where there are none.
  std::shared_ptr<const LexicalShard> others;
  std::vector<uint32_t> other_entries;
  // How many columns, entries and words of theirs are visible.
  uint64_t num_columns = 0, num_entries = 0, words = 0, table_words = 0;

  bool AllowsMember(std::string_view table_name) const;
};

// Immutable, safe to use from any thread.
class LinkIndex {
 public:
  // Takes the shards of `previous` (which may be null) whose tables are still the same.
  static std::shared_ptr<const LinkIndex> Build(std::shared_ptr<const Catalog> catalog,
                                                const LinkIndex* previous = nullptr,
                                                const FieldWeights& weights = {});

  const Catalog& catalog() const { return *catalog_; }
  const std::vector<std::shared_ptr<const LexicalShard>>& shards() const { return shards_; }
  // The entry of each table of a shard.
  uint32_t entry(size_t shard, size_t table) const { return entries_of_[shard][table]; }
  // Edges that start or end at an entry, as positions in Catalog::edges, ascending.
  std::span<const uint32_t> EdgesAt(uint32_t entry) const {
    return {edges_at_.data() + edge_offsets_[entry], edges_at_.data() + edge_offsets_[entry + 1]};
  }

  // INVALID_ARGUMENT for tables or columns that are not in the catalog: names are compared in any
  // case, so a misspelt one would silently hide.
  absl::StatusOr<Visibility> See(const Permissions& permissions) const;

 private:
  LinkIndex() = default;
  void IndexEdges();

  std::shared_ptr<const Catalog> catalog_;
  FieldWeights weights_;
  std::vector<std::shared_ptr<const LexicalShard>> shards_;
  std::vector<std::vector<uint32_t>> entries_of_;
  std::vector<uint32_t> edge_offsets_;
  std::vector<uint32_t> edges_at_;
};

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_LINK_INDEX_H_
