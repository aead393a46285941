#ifndef OCTOGATE_ROUTER_CONTRAST_TEXTS_H_
#define OCTOGATE_ROUTER_CONTRAST_TEXTS_H_

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/calibration.h"
#include "router/class_places.h"
#include "router/routing_examples.h"

namespace octogate::router {

// What one class more of very many is learned from: texts of its own, those of the classes that
// these look most like, and those of "none". However many classes there are, it is about the same
// number of texts.
struct ContrastTexts {
  std::vector<std::string_view> texts;  // Views of what they were collected from.
  size_t taught = 0;                    // The first ones: what the class learns.
  size_t own = 0;                       // The first ones: of the class, what it had included.
};

// The classes that a text is weighed against, and how near each is to it.
using FindNearestClasses = std::function<std::vector<ClassLogit>(std::string_view text)>;

// For learned.rows[r], which comes on top of a model with `places` that has learned the rows before
// it, by which `nearest` finds classes. Of BackgroundQueries those that are `on_subject` belong to
// the class as much as to "none", and are left out. DEADLINE_EXCEEDED.
absl::StatusOr<ContrastTexts> CollectContrastTexts(const RoutingExamples& examples,
                                                   const LearnedClasses& learned, size_t r,
                                                   const ClassPlaces& places,
                                                   const FindNearestClasses& nearest,
                                                   const std::vector<bool>& on_subject,
                                                   absl::Time deadline);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CONTRAST_TEXTS_H_
