// How much of a prompt's keys and values an engine would find, and where the rest would come from.
#ifndef OCTOGATE_WORKERS_ENGINE_PAGE_EXPLANATION_H_
#define OCTOGATE_WORKERS_ENGINE_PAGE_EXPLANATION_H_

#include <optional>

#include "absl/status/statusor.h"

namespace octogate::workers {

// What a sequence does for the pages that the engine's own cache does not have.
enum class PageChoice {
  kNothing,  // there are no such pages
  kCompute,  // it computes all of them
  kWait,     // it waits for those that the store has, and computes the rest
  kMeet,     // it computes them from the first on, while they come from the last one on
};

// What is expected of the pages that the engine's own cache does not have, before the store is
// asked.
struct PageOutlook {
  int pages = 0;               // that the store would be asked for
  double fetch_seconds = 0;    // to fetch all of them; infinity: nothing can be fetched
  double compute_seconds = 0;  // to compute all of them; infinity: not measured
  PageChoice choice = PageChoice::kNothing;
};

struct PageExplanation {
  struct Shared {
    PageOutlook outlook;
    // How many of the outlook's pages the store has, from the first on, or why it has not said.
    absl::StatusOr<int> stored = 0;
  };

  int page_size = 0;             // in tokens
  int cached_pages = 0;          // in the engine's own cache, from the prompt's beginning on
  std::optional<Shared> shared;  // absent where engines share no pages
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_EXPLANATION_H_
