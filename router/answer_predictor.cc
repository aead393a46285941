#include "router/answer_predictor.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "common/strings.h"
#include "router/logistic_fit.h"

namespace octogate::router {
namespace {

constexpr double kNever = -7;
// Answers that are told apart, and how often outcomes have to have them.
constexpr size_t kMaxAnswers = 128;
constexpr int kOften = 20;
// Strengths of the penalties that draw offsets towards 0, as rows of p (1 - p).
constexpr double kOffsetPenalty = 8;
constexpr double kPairPenalty = 15;
// How strongly a rule of pairs is drawn, as rows, with many of them.
constexpr double kPairStrength = 5;
// With so many pairs, twice as strongly.
constexpr double kFirstPairs = 100;
// Of so many pairs, half the pull is towards what is known without them.
constexpr double kFewPairRows = 1000;
// Pairs of answers that rules are fitted to at most.
constexpr size_t kMaxPairRows = 400'000;

}  // namespace

struct AnswerPredictor::PairRows {
  explicit PairRows(size_t numbers) : rows(numbers + 1) {}

  LogisticRows rows;
  std::vector<uint32_t> pairs;

  void Add(size_t pair, std::initializer_list<float> numbers, bool right) {
    std::vector<float> row = {1};
    row.insert(row.end(), numbers.begin(), numbers.end());
    rows.Add(row.data(), 0, right);
    pairs.push_back(static_cast<uint32_t>(pair));
  }
};

AnswerPredictor::AnswerPredictor(const OutcomeSet& outcomes, const OutcomePredictor& predictor)
    : members_(predictor.members()) {
  const std::vector<float>& held_out = predictor.held_out_logits();
  LearnLengths(outcomes, held_out);
  LearnAnswers(outcomes, held_out);
  FitScale(outcomes, held_out);
  LearnPairs(outcomes, held_out);
}

void AnswerPredictor::LearnLengths(const OutcomeSet& outcomes, const std::vector<float>& held_out) {
  lengths_.resize(members_);
  for (size_t m = 0; m < members_; ++m) {
    Length& length = lengths_[m];
    std::vector<int64_t> all;
    for (const QueryOutcomes& query : outcomes.queries) {
      const MemberOutcome& outcome = query.members[m];
      if (outcome.known && outcome.output_tokens > 0) all.push_back(outcome.output_tokens);
    }
    std::sort(all.begin(), all.end());
    for (size_t b = 0; b < kBins && !all.empty(); ++b) {
      length.up_to[b] = all[(all.size() - 1) * (b + 1) / kBins];
    }
    if (all.empty()) continue;
    std::vector<OffsetStep> steps(kBins, OffsetStep(kOffsetPenalty));
    for (size_t q = 0; q < outcomes.queries.size(); ++q) {
      const MemberOutcome& outcome = outcomes.queries[q].members[m];
      if (!outcome.known || outcome.output_tokens <= 0) continue;
      const auto bin = static_cast<size_t>(
          std::lower_bound(length.up_to.begin(), length.up_to.end() - 1, outcome.output_tokens) -
          length.up_to.begin());
      steps[bin].Add(held_out[q * members_ + m], outcome.correct);
    }
    for (size_t b = 0; b < kBins; ++b) length.offsets[b] = steps[b].value();
  }
}

double AnswerPredictor::LengthOffset(size_t member, int64_t tokens) const {
  if (tokens <= 0) return 0;
  const Length& length = lengths_[member];
  return length.offsets[static_cast<size_t>(
      std::lower_bound(length.up_to.begin(), length.up_to.end() - 1, tokens) -
      length.up_to.begin())];
}

int AnswerPredictor::AnswerNumber(std::string_view answer) const {
  const auto found = answers_.find(ToAbsl(answer));
  return found == answers_.end() ? -1 : found->second;
}

double AnswerPredictor::AnswerOffset(size_t member, std::string_view answer) const {
  const int number = AnswerNumber(answer);
  if (number < 0) return 0;
  const auto a = static_cast<size_t>(number);
  return answer_offsets_[a] + member_answer_offsets_[member * answer_offsets_.size() + a];
}

void AnswerPredictor::LearnAnswers(const OutcomeSet& outcomes, const std::vector<float>& held_out) {
  std::map<std::string_view, int> counts;
  for (const QueryOutcomes& query : outcomes.queries) {
    for (const MemberOutcome& outcome : query.members) {
      if (outcome.known && outcome.has_answer && !outcome.answer.empty()) ++counts[outcome.answer];
    }
  }
  std::vector<std::pair<int, std::string_view>> often;
  for (const auto& [answer, count] : counts) {
    if (count >= kOften) often.emplace_back(-count, answer);
  }
  std::sort(often.begin(), often.end());
  if (often.size() > kMaxAnswers) often.resize(kMaxAnswers);
  for (const auto& [count, answer] : often) {
    answers_.emplace(std::string(answer), static_cast<int>(answers_.size()));
  }
  const size_t n = answers_.size();
  answer_offsets_.assign(n, 0);
  member_answer_offsets_.assign(members_ * n, 0);
  const auto each = [&](auto visit) {
    for (size_t q = 0; q < outcomes.queries.size(); ++q) {
      for (size_t m = 0; m < members_; ++m) {
        const MemberOutcome& outcome = outcomes.queries[q].members[m];
        if (!outcome.known || !outcome.has_answer) continue;
        const int number = AnswerNumber(outcome.answer);
        if (number < 0) continue;
        visit(m, static_cast<size_t>(number),
              held_out[q * members_ + m] + LengthOffset(m, outcome.output_tokens), outcome.correct);
      }
    }
  };
  std::vector<OffsetStep> shared(n, OffsetStep(kOffsetPenalty));
  each([&](size_t, size_t a, double logit, bool right) { shared[a].Add(logit, right); });
  for (size_t a = 0; a < n; ++a) answer_offsets_[a] = shared[a].value();
  std::vector<OffsetStep> own(members_ * n, OffsetStep(kOffsetPenalty));
  each([&](size_t m, size_t a, double logit, bool right) {
    own[m * n + a].Add(logit + answer_offsets_[a], right);
  });
  for (size_t i = 0; i < own.size(); ++i) member_answer_offsets_[i] = own[i].value();
}

void AnswerPredictor::FitScale(const OutcomeSet& outcomes, const std::vector<float>& held_out) {
  LogisticRows rows(4);
  for (size_t q = 0; q < outcomes.queries.size(); ++q) {
    for (size_t m = 0; m < members_; ++m) {
      const MemberOutcome& outcome = outcomes.queries[q].members[m];
      if (!outcome.known || (outcome.has_answer && outcome.answer.empty())) continue;
      const float row[4] = {1, held_out[q * members_ + m],
                            static_cast<float>(LengthOffset(m, outcome.output_tokens)),
                            static_cast<float>(AnswerOffset(m, outcome.answer))};
      rows.Add(row, 0, outcome.correct);
    }
  }
  const std::vector<double> weights = FitLogistic(
      rows,
      {.strength = 5, .towards = {0, 1, 1, 1}, .signed_weights = {true, false, false, false}});
  std::copy(weights.begin(), weights.end(), scale_.begin());
}

AnswerPredictor::Parts AnswerPredictor::PartsOf(const GivenAnswer& given) const {
  return {static_cast<float>(given.query_logit),
          static_cast<float>(LengthOffset(given.member, given.output_tokens)),
          static_cast<float>(AnswerOffset(given.member, given.answer))};
}

double AnswerPredictor::OfAnswer(const GivenAnswer& given) const {
  if (given.answer.empty()) return kNever;
  const Parts parts = PartsOf(given);
  return scale_[0] + scale_[1] * parts[0] + scale_[2] * parts[1] + scale_[3] * parts[2];
}

double AnswerPredictor::Apply(const PairRule& rule, size_t first, size_t second,
                              std::initializer_list<float> numbers) const {
  double logit = rule.weights[0] + rule.offsets[first * members_ + second];
  size_t w = 1;
  for (const float number : numbers) logit += rule.weights[w++] * number;
  return logit;
}

void AnswerPredictor::Fit(const PairRows& rows, size_t members, std::vector<double> towards,
                          PairRule* rule) {
  // With many rows next to nothing is drawn there: it would cost accuracy (answers_bench
  // --validate). Few rows can all be of one kind, such as wrong answers of a member that is nearly
  // always right, and a row that was held improbable pulls hard.
  const auto count = static_cast<double>(std::max<size_t>(rows.rows.size(), 1));
  const double few = kFewPairRows / (kFewPairRows + count);
  for (double& weight : towards) weight *= few;
  rule->weights = FitLogistic(rows.rows, {.strength = kPairStrength * (1 + kFirstPairs / count),
                                          .towards = std::move(towards),
                                          .signed_weights = {}});
  std::vector<OffsetStep> steps(members * members, OffsetStep(kPairPenalty));
  const size_t n = rows.rows.dimension;
  for (size_t i = 0; i < rows.pairs.size(); ++i) {
    double logit = 0;
    for (size_t d = 0; d < n; ++d) logit += rule->weights[d] * rows.rows.features[i * n + d];
    steps[rows.pairs[i]].Add(logit, rows.rows.labels[i] != 0);
  }
  for (size_t pair = 0; pair < steps.size(); ++pair) rule->offsets[pair] = steps[pair].value();
}

void AnswerPredictor::LearnPairs(const OutcomeSet& outcomes, const std::vector<float>& held_out) {
  for (PairRule* rule : {&agree_, &disagree_, &if_asked_, &of_pair_}) {
    rule->offsets.assign(members_ * members_, 0);
  }
  const size_t all = outcomes.queries.size() * members_ * members_;
  const size_t every = std::max<size_t>(1, (all + kMaxPairRows - 1) / kMaxPairRows);
  const auto each = [&](auto visit) {
    std::vector<GivenAnswer> given(members_);
    for (size_t q = 0; q < outcomes.queries.size(); q += every) {
      const QueryOutcomes& query = outcomes.queries[q];
      for (size_t m = 0; m < members_; ++m) {
        given[m] = {.member = m,
                    .answer = query.members[m].answer,
                    .output_tokens = query.members[m].output_tokens,
                    .query_logit = held_out[q * members_ + m]};
      }
      for (size_t a = 0; a < members_; ++a) {
        if (!query.members[a].known || !query.members[a].has_answer) continue;
        for (size_t b = 0; b < members_; ++b) {
          if (a == b || !query.members[b].known || !query.members[b].has_answer) continue;
          visit(given[a], query.members[a].correct, given[b], query.members[b].correct);
        }
      }
    }
  };
  PairRows agree(6);
  PairRows disagree(6);
  each([&](const GivenAnswer& a, bool right, const GivenAnswer& b, bool) {
    if (a.answer.empty() || b.answer.empty()) return;
    const Parts of_a = PartsOf(a);
    const Parts of_b = PartsOf(b);
    (a.answer == b.answer ? agree : disagree)
        .Add(a.member * members_ + b.member, {of_a[0], of_a[1], of_a[2], of_b[0], of_b[1], of_b[2]},
             right);
  });
  if (agree.rows.size() == 0 && disagree.rows.size() == 0) return;
  knows_pairs_ = true;
  // What is not known of pairs is what is known of the first answer alone; of equal ones, and where
  // there is no answer yet, of both alike, so that which one is asked first makes no difference.
  const std::vector<double> alone = {scale_[0], scale_[1], scale_[2], scale_[3], 0, 0, 0};
  const std::vector<double> alike = {scale_[0],     scale_[1] / 2, scale_[2] / 2, scale_[3] / 2,
                                     scale_[1] / 2, scale_[2] / 2, scale_[3] / 2};
  Fit(agree, members_, alike, &agree_);
  Fit(disagree, members_, alone, &disagree_);
  PairRows asked(2);
  PairRows pairs(2);
  each([&](const GivenAnswer& a, bool right_a, const GivenAnswer& b, bool right_b) {
    const bool right = OfTwo(a, b).second ? right_b : right_a;
    const size_t pair = a.member * members_ + b.member;
    const auto logit = static_cast<float>(b.query_logit);
    if (!a.answer.empty()) asked.Add(pair, {static_cast<float>(OfAnswer(a)), logit}, right);
    pairs.Add(pair, {static_cast<float>(a.query_logit), logit}, right);
  });
  Fit(asked, members_, {0, 0.5, 0.5}, &if_asked_);
  Fit(pairs, members_, {0, 0.5, 0.5}, &of_pair_);
}

AnswerPredictor::Verdict AnswerPredictor::OfTwo(const GivenAnswer& first,
                                                const GivenAnswer& second) const {
  const double a = OfAnswer(first);
  const double b = OfAnswer(second);
  if (first.answer.empty() || second.answer.empty()) {
    const bool take_second = first.answer.empty() && !second.answer.empty();
    return {.second = take_second, .agree = false, .logit = take_second ? b : a};
  }
  const bool agree = first.answer == second.answer;
  if (!knows_pairs_) {
    // As if they erred independently of each other, and never in the same way.
    const double both = 1 - (1 - Sigmoid(a)) * (1 - Sigmoid(b));
    if (agree) return {.second = false, .agree = true, .logit = Logit(both)};
    return {.second = b > a, .agree = false, .logit = std::max(a, b)};
  }
  const Parts x = PartsOf(first);
  const Parts y = PartsOf(second);
  const double of_first = Apply(agree ? agree_ : disagree_, first.member, second.member,
                                {x[0], x[1], x[2], y[0], y[1], y[2]});
  if (agree) return {.second = false, .agree = true, .logit = of_first};
  const double of_second =
      Apply(disagree_, second.member, first.member, {y[0], y[1], y[2], x[0], x[1], x[2]});
  return {.second = of_second > of_first, .agree = false, .logit = std::max(of_first, of_second)};
}

double AnswerPredictor::IfAsked(size_t first, double first_logit, size_t second,
                                double second_logit) const {
  if (!knows_pairs_) return std::max(first_logit, second_logit);
  if (first_logit <= kNever) return second_logit;
  return Apply(if_asked_, first, second,
               {static_cast<float>(first_logit), static_cast<float>(second_logit)});
}

double AnswerPredictor::OfPair(size_t first, double first_logit, size_t second,
                               double second_logit) const {
  if (!knows_pairs_) return std::max(first_logit, second_logit);
  return Apply(of_pair_, first, second,
               {static_cast<float>(first_logit), static_cast<float>(second_logit)});
}

}  // namespace octogate::router
