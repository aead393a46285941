// What speculation did, as the protocol has it.
#ifndef OCTOGATE_WORKERS_SERVER_SPECULATION_TO_PROTO_H_
#define OCTOGATE_WORKERS_SERVER_SPECULATION_TO_PROTO_H_

#include "octogate/v1/gateway.pb.h"
#include "workers/speculation/speculation_usage.h"

namespace octogate::workers {

v1::SpeculationUsage ToProto(const SpeculationUsage& usage);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_SPECULATION_TO_PROTO_H_
