#include "gateway/judging/answer_measures.h"

#include <algorithm>
#include <cmath>

namespace octogate::gateway {
namespace {

// Not a number stays one: what compares with it finds it low.
double Probability(double logprob) {
  return std::isnan(logprob) ? logprob : std::clamp(std::exp(logprob), 0.0, 1.0);
}

// In nats, of what is known: the alternatives listed, and all others as one. Where none is listed,
// what the token itself tells, whose expectation the entropy is.
double Entropy(const v1::TokenLogprob& token) {
  if (token.top_size() == 0) return -token.logprob();
  double entropy = 0;
  double rest = 1;
  const auto add = [&](double p) { entropy -= p > 0 ? p * std::log(p) : 0; };
  for (const v1::TokenAlternative& alternative : token.top()) {
    const double p = Probability(alternative.logprob());
    add(p);
    rest -= p;
  }
  add(std::max(0.0, rest));
  return entropy;
}

}  // namespace

void AnswerMeasures::Add(const v1::WorkerGenerateResponse& message) {
  tokens_ += message.ids_size();
  logprob_sum_ += message.logprob_sum();
  for (const v1::TokenLogprob& token : message.logprobs()) {
    ++detailed_;
    // Not a number is as low as can be.
    lowest_logprob_ = token.logprob() >= lowest_logprob_ ? lowest_logprob_ : token.logprob();
    entropy_sum_ += Entropy(token);
  }
}

void AnswerMeasures::Set(double confidence) {
  *this = AnswerMeasures();
  tokens_ = 1;
  logprob_sum_ = std::log(confidence);
}

double AnswerMeasures::mean() const {
  return tokens_ == 0 ? 1.0 : Probability(logprob_sum_ / static_cast<double>(tokens_));
}

double AnswerMeasures::minimum() const {
  return detailed_ == 0 ? mean() : Probability(lowest_logprob_);
}

double AnswerMeasures::entropy() const {
  return detailed_ == 0 ? mean() : Probability(-entropy_sum_ / static_cast<double>(detailed_));
}

}  // namespace octogate::gateway
