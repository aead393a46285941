#include "gateway/node_grammar.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "gateway/catalog/catalog_set.h"
#include "workers/grammar/rule_network.h"
#include "workers/server/worker_grammar.h"

namespace octogate::gateway {
namespace {

using Kind = v1::Grammar::KindCase;

// Of a grammar that is not one of SQL.
v1::WorkerGrammar WorkerGrammarOf(const v1::Grammar& grammar) {
  v1::WorkerGrammar worker_grammar;
  switch (grammar.kind_case()) {
    case Kind::kJson:
      worker_grammar.mutable_json();
      break;
    case Kind::kJsonSchema:
      worker_grammar.set_json_schema(grammar.json_schema());
      break;
    case Kind::kEbnf:
      worker_grammar.set_ebnf(grammar.ebnf());
      break;
    case Kind::kSql:
    case Kind::KIND_NOT_SET:
      break;
  }
  return worker_grammar;
}

absl::Status CheckGrammar(const v1::WorkerGrammar& grammar) {
  OCTOGATE_ASSIGN_OR_RETURN(const workers::Grammar parsed, workers::ParseWorkerGrammar(grammar));
  return workers::BuildRuleNetwork(parsed).status();
}

absl::StatusOr<AllowedIdentifiers> NamesOf(const CatalogHandle& catalog,
                                           const std::string& tenant) {
  const std::shared_ptr<const CatalogSnapshot> snapshot = catalog.snapshot();
  OCTOGATE_ASSIGN_OR_RETURN(const schema::Visibility* const visible,
                            catalog.VisibleTo(*snapshot, tenant));
  if (snapshot->catalog->num_columns() > kMaxGrammarColumns) {
    return absl::ResourceExhaustedError(
        absl::StrCat("catalog ", Quoted(catalog.spec().name()), " has ",
                     snapshot->catalog->num_columns(), " columns, more than the ",
                     kMaxGrammarColumns, " of a grammar; link first, and name the retriever"));
  }
  return AllowedIn(*snapshot->catalog, *visible);
}

absl::StatusOr<v1::WorkerSqlGrammar> SqlGrammarOf(const v1::SqlGrammar& grammar,
                                                  const CatalogHandle& catalog,
                                                  const std::string& tenant,
                                                  const LinkedNames& links) {
  AllowedIdentifiers names;
  if (grammar.retriever().empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(names, NamesOf(catalog, tenant));
  } else if (const auto link = links.find(grammar.retriever()); link != links.end()) {
    names = link->second;
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("its grammar follows the links of the retriever ", Quoted(grammar.retriever()),
                     ", which the query has not passed; enter the graph before it"));
  }
  size_t bytes = 0;
  for (const auto* list : {&names.tables, &names.columns}) {
    for (const std::string& name : *list) bytes += name.size();
  }
  if (bytes > workers::kMaxSqlNameBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the names of tables and columns that its grammar allows have ", bytes,
                     " bytes, more than ", workers::kMaxSqlNameBytes,
                     "; link less at once: focused, with fewer tokens or columns"));
  }
  v1::WorkerSqlGrammar sql;
  const v1::SqlDialect own =
      catalog.spec().postgresql().empty() ? v1::SQL_DIALECT_SQLITE : v1::SQL_DIALECT_POSTGRESQL;
  sql.set_dialect(grammar.dialect() == v1::SQL_DIALECT_UNSPECIFIED ? own : grammar.dialect());
  sql.mutable_tables()->Assign(names.tables.begin(), names.tables.end());
  sql.mutable_columns()->Assign(names.columns.begin(), names.columns.end());
  return sql;
}

}  // namespace

absl::Status SetGrammar(const NodeRuntime& node, const v1::GenerateRequest& request,
                        const LinkedNames& links, v1::WorkerGenerateRequest* worker_request) {
  const v1::ModelNode& model = node.node->model();
  if (request.has_grammar()) {
    *worker_request->mutable_grammar() = WorkerGrammarOf(request.grammar());
  } else if (model.grammar().has_sql()) {
    OCTOGATE_ASSIGN_OR_RETURN(
        *worker_request->mutable_grammar()->mutable_sql(),
        SqlGrammarOf(model.grammar().sql(), *node.catalog, request.tenant(), links));
  } else if (model.has_grammar()) {
    *worker_request->mutable_grammar() = WorkerGrammarOf(model.grammar());
  }
  return absl::OkStatus();
}

std::vector<router::GraphProblem> CheckGrammars(const v1::Graph& graph) {
  std::vector<router::GraphProblem> problems;
  for (int i = 0; i < graph.spec().nodes_size(); ++i) {
    const v1::Grammar& grammar = graph.spec().nodes(i).model().grammar();
    if (!grammar.has_json_schema() && !grammar.has_ebnf()) continue;
    const absl::Status status = CheckGrammar(WorkerGrammarOf(grammar));
    if (status.ok()) continue;
    problems.push_back({.path = absl::StrCat("spec.nodes[", i, "].model.grammar.",
                                             grammar.has_ebnf() ? "ebnf" : "json_schema"),
                        .message = std::string(status.message())});
  }
  return problems;
}

}  // namespace octogate::gateway
