#include "retrieval/schema/inferred_keys.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/strings.h"
#include "retrieval/schema/stable_hash.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

bool IsKeyWord(std::string_view word) {
  return word == "id" || word == "ids" || word == "key" || word == "code" || word == "no" ||
         word == "nr" || word == "num" || word == "number" || word == "uuid" || word == "guid" ||
         word == "sk" || word == "pk" || word == "fk" || word == "ref";
}

uint64_t HashOf(std::string_view text) { return StableHash().Add(text).value(); }

// "customerid" in one word names its table too.
bool SplitCompound(const std::string& squashed, std::string* referent) {
  for (const std::string_view suffix : {"id", "key", "code"}) {
    if (squashed.size() >= suffix.size() + 3 && absl::EndsWith(squashed, ToAbsl(suffix))) {
      *referent = squashed.substr(0, squashed.size() - suffix.size());
      return true;
    }
  }
  return false;
}

bool ValuesAgree(const Column& from, const Column& to) {
  if (from.values.empty() || to.values.empty() || to.values_truncated) return true;
  const absl::flat_hash_set<std::string_view> known(to.values.begin(), to.values.end());
  size_t found = 0;
  for (const std::string& value : from.values) found += known.contains(value) ? 1 : 0;
  return found * 2 >= from.values.size();
}

bool TypesAgree(const Column& a, const Column& b) {
  const TypeClass x = ClassOf(a.type);
  const TypeClass y = ClassOf(b.type);
  return x == y || x == TypeClass::kUnknown || y == TypeClass::kUnknown;
}

// Tables in the order of entries that share something, at most kMaxSharing + 1 of them.
struct Sharing {
  std::vector<ColumnId> columns;
  void Add(ColumnId id) {
    if (columns.size() <= kMaxSharing) columns.push_back(id);
  }
  bool usable() const { return !columns.empty() && columns.size() <= kMaxSharing; }
};

}  // namespace

TypeClass ClassOf(std::string_view sql_type) {
  const std::string type = absl::AsciiStrToLower(ToAbsl(sql_type));
  const auto has = [&](absl::string_view part) { return absl::StrContains(type, part); };
  if (type.empty()) return TypeClass::kUnknown;
  if (has("bool") || type == "bit") return TypeClass::kBoolean;
  if (has("date") || has("time") || type == "year") return TypeClass::kTime;
  if (has("char") || has("text") || has("string") || has("clob") || has("enum") || has("uuid")) {
    return TypeClass::kText;
  }
  if (has("int") || has("num") || has("dec") || has("real") || has("float") || has("double") ||
      has("serial") || has("money")) {
    return TypeClass::kNumber;
  }
  return TypeClass::kOther;
}

void PrepareKeys(CatalogTable* table) {
  const Table& source = table->table;
  int primary_keys = 0;
  for (size_t i = 0; i < source.columns.size(); ++i) {
    if (!source.columns[i].primary_key) continue;
    ++primary_keys;
    table->single_primary_key = static_cast<int>(i);
  }
  if (primary_keys != 1) table->single_primary_key = -1;
  std::string referent;
  for (const std::string& word : SplitWords(source.name)) referent += Stem(word);
  table->referent = HashOf(referent);
  table->key_names.assign(source.columns.size(), 0);
  table->key_referents.assign(source.columns.size(), 0);
  for (size_t i = 0; i < source.columns.size(); ++i) {
    const std::vector<std::string> words = SplitWords(source.columns[i].name);
    if (words.empty()) continue;
    const std::string squashed = Squash(source.columns[i].name);
    std::string named;
    bool key_like = false;
    if (words.size() > 1 && IsKeyWord(words.back())) {
      for (size_t k = 0; k + 1 < words.size(); ++k) named += Stem(words[k]);
      key_like = true;
    } else if (words.size() == 1) {
      key_like = SplitCompound(squashed, &named);
      named = Stem(named);
    }
    // A name of one word that is no compound ("id", "name", "date") says nothing of a referent.
    const bool is_primary_key = static_cast<int>(i) == table->single_primary_key;
    if (key_like || (is_primary_key && words.size() > 1)) table->key_names[i] = HashOf(squashed);
    if (key_like && !named.empty()) table->key_referents[i] = HashOf(named);
  }
}

std::vector<KeyEdge> InferKeys(const std::vector<Entry>& entries,
                               const std::vector<KeyEdge>& declared) {
  absl::flat_hash_map<uint64_t, Sharing> primary;    // by key name
  absl::flat_hash_map<uint64_t, Sharing> referents;  // by table name
  for (uint32_t e = 0; e < entries.size(); ++e) {
    const CatalogTable& table = *entries[e].table;
    if (table.single_primary_key < 0) continue;
    const ColumnId id{e, static_cast<uint32_t>(table.single_primary_key)};
    if (const uint64_t name = table.key_names[id.column]; name != 0) primary[name].Add(id);
    referents[table.referent].Add(id);
  }
  std::vector<KeyEdge> edges;
  const auto known = [&](ColumnId from, uint32_t entry) {
    const auto at =
        std::lower_bound(declared.begin(), declared.end(), KeyEdge{.from = from, .to = {entry, 0}},
                         [](const KeyEdge& a, const KeyEdge& b) {
                           return std::pair(a.from, a.to) < std::pair(b.from, b.to);
                         });
    return at != declared.end() && at->from == from && at->to.entry == entry;
  };
  const auto connect = [&](ColumnId from, ColumnId to) {
    if (from.entry == to.entry || known(from, to.entry)) return;
    const Column& a = entries[from.entry]->columns[from.column];
    const Column& b = entries[to.entry]->columns[to.column];
    if (!TypesAgree(a, b) || !ValuesAgree(a, b)) return;
    edges.push_back({.from = from, .to = to, .kind = KeyKind::kInferred, .group = 0});
  };
  absl::flat_hash_map<uint64_t, Sharing> without_primary;
  for (uint32_t e = 0; e < entries.size(); ++e) {
    const CatalogTable& table = *entries[e].table;
    for (uint32_t c = 0; c < table.key_names.size(); ++c) {
      const uint64_t name = table.key_names[c];
      if (name == 0) continue;
      const ColumnId id{e, c};
      const bool is_primary = static_cast<int>(c) == table.single_primary_key;
      const auto same = primary.find(name);
      if (same != primary.end()) {
        if (!same->second.usable()) continue;
        for (const ColumnId to : same->second.columns) {
          // Of two primary keys of one name the later refers to the earlier, once.
          if (!is_primary || to < id) connect(id, to);
        }
        continue;
      }
      const auto named = referents.find(table.key_referents[c]);
      bool found = false;
      if (table.key_referents[c] != 0 && named != referents.end() && named->second.usable()) {
        for (const ColumnId to : named->second.columns) {
          found = found || to.entry != e;
          connect(id, to);
        }
      }
      if (!found) without_primary[name].Add(id);
    }
  }
  for (const auto& [name, sharing] : without_primary) {
    if (!sharing.usable()) continue;
    for (size_t i = 1; i < sharing.columns.size(); ++i) {
      for (size_t j = 0; j < i; ++j) connect(sharing.columns[i], sharing.columns[j]);
    }
  }
  std::sort(edges.begin(), edges.end());
  return edges;
}

}  // namespace octogate::schema
