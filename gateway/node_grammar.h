// What the answers of a node's model are limited to.
#ifndef OCTOGATE_GATEWAY_NODE_GRAMMAR_H_
#define OCTOGATE_GATEWAY_NODE_GRAMMAR_H_

#include <string>
#include <vector>

#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"
#include "octogate/v1/worker.pb.h"
#include "router/graph_manifest.h"

namespace octogate::gateway {

// What SQL may name, as the database spells it.
struct SqlIdentifiers {
  std::vector<std::string> tables;
  std::vector<std::string> columns;
};

// The grammar of a request to a model node's worker: the client's, else the node's; none: not set.
// Of one of SQL the kind is not set, since its identifiers are not known here: a worker refuses it
// until SetSqlGrammar has been called.
void SetGrammar(const v1::ModelNode& node, const v1::GenerateRequest& request,
                v1::WorkerGenerateRequest* worker_request);

// Whether SetGrammar leaves identifiers to be set.
bool NeedsSqlIdentifiers(const v1::ModelNode& node, const v1::GenerateRequest& request);

// Sets them. The dialect is the grammar's own or, where it names none, `dialect`, the catalog's.
void SetSqlGrammar(const v1::SqlGrammar& grammar, v1::SqlDialect dialect,
                   const SqlIdentifiers& identifiers, v1::WorkerGenerateRequest* worker_request);

// A GraphCheck: the grammars of model nodes are well-formed and match some text.
std::vector<router::GraphProblem> CheckGrammars(const v1::Graph& graph);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_NODE_GRAMMAR_H_
