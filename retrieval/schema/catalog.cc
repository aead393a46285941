#include "retrieval/schema/catalog.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "retrieval/schema/column_texts.h"
#include "retrieval/schema/inferred_keys.h"
#include "retrieval/schema/sensitive.h"
#include "retrieval/schema/stable_hash.h"

namespace octogate::schema {
namespace {

std::string DigitsToPattern(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    if (absl::ascii_isdigit(static_cast<unsigned char>(c))) {
      if (pattern.empty() || pattern.back() != '#') pattern.push_back('#');
    } else {
      pattern.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    }
  }
  return pattern;
}

// Values that are fit to be kept, the first of equal ones.
void CleanValues(const CatalogOptions& options, Column* column) {
  if (column->sensitive) {
    column->values.clear();
    column->values_truncated = false;
    return;
  }
  absl::flat_hash_set<std::string_view> seen;
  std::vector<std::string> kept;
  for (std::string& value : column->values) {
    const bool fits = !value.empty() && value.size() <= kMaxValueBytes && IsValidUtf8(value);
    if (!fits || kept.size() == options.max_values_per_column) {
      column->values_truncated = column->values_truncated || !value.empty();
      continue;
    }
    kept.push_back(std::move(value));
  }
  std::vector<std::string> distinct;
  distinct.reserve(kept.size());
  for (const std::string& value : kept) {
    if (seen.insert(value).second) distinct.push_back(value);
  }
  column->values = std::move(distinct);
}

uint64_t FingerprintOf(const Column& column) {
  StableHash hash;
  hash.Add(column.name).Add(column.type).Add(column.alias).Add(column.description);
  hash.Add(column.value_description);
  hash.Add(uint64_t{column.primary_key} | uint64_t{column.sensitive} << 1 |
           uint64_t{column.values_truncated} << 2);
  for (const std::string& value : column.values) hash.Add(value);
  return hash.value();
}

uint8_t KindOf(const Column& column) {
  const TypeClass type = ClassOf(column.type);
  const std::string& name = column.name;
  const bool names =
      name.size() >= 4 && (absl::StrContains(name, "ame") || absl::StrContains(name, "itle") ||
                           absl::StrContains(name, "NAME"));
  return static_cast<uint8_t>((type == TypeClass::kTime ? kTimeColumn : 0) |
                              (type == TypeClass::kNumber ? kNumberColumn : 0) |
                              (names ? kNameColumn : 0) |
                              (column.primary_key ? kPrimaryKeyColumn : 0));
}

absl::StatusOr<std::shared_ptr<const CatalogTable>> Normalize(Table table,
                                                              const CatalogOptions& options) {
  OCTOGATE_RETURN_IF_ERROR(CheckName(table.name, "a table"));
  const std::string where = absl::StrCat("table ", Quoted(table.name));
  if (table.columns.size() > kMaxColumnsPerTable) {
    return absl::ResourceExhaustedError(absl::StrCat(where, ": has ", table.columns.size(),
                                                     " columns; at most ", kMaxColumnsPerTable,
                                                     " are allowed"));
  }
  table.description = CleanDescription(table.description);
  auto result = std::make_shared<CatalogTable>();
  StableHash all;
  StableHash signature;
  absl::flat_hash_set<std::string_view> names;
  all.Add(table.name).Add(table.description).Add(static_cast<uint64_t>(table.rows));
  for (Column& column : table.columns) {
    OCTOGATE_RETURN_IF_ERROR(CheckName(column.name, where));
    if (!names.insert(column.name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": the column ", Quoted(column.name), " is there twice"));
    }
    column.type = CleanDescription(column.type);
    column.alias = CleanDescription(column.alias);
    column.description = CleanDescription(column.description);
    column.value_description = CleanDescription(column.value_description);
    if (options.guess_sensitive && IsSensitiveName(column.name)) column.sensitive = true;
    CleanValues(options, &column);
    result->column_kinds.push_back(KindOf(column));
    result->telling_texts.push_back(TellingTexts(table, column));
    result->column_fingerprints.push_back(FingerprintOf(column));
    all.Add(result->column_fingerprints.back());
    signature.Add(absl::AsciiStrToLower(column.name)).Add(absl::AsciiStrToLower(column.type));
  }
  for (const ForeignKey& key : table.foreign_keys) {
    if (key.columns.empty() ||
        (!key.references.empty() && key.references.size() != key.columns.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": the foreign key to ", Quoted(key.table), " has ",
                       key.columns.size(), " columns that refer to ", key.references.size()));
    }
    all.Add(key.table).Add(static_cast<uint64_t>(key.columns.size()));
    for (const std::string& column : key.columns) all.Add(column);
    for (const std::string& column : key.references) all.Add(column);
  }
  result->fingerprint = all.value();
  result->signature = signature.value();
  result->name_pattern = DigitsToPattern(table.name);
  result->table = std::move(table);
  PrepareKeys(result.get());
  return std::shared_ptr<const CatalogTable>(std::move(result));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Catalog>> Catalog::Create(Schema schema,
                                                               const CatalogOptions& options) {
  std::vector<std::shared_ptr<const CatalogTable>> tables;
  tables.reserve(schema.tables.size());
  for (Table& table : schema.tables) {
    OCTOGATE_ASSIGN_OR_RETURN(auto normalized, Normalize(std::move(table), options));
    tables.push_back(std::move(normalized));
  }
  return Assemble(std::move(schema.name), std::move(tables), std::move(schema.warnings), options);
}

absl::StatusOr<std::shared_ptr<const Catalog>> Catalog::Update(
    std::vector<Table> changed, const std::vector<std::string>& removed) const {
  absl::flat_hash_map<std::string, std::shared_ptr<const CatalogTable>> news;
  for (Table& table : changed) {
    const std::string name = table.name;
    OCTOGATE_ASSIGN_OR_RETURN(auto normalized, Normalize(std::move(table), options_));
    if (!news.emplace(name, std::move(normalized)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("the table ", Quoted(name), " is changed twice"));
    }
  }
  absl::flat_hash_set<std::string_view> gone(removed.begin(), removed.end());
  std::vector<std::shared_ptr<const CatalogTable>> tables;
  tables.reserve(tables_.size() + news.size());
  for (const auto& table : tables_) {
    if (gone.erase(table->table.name) > 0) continue;
    const auto replaced = news.find(table->table.name);
    if (replaced == news.end()) {
      tables.push_back(table);
      continue;
    }
    // What did not change keeps its identity, and with it what was derived from it.
    const bool same = replaced->second->fingerprint == table->fingerprint &&
                      replaced->second->table == table->table;
    tables.push_back(same ? table : std::move(replaced->second));
    news.erase(replaced);
  }
  if (!gone.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no table ", Quoted(*gone.begin()), " to remove"));
  }
  for (auto& [name, table] : news) tables.push_back(std::move(table));
  return Assemble(name_, std::move(tables), {}, options_);
}

absl::StatusOr<std::shared_ptr<const Catalog>> Catalog::Assemble(
    std::string name, std::vector<std::shared_ptr<const CatalogTable>> tables,
    std::vector<std::string> warnings, const CatalogOptions& options) {
  if (tables.size() > kMaxTables) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the schema has ", tables.size(), " tables; at most ", kMaxTables, " are allowed"));
  }
  std::shared_ptr<Catalog> catalog(new Catalog);
  catalog->name_ = std::move(name);
  catalog->options_ = options;
  catalog->warnings_ = std::move(warnings);
  std::sort(tables.begin(), tables.end(),
            [](const auto& a, const auto& b) { return a->table.name < b->table.name; });
  StableHash version;
  version.Add(catalog->name_);
  for (size_t i = 0; i < tables.size(); ++i) {
    if (i > 0 && tables[i]->table.name == tables[i - 1]->table.name) {
      return absl::InvalidArgumentError(
          absl::StrCat("the table ", Quoted(tables[i]->table.name), " is there twice"));
    }
    catalog->num_raw_columns_ += tables[i]->table.columns.size();
    version.Add(tables[i]->fingerprint);
  }
  if (catalog->num_raw_columns_ > kMaxColumns) {
    return absl::ResourceExhaustedError(absl::StrCat("the schema has ", catalog->num_raw_columns_,
                                                     " columns; at most ", kMaxColumns,
                                                     " are allowed"));
  }
  catalog->version_ = absl::StrCat(absl::Hex(version.value(), absl::kZeroPad16));
  catalog->tables_ = std::move(tables);
  catalog->GroupFamilies();
  catalog->ResolveKeys();
  return std::shared_ptr<const Catalog>(std::move(catalog));
}

namespace {

// Equal hashes do not say so.
bool SameColumns(const Table& a, const Table& b) {
  return std::equal(a.columns.begin(), a.columns.end(), b.columns.begin(), b.columns.end(),
                    [](const Column& x, const Column& y) {
                      return absl::EqualsIgnoreCase(x.name, y.name) &&
                             absl::EqualsIgnoreCase(x.type, y.type);
                    });
}

}  // namespace

void Catalog::GroupFamilies() {
  using Key = std::pair<std::string_view, uint64_t>;
  absl::flat_hash_map<Key, uint32_t> families;
  for (const auto& table : tables_) {
    const std::string& pattern = table->name_pattern;
    uint32_t position = static_cast<uint32_t>(entries_.size());
    if (options_.families && pattern.find('#') != std::string::npos) {
      const auto [family, is_new] = families.emplace(Key(pattern, table->signature), position);
      if (is_new || SameColumns(*entries_[family->second], table->table)) {
        position = family->second;
      }
    }
    if (position == entries_.size()) {
      entries_.push_back({.table = table});
    } else {
      Entry& entry = entries_[position];
      if (entry.members.empty()) entry.members.push_back(entry.table);
      entry.members.push_back(table);
      entry.table = table;
    }
  }
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    entry.first_column = static_cast<uint32_t>(num_columns_);
    num_columns_ += entry->columns.size();
    kinds_.insert(kinds_.end(), entry.table->column_kinds.begin(), entry.table->column_kinds.end());
    const auto add = [&](const CatalogTable& table) {
      entry_by_name_.emplace(table.table.name, i);
      entry_by_folded_name_.emplace(absl::AsciiStrToLower(table.table.name), i);
    };
    if (entry.members.empty()) add(*entry.table);
    for (const auto& member : entry.members) add(*member);
  }
}

int Catalog::FindEntry(std::string_view table_name) const {
  if (const auto exact = entry_by_name_.find(ToAbsl(table_name)); exact != entry_by_name_.end()) {
    return static_cast<int>(exact->second);
  }
  const auto folded = entry_by_folded_name_.find(absl::AsciiStrToLower(ToAbsl(table_name)));
  return folded == entry_by_folded_name_.end() ? -1 : static_cast<int>(folded->second);
}

void Catalog::ResolveKeys() {
  const auto warn = [&](std::string warning) {
    if (warnings_.size() < kMaxWarnings) warnings_.push_back(std::move(warning));
  };
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    uint32_t group = 0;
    for (const ForeignKey& key : entries_[i]->foreign_keys) {
      const auto skip = [&](absl::string_view reason) {
        warn(absl::StrCat("table ", Quoted(entries_[i]->name), ": the foreign key to ",
                          Quoted(key.table), " is left out: ", reason));
      };
      const int target = FindEntry(key.table);
      if (target < 0) {
        skip("there is no such table");
        continue;
      }
      const Table& to = *entries_[static_cast<size_t>(target)];
      std::vector<std::string> references = key.references;
      if (references.empty()) {
        for (const Column& column : to.columns) {
          if (column.primary_key) references.push_back(column.name);
        }
      }
      if (references.size() != key.columns.size()) {
        skip("the primary key it refers to has another number of columns");
        continue;
      }
      if (references.size() > kMaxKeyColumns) {
        skip(absl::StrCat("it has more than ", kMaxKeyColumns, " columns"));
        continue;
      }
      std::vector<KeyEdge> edges;
      for (size_t k = 0; k < references.size(); ++k) {
        const int from_column = FindColumn(*entries_[i], key.columns[k]);
        const int to_column = FindColumn(to, references[k]);
        if (from_column < 0 || to_column < 0) {
          skip(absl::StrCat("there is no column ",
                            Quoted(from_column < 0 ? key.columns[k] : references[k])));
          edges.clear();
          break;
        }
        edges.push_back({.from = {i, static_cast<uint32_t>(from_column)},
                         .to = {static_cast<uint32_t>(target), static_cast<uint32_t>(to_column)},
                         .kind = KeyKind::kDeclared,
                         .group = 0});
      }
      // A key of a table to itself may have a column that refers to itself, as that of the tenant
      // in (tenant, parent) to (tenant, id): part of its join, but no join alone.
      if (std::all_of(edges.begin(), edges.end(),
                      [](const KeyEdge& edge) { return edge.from == edge.to; })) {
        continue;
      }
      if (edges.size() > 1) ++group;
      for (KeyEdge& edge : edges) {
        edge.group = edges.size() > 1 ? group : 0;
        edges_.push_back(edge);
        if (edge.group == 0) continue;
        std::vector<ColumnId>& columns =
            composite_keys_[{edge.from.entry, edge.to.entry, edge.group}];
        columns.push_back(edge.from);
        columns.push_back(edge.to);
      }
    }
  }
  // A pair of columns may be part of several keys.
  const auto same_edge = [](const KeyEdge& a, const KeyEdge& b) {
    return a.from == b.from && a.to == b.to && (a.group == b.group || b.kind == KeyKind::kInferred);
  };
  std::sort(edges_.begin(), edges_.end());
  edges_.erase(std::unique(edges_.begin(), edges_.end(), same_edge), edges_.end());
  if (!options_.infer_keys) return;
  std::vector<KeyEdge> inferred = InferKeys(entries_, edges_);
  edges_.insert(edges_.end(), inferred.begin(), inferred.end());
  std::sort(edges_.begin(), edges_.end());
  edges_.erase(std::unique(edges_.begin(), edges_.end(), same_edge), edges_.end());
}

}  // namespace octogate::schema
