#ifndef OCTOGATE_ROUTER_CALIBRATION_H_
#define OCTOGATE_ROUTER_CALIBRATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "router/softmax_regression.h"

// From the logits of classes and of "none" to probabilities that mean what they say: the
// temperature is the one under which examples that were held out of training are most probable
// (Guo et al. 2017, arXiv:1706.04599).

namespace octogate::router {

struct HeadScores {
  // Of each class, among the live classes: they sum to 1.
  std::vector<float> probabilities;
  // Of all live classes together; the rest is for "none".
  double live_probability = 0;
  // Of a head that weighs a few of very many classes: those, rising; all others have 0. Empty where
  // it has weighed all, or found none to weigh.
  std::vector<uint32_t> candidates;
};

// `logits` are those of live.size() classes, then that of "none". `live[c]` false: class c cannot
// be chosen and gets 0. Fills `scores`, whose memory is reused.
void ScoreLogits(std::span<const float> logits, const std::vector<bool>& live, double temperature,
                 HeadScores* scores);

// The same where only these of `classes` are weighed, all of them live, against "none". Sorts them
// by class. `coverage` is the share of texts whose class is among those that are weighed: nothing
// is surer than that.
struct ClassLogit {
  uint32_t index = 0;
  float logit = 0;
};
void ScoreCandidates(std::vector<ClassLogit>* candidates, float none, size_t classes,
                     double temperature, double coverage, HeadScores* scores);

// Measures both on held-out texts.
class CandidateCalibration {
 public:
  // A text of class `label`, of "none" where that is `classes`.
  void Add(const std::vector<ClassLogit>& candidates, float none, size_t label, size_t classes);

  double Temperature() const;
  // One text more is assumed that was not covered: few texts must not look like certainty. 1 where
  // there is none at all.
  double Coverage() const;

 private:
  std::vector<std::vector<float>> logits_;
  std::vector<int> labels_;
  size_t texts_ = 0;    // Of a class.
  size_t covered_ = 0;  // Those whose class was weighed.
};

// The temperature under which the labels are most probable: of each example the logits of whatever
// it is weighed against, and the label's place among them.
double FitTemperature(const std::vector<std::vector<float>>& logits,
                      const std::vector<int>& labels);

// Trains a model on some of the examples.
using TrainOn = std::function<absl::StatusOr<LinearModel>(const std::vector<uint32_t>& selected)>;
// The logits that a model gives to an example.
using LogitsOf = std::function<std::vector<float>(const LinearModel& model, uint32_t example)>;

struct HeldOutFit {
  double temperature = 1;  // FitTemperature of the examples held out.
  double loss = 0;         // Their mean negative log-likelihood under it.
};

// Of few examples each is held out once, a fifth at a time; of many, a fifth is. Where their logits
// are more than kMaxHeldOutLogits together, as many as fit are asked, spread over all. Errors are
// those of `train`.
inline constexpr size_t kMaxHeldOutLogits = size_t{1} << 25;
absl::StatusOr<HeldOutFit> FitHeldOut(const std::vector<uint32_t>& selected,
                                      const std::vector<int>& labels, const TrainOn& train,
                                      const LogitsOf& logits_of);
absl::StatusOr<double> HeldOutTemperature(const std::vector<uint32_t>& selected,
                                          const std::vector<int>& labels, const TrainOn& train,
                                          const LogitsOf& logits_of);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CALIBRATION_H_
