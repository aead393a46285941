// What is compared by measuring it in turns, so that a machine that is fast now and slow later is
// so for all of it.
#ifndef OCTOGATE_TESTS_BENCH_TURNS_H_
#define OCTOGATE_TESTS_BENCH_TURNS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace octogate::bench {

struct Spread {
  double median = 0;
  // The median of ever more such values lies between these with a probability of 95 %, whatever
  // their distribution (the sign test); of fewer than six values they are the outermost ones.
  double low = 0;
  double high = 0;
};

// Of at least one value.
inline Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  // That so many or fewer of n are below the median has this probability, for growing `below`.
  double probability = std::pow(0.5, static_cast<double>(n));
  double one = probability;
  size_t below = 0;
  for (size_t k = 1; k <= n / 2; ++k) {
    one *= static_cast<double>(n - k + 1) / static_cast<double>(k);
    if (probability + one > 0.025) break;
    probability += one;
    below = k;
  }
  const double median = (values[(n - 1) / 2] + values[n / 2]) / 2;
  return {median, values[below], values[n - 1 - below]};
}

inline double Median(std::vector<double> values) { return SpreadOf(std::move(values)).median; }

// Calls each of `ways` once a round and returns what they returned, [way][round]. Another one is
// the first in each round, and every other round goes the other way round.
inline std::vector<std::vector<double>> InTurns(
    const std::vector<std::function<double(int round)>>& ways, int rounds) {
  std::vector<std::vector<double>> results(ways.size());
  const auto count = static_cast<int>(ways.size());
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < count; ++i) {
      const int place = round % 2 == 0 ? i : count - 1 - i;
      const auto way = static_cast<size_t>((place + round / 2) % count);
      results[way].push_back(ways[way](round));
    }
  }
  return results;
}

// Of a round's value and that of another way in the same round.
inline Spread RatioOf(const std::vector<double>& values, const std::vector<double>& others) {
  std::vector<double> ratios;
  for (size_t i = 0; i < values.size(); ++i) ratios.push_back(values[i] / others[i]);
  return SpreadOf(std::move(ratios));
}

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_TURNS_H_
