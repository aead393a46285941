#include "workers/cache/page_store_pace.h"

#include <algorithm>
#include <cmath>

namespace octogate::workers {
namespace {

constexpr double kDecayPerFetch = 0.85;
constexpr double kMemorySeconds = 60;
// What is expected of a store that nothing is known of.
constexpr double kPriorWeight = 0.05;
constexpr double kPriorLatency = 0.0005;
constexpr double kPriorBytes = 1 << 20;
constexpr double kPriorSecondsPerByte = 1e-9;

}  // namespace

void PageStorePace::Sums::Add(double bytes, double seconds, double w) {
  weight += w;
  x += w * bytes;
  y += w * seconds;
  xx += w * bytes * bytes;
  xy += w * bytes * seconds;
}

void PageStorePace::Sums::Scale(double factor) {
  weight *= factor;
  x *= factor;
  y *= factor;
  xx *= factor;
  xy *= factor;
}

PageStorePace::Sums PageStorePace::SumsAt(absl::Time now) const {
  Sums sums = sums_;
  if (sums.weight > 0) {
    const double seconds = std::max(absl::ToDoubleSeconds(now - updated_), 0.0);
    sums.Scale(std::exp(-seconds / kMemorySeconds));
  }
  return sums;
}

void PageStorePace::Add(double bytes, double seconds, absl::Time now) {
  sums_ = SumsAt(now);
  sums_.Scale(kDecayPerFetch);
  sums_.Add(bytes, seconds, 1);
  updated_ = now;
}

double PageStorePace::Seconds(double bytes, absl::Time now) const {
  Sums sums = SumsAt(now);
  sums.Add(0, kPriorLatency, kPriorWeight);
  sums.Add(kPriorBytes, kPriorLatency + kPriorBytes * kPriorSecondsPerByte, kPriorWeight);
  const double variance = sums.weight * sums.xx - sums.x * sums.x;  // the prior has some
  const double slope =
      std::max((sums.weight * sums.xy - sums.x * sums.y) / variance, kPriorSecondsPerByte / 10);
  const double latency = std::max((sums.y - slope * sums.x) / sums.weight, 0.0);
  return latency + slope * bytes;
}

}  // namespace octogate::workers
