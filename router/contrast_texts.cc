#include "router/contrast_texts.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "router/background_queries.h"

namespace octogate::router {
namespace {

// Texts that a class had before, those of other classes, and those of "none": so many of each.
constexpr size_t kMostOfKind = 512;

// The classes nearest to any of the texts, the nearest first, without `own`.
absl::StatusOr<std::vector<size_t>> NearestPlaces(const std::vector<std::string>& texts, size_t own,
                                                  const FindNearestClasses& nearest,
                                                  absl::Time deadline) {
  std::map<uint32_t, float> nearness;
  for (const std::string& text : texts) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("looked for similar members until the deadline");
    }
    for (const ClassLogit& near : nearest(text)) {
      const auto [known, is_new] = nearness.emplace(near.index, near.logit);
      known->second = std::max(known->second, near.logit);
    }
  }
  std::vector<std::pair<float, size_t>> order;
  for (const auto& [place, near] : nearness) {
    if (place != own) order.emplace_back(-near, place);
  }
  std::sort(order.begin(), order.end());
  std::vector<size_t> places;
  for (const auto& [near, place] : order) places.push_back(place);
  return places;
}

}  // namespace

absl::StatusOr<ContrastTexts> CollectContrastTexts(const RoutingExamples& examples,
                                                   const LearnedClasses& learned, size_t r,
                                                   const ClassPlaces& places,
                                                   const FindNearestClasses& nearest,
                                                   const std::vector<bool>& on_subject,
                                                   absl::Time deadline) {
  const LearnedClasses::Row& row = learned.rows[r];
  ContrastTexts found;
  const auto add = [&found](const std::vector<std::string>& texts, size_t most) {
    for (const std::string& text : texts) {
      if (found.texts.size() >= most) return;
      found.texts.push_back(text);
    }
  };
  // What the class was trained on, or has learned before this row, until there are `most`.
  const auto add_of = [&](size_t place, size_t most) {
    if (place == places.classes) {
      add(examples.none, most);
    } else if (const int trained = places.trained_of[place]; trained >= 0) {
      add(examples.classes[static_cast<size_t>(trained)], most);
    }
    for (size_t before = 0; before < r; ++before) {
      if (learned.rows[before].place == place) add(learned.rows[before].texts, most);
    }
  };
  add(row.texts, row.texts.size());
  found.taught = found.texts.size();
  add_of(row.place, found.taught + kMostOfKind);
  found.own = found.texts.size();
  // What the new texts would be taken for.
  auto others = NearestPlaces(row.texts, row.place, nearest, deadline);
  if (!others.ok()) return others.status();
  for (const size_t place : *others) {
    if (place != places.classes) add_of(place, found.own + kMostOfKind);
  }
  if (row.place == places.classes) return found;
  add_of(places.classes, found.texts.size() + kMostOfKind);
  const auto& background = BackgroundQueries();
  for (size_t i = 0; i < background.size(); ++i) {
    if (!on_subject[i]) found.texts.push_back(background[i]);
  }
  return found;
}

}  // namespace octogate::router
