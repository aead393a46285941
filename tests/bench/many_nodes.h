// The part of the `route` benchmark about routers with very many members.
#ifndef OCTOGATE_TESTS_BENCH_MANY_NODES_H_
#define OCTOGATE_TESTS_BENCH_MANY_NODES_H_

#include "tests/bench/report.h"

namespace octogate::bench {

// Of a router with so many members of eight examples each: how long a snapshot takes to build, how
// much memory it takes, how long decisions take and how right they are; and the same of one member
// more that learns from 32 examples. Of a lexical head and of an encoder head whose model costs
// next to nothing.
//
// A member's texts mix a few words of its own, each of which a handful of other members have too,
// with words that all use; queries are drawn like examples and are none of them.
enum class ManyNodesHead { kEncoder, kLexical };
void MeasureManyNodes(int nodes, ManyNodesHead head, Report* report);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_MANY_NODES_H_
