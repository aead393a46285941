// Adds up what speculation did for several answers.
#ifndef OCTOGATE_GATEWAY_SPECULATION_USAGE_H_
#define OCTOGATE_GATEWAY_SPECULATION_USAGE_H_

#include <optional>

#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// Without a value: of answers of which no model speculates.
void AddSpeculation(const std::optional<v1::SpeculationUsage>& usage,
                    std::optional<v1::SpeculationUsage>* sum);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SPECULATION_USAGE_H_
