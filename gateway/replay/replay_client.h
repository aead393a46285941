// Serves recorded answers as if a model generated them.
#ifndef OCTOGATE_GATEWAY_REPLAY_REPLAY_CLIENT_H_
#define OCTOGATE_GATEWAY_REPLAY_REPLAY_CLIENT_H_

#include <memory>

#include "gateway/event_loop.h"
#include "gateway/model_client.h"
#include "gateway/replay/recording.h"

namespace octogate::gateway {

// Generate answers the last message of the conversation: NOT_FOUND where the recording has no
// answer to it. The answer comes whole, whatever the request's limits and stop texts, as messages
// of at most 256 tokens; their ids are their places in the answer, from 0, and the characters of
// the text are spread over them. Each token has the recorded confidence for its probability, and
// usage is what was recorded. With `keep_time` the first message comes when the recorded answer was
// complete, and never after the deadline; without, everything comes before Generate returns.
//
// Score and Embed are UNIMPLEMENTED. `loops` outlives the client.
std::unique_ptr<ModelClient> NewReplayClient(std::shared_ptr<const Recording> recording,
                                             bool keep_time, EventLoops* loops);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLAY_REPLAY_CLIENT_H_
