#include "tests/bench/answer_pairs.h"

#include <algorithm>
#include <utility>

namespace octogate::bench {

Share PairShare(const RecordedAnswers& answers, bool of_test, const std::string& domain, size_t a,
                size_t b, const std::vector<LengthBin>& bins_a,
                const std::vector<LengthBin>& bins_b) {
  const RecordedModel& first = answers.models[a];
  const RecordedModel& second = answers.models[b];
  Share share;
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    const RecordedQuestion& question = answers.questions[i];
    if (question.is_test != of_test || (!domain.empty() && question.domain != domain)) continue;
    const double sure_a = first.letters[i] == 0 ? 0 : BinAccuracy(bins_a, first.tokens[i]);
    const double sure_b = second.letters[i] == 0 ? 0 : BinAccuracy(bins_b, second.tokens[i]);
    share.all += 1;
    share.right += (sure_a >= sure_b ? first : second).letters[i] == question.right ? 1 : 0;
  }
  return share;
}

Pair BestPair(const RecordedAnswers& answers, const std::string& domain,
              const std::vector<std::vector<LengthBin>>& bins) {
  Pair best;
  double most = -1;
  for (size_t a = 0; a < bins.size(); ++a) {
    for (size_t b = a + 1; b < bins.size(); ++b) {
      const double accuracy =
          PairShare(answers, /*of_test=*/false, domain, a, b, bins[a], bins[b]).rate();
      if (accuracy <= most) continue;
      most = accuracy;
      best = {a, b};
    }
  }
  const auto in_train = [&](size_t i) {
    const RecordedQuestion& question = answers.questions[i];
    return !question.is_test && (domain.empty() || question.domain == domain);
  };
  if (Accuracy(answers, answers.models[best.second], in_train) >
      Accuracy(answers, answers.models[best.first], in_train)) {
    std::swap(best.first, best.second);
  }
  return best;
}

double OracleAccuracy(const RecordedAnswers& answers, const std::vector<size_t>& models) {
  double right = 0;
  double all = 0;
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    if (!answers.questions[i].is_test) continue;
    all += 1;
    right += std::any_of(models.begin(), models.end(), [&](size_t m) {
      return answers.models[m].letters[i] == answers.questions[i].right;
    });
  }
  return right / all;
}

}  // namespace octogate::bench
