// An immutable snapshot of a database's schema, ready to be linked.
//
// Tables are in byte order of their names whatever order they came in, columns as declared. Tables
// whose names differ only in digits and whose columns are equal (events_20240101, …) are one entry,
// a family. Snapshots share their tables: a new one costs what changed, plus a pass over the
// others' key columns. All of it is safe to read from any thread.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_CATALOG_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_CATALOG_H_

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

struct CatalogOptions {
  // Distinct values kept of a column; the others are dropped and values_truncated set.
  size_t max_values_per_column = 1000;
  // Names that look like secrets or personal data (sensitive.h) are sensitive too.
  bool guess_sensitive = true;
  bool infer_keys = true;
  bool families = true;

  bool operator==(const CatalogOptions&) const = default;
};

// What kind of values a column has, as bits: for questions that ask for one (word_senses.h).
enum ColumnKind : uint8_t {
  kTimeColumn = 1,
  kNumberColumn = 2,
  kNameColumn = 4,  // of people and things
  kPrimaryKeyColumn = 8,
};

// One table and what is derived from it alone.
struct CatalogTable {
  Table table;
  std::vector<uint8_t> column_kinds;          // ColumnKind
  std::vector<uint8_t> telling_texts;         // of each column (column_texts.h)
  std::vector<uint64_t> column_fingerprints;  // of name, type, alias, descriptions, values
  uint64_t fingerprint = 0;                   // of all of it
  // For families: the name with digits as "#", and names and types of the columns.
  std::string name_pattern;
  uint64_t signature = 0;
  // For inferred keys (inferred_keys.h): hashes per column. 0: of no use as a key.
  std::vector<uint64_t> key_names;      // of the whole name
  std::vector<uint64_t> key_referents;  // of the table's name in "customer_id"
  uint64_t referent = 0;                // of this table's name in the singular
  int single_primary_key = -1;          // the column, where the primary key is one
};

// What links see as one table.
struct Entry {
  std::shared_ptr<const CatalogTable> table;  // of a family, the last by name
  // A family's tables by name, `table` among them; empty for a table alone.
  std::vector<std::shared_ptr<const CatalogTable>> members;
  uint32_t first_column = 0;  // number of the columns of all entries before this one

  const Table& operator*() const { return table->table; }
  const Table* operator->() const { return &table->table; }
};

struct ColumnId {
  uint32_t entry = 0;
  uint32_t column = 0;

  auto operator<=>(const ColumnId&) const = default;
};

enum class KeyKind { kDeclared, kInferred };

// `from` refers to `to`, which may be the same column where a key of several refers to its own
// table. Keys of several columns are several edges with one group.
struct KeyEdge {
  ColumnId from;
  ColumnId to;
  KeyKind kind = KeyKind::kDeclared;
  uint32_t group = 0;  // 0: a key of one column; else unique among the edges of the two entries

  auto operator<=>(const KeyEdge&) const = default;
};

class Catalog {
 public:
  // INVALID_ARGUMENT for bad or repeated names and keys of unequal length; RESOURCE_EXHAUSTED past
  // the bounds of schema.h. Keys to unknown tables or columns are left out with a warning.
  static absl::StatusOr<std::shared_ptr<const Catalog>> Create(Schema schema,
                                                               const CatalogOptions& options = {});

  // This catalog with tables of the same names replaced, others added, and `removed` (which must
  // be there: NOT_FOUND) gone. Equal to the one made from the whole schema.
  absl::StatusOr<std::shared_ptr<const Catalog>> Update(
      std::vector<Table> changed, const std::vector<std::string>& removed = {}) const;

  const std::string& name() const { return name_; }
  // Hexadecimal; equal for equal content.
  const std::string& version() const { return version_; }
  const std::vector<Entry>& entries() const { return entries_; }
  // In order of (from, to), declared before inferred; no pair of columns twice, but in different
  // declared keys of several columns.
  const std::vector<KeyEdge>& edges() const { return edges_; }
  size_t num_columns() const { return num_columns_; }          // of the entries
  size_t num_raw_columns() const { return num_raw_columns_; }  // members of families counted
  size_t num_tables() const { return tables_.size(); }
  const std::vector<std::string>& warnings() const { return warnings_; }
  const CatalogOptions& options() const { return options_; }

  // The entry that is or holds the table, by its exact name or in any case; -1.
  int FindEntry(std::string_view table_name) const;

  // Whether every column of the edge's key may be used: of a key of several columns one that may
  // not takes the others with it.
  template <typename Usable>
  bool IsUsable(const KeyEdge& edge, const Usable& usable) const {
    if (!usable(edge.from) || !usable(edge.to)) return false;
    if (edge.group == 0) return true;
    const auto key = composite_keys_.find({edge.from.entry, edge.to.entry, edge.group});
    return key == composite_keys_.end() ||
           std::all_of(key->second.begin(), key->second.end(), usable);
  }

  const Column& column(ColumnId id) const { return entries_[id.entry]->columns[id.column]; }
  // ColumnKind bits. Side by side for all columns: reading many columns themselves takes longer.
  uint8_t kind(ColumnId id) const { return kinds_[number(id)]; }
  uint32_t number(ColumnId id) const { return entries_[id.entry].first_column + id.column; }

 private:
  Catalog() = default;
  static absl::StatusOr<std::shared_ptr<const Catalog>> Assemble(
      std::string name, std::vector<std::shared_ptr<const CatalogTable>> tables,
      std::vector<std::string> warnings, const CatalogOptions& options);
  void GroupFamilies();
  void ResolveKeys();

  std::string name_;
  std::string version_;
  CatalogOptions options_;
  std::vector<std::shared_ptr<const CatalogTable>> tables_;  // by name
  std::vector<Entry> entries_;
  std::vector<uint8_t> kinds_;  // by number
  std::vector<KeyEdge> edges_;
  // All columns of each key of several, by its entries and group.
  absl::flat_hash_map<std::tuple<uint32_t, uint32_t, uint32_t>, std::vector<ColumnId>>
      composite_keys_;
  absl::flat_hash_map<std::string, uint32_t> entry_by_name_;
  absl::flat_hash_map<std::string, uint32_t> entry_by_folded_name_;
  std::vector<std::string> warnings_;
  size_t num_columns_ = 0;
  size_t num_raw_columns_ = 0;
};

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_CATALOG_H_
