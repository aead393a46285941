// The causal head's part of the `route` benchmark.
#ifndef OCTOGATE_TESTS_BENCH_CAUSAL_ROUTE_H_
#define OCTOGATE_TESTS_BENCH_CAUSAL_ROUTE_H_

#include "tests/bench/report.h"

namespace octogate::bench {

// Time of one decision of the causal head with the model in deploy/models on one thread, by the
// length of the query, with the argument written and without. Exits where the model cannot be
// loaded.
void MeasureCausalHead(Report* report);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_CAUSAL_ROUTE_H_
