// Pairs of models whose recorded answers are weighed against each other.
#ifndef OCTOGATE_TESTS_BENCH_ANSWER_PAIRS_H_
#define OCTOGATE_TESTS_BENCH_ANSWER_PAIRS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "tests/bench/recorded_answers.h"

namespace octogate::bench {

struct Share {
  double right = 0;
  double all = 0;
  double rate() const { return all == 0 ? 0 : right / all; }
};

// The share of one split's questions of the domain (all, where it is empty) that the pair answers
// right where the greater expected accuracy decides.
Share PairShare(const RecordedAnswers& answers, bool of_test, const std::string& domain, size_t a,
                size_t b, const std::vector<LengthBin>& bins_a,
                const std::vector<LengthBin>& bins_b);

struct Pair {
  size_t first = 0;
  size_t second = 0;
};

// The best pair in train (of the domain, where it is not empty), the model that is right more often
// first. `bins` are those of each model.
Pair BestPair(const RecordedAnswers& answers, const std::string& domain,
              const std::vector<std::vector<LengthBin>>& bins);

// How often any of the models is right on a test question.
double OracleAccuracy(const RecordedAnswers& answers, const std::vector<size_t>& models);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_ANSWER_PAIRS_H_
