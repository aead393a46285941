#include "tests/bench/answers_validation.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/answer_pairs.h"
#include "tests/bench/choice_curve.h"

namespace octogate::bench {

void CrossValidate(const RecordedAnswers& answers, Report* report) {
  constexpr int kFolds = 5;
  Share single;
  Share pairs;
  double one_call = 0;
  double two_calls = 0;
  double two_calls_half = 0;
  double oracle = 0;
  for (int fold = 0; fold < kFolds; ++fold) {
    const RecordedAnswers held = HoldOut(answers, fold, kFolds);
    const auto in_train = [&](size_t i) { return !held.questions[i].is_test; };
    size_t best = 0;
    for (size_t m = 1; m < held.models.size(); ++m) {
      if (Accuracy(held, held.models[m], in_train) > Accuracy(held, held.models[best], in_train)) {
        best = m;
      }
    }
    const ChoiceCurve curve(held);
    one_call += curve.OneCall().accuracy / kFolds;
    two_calls += curve.TwoCalls(1).accuracy / kFolds;
    two_calls_half += curve.TwoCalls(0.5).accuracy / kFolds;
    oracle += OracleAccuracy(held, curve.by_train()) / kFolds;
    std::set<std::string> domains;
    for (size_t i = 0; i < held.questions.size(); ++i) {
      domains.insert(held.questions[i].domain);
      if (!held.questions[i].is_test) continue;
      single.all += 1;
      single.right += held.models[best].letters[i] == held.questions[i].right ? 1 : 0;
    }
    for (const std::string& domain : domains) {
      std::vector<std::vector<LengthBin>> bins;
      for (const RecordedModel& model : held.models) bins.push_back(FitBins(held, model, domain));
      const Pair pair = BestPair(held, domain, bins);
      const Share share = PairShare(held, /*of_test=*/true, domain, pair.first, pair.second,
                                    bins[pair.first], bins[pair.second]);
      pairs.right += share.right;
      pairs.all += share.all;
    }
  }
  report->Add({.name = "train, cross-validated: best single",
               .value = single.rate(),
               .unit = "share right"});
  report->Add({.name = "train, cross-validated: pairs of known domains",
               .value = pairs.rate(),
               .unit = "share right",
               .beside = "best single",
               .ratio = pairs.rate() / single.rate()});
  for (const auto& [name, accuracy] :
       {std::pair("choice, 1 call", one_call), std::pair("choice, up to 2 calls", two_calls),
        std::pair("choice, up to 2 calls, sure 0.5", two_calls_half)}) {
    report->Add({.name = absl::StrCat("train, cross-validated: ", name),
                 .value = accuracy,
                 .unit = "share right",
                 .beside = "best single",
                 .ratio = accuracy / single.rate()});
    report->Add({.name = absl::StrCat("train, cross-validated: ", name, ", headroom captured"),
                 .value = 100 * (accuracy - single.rate()) / (oracle - single.rate()),
                 .unit = "%"});
  }
}

}  // namespace octogate::bench
