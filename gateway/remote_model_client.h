// A replica in a worker process, behind gRPC: generations over sessions (worker_session.h), the
// rest as calls of their own.
#ifndef OCTOGATE_GATEWAY_REMOTE_MODEL_CLIENT_H_
#define OCTOGATE_GATEWAY_REMOTE_MODEL_CLIENT_H_

#include <memory>
#include <string>

#include "gateway/event_loop.h"
#include "gateway/model_client.h"

namespace octogate::gateway {

struct RemoteModelClientOptions {
  // Longer messages from a worker end the call, or the calls of the session, with
  // RESOURCE_EXHAUSTED.
  int max_message_bytes = 16 << 20;
};

// Connects when first used, one connection and session per loop, and again after a failure with a
// short, growing delay. Until then the calls of that loop take the connection of another, where one
// stands. `loops` outlives the client and its calls. "host:port" is resolved by gRPC; the address
// is not checked here.
std::unique_ptr<ModelClient> NewRemoteModelClient(std::string address, EventLoops* loops,
                                                  const RemoteModelClientOptions& options = {});

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REMOTE_MODEL_CLIENT_H_
