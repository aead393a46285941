#ifndef OCTOGATE_ROUTER_ANSWER_PREDICTOR_H_
#define OCTOGATE_ROUTER_ANSWER_PREDICTOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "router/outcome_predictor.h"
#include "router/outcomes.h"

namespace octogate::router {

// One member's answer to a query, as its probability is asked for.
struct GivenAnswer {
  size_t member = 0;
  std::string_view answer;    // In the form that the outcomes have; empty: there is none.
  int64_t output_tokens = 0;  // 0: not known.
  double query_logit = 0;     // What OutcomePredictor says of the member for the query.
};

// Says how probably an answer is right once it is there: by its length (long answers of a model are
// right less often), by what it says (a member may be given to one letter), and by what another
// member says. All of it is learned from outcomes, on top of what was predicted for the query
// without them, and drawn towards no influence where there are few: of a pair of answers, towards
// what is known of the first one alone. Outcomes without answers or lengths teach nothing of that
// kind.
//
// Immutable and thread-safe once trained; deterministic. Probabilities are given as log-odds.
class AnswerPredictor {
 public:
  AnswerPredictor(const OutcomeSet& outcomes, const OutcomePredictor& predictor);

  // Of one answer by itself. Where there is no answer, the log-odds of about never.
  double OfAnswer(const GivenAnswer& given) const;

  // Of two answers: which one counts, and the log-odds that it is right. Equal answers support each
  // other as much as they did for these two members; of different ones the more probable counts.
  struct Verdict {
    bool second = false;
    bool agree = false;
    double logit = 0;
  };
  Verdict OfTwo(const GivenAnswer& first, const GivenAnswer& second) const;

  // Log-odds that the verdict would be right if `second`, whose query logit is given, were asked
  // beside an answer of `first` with the log-odds `first_logit` (by OfAnswer).
  double IfAsked(size_t first, double first_logit, size_t second, double second_logit) const;

  // The same before anyone is asked: both logits are those of the query.
  double OfPair(size_t first, double first_logit, size_t second, double second_logit) const;

 private:
  static constexpr size_t kBins = 8;
  // What two numbers say of a third, with what is particular to two members.
  struct PairRule {
    std::vector<double> weights;  // A constant, then of each number about the first and second.
    std::vector<double> offsets;  // Of each ordered pair of members.
  };
  struct Length {
    std::array<int64_t, kBins> up_to{};
    std::array<double, kBins> offsets{};
  };
  struct PairRows;

  double LengthOffset(size_t member, int64_t tokens) const;
  // Number of an answer that outcomes have often; negative for others.
  int AnswerNumber(std::string_view answer) const;
  double AnswerOffset(size_t member, std::string_view answer) const;
  // What is known of an answer: log-odds by its query, its length and what it says.
  using Parts = std::array<float, 3>;
  Parts PartsOf(const GivenAnswer& given) const;
  double Apply(const PairRule& rule, size_t first, size_t second,
               std::initializer_list<float> numbers) const;

  void LearnLengths(const OutcomeSet& outcomes, const std::vector<float>& held_out);
  void LearnAnswers(const OutcomeSet& outcomes, const std::vector<float>& held_out);
  void FitScale(const OutcomeSet& outcomes, const std::vector<float>& held_out);
  void LearnPairs(const OutcomeSet& outcomes, const std::vector<float>& held_out);
  // Few rows change little of `towards`, the weights of a rule that has seen none.
  static void Fit(const PairRows& rows, size_t members, std::vector<double> towards,
                  PairRule* rule);

  size_t members_ = 0;
  std::vector<Length> lengths_;  // Of each member; without outcomes all offsets are 0.
  absl::flat_hash_map<std::string, int> answers_;
  std::vector<double> answer_offsets_;          // Of each answer.
  std::vector<double> member_answer_offsets_;   // Member m, answer a.
  std::array<double, 4> scale_ = {0, 1, 1, 1};  // Constant; query, length and answer.
  bool knows_pairs_ = false;
  PairRule agree_;
  PairRule disagree_;
  PairRule if_asked_;
  PairRule of_pair_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ANSWER_PREDICTOR_H_
