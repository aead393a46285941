#ifndef OCTOGATE_ROUTER_CLASS_PLACES_H_
#define OCTOGATE_ROUTER_CLASS_PLACES_H_

#include <cstddef>
#include <numeric>
#include <vector>

#include "router/routing_examples.h"

namespace octogate::router {

// Where the classes of a model come from that was trained and may have learned more
// (LearnedClasses). Negative: nowhere. "None" stands behind the classes.
struct ClassPlaces {
  // Of a model that has learned nothing.
  explicit ClassPlaces(size_t trained) : classes(trained), place_of(trained + 1) {
    std::iota(place_of.begin(), place_of.end(), 0);
    trained_of = place_of;
    learned_of.assign(trained + 1, -1);
  }
  // Of one that was `trained` on so many classes. What it learned is not in it yet.
  ClassPlaces(const LearnedClasses& learned, size_t trained)
      : classes(learned.trained.size()), place_of(trained + 1, -1), trained_of(learned.trained) {
    trained_of.push_back(static_cast<int>(trained));
    for (size_t place = 0; place <= classes; ++place) {
      const int from = trained_of[place];
      if (from >= 0) place_of[static_cast<size_t>(from)] = static_cast<int>(place);
    }
    learned_of.assign(classes + 1, -1);
  }

  size_t classes = 0;           // Without "none".
  std::vector<int> place_of;    // Of each class that was trained.
  std::vector<int> trained_of;  // Of each class, which of those trained it is.
  std::vector<int> learned_of;  // Of each class, which of LearnedClasses::rows is its own.
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CLASS_PLACES_H_
