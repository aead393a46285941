// What is wrong with a graph's catalogs and with what refers to them.
#ifndef OCTOGATE_ROUTER_CATALOG_VALIDATION_H_
#define OCTOGATE_ROUTER_CATALOG_VALIDATION_H_

#include <string_view>
#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/graph_validation.h"

namespace octogate::router {

// Catalogs, retriever and SQL nodes, and grammars of SQL: names, references, and options that
// exclude each other. Whether files are there is seen when they are read. References to models are
// ValidateGraph's.
std::vector<GraphProblem> CheckCatalogs(const v1::Graph& graph);

// The catalog of that name, or null.
const v1::Catalog* FindCatalog(const v1::Graph& graph, std::string_view name);

// Whether SQL nodes can read the catalog's data.
bool HasDatabase(const v1::Catalog& catalog);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CATALOG_VALIDATION_H_
