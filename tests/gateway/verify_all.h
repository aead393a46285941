// Speculation of which nothing depends on time: whatever is drafted is verified.
#ifndef OCTOGATE_TESTS_GATEWAY_VERIFY_ALL_H_
#define OCTOGATE_TESTS_GATEWAY_VERIFY_ALL_H_

#include "workers/engine/model_runner.h"

namespace octogate::gateway {

inline constexpr char kDeployedModels[] = OCTOGATE_DEPLOY "/models";
// octogate-mini, one of them, answers what is no question of its own with the question itself, or
// nearly.
inline constexpr char kRepetitiveQuery[] =
    "the old river runs past the old mill and the old mill stands by the old river where the old "
    "road ends";

inline workers::LoadOptions VerifyAll() {
  workers::LoadOptions load;
  load.device.threads = 1;
  load.engine.verify_all_drafts = true;
  return load;
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_VERIFY_ALL_H_
