#include "tests/bench/choice_curve.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "router/logistic_fit.h"

namespace octogate::bench {
namespace {

[[noreturn]] void Fail(const std::string& what) {
  std::cerr << "choice curve: " << what << "\n";
  std::exit(1);
}

std::string Letter(char letter) { return letter == 0 ? "" : std::string(1, letter); }

}  // namespace

router::OutcomeSet TrainOutcomes(const RecordedAnswers& answers) {
  router::OutcomeSet outcomes;
  for (const RecordedModel& model : answers.models) outcomes.members.push_back(model.name);
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    const RecordedQuestion& question = answers.questions[i];
    if (question.is_test) continue;
    router::QueryOutcomes& query = outcomes.queries.emplace_back();
    query.query = question.text;
    query.domain = question.domain;
    for (const RecordedModel& model : answers.models) {
      query.members.push_back({.known = true,
                               .correct = model.letters[i] == question.right,
                               .has_answer = true,
                               .answer = Letter(model.letters[i]),
                               .output_tokens = model.tokens[i]});
    }
  }
  return outcomes;
}

void WriteOutcomes(const router::OutcomeSet& outcomes, const std::vector<std::string>& members,
                   const std::string& file) {
  std::ofstream out(file, std::ios::binary);
  for (const router::QueryOutcomes& query : outcomes.queries) {
    nlohmann::json line = {{"query", query.query}, {"domain", query.domain}};
    for (size_t m = 0; m < members.size(); ++m) {
      const router::MemberOutcome& outcome = query.members[m];
      line["outcomes"][members[m]] = {{"correct", outcome.correct},
                                      {"answer", outcome.answer},
                                      {"output_tokens", outcome.output_tokens}};
    }
    out << line.dump() << "\n";
  }
  if (!out) Fail("cannot write " + file);
}

ChoiceCurve::ChoiceCurve(const RecordedAnswers& answers)
    : answers_(answers), outcomes_(TrainOutcomes(answers)) {
  by_train_.resize(answers.models.size());
  std::iota(by_train_.begin(), by_train_.end(), 0);
  std::vector<double> accuracy;
  for (const RecordedModel& model : answers.models) {
    accuracy.push_back(
        Accuracy(answers, model, [&](size_t i) { return !answers.questions[i].is_test; }));
  }
  std::stable_sort(by_train_.begin(), by_train_.end(),
                   [&](size_t a, size_t b) { return accuracy[a] > accuracy[b]; });
  mean_tokens_.assign(answers.models.size(), 0);
  for (const router::QueryOutcomes& query : outcomes_.queries) {
    for (size_t m = 0; m < mean_tokens_.size(); ++m) {
      mean_tokens_[m] += static_cast<double>(query.members[m].output_tokens) /
                         static_cast<double>(outcomes_.queries.size());
    }
  }
  auto predictor = router::OutcomePredictor::Train(outcomes_, absl::InfiniteFuture());
  if (!predictor.ok()) Fail(std::string(predictor.status().message()));
  predictor_ = *std::move(predictor);
  answer_predictor_ = std::make_unique<router::AnswerPredictor>(outcomes_, *predictor_);
  for (size_t i = 0; i < answers.questions.size(); ++i) {
    if (!answers.questions[i].is_test) continue;
    test_.push_back(i);
    const std::vector<double> logits = predictor_->Logits(answers.questions[i].text);
    std::vector<router::MemberEstimate>& estimates = estimates_.emplace_back();
    for (size_t m = 0; m < logits.size(); ++m) {
      // Whole tokens, as a gateway counts them.
      estimates.push_back({.logit = logits[m], .cost = std::floor(mean_tokens_[m] + 0.5)});
    }
  }
}

template <typename Ask>
CurvePoint ChoiceCurve::Measure(const std::string& name, const Ask& ask) const {
  CurvePoint point{.name = name};
  const auto count = static_cast<double>(test_.size());
  for (size_t t = 0; t < test_.size(); ++t) {
    const size_t i = test_[t];
    std::vector<size_t> asked;
    const char letter = ask(t, i, &asked);
    point.accuracy += (letter == answers_.questions[i].right ? 1 : 0) / count;
    point.calls += static_cast<double>(asked.size()) / count;
    for (const size_t m : asked) point.tokens += answers_.models[m].tokens[i] / count;
  }
  return point;
}

CurvePoint ChoiceCurve::Single(size_t model) const {
  return Measure(answers_.models[model].name, [&](size_t, size_t i, std::vector<size_t>* asked) {
    asked->push_back(model);
    return answers_.models[model].letters[i];
  });
}

CurvePoint ChoiceCurve::Random() const {
  CurvePoint mean{.name = "random model"};
  const auto models = static_cast<double>(answers_.models.size());
  for (size_t m = 0; m < answers_.models.size(); ++m) {
    const CurvePoint single = Single(m);
    mean.accuracy += single.accuracy / models;
    mean.calls += single.calls / models;
    mean.tokens += single.tokens / models;
  }
  return mean;
}

CurvePoint ChoiceCurve::Majority(size_t count) const {
  return Measure(absl::StrFormat("majority vote of %d", count),
                 [&](size_t, size_t i, std::vector<size_t>* asked) {
                   std::map<char, int> votes;
                   for (size_t k = 0; k < count; ++k) {
                     asked->push_back(by_train_[k]);
                     const char letter = answers_.models[by_train_[k]].letters[i];
                     if (letter != 0) ++votes[letter];
                   }
                   char best = 0;
                   for (const size_t m : *asked) {
                     const char letter = answers_.models[m].letters[i];
                     if (letter != 0 && (best == 0 || votes[letter] > votes[best])) best = letter;
                   }
                   return best;
                 });
}

CurvePoint ChoiceCurve::Oracle(const std::vector<size_t>& models) const {
  return Measure(absl::StrFormat("oracle over %d", models.size()),
                 [&](size_t, size_t i, std::vector<size_t>* asked) {
                   char best = 0;
                   for (const size_t m : models) {
                     if (best == 0) asked->assign(1, m);
                     if (answers_.models[m].letters[i] == answers_.questions[i].right) {
                       asked->assign(1, m);
                       best = answers_.questions[i].right;
                     }
                   }
                   return best;
                 });
}

CurvePoint ChoiceCurve::OneCall() const {
  const router::ChoiceGoal goal{.policy = v1::CHOICE_POLICY_BEST_UNDER, .bound = 1e9};
  return Measure("choice, 1 call", [&](size_t t, size_t i, std::vector<size_t>* asked) {
    const router::Chosen chosen = router::ChooseMember(estimates_[t], goal);
    asked->push_back(static_cast<size_t>(chosen.member));
    return answers_.models[asked->back()].letters[i];
  });
}

CurvePoint ChoiceCurve::TwoCalls(double sure) const {
  const router::ChoiceGoal goal{.policy = v1::CHOICE_POLICY_BEST_UNDER, .bound = 1e9};
  return Measure(
      absl::StrFormat("choice, up to 2 calls, sure %.2f", sure),
      [&](size_t t, size_t i, std::vector<size_t>* asked) {
        const auto& estimates = estimates_[t];
        const auto given = [&](int member, std::string* letter) {
          const auto m = static_cast<size_t>(member);
          asked->push_back(m);
          *letter = Letter(answers_.models[m].letters[i]);
          return router::GivenAnswer{.member = m,
                                     .answer = *letter,
                                     .output_tokens = answers_.models[m].tokens[i],
                                     .query_logit = estimates[m].logit};
        };
        std::string first_letter;
        std::string second_letter;
        const router::GivenAnswer first =
            given(router::ChooseFirst(estimates, goal, *answer_predictor_).member, &first_letter);
        const router::Chosen chosen =
            router::ChooseSecond(estimates, goal, *answer_predictor_, first.member,
                                 answer_predictor_->OfAnswer(first), 0, sure);
        if (chosen.member < 0) return first_letter.empty() ? '\0' : first_letter[0];
        const router::GivenAnswer second = given(chosen.member, &second_letter);
        const std::string& taken =
            answer_predictor_->OfTwo(first, second).second ? second_letter : first_letter;
        return taken.empty() ? '\0' : taken[0];
      });
}

CurvePoint ChoiceCurve::CheapestAbove(double tolerance) const {
  const router::ChoiceGoal goal{.policy = v1::CHOICE_POLICY_CHEAPEST_ABOVE, .bound = tolerance};
  return Measure(
      absl::StrFormat("cheapest above %.2f", tolerance),
      [&](size_t t, size_t i, std::vector<size_t>* asked) {
        asked->push_back(static_cast<size_t>(router::ChooseMember(estimates_[t], goal).member));
        return answers_.models[asked->back()].letters[i];
      });
}

}  // namespace octogate::bench
