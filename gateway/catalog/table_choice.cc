#include "gateway/catalog/table_choice.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "retrieval/schema/linker.h"

namespace octogate::gateway {
namespace {

constexpr char kBefore[] =
    "Which of these tables of a database does the question need? Each stands with some of its "
    "columns.\n\n";
constexpr char kBetween[] = "\nQuestion: ";
constexpr char kAfter[] =
    "\n\nAnswer with the names of the tables, separated by commas, and nothing else.\nTables:";

constexpr size_t kMaxListBytes =
    kMaxTablePromptBytes - sizeof(kBefore) - sizeof(kBetween) - sizeof(kAfter);
constexpr size_t kMaxColumns = 24;
constexpr size_t kMaxAnswerBytes = size_t{8} << 10;
constexpr size_t kMaxWords = 6;  // of a table's name

bool IsWordCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Columns by the entries of their tables, the best entry first.
class Candidates {
 public:
  Candidates(const schema::Catalog& catalog, const schema::Visibility& visible,
             const v1::LinkSchemaResponse& link)
      : catalog_(catalog), visible_(visible) {
    std::vector<const v1::LinkedTable*> tables;
    for (const v1::LinkedTable& table : link.tables()) tables.push_back(&table);
    std::stable_sort(tables.begin(), tables.end(),
                     [](const auto* a, const auto* b) { return a->score() > b->score(); });
    for (const v1::LinkedTable* const table : tables) {
      for (const v1::LinkedColumn& column : table->columns()) Add(table->name(), column.name());
    }
    for (const v1::DroppedColumn& dropped : link.dropped()) {
      const std::string_view name = dropped.name();
      // "table.column", where both may contain dots.
      for (size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
        if (Add(name.substr(0, dot), name.substr(dot + 1))) break;
      }
    }
  }

  const std::vector<uint32_t>& entries() const { return entries_; }

  // E.g. "orders(id, placed_on)": those that match, and others where there is room.
  std::string Describe(uint32_t entry) const {
    const schema::Table& table = *TableOf(catalog_, visible_, entry);
    const absl::flat_hash_set<uint32_t>& matched = columns_.at(entry);
    size_t others = kMaxColumns - std::min(kMaxColumns, matched.size());
    std::string text = absl::StrCat(table.name, "(");
    size_t shown = 0;
    bool more = false;
    for (uint32_t c = 0; c < table.columns.size(); ++c) {
      if (!visible_.everything && visible_.columns[catalog_.number({entry, c})] == 0) continue;
      const bool room = matched.contains(c) ? shown < kMaxColumns : others > 0;
      more |= !room;
      if (!room) continue;
      if (!matched.contains(c)) --others;
      absl::StrAppend(&text, shown++ == 0 ? "" : ", ", table.columns[c].name);
    }
    return absl::StrCat(text, more ? ", …)\n" : ")\n");
  }

 private:
  bool Add(std::string_view table, std::string_view column) {
    const int found = catalog_.FindEntry(table);
    if (found < 0) return false;
    const auto entry = static_cast<uint32_t>(found);
    const schema::Table* const seen = TableOf(catalog_, visible_, entry);
    if (seen == nullptr) return false;
    if (const auto known = columns_.find(entry);
        known != columns_.end() && known->second.size() >= kMaxColumns) {
      return true;
    }
    const int at = schema::FindColumn(*seen, column);
    if (at < 0) return false;
    const auto [columns, is_new] = columns_.try_emplace(entry);
    if (is_new) entries_.push_back(entry);
    columns->second.insert(static_cast<uint32_t>(at));
    return true;
  }

  const schema::Catalog& catalog_;
  const schema::Visibility& visible_;
  std::vector<uint32_t> entries_;
  absl::flat_hash_map<uint32_t, absl::flat_hash_set<uint32_t>> columns_;
};

// The entry of the table of that name, if it may be seen: of a family that member.
std::optional<uint32_t> FindVisible(std::string_view name, const schema::Catalog& catalog,
                                    const schema::Visibility& visible) {
  if (name.size() > schema::kMaxNameBytes) return std::nullopt;
  const int found = catalog.FindEntry(name);
  if (found < 0) return std::nullopt;
  const auto entry = static_cast<uint32_t>(found);
  if (TableOf(catalog, visible, entry) == nullptr || !visible.AllowsMember(name)) {
    return std::nullopt;
  }
  return entry;
}

}  // namespace

const schema::Table* TableOf(const schema::Catalog& catalog, const schema::Visibility& visible,
                             uint32_t entry) {
  if (visible.everything) return &*catalog.entries()[entry];
  return visible.tables[entry] == nullptr ? nullptr : &visible.tables[entry]->table;
}

TablePrompt PromptForTables(const schema::Catalog& catalog, const schema::Visibility& visible,
                            const v1::LinkSchemaResponse& link, std::string_view question) {
  const Candidates candidates(catalog, visible, link);
  TablePrompt prompt;
  std::string list;
  for (const uint32_t entry : candidates.entries()) {
    const std::string line = candidates.Describe(entry);
    if (list.size() + line.size() > kMaxListBytes) break;
    list += line;
    ++prompt.tables;
  }
  prompt.text = absl::StrCat(kBefore, list, kBetween, ToAbsl(question), kAfter);
  return prompt;
}

std::vector<uint32_t> TablesNamedIn(std::string_view text, const schema::Catalog& catalog,
                                    const schema::Visibility& visible) {
  text = text.substr(0, kMaxAnswerBytes);
  std::vector<std::pair<size_t, size_t>> words;  // begin and end
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    while (i < text.size() && IsWordCharacter(text[i])) ++i;
    if (i > begin) words.emplace_back(begin, i);
    if (i == begin) ++i;
  }
  std::vector<uint32_t> entries;
  for (size_t first = 0; first < words.size() && entries.size() < schema::kMaxLinkedTables;) {
    size_t next = first + 1;
    for (size_t last = std::min(words.size(), first + kMaxWords); last > first; --last) {
      const size_t begin = words[first].first;
      const auto entry =
          FindVisible(text.substr(begin, words[last - 1].second - begin), catalog, visible);
      if (!entry.has_value()) continue;
      if (std::find(entries.begin(), entries.end(), *entry) == entries.end()) {
        entries.push_back(*entry);
      }
      next = last;
      break;
    }
    first = next;
  }
  return entries;
}

}  // namespace octogate::gateway
