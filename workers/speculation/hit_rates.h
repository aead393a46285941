// How often guesses of several kinds are right, counted and decayed: what a drafter's probabilities
// are made of.
#ifndef OCTOGATE_WORKERS_SPECULATION_HIT_RATES_H_
#define OCTOGATE_WORKERS_SPECULATION_HIT_RATES_H_

#include <array>
#include <cstddef>
#include <vector>

namespace octogate::workers {

// Kinds of guesses by number. A kind's counts are halved whenever it has been tried 4096 times, so
// that a rate follows what changes and no count grows without bound.
class HitRates {
 public:
  explicit HitRates(size_t kinds) : tries_(kinds, 0), hits_(kinds, 0) {}

  size_t kinds() const { return tries_.size(); }

  void Count(size_t kind, bool hit) {
    tries_[kind] += 1;
    hits_[kind] += hit ? 1 : 0;
    if (tries_[kind] >= kHalved) {
      tries_[kind] /= 2;
      hits_[kind] /= 2;
    }
  }

  // Where little was tried, near `prior`, which weighs as `weight` tries. In [0, 1] if that is.
  float Rate(size_t kind, float prior, float weight) const {
    return (hits_[kind] + prior * weight) / (tries_[kind] + weight);
  }

 private:
  static constexpr float kHalved = 4096;

  std::vector<float> tries_;
  std::vector<float> hits_;
};

// Rates that were asked for, each computed once. Of use as long as nothing is counted.
template <size_t kKinds>
class KnownRates {
 public:
  KnownRates() { rates_.fill(-1); }

  template <typename Compute>
  float Get(size_t kind, const Compute& compute) {
    float& rate = rates_[kind];
    if (rate < 0) rate = compute();
    return rate;
  }

 private:
  std::array<float, kKinds> rates_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_HIT_RATES_H_
