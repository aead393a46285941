#include "retrieval/schema/link_index.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "retrieval/schema/stable_hash.h"

namespace octogate::schema {
namespace {

// Small enough to be made anew when one of its tables changes, large enough that asking all of
// them costs little beside what they answer.
constexpr size_t kEntriesPerShard = 48;

// The member that stands for the entry among the allowed ones; null for none.
const CatalogTable* LastAllowed(const Entry& entry, const std::vector<std::string>& allowed) {
  const auto is_allowed = [&](const CatalogTable& table) {
    return std::binary_search(allowed.begin(), allowed.end(),
                              absl::AsciiStrToLower(table.table.name));
  };
  if (entry.members.empty()) return is_allowed(*entry.table) ? entry.table.get() : nullptr;
  for (auto member = entry.members.rbegin(); member != entry.members.rend(); ++member) {
    if (is_allowed(**member)) return member->get();
  }
  return nullptr;
}

}  // namespace

bool Visibility::AllowsMember(std::string_view table_name) const {
  return every_table || std::binary_search(table_names.begin(), table_names.end(),
                                           absl::AsciiStrToLower(ToAbsl(table_name)));
}

std::shared_ptr<const LinkIndex> LinkIndex::Build(std::shared_ptr<const Catalog> catalog,
                                                  const LinkIndex* previous,
                                                  const FieldWeights& weights) {
  std::shared_ptr<LinkIndex> index(new LinkIndex);
  index->catalog_ = std::move(catalog);
  index->weights_ = weights;
  const std::vector<Entry>& entries = index->catalog_->entries();
  if (previous != nullptr && !(previous->weights_ == weights)) previous = nullptr;
  // The number of shards stays while it is about right, or none could be taken over.
  size_t count = 1;
  while (count * kEntriesPerShard < entries.size()) count *= 2;
  if (previous != nullptr) {
    const size_t before = previous->shards_.size();
    if (count <= before * 2 && before <= count * 4) count = before;
  }
  std::vector<std::vector<std::shared_ptr<const CatalogTable>>> tables(count);
  index->entries_of_.resize(count);
  for (uint32_t e = 0; e < entries.size(); ++e) {
    const size_t shard = StableHash().Add(entries[e].table->name_pattern).value() % count;
    tables[shard].push_back(entries[e].table);
    index->entries_of_[shard].push_back(e);
  }
  for (size_t s = 0; s < count; ++s) {
    const bool same = previous != nullptr && previous->shards_.size() == count &&
                      previous->shards_[s]->tables() == tables[s];
    index->shards_.push_back(
        same ? previous->shards_[s]
             : std::make_shared<const LexicalShard>(std::move(tables[s]), weights));
  }
  index->IndexEdges();
  return index;
}

void LinkIndex::IndexEdges() {
  const std::vector<KeyEdge>& edges = catalog_->edges();
  edge_offsets_.assign(catalog_->entries().size() + 1, 0);
  for (const KeyEdge& edge : edges) {
    ++edge_offsets_[edge.from.entry + 1];
    if (edge.to.entry != edge.from.entry) ++edge_offsets_[edge.to.entry + 1];
  }
  for (size_t i = 1; i < edge_offsets_.size(); ++i) edge_offsets_[i] += edge_offsets_[i - 1];
  std::vector<uint32_t> next(edge_offsets_.begin(), edge_offsets_.end() - 1);
  edges_at_.resize(edge_offsets_.back());
  for (uint32_t i = 0; i < edges.size(); ++i) {
    edges_at_[next[edges[i].from.entry]++] = i;
    if (edges[i].to.entry != edges[i].from.entry) edges_at_[next[edges[i].to.entry]++] = i;
  }
}

absl::StatusOr<Visibility> LinkIndex::See(const Permissions& permissions) const {
  const std::vector<Entry>& entries = catalog_->entries();
  Visibility seen;
  seen.everything = !permissions.restricts();
  std::vector<std::string> allowed;
  if (permissions.tables.has_value()) {
    for (const std::string& name : *permissions.tables) {
      if (catalog_->FindEntry(name) < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("permissions name the table ", Quoted(name), ", which is not there"));
      }
      allowed.push_back(absl::AsciiStrToLower(name));
    }
    std::sort(allowed.begin(), allowed.end());
    seen.every_table = false;
    seen.table_names = allowed;
  }
  if (!seen.everything) {
    seen.columns.assign(catalog_->num_columns(), 0);
    for (const Entry& entry : entries) {
      const CatalogTable* table =
          permissions.tables.has_value() ? LastAllowed(entry, allowed) : entry.table.get();
      seen.tables.push_back(table);
      if (table == nullptr) continue;
      std::fill_n(seen.columns.begin() + entry.first_column, entry->columns.size(), 1);
    }
    for (const auto& [name, columns] : permissions.columns) {
      const int found = catalog_->FindEntry(name);
      if (found < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("permissions name the table ", Quoted(name), ", which is not there"));
      }
      const Entry& entry = entries[static_cast<size_t>(found)];
      std::vector<uint8_t> kept(entry->columns.size(), 0);
      for (const std::string& column : columns) {
        const int at = FindColumn(*entry, column);
        if (at < 0) {
          return absl::InvalidArgumentError(absl::StrCat("permissions name the column ",
                                                         Quoted(column), " of ", Quoted(name),
                                                         ", which is not there"));
        }
        kept[static_cast<size_t>(at)] = 1;
      }
      for (size_t c = 0; c < kept.size(); ++c) seen.columns[entry.first_column + c] &= kept[c];
    }
    // A table without a visible column is none.
    for (size_t e = 0; e < entries.size(); ++e) {
      const auto first = seen.columns.begin() + entries[e].first_column;
      const auto last = first + static_cast<std::ptrdiff_t>(entries[e]->columns.size());
      if (std::find(first, last, 1) == last) seen.tables[e] = nullptr;
    }
    std::vector<std::shared_ptr<const CatalogTable>> others;
    for (uint32_t e = 0; e < entries.size(); ++e) {
      if (seen.tables[e] == nullptr || seen.tables[e] == entries[e].table.get()) continue;
      for (const auto& member : entries[e].members) {
        if (member.get() != seen.tables[e]) continue;
        others.push_back(member);
        seen.other_entries.push_back(e);
      }
    }
    if (!others.empty()) {
      seen.others = std::make_shared<const LexicalShard>(std::move(others), weights_);
    }
  }
  const auto count = [&](const LexicalShard& shard, const std::vector<uint32_t>& entries_of) {
    for (size_t t = 0; t < shard.tables().size(); ++t) {
      const Entry& entry = entries[entries_of[t]];
      if (seen.tables[entries_of[t]] != shard.tables()[t].get()) continue;
      ++seen.num_entries;
      seen.table_words += shard.table_length(t);
      for (uint32_t c = 0; c < entry->columns.size(); ++c) {
        if (seen.columns[entry.first_column + c] == 0) continue;
        ++seen.num_columns;
        seen.words += shard.length(shard.first_document(t) + c);
      }
    }
  };
  if (seen.others != nullptr) count(*seen.others, seen.other_entries);
  for (size_t s = 0; s < shards_.size(); ++s) {
    const LexicalShard& shard = *shards_[s];
    if (seen.everything) {
      seen.num_columns += shard.num_documents();
      seen.num_entries += shard.tables().size();
      seen.words += shard.total_length();
      seen.table_words += shard.total_table_length();
      continue;
    }
    count(shard, entries_of_[s]);
  }
  return seen;
}

}  // namespace octogate::schema
