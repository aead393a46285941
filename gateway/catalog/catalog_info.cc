#include "gateway/catalog/catalog_info.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

constexpr int kDefaultTables = 100;
constexpr size_t kMaxPageBytes = size_t{2} << 20;
constexpr int kShownMembers = 1000;
constexpr int kShownValues = 5;

bool Uses(const v1::Node& node, const std::string& catalog) {
  return node.retriever().catalog() == catalog || node.sql().catalog() == catalog ||
         node.model().grammar().sql().catalog() == catalog;
}

// Of one snapshot, as one tenant sees it.
class Page {
 public:
  Page(const CatalogSnapshot& snapshot, const schema::Visibility& visible)
      : catalog_(*snapshot.catalog), index_(*snapshot.index), visible_(visible) {}

  // The table that stands for the entry; null where it may not be seen.
  const schema::Table* TableOf(uint32_t entry) const {
    if (visible_.everything) return &*catalog_.entries()[entry];
    const schema::CatalogTable* const table = visible_.tables[entry];
    return table == nullptr ? nullptr : &table->table;
  }

  v1::CatalogTable Message(uint32_t entry) const {
    const schema::Table& table = *TableOf(entry);
    v1::CatalogTable message;
    message.set_name(table.name);
    message.set_description(table.description);
    for (const auto& member : catalog_.entries()[entry].members) {
      if (message.family_members_size() == kShownMembers) break;
      if (!visible_.AllowsMember(member->table.name)) continue;
      message.add_family_members(member->table.name);
    }
    message.set_rows(table.rows);
    for (uint32_t c = 0; c < table.columns.size(); ++c) {
      if (Sees({entry, c})) AddColumn(table.columns[c], &message);
    }
    for (const uint32_t edge : index_.EdgesAt(entry)) AddKey(catalog_.edges()[edge], &message);
    return message;
  }

 private:
  bool Sees(schema::ColumnId id) const {
    return visible_.everything || visible_.columns[catalog_.number(id)] != 0;
  }

  static void AddColumn(const schema::Column& column, v1::CatalogTable* table) {
    v1::CatalogColumn& message = *table->add_columns();
    message.set_name(column.name);
    message.set_type(column.type);
    message.set_alias(column.alias);
    message.set_description(column.description);
    message.set_value_description(column.value_description);
    message.set_primary_key(column.primary_key);
    message.set_sensitive(column.sensitive);
    message.set_num_values(static_cast<int64_t>(column.values.size()));
    for (const std::string& value : column.values) {
      if (message.values_size() == kShownValues) break;
      message.add_values(value);
    }
    message.set_values_truncated(column.values_truncated);
  }

  void AddKey(const schema::KeyEdge& edge, v1::CatalogTable* table) const {
    if (!Sees(edge.from) || !Sees(edge.to)) return;
    v1::LinkedJoin& join = *table->add_keys();
    join.set_left(NameOf(edge.from));
    join.set_right(NameOf(edge.to));
    join.set_inferred(edge.kind == schema::KeyKind::kInferred);
  }

  std::string NameOf(schema::ColumnId id) const {
    return absl::StrCat(TableOf(id.entry)->name, ".", catalog_.column(id).name);
  }

  const schema::Catalog& catalog_;
  const schema::LinkIndex& index_;
  const schema::Visibility& visible_;
};

}  // namespace

v1::CatalogInfo CatalogInfoOf(const CatalogHandle& catalog, const v1::Graph& graph) {
  const std::shared_ptr<const CatalogSnapshot> snapshot = catalog.snapshot();
  const schema::Catalog& content = *snapshot->catalog;
  const v1::Catalog& spec = catalog.spec();
  v1::CatalogInfo info;
  info.set_name(spec.name());
  info.set_version(content.version());
  info.set_source(SourceText(spec));
  info.set_tables(static_cast<int64_t>(content.num_tables()));
  info.set_entries(static_cast<int64_t>(content.entries().size()));
  info.set_columns(static_cast<int64_t>(content.num_raw_columns()));
  const auto declared =
      std::count_if(content.edges().begin(), content.edges().end(),
                    [](const auto& edge) { return edge.kind == schema::KeyKind::kDeclared; });
  info.set_declared_keys(declared);
  info.set_inferred_keys(static_cast<int64_t>(content.edges().size()) - declared);
  info.set_values(static_cast<int64_t>(snapshot->num_values));
  if (snapshot->dense != nullptr) {
    info.set_vectors(static_cast<int64_t>(snapshot->dense->num_texts()));
  }
  info.set_read_unix_ms(absl::ToUnixMillis(snapshot->read));
  info.set_source_changed(snapshot->SourceChanged());
  for (const std::string& warning : snapshot->warnings) info.add_warnings(warning);
  for (const v1::Node& node : graph.spec().nodes()) {
    if (Uses(node, spec.name())) info.add_nodes(node.name());
  }
  info.set_database(spec.has_sqlite() ? "sqlite" : spec.postgresql().empty() ? "" : "postgresql");
  return info;
}

absl::StatusOr<v1::GetCatalogResponse> CatalogPage(const CatalogHandle& catalog,
                                                   const v1::GetCatalogRequest& request,
                                                   const v1::Graph& graph) {
  const std::shared_ptr<const CatalogSnapshot> snapshot = catalog.snapshot();
  schema::Visibility everything;
  const schema::Visibility* visible = &everything;
  if (!request.tenant().empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(visible, catalog.VisibleTo(*snapshot, request.tenant()));
  }
  const Page page(*snapshot, *visible);
  v1::GetCatalogResponse response;
  *response.mutable_info() = CatalogInfoOf(catalog, graph);
  const auto entries = static_cast<uint32_t>(snapshot->catalog->entries().size());
  if (!request.table().empty()) {
    const int entry = snapshot->catalog->FindEntry(request.table());
    const bool seen = entry >= 0 && visible->AllowsMember(request.table()) &&
                      page.TableOf(static_cast<uint32_t>(entry)) != nullptr;
    if (!seen) {
      return absl::NotFoundError(absl::StrCat("the catalog ", Quoted(catalog.spec().name()),
                                              " has no table ", Quoted(request.table()),
                                              "; see octoctl catalog get ", catalog.spec().name()));
    }
    *response.add_tables() = page.Message(static_cast<uint32_t>(entry));
    return response;
  }
  const int limit = request.limit() == 0 ? kDefaultTables : request.limit();
  int64_t passed = 0;
  size_t bytes = 0;
  for (uint32_t entry = 0; entry < entries; ++entry) {
    if (page.TableOf(entry) == nullptr || passed++ < request.offset()) continue;
    if (response.tables_size() == limit || bytes >= kMaxPageBytes) {
      response.set_more(true);
      break;
    }
    *response.add_tables() = page.Message(entry);
    bytes += response.tables(response.tables_size() - 1).ByteSizeLong();
  }
  return response;
}

}  // namespace octogate::gateway
