#include "gateway/node_grammar.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/grammar/rule_network.h"
#include "workers/server/worker_grammar.h"

namespace octogate::gateway {
namespace {

using Kind = v1::Grammar::KindCase;

// Without the kind where that is SQL.
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

}  // namespace

void SetGrammar(const v1::ModelNode& node, const v1::GenerateRequest& request,
                v1::WorkerGenerateRequest* worker_request) {
  if (request.has_grammar()) {
    *worker_request->mutable_grammar() = WorkerGrammarOf(request.grammar());
  } else if (node.has_grammar()) {
    *worker_request->mutable_grammar() = WorkerGrammarOf(node.grammar());
  }
}

bool NeedsSqlIdentifiers(const v1::ModelNode& node, const v1::GenerateRequest& request) {
  return !request.has_grammar() && node.grammar().has_sql();
}

void SetSqlGrammar(const v1::SqlGrammar& grammar, v1::SqlDialect dialect,
                   const SqlIdentifiers& identifiers, v1::WorkerGenerateRequest* worker_request) {
  v1::WorkerSqlGrammar& sql = *worker_request->mutable_grammar()->mutable_sql();
  sql.set_dialect(grammar.dialect() == v1::SQL_DIALECT_UNSPECIFIED ? dialect : grammar.dialect());
  sql.mutable_tables()->Assign(identifiers.tables.begin(), identifiers.tables.end());
  sql.mutable_columns()->Assign(identifiers.columns.begin(), identifiers.columns.end());
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
