#ifndef OCTOGATE_ROUTER_BACKGROUND_QUERIES_H_
#define OCTOGATE_ROUTER_BACKGROUND_QUERIES_H_

#include <string_view>
#include <vector>

namespace octogate::router {

// Generic texts of many subjects, tones and languages, from which a lexical head learns what
// "none of these nodes" looks like. Where a graph's own examples are about the same, they win: see
// LexicalHead.
const std::vector<std::string_view>& BackgroundQueries();

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_BACKGROUND_QUERIES_H_
