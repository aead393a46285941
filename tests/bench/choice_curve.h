// What a choice among models earns on recorded answers, without a gateway: the accuracy-cost curve.
#ifndef OCTOGATE_TESTS_BENCH_CHOICE_CURVE_H_
#define OCTOGATE_TESTS_BENCH_CHOICE_CURVE_H_

#include <memory>
#include <string>
#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/answer_predictor.h"
#include "router/choice_policy.h"
#include "router/outcome_predictor.h"
#include "router/outcomes.h"
#include "tests/bench/recorded_answers.h"

namespace octogate::bench {

struct CurvePoint {
  std::string name;
  double accuracy = 0;
  double calls = 0;   // Per query.
  double tokens = 0;  // Written, per query.
};

// The outcomes of the train questions.
router::OutcomeSet TrainOutcomes(const RecordedAnswers& answers);

// Writes them as a file for choice nodes, with the members' names.
void WriteOutcomes(const router::OutcomeSet& outcomes, const std::vector<std::string>& members,
                   const std::string& file);

// What is learned from the train questions, and asked about the test questions.
class ChoiceCurve {
 public:
  explicit ChoiceCurve(const RecordedAnswers& answers);

  CurvePoint Single(size_t model) const;
  CurvePoint Random() const;
  // Of the `count` models best in train; the earliest of equally many votes.
  CurvePoint Majority(size_t count) const;
  // A judge that always picks a right answer among those of `models`.
  CurvePoint Oracle(const std::vector<size_t>& models) const;
  // One call; and up to two, the second where the first answer is less probably right than `sure`.
  CurvePoint OneCall() const;
  CurvePoint TwoCalls(double sure) const;
  // The cheapest by output tokens among those at least so probably right.
  CurvePoint CheapestAbove(double tolerance) const;

  const std::vector<size_t>& by_train() const { return by_train_; }
  size_t test_questions() const { return test_.size(); }
  const router::OutcomePredictor& predictor() const { return *predictor_; }

 private:
  template <typename Ask>
  CurvePoint Measure(const std::string& name, const Ask& ask) const;

  const RecordedAnswers& answers_;
  std::vector<size_t> by_train_;
  std::vector<double> mean_tokens_;
  router::OutcomeSet outcomes_;
  std::shared_ptr<const router::OutcomePredictor> predictor_;
  std::unique_ptr<const router::AnswerPredictor> answer_predictor_;
  std::vector<std::vector<router::MemberEstimate>> estimates_;  // Of each test question.
  std::vector<size_t> test_;
};

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_CHOICE_CURVE_H_
