// Runs steps of a loaded model to measure what they cost.
#ifndef OCTOGATE_WORKERS_ENGINE_STEP_PROBE_H_
#define OCTOGATE_WORKERS_ENGINE_STEP_PROBE_H_

#include "absl/time/time.h"
#include "kernels/backend.h"
#include "workers/engine/step_cost.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {

// Overwrites pages of `cache`, which nothing may use yet; `limits` of the transformer, its longest
// sequence for max_context. See MeasureStepCost for `time`.
//
// What becomes of logits is part of a step: the `ranked` largest of each row are asked for. Steps
// that copy whole rows besides, as for a grammar, take longer.
StepCost MeasureTransformer(Transformer& transformer, kernels::KvCache& cache,
                            StepProbeLimits limits, int ranked, absl::Duration time);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_STEP_PROBE_H_
