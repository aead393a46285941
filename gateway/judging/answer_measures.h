// How sure a model was of an answer, by the probabilities of its tokens.
#ifndef OCTOGATE_GATEWAY_JUDGING_ANSWER_MEASURES_H_
#define OCTOGATE_GATEWAY_JUDGING_ANSWER_MEASURES_H_

#include <cstdint>

#include "octogate/v1/graph.pb.h"
#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// Alternatives per token that `minimum` and `entropy` ask workers for.
inline constexpr int kMinimumLogprobs = 1;
inline constexpr int kEntropyLogprobs = 20;

// Gathers what the messages of one generation say. The measures are those of v1::ConfidenceMeasure,
// each in [0, 1]; 1 while there is no token. Minimum and entropy count tokens that come with
// log-probabilities and are the mean where none does.
class AnswerMeasures {
 public:
  void Add(const v1::WorkerGenerateResponse& message);
  // A confidence that does not come from tokens: every measure is that.
  void Set(double confidence);

  int64_t tokens() const { return tokens_; }
  double mean() const;
  double minimum() const;
  double entropy() const;

 private:
  int64_t tokens_ = 0;
  double logprob_sum_ = 0;
  int64_t detailed_ = 0;  // tokens with log-probabilities
  double lowest_logprob_ = 0;
  double entropy_sum_ = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_ANSWER_MEASURES_H_
