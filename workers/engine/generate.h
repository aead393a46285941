// A request from its submission to its end in one call.
#ifndef OCTOGATE_WORKERS_ENGINE_GENERATE_H_
#define OCTOGATE_WORKERS_ENGINE_GENERATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/engine/engine.h"
#include "workers/engine/request.h"

namespace octogate::workers {

struct GeneratedText {
  std::string text;
  std::vector<int32_t> ids;
  FinishReason finish = FinishReason::kNone;
  Usage usage;
  GenerateTimings timings;
};

// Runs a request to its end and collects the events. Waits until the request's deadline; must not
// be called from a callback. The status of the last event where that is not OK.
absl::StatusOr<GeneratedText> Generate(Engine& engine, GenerateRequest request);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_GENERATE_H_
