// What fetches of pages take, learned from those that were made.
//
//   seconds = latency + seconds per byte * bytes
//
// is fitted by least squares, a fetch counting the less the more have come since and the longer ago
// it is. Two points of a store nearby, which always count a little, say what to expect of one that
// nothing is known of.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_CACHE_PAGE_STORE_PACE_H_
#define OCTOGATE_WORKERS_CACHE_PAGE_STORE_PACE_H_

#include "absl/time/time.h"

namespace octogate::workers {

class PageStorePace {
 public:
  // A fetch of so many bytes, those that were under way before it included.
  void Add(double bytes, double seconds, absl::Time now);
  double Seconds(double bytes, absl::Time now) const;

 private:
  struct Sums {
    double weight = 0;
    double x = 0, y = 0, xx = 0, xy = 0;
    void Add(double bytes, double seconds, double weight);
    void Scale(double factor);
  };
  Sums SumsAt(absl::Time now) const;

  Sums sums_;
  absl::Time updated_ = absl::InfinitePast();
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_CACHE_PAGE_STORE_PACE_H_
