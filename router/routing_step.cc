#include "router/routing_step.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "router/argument_check.h"
#include "router/candidate_softmax.h"
#include "router/prediction_set.h"
#include "router/usage.h"

namespace octogate::router {
namespace {

constexpr int kNone = -1;
constexpr int kFallback = -2;  // in place of a member
constexpr size_t kMaxReportedScores = 8;
// Of a prediction set, in HeadScore.set and in the reason.
constexpr int kMaxReportedSet = 64;
constexpr int kMaxNamesInReason = 4;
constexpr char kNoneName[] = "<none>";
// Begins what a decision's reason says of an argument that was not used, and of one that the model
// could not write.
constexpr char kArgumentProblem[] = "; the argument ";
constexpr char kArgumentFailed[] = "failed: ";

int64_t MicrosecondsSince(int64_t start_nanos) {
  return (absl::GetCurrentTimeNanos() - start_nanos) / 1000;
}

// Cut, not rounded: what is not sure enough must not look as if it were.
std::string TwoDigits(double probability) {
  constexpr double kRoundingError = 1e-3;
  return absl::StrFormat("%.2f", std::floor(probability * 100 + kRoundingError) / 100);
}

// The fewest held-out examples on which a prediction set of that coverage can leave anything out.
int64_t ExamplesForCoverage(double coverage) {
  constexpr double kRoundingError = 1e-6;
  return static_cast<int64_t>(std::ceil(coverage / (1 - coverage) - kRoundingError));
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Why the query goes on as it came, where an argument was written that cannot be used; empty where
// it can.
std::string ArgumentProblem(const absl::StatusOr<CausalHead::Argument>& argument,
                            v1::ArgumentCheck check, const std::string& query) {
  if (!argument.ok()) return absl::StrCat(kArgumentFailed, argument.status().message());
  switch (argument->token.state) {
    case FunctionalTokenState::kComplete:
      if (argument->token.argument.empty()) return "was empty";
      return WhatArgumentLost(check, query, argument->token.argument);
    case FunctionalTokenState::kTruncated:
      return "was cut before its end";
    default:
      return "was malformed";
  }
}

// The state of one cascade. Only one thread at a time works on it: the caller's, then that of
// whoever answered last.
class RoutingStep : public std::enable_shared_from_this<RoutingStep> {
 public:
  RoutingStep(std::shared_ptr<const RoutingSnapshot> snapshot, const RouterRouting& routing,
              std::string query, RouteOptions options, RoutingSnapshot::Done done)
      : snapshot_(std::move(snapshot)),
        routing_(routing),
        query_(std::move(query)),
        options_(std::move(options)),
        done_(std::move(done)) {}

  void Start() {
    decision_.set_router(routing_.node->name());
    decision_.set_graph_version(snapshot_->version());
    live_.assign(routing_.members.size(), true);
    for (const std::string& name : options_.excluded) {
      const auto place = routing_.places.find(name);
      if (place != routing_.places.end()) live_[place->second] = false;
    }
    any_live_ = std::find(live_.begin(), live_.end(), true) != live_.end();
    FindSession();
    AskNext();
  }

 private:
  using HeadResult = absl::StatusOr<std::pair<const std::vector<float>*, double>>;

  // Why the whole step ends early, if it does.
  absl::Status Interrupted() const {
    if (options_.context.cancellation != nullptr && options_.context.cancellation->IsCancelled()) {
      return absl::CancelledError(
          absl::StrCat("the query was cancelled while '", routing_.node->name(), "' routed it"));
    }
    if (options_.context.deadline != absl::InfiniteFuture() &&
        absl::Now() >= options_.context.deadline) {
      return absl::DeadlineExceededError(absl::StrCat("the query's deadline passed while '",
                                                      routing_.node->name(), "' routed it"));
    }
    return absl::OkStatus();
  }

  // Where the session is, if it may stay there.
  void FindSession() {
    const std::string& name = options_.session_node;
    if (name.empty() || (!options_.stay && routing_.node->router().hysteresis() <= 0)) return;
    const auto place = routing_.places.find(name);
    if (place != routing_.places.end() && live_[place->second]) {
      session_ = static_cast<int>(place->second);
    }
    if (session_ == kNone && routing_.fallback->name() == name &&
        !Contains(options_.excluded, name)) {
      session_ = kFallback;
    }
  }

  void AskNext() {
    for (; next_head_ < routing_.heads.size() && any_live_; ++next_head_) {
      if (ended_ && !options_.all_heads) break;
      if (absl::Status status = Interrupted(); !status.ok()) return done_(std::move(status));
      const RouterRouting::Head& head = routing_.heads[next_head_];
      const int64_t asked = absl::GetCurrentTimeNanos();
      if (head.lexical != nullptr) {
        LexicalHead::Scores scores;
        head.lexical->Score(query_, live_, &scores);
        Record(std::make_pair(&scores.probabilities, scores.live_probability), asked,
               &scores.candidates);
        continue;
      }
      // Of an encoder or a causal head: the cascade goes on when the model has answered.
      const auto take = [self = shared_from_this(), asked](const auto& scores) {
        const std::vector<uint32_t>* candidates = nullptr;
        if (scores.ok()) {
          AddUsage(scores->usage, self->decision_.mutable_usage());
          if constexpr (requires { scores->candidates; }) candidates = &scores->candidates;
        }
        self->Record(scores.ok() ? HeadResult(std::make_pair(&scores->probabilities,
                                                             scores->live_probability))
                                 : HeadResult(scores.status()),
                     asked, candidates);
        ++self->next_head_;
        self->AskNext();
      };
      if (head.encoder != nullptr) {
        head.encoder->Score(query_, live_, options_.context, take);
      } else {
        head.causal->Score(query_, live_, options_.context, take);
      }
      return;
    }
    Decide();
  }

  const std::string& TokenOf(const RouterRouting::Head& head, size_t member) const {
    return head.causal != nullptr ? head.causal->token(member) : routing_.members[member]->token();
  }

  // `candidates`: the members that may have a probability, or nothing where all may.
  void Record(const HeadResult& result, int64_t asked_nanos,
              const std::vector<uint32_t>* candidates) {
    const RouterRouting::Head& head = routing_.heads[next_head_];
    v1::HeadScore& score = *decision_.add_heads();
    score.set_head(head.name());
    score.set_threshold(head.threshold);
    score.set_duration_us(MicrosecondsSince(asked_nanos));
    if (!result.ok()) {
      score.set_error(result.status().ToString());
      return;
    }
    const std::vector<float>& probabilities = *result->first;
    score.set_live_probability(result->second);
    // The best ones in order, the earlier of two equal ones first.
    std::array<size_t, kMaxReportedScores> order;
    size_t reported = 0;
    const bool all = candidates == nullptr || candidates->empty();
    const size_t weighed = all ? probabilities.size() : candidates->size();
    for (size_t w = 0; w < weighed; ++w) {
      const size_t i = all ? w : (*candidates)[w];
      if (!live_[i]) continue;
      size_t place = reported;
      if (reported == order.size()) {
        if (probabilities[i] <= probabilities[order.back()]) continue;
        --place;
      } else {
        ++reported;
      }
      for (; place > 0 && probabilities[order[place - 1]] < probabilities[i]; --place) {
        order[place] = order[place - 1];
      }
      order[place] = i;
    }
    for (size_t k = 0; k < reported; ++k) {
      v1::TokenScore& token = *score.add_scores();
      token.set_node(routing_.members[order[k]]->name());
      token.set_token(TokenOf(head, order[k]));
      token.set_probability(probabilities[order[k]]);
    }
    const double confidence = probabilities[order.front()] * result->second;
    if (!ended_) best_confidence_ = std::max(best_confidence_, confidence);
    // A head that knows nothing of the query gives all members 0: the first is not the best then.
    const bool known = probabilities[order.front()] > 0;
    int chosen = known && confidence >= head.threshold ? static_cast<int>(order.front()) : kNone;
    bool ends = chosen != kNone;
    if (head.coverage > 0) {
      const PredictionSet set =
          PredictionSetOf(probabilities, result->second, live_, head.threshold);
      ReportSet(set, result->second, probabilities, &score);
      const SetOutcome outcome = OutcomeOf(set);
      if (outcome != SetOutcome::kToken) chosen = kNone;
      ends = outcome == SetOutcome::kFallback || chosen != kNone;
    }
    if (ended_) return;
    // Of the head that ends the cascade, or of the last one that could score.
    fallback_confidence_ = 1 - result->second;
    if (session_ != kNone) {
      session_head_ = next_head_;
      session_confidence_ = session_ == kFallback
                                ? fallback_confidence_
                                : probabilities[static_cast<size_t>(session_)] * result->second;
    }
    if (!ends) return;
    ended_ = true;
    score.set_decided(true);
    if (chosen == kNone) return;
    chosen_ = chosen;
    deciding_head_ = next_head_;
    decision_.set_probability(confidence);
  }

  // "<none>" has its place among the tokens by its probability.
  void ReportSet(const PredictionSet& set, double live_probability,
                 const std::vector<float>& probabilities, v1::HeadScore* score) const {
    bool none = set.none;
    const auto add = [score](const std::string& name) {
      if (score->set_size() < kMaxReportedSet) score->add_set(name);
    };
    for (const size_t member : set.tokens) {
      if (none && 1 - live_probability > probabilities[member] * live_probability) {
        add(kNoneName);
        none = false;
      }
      add(routing_.members[member]->name());
    }
    if (none) add(kNoneName);
  }

  // What the prediction set of the head is that was asked as the `h`-th one.
  std::string SetSentence(int h) const {
    const RouterRouting::Head& head = routing_.heads[static_cast<size_t>(h)];
    const v1::HeadScore& score = decision_.heads(h);
    std::string sentence =
        absl::StrCat(score.head(), "'s prediction set of coverage ", head.coverage);
    if (score.set_size() == 0) return sentence + " is empty";
    for (int i = 0; i < std::min(kMaxNamesInReason, score.set_size()); ++i) {
      absl::StrAppend(&sentence, i > 0 ? ", " : " holds ",
                      score.set(i) == kNoneName ? "none of these" : Quoted(score.set(i)));
    }
    if (score.set_size() == 1) absl::StrAppend(&sentence, " alone");
    if (score.set_size() > kMaxNamesInReason) absl::StrAppend(&sentence, " and more");
    if (head.threshold == 0) {
      const int64_t examples = ExamplesForCoverage(head.coverage);
      if (routing_.members.size() < kManyClasses) {
        absl::StrAppend(&sentence, ", all that there is: so high a coverage needs ", examples,
                        " held-out examples at least");
      } else {
        // Too few examples, or too many whose own member got no probability at all.
        absl::StrAppend(&sentence, ", all that there is: of ", routing_.members.size(),
                        " members this head weighs ", kCandidates,
                        " for each query, and the right one has to be among them that often, on ",
                        examples, " held-out examples at least; lower the coverage");
      }
    }
    return sentence;
  }

  void Decide() {
    if (absl::Status status = Interrupted(); !status.ok()) return done_(std::move(status));
    decision_.set_argument(query_);
    if (KeepsSession()) return Keep();
    if (chosen_ == kNone) return TakeFallback();
    const RouterRouting::Head& head = routing_.heads[deciding_head_];
    const auto member = static_cast<size_t>(chosen_);
    decision_.set_node(routing_.members[member]->name());
    decision_.set_token(TokenOf(head, member));
    decision_.set_head(head.name());
    decision_.set_reason(head.coverage > 0 ? SetSentence(static_cast<int>(deciding_head_))
                                           : absl::StrCat(decision_.head(), " was ",
                                                          TwoDigits(decision_.probability()),
                                                          " sure of '", decision_.node(), "', ",
                                                          TwoDigits(head.threshold), " needed"));
    Write(head, member);
  }

  // Whether the conversation stays, and not because that is what the scores say anyway.
  bool KeepsSession() const {
    if (session_ == kNone) return false;
    if (session_ == chosen_ || (session_ == kFallback && chosen_ == kNone)) return false;
    if (chosen_ == kNone && routing_.fallback->name() == options_.session_node) return false;
    if (options_.stay || !session_head_.has_value()) return true;
    const double other = chosen_ == kNone ? fallback_confidence_ : decision_.probability();
    return other - session_confidence_ <= routing_.node->router().hysteresis();
  }

  // Stays where the session is.
  void Keep() {
    const double other = chosen_ == kNone ? fallback_confidence_ : decision_.probability();
    const v1::Node& from =
        chosen_ == kNone ? *routing_.fallback : *routing_.members[static_cast<size_t>(chosen_)];
    decision_.set_kept_from(from.name());
    decision_.set_node(options_.session_node);
    decision_.set_probability(session_confidence_);
    std::string reason = absl::StrCat("kept by the session: ");
    if (session_head_.has_value()) {
      decision_.set_head(routing_.heads[*session_head_].name());
      absl::StrAppend(&reason, decision_.head(), " gave '", decision_.node(), "' ",
                      TwoDigits(session_confidence_), " and '", from.name(), "' ",
                      TwoDigits(other));
    } else {
      absl::StrAppend(&reason, "no head could score");
    }
    absl::StrAppend(
        &reason, options_.stay
                     ? ", and a tool's result is never moved"
                     : absl::StrCat(", more than ", TwoDigits(routing_.node->router().hysteresis()),
                                    " above is needed to move"));
    decision_.set_reason(std::move(reason));
    if (session_ == kFallback) {
      decision_.set_fallback(true);
      decision_.set_token(routing_.fallback->token());
      return Finish();
    }
    const auto member = static_cast<size_t>(session_);
    const RouterRouting::Head& head = routing_.heads[session_head_.value_or(0)];
    decision_.set_token(TokenOf(head, member));
    if (!session_head_.has_value()) return Finish();
    Write(head, member);
  }

  // Has the query rewritten for the member, where that is to be.
  void Write(const RouterRouting::Head& head, size_t member) {
    const CausalHead* writer = nullptr;
    if (head.causal != nullptr && head.causal->WritesArgument(member)) {
      writer = head.causal.get();
    } else if (routing_.rewritten[member]) {
      writer = routing_.rewrite.get();
    }
    if (writer == nullptr) return Finish();
    writer->WriteArgument(query_, member, options_.context,
                          [self = shared_from_this(), check = writer->argument_check()](
                              absl::StatusOr<CausalHead::Argument> argument) {
                            self->TakeArgument(std::move(argument), check);
                          });
  }

  void TakeArgument(absl::StatusOr<CausalHead::Argument> argument, v1::ArgumentCheck check) {
    if (absl::Status status = Interrupted(); !status.ok()) return done_(std::move(status));
    if (argument.ok()) AddUsage(argument->usage, decision_.mutable_usage());
    if (const std::string problem = ArgumentProblem(argument, check, query_); !problem.empty()) {
      absl::StrAppend(decision_.mutable_reason(), kArgumentProblem, problem,
                      ", so the query goes on as it came");
    } else {
      decision_.set_argument(std::move(argument->token.argument));
    }
    Finish();
  }

  void TakeFallback() {
    std::string why;
    for (int h = 0; h < decision_.heads_size(); ++h) {
      const v1::HeadScore& head = decision_.heads(h);
      if (head.error().empty() && routing_.heads[static_cast<size_t>(h)].coverage > 0) {
        absl::StrAppend(&why, why.empty() ? "" : ", ", SetSentence(h));
        if (head.decided()) break;  // Others were asked for the sake of their scores alone.
        continue;
      }
      if (!head.error().empty()) {
        absl::StrAppend(&why, why.empty() ? "" : ", ", head.head(), " failed (", head.error(), ")");
        continue;
      }
      const v1::TokenScore& best = head.scores(0);
      if (!(best.probability() > 0)) {
        absl::StrAppend(&why, why.empty() ? "" : ", ", head.head(), " knew nothing of the query");
        continue;
      }
      absl::StrAppend(&why, why.empty() ? "" : ", ", head.head(), " was ",
                      TwoDigits(best.probability() * head.live_probability()), " sure of '",
                      best.node(), "' (", TwoDigits(head.threshold()), " needed)");
    }
    if (!any_live_) why = "every member is drained";
    if (Contains(options_.excluded, routing_.fallback->name())) {
      return done_(absl::UnavailableError(absl::StrCat("no member of '", routing_.node->name(),
                                                       "' was chosen: ", why, "; its fallback '",
                                                       routing_.fallback->name(), "' is drained")));
    }
    decision_.set_fallback(true);
    decision_.set_probability(best_confidence_);
    decision_.set_node(routing_.fallback->name());
    decision_.set_token(routing_.fallback->token());
    decision_.set_reason(absl::StrCat(why, ", so the fallback '", decision_.node(), "' takes it"));
    Finish();
  }

  void Finish() {
    decision_.set_duration_us(MicrosecondsSince(start_nanos_));
    done_(std::move(decision_));
  }

  const std::shared_ptr<const RoutingSnapshot> snapshot_;
  const RouterRouting& routing_;
  const std::string query_;
  const RouteOptions options_;
  const RoutingSnapshot::Done done_;
  const int64_t start_nanos_ = absl::GetCurrentTimeNanos();

  std::vector<bool> live_;
  bool any_live_ = false;
  size_t next_head_ = 0;
  bool ended_ = false;  // Whether a head chose a member or the fallback.
  int chosen_ = kNone;
  int session_ = kNone;  // the member that the session is at, or kFallback
  std::optional<size_t> session_head_;
  double session_confidence_ = 0;
  double fallback_confidence_ = 0;
  size_t deciding_head_ = 0;
  double best_confidence_ = 0;
  v1::Decision decision_;
};

}  // namespace

bool IsRepeatable(const v1::Decision& decision) {
  for (const v1::HeadScore& head : decision.heads()) {
    if (!head.error().empty()) return false;
  }
  return !absl::StrContains(decision.reason(), absl::StrCat(kArgumentProblem, kArgumentFailed));
}

void RunRoutingStep(std::shared_ptr<const RoutingSnapshot> snapshot, const RouterRouting& routing,
                    std::string query, RouteOptions options, RoutingSnapshot::Done done) {
  std::make_shared<RoutingStep>(std::move(snapshot), routing, std::move(query), std::move(options),
                                std::move(done))
      ->Start();
}

}  // namespace octogate::router
