// What an engine would find of a prompt's keys and values, and what it would do about the rest.
#ifndef OCTOGATE_WORKERS_ENGINE_PAGE_EXPLANATION_H_
#define OCTOGATE_WORKERS_ENGINE_PAGE_EXPLANATION_H_

#include <optional>

#include "absl/status/statusor.h"

namespace octogate::workers {

// Where the pages of a sequence come from that the engine's own cache does not have.
enum class PageChoice {
  kNothing,  // there are none
  kCompute,
  kWait,  // the sequence waits for what the store has
  kMeet,  // it computes from the first while others come from the last one on
};

// Of the pages behind those that the engine's own cache has.
struct PageOutlook {
  int pages = 0;               // that the store is asked for
  double fetch_seconds = 0;    // expected for all of them; infinity: the store cannot be reached
  double compute_seconds = 0;  // for all of them; infinity: not measured
  PageChoice choice = PageChoice::kNothing;
};

struct PageExplanation {
  struct Shared {
    PageOutlook outlook;
    // Of its pages, those that the store has, from the first on; why it has not said.
    absl::StatusOr<int> stored = 0;
  };

  int page_size = 0;
  int cached_pages = 0;          // at the prompt's beginning, in the engine's own cache
  std::optional<Shared> shared;  // where engines share pages
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_EXPLANATION_H_
