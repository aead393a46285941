// What a conditional edge costs.
#ifndef OCTOGATE_TESTS_BENCH_EDGE_OVERHEAD_H_
#define OCTOGATE_TESTS_BENCH_EDGE_OVERHEAD_H_

#include <cstddef>
#include <string>
#include <vector>

#include "tests/bench/replay_gateway.h"
#include "tests/bench/report.h"

namespace octogate::bench {

// Latency of the same query with and without a conditional edge, in turns. `model` and `other` are
// recorded; `queries` are asked again and again.
void MeasureEdges(ReplayGateway* gateway, size_t model, size_t other,
                  const std::vector<std::string>& queries, Report* report);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_EDGE_OVERHEAD_H_
