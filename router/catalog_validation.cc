#include "router/catalog_validation.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/manifest_decoder.h"
#include "router/node_bounds.h"

namespace octogate::router {
namespace {

class Checker {
 public:
  explicit Checker(const v1::Graph& graph) : graph_(graph), spec_(graph.spec()) {}

  std::vector<GraphProblem> Run() {
    for (int i = 0; i < spec_.catalogs_size(); ++i) {
      CheckCatalog(absl::StrCat("spec.catalogs[", i, "]"), spec_.catalogs(i));
    }
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      const v1::Node& node = spec_.nodes(i);
      const std::string path = absl::StrCat("spec.nodes[", i, "]");
      if (node.has_retriever()) CheckRetriever(path + ".retriever", node.retriever());
      if (node.has_sql()) CheckSql(path + ".sql.catalog", node.sql().catalog());
      if (node.model().grammar().has_sql()) {
        CheckGrammar(path + ".model.grammar.sql", node.model().grammar().sql());
      }
    }
    for (int i = 0; i < spec_.catalogs_size(); ++i) {
      if (used_.contains(spec_.catalogs(i).name())) continue;
      // Not an error: LinkSchema may be called for it.
      problems_.push_back(
          {absl::StrCat("spec.catalogs[", i, "].name"),
           absl::StrCat("no node uses the catalog ", Quoted(spec_.catalogs(i).name())), true});
    }
    return std::move(problems_);
  }

 private:
  void Problem(std::string path, std::string message) {
    problems_.push_back({std::move(path), std::move(message)});
  }

  void CheckCatalog(const std::string& path, const v1::Catalog& catalog) {
    if (!names_.insert(catalog.name()).second) {
      Problem(path + ".name", absl::StrCat("a second catalog ", Quoted(catalog.name()),
                                           "; names of catalogs are unique"));
    }
    if (catalog.source_case() == v1::Catalog::SOURCE_NOT_SET && catalog.postgresql().empty()) {
      Problem(path, absl::StrCat("the catalog ", Quoted(catalog.name()),
                                 " has no source; give it 'sqlite', 'ddl', 'spider', 'json' or "
                                 "'postgresql'"));
    }
    if (!catalog.postgresql().empty() && catalog.has_sqlite()) {
      Problem(path + ".postgresql",
              "'postgresql' beside 'sqlite', which is a database itself; remove one");
    }
    if (!catalog.database().empty() && !catalog.has_spider()) {
      Problem(path + ".database", "'database' goes with 'spider' only; remove it");
    }
    for (int i = 0; i < catalog.sensitive_size(); ++i) {
      const std::string& column = catalog.sensitive(i);
      const size_t dot = column.find('.');
      if (dot != std::string::npos && dot > 0 && dot + 1 < column.size()) continue;
      Problem(absl::StrCat(path, ".sensitive[", i, "]"),
              absl::StrCat("is ", Quoted(column), "; write 'table.column'"));
    }
    absl::flat_hash_set<std::string_view> tenants;
    for (int i = 0; i < catalog.access_size(); ++i) {
      const v1::CatalogAccess& access = catalog.access(i);
      if (!catalog.postgresql().empty() && access.tables_size() + access.columns_size() > 0) {
        problems_.push_back(
            {absl::StrCat(path, ".access[", i, "]"),
             "SQL nodes refuse this tenant: on PostgreSQL it is the role that restricts; give it a "
             "catalog with a role of its own",
             true});
      }
      if (tenants.insert(access.tenant()).second) continue;
      Problem(absl::StrCat(path, ".access[", i, "].tenant"),
              absl::StrCat("a second entry for the tenant ", Quoted(catalog.access(i).tenant()),
                           "; put both into one"));
    }
  }

  const v1::Catalog* Find(std::string path, const std::string& name) {
    used_.insert(name);
    const v1::Catalog* const catalog = FindCatalog(graph_, name);
    if (catalog != nullptr || name.empty()) return catalog;
    std::vector<std::string> known;
    for (const v1::Catalog& candidate : spec_.catalogs()) known.push_back(candidate.name());
    Problem(std::move(path), absl::StrCat("there is no catalog ", Quoted(name),
                                          Suggest(name, std::move(known), "catalogs")));
    return nullptr;
  }

  void CheckRetriever(const std::string& path, const v1::RetrieverNode& retriever) {
    Find(path + ".catalog", retriever.catalog());
    const std::string& name = retriever.table_node();
    if (name.empty()) return;
    const v1::Node* const node = FindNode(graph_, name);
    if (node == nullptr) {
      std::vector<std::string> known;
      for (const v1::Node& candidate : spec_.nodes()) {
        if (candidate.has_model()) known.push_back(candidate.name());
      }
      Problem(path + ".table_node", absl::StrCat("there is no node ", Quoted(name),
                                                 Suggest(name, std::move(known), "model nodes")));
    } else if (!node->has_model() && !node->has_replay()) {
      Problem(path + ".table_node",
              absl::StrCat("the node ", Quoted(name), " must be a model or replay node"));
    } else if (node->model().grammar().has_sql()) {
      // Its names would be those of a link that is not made yet.
      Problem(path + ".table_node", absl::StrCat("the node ", Quoted(name),
                                                 " writes SQL by its grammar, and is to write ",
                                                 "names of tables; name a node without 'sql'"));
    }
  }

  void CheckSql(const std::string& path, const std::string& name) {
    const v1::Catalog* const catalog = Find(path, name);
    if (catalog == nullptr || HasDatabase(*catalog)) return;
    Problem(path, absl::StrCat("the catalog ", Quoted(name),
                               " has no data to read: give it 'sqlite' or 'postgresql'"));
  }

  void CheckGrammar(const std::string& path, const v1::SqlGrammar& grammar) {
    if (grammar.retriever().empty() == grammar.catalog().empty()) {
      Problem(path, absl::StrCat("a SQL grammar has exactly one of 'retriever' and 'catalog', not ",
                                 grammar.catalog().empty() ? "none" : "both"));
      return;
    }
    if (!grammar.catalog().empty()) {
      Find(path + ".catalog", grammar.catalog());
      return;
    }
    const v1::Node* const node = FindNode(graph_, grammar.retriever());
    if (node != nullptr && node->has_retriever()) return;
    std::vector<std::string> known;
    for (const v1::Node& candidate : spec_.nodes()) {
      if (candidate.has_retriever()) known.push_back(candidate.name());
    }
    Problem(path + ".retriever",
            absl::StrCat("there is no retriever node ", Quoted(grammar.retriever()),
                         Suggest(grammar.retriever(), std::move(known), "retrievers")));
  }

  const v1::Graph& graph_;
  const v1::GraphSpec& spec_;
  absl::flat_hash_set<std::string_view> names_;
  absl::flat_hash_set<std::string_view> used_;
  std::vector<GraphProblem> problems_;
};

}  // namespace

std::vector<GraphProblem> CheckCatalogs(const v1::Graph& graph) { return Checker(graph).Run(); }

const v1::Catalog* FindCatalog(const v1::Graph& graph, std::string_view name) {
  const auto& catalogs = graph.spec().catalogs();
  const auto found =
      std::find_if(catalogs.begin(), catalogs.end(),
                   [&](const v1::Catalog& catalog) { return catalog.name() == name; });
  return found == catalogs.end() ? nullptr : &*found;
}

bool HasDatabase(const v1::Catalog& catalog) {
  return catalog.has_sqlite() || !catalog.postgresql().empty();
}

}  // namespace octogate::router
