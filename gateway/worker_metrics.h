// What workers tell of themselves, as families of metrics.
#ifndef OCTOGATE_GATEWAY_WORKER_METRICS_H_
#define OCTOGATE_GATEWAY_WORKER_METRICS_H_

#include <prometheus/metric_family.h>

#include <vector>

#include "gateway/metrics.h"

namespace octogate::gateway {

// Adds the families of all replicas, by model and replica. Numbers are a peer's: negative ones
// count as 0, and of drafters only so many have labels.
void AddWorkerMetrics(const std::vector<Metrics::Replica>& replicas,
                      std::vector<prometheus::MetricFamily>& families);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_WORKER_METRICS_H_
