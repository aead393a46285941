// The flights of a graph's queries: of answers, and of decisions.
#ifndef OCTOGATE_GATEWAY_CACHE_FLIGHTS_H_
#define OCTOGATE_GATEWAY_CACHE_FLIGHTS_H_

#include <optional>

#include "gateway/cache/answer_cache.h"
#include "gateway/cache/single_flight.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

using AnswerFlights = SingleFlight<AnswerCache::Alike>;
using DecisionFlights = SingleFlight<std::optional<v1::Decision>>;

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_FLIGHTS_H_
