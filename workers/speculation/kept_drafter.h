#ifndef OCTOGATE_WORKERS_SPECULATION_KEPT_DRAFTER_H_
#define OCTOGATE_WORKERS_SPECULATION_KEPT_DRAFTER_H_

#include <memory>

#include "workers/speculation/draft_keeper.h"
#include "workers/speculation/learned_state.h"

namespace octogate::workers {

// `drafter`, whose scopes the keeper keeps. What it learns is offered every interval and when the
// last of its sequences ends; what was heard is taught between steps, for a fraction of a
// millisecond each, and for some milliseconds where a sequence begins. The first sequence of a
// scope may wait some milliseconds for what is kept of it. Scopes that the keeper has no room for
// learn from their own sequences alone until it has.
std::unique_ptr<Drafter> KeepDrafter(std::unique_ptr<LearningDrafter> drafter,
                                     std::shared_ptr<DraftKeeper> keeper);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_KEPT_DRAFTER_H_
