#include "retrieval/schema/schema_text.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace octogate::schema {
namespace {

constexpr size_t kMaxMembers = 3;
constexpr size_t kMaxSamples = 3;
constexpr size_t kMaxTextBytes = 200;  // of a description

enum Detail { kBare, kMatched, kDescribed, kSampled };

std::string Literal(std::string_view value) {
  return absl::StrCat("'", absl::StrReplaceAll(ToAbsl(value), {{"'", "''"}, {"\n", " "}}), "'");
}

std::string Shortened(std::string_view text) {
  const std::string_view cut = TruncateUtf8(text, kMaxTextBytes);
  return absl::StrCat(ToAbsl(cut), cut.size() < text.size() ? "…" : "");
}

// What is said of a column beside its name and type; empty for nothing. `joins`: the text shows a
// join that it is an end of.
std::string RemarkOf(const TextColumn& shown, Detail detail, bool joins) {
  const Column& column = *shown.column;
  std::vector<std::string> parts;
  const auto add = [&](ColumnText text, const std::string& said) {
    if ((shown.texts & text) != 0 && !said.empty()) parts.push_back(Shortened(said));
  };
  if (detail >= kDescribed) {
    add(kAliasText, column.alias);
    add(kDescriptionText, column.description);
    add(kValueDescriptionText, column.value_description);
  }
  std::vector<std::string> values;
  if (detail >= kMatched) values = shown.matched;
  // What keys look like says nothing about what they mean.
  if (detail >= kSampled && !column.primary_key && !joins) {
    for (const std::string& value : column.values) {
      if (values.size() >= std::max(kMaxSamples, shown.matched.size())) break;
      const bool there = std::find(values.begin(), values.end(), value) != values.end();
      if (!there && value.size() <= 60) values.push_back(value);
    }
  }
  if (!values.empty()) {
    std::string list = "values:";
    for (size_t i = 0; i < values.size(); ++i) {
      absl::StrAppend(&list, i > 0 ? ", " : " ", Literal(values[i]));
    }
    const bool more = values.size() < column.values.size() || column.values_truncated;
    if (more) list += ", …";
    parts.push_back(std::move(list));
  }
  return absl::StrJoin(parts, "; ");
}

// What of the given is shown, and how fully.
struct Extent {
  uint32_t columns = 0;    // those of lower rank are shown
  Detail detail = kBare;   // of all
  uint32_t in_detail = 0;  // columns of lower rank have one level more
};

class Writer {
 public:
  Writer(const std::vector<TextTable>& tables, const std::vector<TextJoin>& joins,
         RenderStyle style)
      : tables_(tables), joins_(joins), style_(style) {}

  std::string Write(const Extent& extent) const {
    return style_ == RenderStyle::kDdl ? Ddl(extent) : List(extent);
  }

 private:
  static bool Shows(const TextColumn& column, const Extent& extent) {
    return column.rank < extent.columns;
  }
  static Detail DetailOf(const TextColumn& column, const Extent& extent) {
    return column.rank < extent.in_detail ? static_cast<Detail>(extent.detail + 1) : extent.detail;
  }
  std::string NameOf(size_t table, size_t column) const {
    return absl::StrCat(QuotedIfNeeded(tables_[table].table->name), ".",
                        QuotedIfNeeded(tables_[table].columns[column].column->name));
  }

  static std::string TableRemark(const TextTable& table, const Extent& extent) {
    std::vector<std::string> parts;
    if (extent.detail >= kDescribed && !table.table->description.empty()) {
      parts.push_back(Shortened(table.table->description));
    }
    if (table.members.size() > 1) {
      std::vector<std::string> others;
      for (const std::string& member : table.members) {
        if (member != table.table->name && others.size() < kMaxMembers) others.push_back(member);
      }
      const size_t more = table.members.size() - 1 - others.size();
      parts.push_back(absl::StrCat("one of ", table.members.size(), " tables alike: also ",
                                   absl::StrJoin(others, ", "),
                                   more > 0 ? absl::StrCat(" and ", more, " more") : ""));
    }
    return absl::StrJoin(parts, "; ");
  }

  // The ends of joins: table, column.
  static std::set<std::pair<size_t, size_t>> EndsOf(const std::vector<TextJoin>& joins) {
    std::set<std::pair<size_t, size_t>> ends;
    for (const TextJoin& join : joins) {
      ends.emplace(join.left_table, join.left_column);
      ends.emplace(join.right_table, join.right_column);
    }
    return ends;
  }

  // What the columns of a table are declared to refer to alone, by column; of several at once see
  // below.
  std::map<size_t, std::string> ReferencesOf(size_t table,
                                             const std::vector<TextJoin>& joins) const {
    std::map<size_t, std::string> references;
    for (const TextJoin& join : joins) {
      if (join.left_table != table || !StandsInline(join)) continue;
      const TextTable& other = tables_[join.right_table];
      absl::StrAppend(&references[join.left_column], " REFERENCES ",
                      QuotedIfNeeded(other.table->name), "(",
                      QuotedIfNeeded(other.columns[join.right_column].column->name), ")");
    }
    return references;
  }
  static bool StandsInline(const TextJoin& join) {
    return join.kind == KeyKind::kDeclared && join.group == 0;
  }

  std::string Ddl(const Extent& extent) const {
    const std::vector<TextJoin> joins = ShownJoins(tables_, joins_, extent.columns);
    const std::set<std::pair<size_t, size_t>> ends = EndsOf(joins);
    std::string text;
    for (size_t t = 0; t < tables_.size(); ++t) {
      const TextTable& table = tables_[t];
      // Each line but the last ends with a comma before its remark.
      std::vector<std::pair<std::string, std::string>> lines;
      size_t primary_keys = 0;
      for (const TextColumn& column : table.columns) {
        primary_keys += Shows(column, extent) && column.column->primary_key ? 1 : 0;
      }
      std::vector<std::string> key;
      const std::map<size_t, std::string> references = ReferencesOf(t, joins);
      for (size_t c = 0; c < table.columns.size(); ++c) {
        const TextColumn& column = table.columns[c];
        if (!Shows(column, extent)) continue;
        std::string line = QuotedIfNeeded(column.column->name);
        if (!column.column->type.empty()) absl::StrAppend(&line, " ", column.column->type);
        if (column.column->primary_key) {
          if (primary_keys == 1) line += " PRIMARY KEY";
          key.push_back(QuotedIfNeeded(column.column->name));
        }
        if (const auto to = references.find(c); to != references.end()) line += to->second;
        lines.emplace_back(std::move(line),
                           RemarkOf(column, DetailOf(column, extent), ends.contains({t, c})));
      }
      if (lines.empty()) continue;
      if (key.size() > 1) {
        lines.emplace_back(absl::StrCat("PRIMARY KEY (", absl::StrJoin(key, ", "), ")"), "");
      }
      std::vector<std::string> inferred;
      for (const TextJoin& join : joins) {
        if (join.left_table != t || StandsInline(join)) continue;
        const TextTable& other = tables_[join.right_table];
        const std::string left = QuotedIfNeeded(table.columns[join.left_column].column->name);
        const std::string right = QuotedIfNeeded(other.columns[join.right_column].column->name);
        if (join.kind == KeyKind::kDeclared) {
          lines.emplace_back(absl::StrCat("FOREIGN KEY (", left, ") REFERENCES ",
                                          QuotedIfNeeded(other.table->name), " (", right, ")"),
                             "");
        } else {
          inferred.push_back(
              absl::StrCat(left, " = ", NameOf(join.right_table, join.right_column)));
        }
      }
      absl::StrAppend(&text, "CREATE TABLE ", QuotedIfNeeded(table.table->name), " (");
      const std::string remark = TableRemark(table, extent);
      absl::StrAppend(&text, remark.empty() ? "" : " -- ", remark, "\n");
      for (size_t i = 0; i < lines.size(); ++i) {
        absl::StrAppend(&text, "  ", lines[i].first, i + 1 < lines.size() ? "," : "",
                        lines[i].second.empty() ? "" : " -- ", lines[i].second, "\n");
      }
      for (const std::string& join : inferred) absl::StrAppend(&text, "  -- joins: ", join, "\n");
      text += ");\n";
    }
    return text;
  }

  std::string List(const Extent& extent) const {
    const std::vector<TextJoin> shown = ShownJoins(tables_, joins_, extent.columns);
    const std::set<std::pair<size_t, size_t>> ends = EndsOf(shown);
    std::string text;
    std::string remarks;
    for (size_t t = 0; t < tables_.size(); ++t) {
      const TextTable& table = tables_[t];
      std::string names;
      for (size_t c = 0; c < table.columns.size(); ++c) {
        const TextColumn& column = table.columns[c];
        if (!Shows(column, extent)) continue;
        absl::StrAppend(&names, ", ", QuotedIfNeeded(column.column->name));
        const std::string remark =
            RemarkOf(column, DetailOf(column, extent), ends.contains({t, c}));
        if (remark.empty()) continue;
        absl::StrAppend(&remarks, "# ", QuotedIfNeeded(table.table->name), ".",
                        QuotedIfNeeded(column.column->name), ": ", remark, "\n");
      }
      if (names.empty()) continue;
      const std::string remark = TableRemark(table, extent);
      absl::StrAppend(&text, "Table ", QuotedIfNeeded(table.table->name), ", columns = [*", names,
                      "]", remark.empty() ? "" : " # ", remark, "\n");
    }
    std::vector<std::string> joins;
    std::set<std::string> seen;  // keys may share a pair of columns
    for (const TextJoin& join : shown) {
      std::string pair = absl::StrCat(NameOf(join.left_table, join.left_column), " = ",
                                      NameOf(join.right_table, join.right_column));
      if (seen.insert(pair).second) joins.push_back(std::move(pair));
    }
    if (!joins.empty()) {
      absl::StrAppend(&text, "Foreign_keys = [", absl::StrJoin(joins, ", "), "]\n");
    }
    return text + remarks;
  }

  const std::vector<TextTable>& tables_;
  const std::vector<TextJoin>& joins_;
  const RenderStyle style_;
};

}  // namespace

std::vector<TextJoin> ShownJoins(const std::vector<TextTable>& tables,
                                 const std::vector<TextJoin>& joins, uint32_t columns) {
  using Group = std::tuple<size_t, size_t, uint32_t>;
  const auto group_of = [](const TextJoin& join) {
    return Group(join.left_table, join.right_table, join.group);
  };
  const auto shows = [&](const TextJoin& join) {
    return tables[join.left_table].columns[join.left_column].rank < columns &&
           tables[join.right_table].columns[join.right_column].rank < columns;
  };
  std::vector<Group> broken;
  for (const TextJoin& join : joins) {
    if (join.group != 0 && !shows(join)) broken.push_back(group_of(join));
  }
  std::sort(broken.begin(), broken.end());
  std::vector<TextJoin> shown;
  for (const TextJoin& join : joins) {
    const bool whole = !std::binary_search(broken.begin(), broken.end(), group_of(join));
    if (shows(join) && whole) shown.push_back(join);
  }
  return shown;
}

size_t CountOrEstimate(const CountTokens& count, std::string_view text) {
  return count ? count(text) : (text.size() + 3) / 4;
}

std::string QuotedIfNeeded(std::string_view identifier) {
  const bool plain =
      !identifier.empty() && !absl::ascii_isdigit(static_cast<unsigned char>(identifier[0])) &&
      std::all_of(identifier.begin(), identifier.end(), [](char c) {
        return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.';
      });
  if (plain) return std::string(identifier);
  return absl::StrCat("\"", absl::StrReplaceAll(ToAbsl(identifier), {{"\"", "\"\""}}), "\"");
}

SchemaText RenderWithin(const std::vector<TextTable>& tables, const std::vector<TextJoin>& joins,
                        RenderStyle style, size_t budget, const CountTokens& count) {
  const Writer writer(tables, joins, style);
  uint32_t columns = 0;
  for (const TextTable& table : tables) columns += static_cast<uint32_t>(table.columns.size());
  SchemaText best;
  const auto fits = [&](const Extent& extent) {
    std::string text = writer.Write(extent);
    const size_t tokens = CountOrEstimate(count, text);
    if (tokens > budget) return false;
    best = {.text = std::move(text), .tokens = tokens, .columns = extent.columns};
    return true;
  };
  // The largest number for which it fits, given that it fits for `low`.
  const auto largest = [&](uint32_t low, uint32_t high, const auto& extent_of) {
    while (low < high) {
      const uint32_t middle = low + (high - low + 1) / 2;
      if (fits(extent_of(middle))) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  };
  if (fits({.columns = columns, .detail = kSampled, .in_detail = 0})) return best;
  for (const Detail detail : {kDescribed, kMatched, kBare}) {
    if (!fits({.columns = columns, .detail = detail, .in_detail = 0})) continue;
    largest(0, columns, [&](uint32_t n) {
      return Extent{.columns = columns, .detail = detail, .in_detail = n};
    });
    return best;
  }
  best = {};
  largest(0, columns,
          [&](uint32_t n) { return Extent{.columns = n, .detail = kBare, .in_detail = 0}; });
  return best;
}

}  // namespace octogate::schema
