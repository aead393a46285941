#include "gateway/octoctl/catalog_view.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace octogate::octoctl {
namespace {

using nlohmann::ordered_json;

std::string Number(int64_t value) { return std::to_string(value); }

std::string Known(int64_t rows) { return rows < 0 ? "-" : Number(rows); }

std::string Joined(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) joined += (joined.empty() ? "" : ", ") + text;
  return joined;
}

std::string KeyText(const v1::LinkedJoin& key) {
  return key.left() + " → " + key.right() + (key.inferred() ? " (inferred)" : "");
}

std::string ValuesText(const v1::CatalogColumn& column) {
  if (column.sensitive()) return "(sensitive)";
  std::string text = Joined(column.values());
  if (column.num_values() > column.values_size()) {
    text += ", … " + Number(column.num_values()) + " in all";
  }
  if (column.values_truncated()) text += text.empty() ? "(not all read)" : ", and more";
  return text;
}

void Line(const std::string& key, const std::string& value, std::ostream& out) {
  constexpr size_t kWidth = 16;
  out << key << ":" << std::string(key.size() < kWidth ? kWidth - key.size() : 1, ' ')
      << OneLine(value, 2000) << "\n";
}

std::string Score(float score) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f", std::isfinite(score) ? score : 0.0F);
  return text;
}

// Of `score`'s share of `best`.
std::string Bar(float score, float best) {
  constexpr int kWidth = 12;
  const float share = best > 0 && std::isfinite(score) ? std::clamp(score / best, 0.0F, 1.0F) : 0;
  const int filled = static_cast<int>(share * kWidth + 0.5F);
  std::string bar;
  for (int i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "░";
  return bar;
}

std::string_view ReasonName(v1::LinkReason reason) {
  switch (reason) {
    case v1::LINK_REASON_LEXICAL:
      return "words";
    case v1::LINK_REASON_DENSE:
      return "meaning";
    case v1::LINK_REASON_VALUE:
      return "value";
    case v1::LINK_REASON_CLOSURE:
      return "joins others";
    case v1::LINK_REASON_KEY:
      return "key";
    case v1::LINK_REASON_FORCED:
      return "all is shown";
    default:
      return "?";
  }
}

std::string_view ScopeName(v1::LinkScope scope) {
  switch (scope) {
    case v1::LINK_SCOPE_FULL:
      return "the whole schema";
    case v1::LINK_SCOPE_FOCUSED:
      return "what the question needs";
    case v1::LINK_SCOPE_FALLBACK:
      return "nothing matched; what fits is shown";
    default:
      return "?";
  }
}

std::string WhyText(const v1::LinkedColumn& column) {
  std::string why(ReasonName(column.reason()));
  for (const v1::LinkedValue& value : column.matched_values()) {
    why += "  '" + value.literal() + "'";
    if (value.stored() != value.literal()) why += " = '" + value.stored() + "'";
  }
  if (!column.matched_terms().empty()) why += "  " + Joined(column.matched_terms());
  return why;
}

std::string TokensText(const v1::LinkSchemaResponse& link) {
  std::string text = Number(link.rendered_tokens()) + " tokens";
  if (link.full_tokens() <= 0) return text;
  text += " of " + Number(link.full_tokens());
  const int64_t saved = link.full_tokens() - link.rendered_tokens();
  if (saved > 0) {
    text += ", " + Number(saved) + " saved (" +
            Number(saved * 100 / std::max<int64_t>(1, link.full_tokens())) + " %)";
  }
  return text;
}

// What the "table.column" of keys means, where both may contain dots.
class ColumnNames {
 public:
  explicit ColumnNames(const CatalogTables& tables) {
    for (const v1::CatalogTable& table : tables) {
      for (const v1::CatalogColumn& column : table.columns()) {
        names_.emplace(table.name() + "." + column.name(),
                       std::make_pair(table.name(), column.name()));
      }
    }
  }
  // That of a table which is not among these is split at its last dot.
  std::pair<std::string, std::string> Split(const std::string& name) const {
    if (const auto known = names_.find(name); known != names_.end()) return known->second;
    const size_t dot = name.rfind('.');
    if (dot == std::string::npos) return {name, ""};
    return {name.substr(0, dot), name.substr(dot + 1)};
  }

 private:
  std::map<std::string, std::pair<std::string, std::string>> names_;
};

ordered_json ColumnJson(const v1::CatalogColumn& column) {
  ordered_json json = {{"name", column.name()}};
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) json[key] = value;
  };
  add("type", column.type());
  add("alias", column.alias());
  add("description", column.description());
  add("value_description", column.value_description());
  if (!column.values().empty()) {
    json["values"] = std::vector<std::string>(column.values().begin(), column.values().end());
  }
  if (column.values_truncated() || column.num_values() > column.values_size()) {
    json["values_truncated"] = true;
  }
  if (column.primary_key()) json["primary_key"] = true;
  if (column.sensitive()) json["sensitive"] = true;
  return json;
}

ordered_json TableJson(const v1::CatalogTable& table, const std::string& name,
                       const ColumnNames& names) {
  ordered_json json = {{"name", name}};
  if (!table.description().empty()) json["description"] = table.description();
  // Of a family only the one that stands for it has its rows told.
  if (table.rows() >= 0 && name == table.name()) json["rows"] = table.rows();
  json["columns"] = ordered_json::array();
  for (const v1::CatalogColumn& column : table.columns()) {
    json["columns"].push_back(ColumnJson(column));
  }
  ordered_json keys = ordered_json::array();
  for (const v1::LinkedJoin& key : table.keys()) {
    const auto [from, column] = names.Split(key.left());
    if (key.inferred() || from != table.name()) continue;
    const auto [to, reference] = names.Split(key.right());
    keys.push_back({{"columns", {column}}, {"table", to}, {"references", {reference}}});
  }
  if (!keys.empty()) json["foreign_keys"] = std::move(keys);
  return json;
}

}  // namespace

void PrintCatalogs(const v1::ListCatalogsResponse& catalogs, bool wide, std::ostream& out) {
  std::vector<std::string> headings = {"NAME", "SOURCE", "TABLES", "COLUMNS",
                                       "KEYS", "VALUES", "NODES",  "STATE"};
  if (wide) headings.insert(headings.end(), {"VERSION", "READ", "DATABASE", "WARNINGS"});
  Table table(headings);
  for (const v1::CatalogInfo& info : catalogs.catalogs()) {
    std::vector<std::string> row = {info.name(),
                                    info.source(),
                                    Number(info.tables()),
                                    Number(info.columns()),
                                    Number(info.declared_keys() + info.inferred_keys()),
                                    Number(info.values()),
                                    Joined(info.nodes()),
                                    info.source_changed() ? "file changed" : "current"};
    if (wide) {
      row.insert(row.end(), {info.version(), LocalTime(info.read_unix_ms()), info.database(),
                             Number(info.warnings_size())});
    }
    table.Add(std::move(row));
  }
  table.Print(out);
}

void PrintTables(const CatalogTables& tables, bool wide, std::ostream& out) {
  std::vector<std::string> headings = {"TABLE", "COLUMNS", "ROWS", "KEYS", "DESCRIPTION"};
  if (wide) headings.insert(headings.end(), {"FAMILY", "COLUMN NAMES"});
  Table printed(headings);
  for (const v1::CatalogTable& table : tables) {
    std::vector<std::string> row = {OneLine(table.name(), 80), Number(table.columns_size()),
                                    Known(table.rows()), Number(table.keys_size()),
                                    OneLine(table.description(), 60)};
    if (wide) {
      std::string columns;
      for (const v1::CatalogColumn& column : table.columns()) {
        columns += (columns.empty() ? "" : ", ") + column.name();
      }
      row.push_back(
          table.family_members().empty() ? "" : Number(table.family_members_size()) + " tables");
      row.push_back(OneLine(columns, 120));
    }
    printed.Add(std::move(row));
  }
  printed.Print(out);
}

void PrintColumns(const v1::CatalogTable& table, bool wide, std::ostream& out) {
  std::vector<std::string> headings = {"COLUMN", "TYPE", "KEY", "DESCRIPTION", "VALUES"};
  if (wide) headings.insert(headings.end(), {"ALIAS", "MEANING OF VALUES"});
  Table printed(headings);
  std::set<std::string> foreign;
  for (const v1::LinkedJoin& key : table.keys()) foreign.insert(key.left());
  for (const v1::CatalogColumn& column : table.columns()) {
    std::string key = column.primary_key() ? "primary" : "";
    if (foreign.count(table.name() + "." + column.name()) > 0) {
      key += key.empty() ? "foreign" : ", foreign";
    }
    std::vector<std::string> row = {OneLine(column.name(), 80), OneLine(column.type(), 40), key,
                                    OneLine(column.description(), 60),
                                    OneLine(ValuesText(column), wide ? 160 : 60)};
    if (wide) {
      row.push_back(OneLine(column.alias(), 60));
      row.push_back(OneLine(column.value_description(), 120));
    }
    printed.Add(std::move(row));
  }
  printed.Print(out);
}

void DescribeCatalog(const v1::CatalogInfo& info, std::ostream& out) {
  Line("Name", info.name(), out);
  Line("Source", info.source(), out);
  Line("Database", info.database().empty() ? "none: SQL nodes cannot read it" : info.database(),
       out);
  Line("Version", info.version(), out);
  Line("Read",
       LocalTime(info.read_unix_ms()) +
           (info.source_changed()
                ? "; its file has changed since: octoctl catalog refresh " + info.name()
            : info.source().rfind("postgresql ", 0) == 0
                ? "; whether its server has changed since only octoctl catalog refresh says"
                : ""),
       out);
  Line("Tables",
       Number(info.tables()) + (info.entries() < info.tables()
                                    ? ", " + Number(info.entries()) + " with families as one"
                                    : ""),
       out);
  Line("Columns", Number(info.columns()), out);
  Line("Keys",
       Number(info.declared_keys()) + " declared, " + Number(info.inferred_keys()) + " inferred",
       out);
  Line("Values", Number(info.values()), out);
  if (info.vectors() > 0) Line("Vectors", Number(info.vectors()), out);
  Line("Nodes", Joined(info.nodes()), out);
  if (!info.warnings().empty()) out << "Left out:\n";
  for (const std::string& warning : info.warnings()) {
    out << "  - " << OneLine(warning, 300) << "\n";
  }
}

void DescribeTable(const v1::CatalogTable& table, std::ostream& out) {
  Line("Table", table.name(), out);
  if (!table.description().empty()) Line("Description", table.description(), out);
  if (!table.family_members().empty()) Line("Family", Joined(table.family_members()), out);
  if (table.rows() >= 0) Line("Rows", Number(table.rows()), out);
  out << "Columns:\n";
  for (const v1::CatalogColumn& column : table.columns()) {
    out << "  " << OneLine(column.name(), 80) << "  " << OneLine(column.type(), 40)
        << (column.primary_key() ? "  primary key" : "") << "\n";
    const auto detail = [&](const char* what, const std::string& text) {
      if (!text.empty()) out << "      " << what << OneLine(text, 400) << "\n";
    };
    detail("also ", column.alias());
    detail("", column.description());
    detail("values mean: ", column.value_description());
    detail("values: ", ValuesText(column));
  }
  if (!table.keys().empty()) out << "Keys:\n";
  for (const v1::LinkedJoin& key : table.keys()) out << "  " << OneLine(KeyText(key), 300) << "\n";
}

void PrintLink(const v1::LinkSchemaResponse& link, const Style& style, std::ostream& out) {
  float best = 0;
  for (const v1::LinkedTable& table : link.tables()) {
    for (const v1::LinkedColumn& column : table.columns()) best = std::max(best, column.score());
  }
  out << style.bold << ScopeName(link.scope()) << style.reset << "  " << TokensText(link)
      << style.dim << "  (" << Duration(link.duration_us()) << ", catalog "
      << OneLine(link.catalog_version(), 16) << ")" << style.reset << "\n";
  for (const v1::LinkedTable& table : link.tables()) {
    out << "\n"
        << style.cyan << OneLine(table.name(), 80) << style.reset << "  " << Score(table.score())
        << style.dim << "  " << ReasonName(table.reason());
    if (!table.family_members().empty()) {
      // Of more than a thousand only so many are listed.
      out << ", stands for " << (table.family_members_size() < 1000 ? "" : "at least ")
          << table.family_members_size() << " tables";
    }
    out << style.reset << "\n";
    size_t width = 0;
    for (const v1::LinkedColumn& column : table.columns()) {
      width = std::max(width, std::min<size_t>(40, column.name().size()));
    }
    for (const v1::LinkedColumn& column : table.columns()) {
      const std::string name = OneLine(column.name(), 80);
      out << "  " << style.dim << Bar(column.score(), best) << style.reset << " "
          << Score(column.score()) << "  " << name
          << std::string(name.size() < width ? width - name.size() : 0, ' ') << style.dim << "  "
          << OneLine(WhyText(column), 120) << style.reset << "\n";
    }
  }
  if (!link.joins().empty()) out << "\njoins\n";
  for (const v1::LinkedJoin& join : link.joins())
    out << "  " << OneLine(KeyText(join), 300) << "\n";
  if (!link.disconnected().empty()) {
    out << "\n"
        << style.yellow
        << "without a join to the first table: " << OneLine(Joined(link.disconnected()), 300)
        << style.reset << "\n";
  }
  if (!link.dropped().empty()) out << "\nnot shown\n";
  for (const v1::DroppedColumn& column : link.dropped()) {
    out << "  " << style.dim << Bar(column.score(), best) << style.reset << " "
        << Score(column.score()) << "  " << OneLine(column.name(), 160) << "\n";
  }
  if (link.num_dropped() > link.dropped_size()) {
    out << "  … and " << link.num_dropped() - link.dropped_size() << " more\n";
  }
  if (link.source_changed()) {
    out << "\n"
        << style.yellow
        << "the catalog's file has changed since it was read; see octoctl catalog refresh"
        << style.reset << "\n";
  }
}

std::string CatalogJson(const std::string& name, const CatalogTables& tables) {
  const ColumnNames names(tables);
  ordered_json json = {{"name", name}, {"tables", ordered_json::array()}};
  for (const v1::CatalogTable& table : tables) {
    if (table.family_members().empty()) {
      json["tables"].push_back(TableJson(table, table.name(), names));
    }
    for (const std::string& member : table.family_members()) {
      json["tables"].push_back(TableJson(table, member, names));
    }
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace octogate::octoctl
