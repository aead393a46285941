#include "gateway/token_evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

constexpr char kNone[] = "none";
constexpr size_t kMaxConfusions = 20;
constexpr size_t kMaxUnknownLabels = 20;

double Share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Expected calibration error (Naeini, Cooper and Hauskrecht 2015) in bins of equal width.
class CalibrationError {
 public:
  void Add(double confidence, bool right) {
    Bin& bin = bins_[std::clamp(static_cast<int>(confidence * kBins), 0, kBins - 1)];
    bin.confidence += confidence;
    bin.right += right ? 1 : 0;
    ++count_;
  }
  double Value() const {
    double sum = 0;
    for (const Bin& bin : bins_) sum += std::abs(bin.confidence - bin.right);
    return count_ == 0 ? 0 : sum / count_;
  }

 private:
  static constexpr int kBins = 10;
  struct Bin {
    double confidence = 0;
    double right = 0;
  };
  std::array<Bin, kBins> bins_;
  int count_ = 0;
};

struct HeadCounts {
  double threshold = 0;
  int asked = 0;
  int decided = 0;
  int decided_right = 0;
  int in_scope = 0;  // of those asked without an error
  int best_right = 0;
  int errors = 0;
  CalibrationError calibration;
};

class Evaluation {
 public:
  explicit Evaluation(const v1::RouterNode& router)
      : router_(router),
        members_(router.members().begin(), router.members().end()),
        heads_(static_cast<size_t>(router.heads_size())) {}

  // `scores` are of the same query; those of the decision, or of all heads.
  void Add(const std::string& label, const v1::Decision& decision,
           const google::protobuf::RepeatedPtrField<v1::HeadScore>& scores) {
    const bool in_scope = members_.contains(label);
    if (!in_scope && label != kNone && label != router_.fallback()) unknown_.insert(label);
    const bool right = in_scope ? decision.node() == label : decision.fallback();
    ++(in_scope ? in_scope_ : out_of_scope_);
    if (right) ++(in_scope ? in_scope_right_ : out_of_scope_right_);
    if (!right)
      ++confusions_[{in_scope ? label : kNone, decision.fallback() ? kNone : decision.node()}];
    if (in_scope && !decision.fallback()) calibration_.Add(decision.probability(), right);
    for (int i = 0; i < scores.size(); ++i) {
      AddHead(in_scope, label, right, scores[i], &heads_[static_cast<size_t>(i)]);
    }
  }

  void AddDuration(absl::Duration duration) { durations_.push_back(duration); }

  void Finish(v1::EvaluateTokensResponse* response) {
    response->set_in_scope(in_scope_);
    response->set_out_of_scope(out_of_scope_);
    response->set_accuracy(Share(in_scope_right_, in_scope_));
    response->set_out_of_scope_recall(Share(out_of_scope_right_, out_of_scope_));
    response->set_calibration_error(calibration_.Value());
    FinishHeads(response);
    FinishConfusions(response);
    FinishDurations(response);
    for (const std::string& label : unknown_) {
      if (response->warnings_size() == kMaxUnknownLabels) break;
      response->add_warnings(absl::StrCat("no member is called ", Quoted(label),
                                          ": its queries are counted as out of scope"));
    }
  }

 private:
  static void AddHead(bool in_scope, const std::string& label, bool right,
                      const v1::HeadScore& score, HeadCounts* counts) {
    ++counts->asked;
    counts->threshold = score.threshold();
    if (!score.error().empty() || score.scores().empty()) {
      ++counts->errors;
      return;
    }
    if (score.decided()) {
      ++counts->decided;
      counts->decided_right += right ? 1 : 0;
    }
    if (!in_scope) return;
    const v1::TokenScore& best = score.scores(0);
    const bool best_right = best.node() == label;
    ++counts->in_scope;
    counts->best_right += best_right ? 1 : 0;
    counts->calibration.Add(best.probability() * score.live_probability(), best_right);
  }

  void FinishHeads(v1::EvaluateTokensResponse* response) const {
    for (size_t i = 0; i < heads_.size(); ++i) {
      const v1::Head& head = router_.heads(static_cast<int>(i));
      const HeadCounts& counts = heads_[i];
      v1::HeadEvaluation& result = *response->add_heads();
      result.set_head(head.has_lexical() ? "lexical" : head.has_encoder() ? "encoder" : "causal");
      result.set_threshold(counts.asked > 0 ? counts.threshold : head.threshold());
      result.set_asked(counts.asked);
      result.set_decided(counts.decided);
      result.set_decided_accuracy(Share(counts.decided_right, counts.decided));
      result.set_accuracy(Share(counts.best_right, counts.in_scope));
      result.set_calibration_error(counts.calibration.Value());
      result.set_errors(counts.errors);
    }
  }

  void FinishConfusions(v1::EvaluateTokensResponse* response) const {
    std::vector<std::pair<std::pair<std::string, std::string>, int>> all(confusions_.begin(),
                                                                         confusions_.end());
    std::stable_sort(all.begin(), all.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    if (all.size() > kMaxConfusions) all.resize(kMaxConfusions);
    for (auto& [pair, queries] : all) {
      v1::Confusion& confusion = *response->add_confusions();
      confusion.set_expected(std::move(pair.first));
      confusion.set_actual(std::move(pair.second));
      confusion.set_queries(queries);
    }
  }

  void FinishDurations(v1::EvaluateTokensResponse* response) {
    if (durations_.empty()) return;
    std::sort(durations_.begin(), durations_.end());
    absl::Duration sum;
    for (const absl::Duration duration : durations_) sum += duration;
    // The smallest that so many percent of all are not above.
    const auto percentile = [this](size_t percent) {
      const size_t rank = (durations_.size() * percent + 99) / 100;
      return absl::ToInt64Microseconds(durations_[std::max<size_t>(rank, 1) - 1]);
    };
    response->set_mean_us(absl::ToDoubleMicroseconds(sum) / static_cast<double>(durations_.size()));
    response->set_p50_us(percentile(50));
    response->set_p99_us(percentile(99));
  }

  const v1::RouterNode& router_;
  const absl::flat_hash_set<std::string> members_;
  int in_scope_ = 0;
  int in_scope_right_ = 0;
  int out_of_scope_ = 0;
  int out_of_scope_right_ = 0;
  CalibrationError calibration_;
  std::vector<HeadCounts> heads_;
  std::map<std::pair<std::string, std::string>, int> confusions_;
  std::vector<absl::Duration> durations_;
  absl::flat_hash_set<std::string> unknown_;
};

absl::StatusOr<v1::Decision> Route(const router::RoutingSnapshot& snapshot,
                                   const std::string& router, const std::string& query,
                                   router::RouteOptions options) {
  absl::Notification decided;
  absl::StatusOr<v1::Decision> decision = absl::UnknownError("no decision");
  snapshot.Route(router, query, std::move(options), [&](absl::StatusOr<v1::Decision> result) {
    decision = std::move(result);
    decided.Notify();
  });
  decided.WaitForNotification();
  return decision;
}

}  // namespace

absl::StatusOr<v1::EvaluateTokensResponse> EvaluateTokens(
    const router::RoutingSnapshot& snapshot, const v1::EvaluateTokensRequest& request,
    absl::Time deadline, std::shared_ptr<Cancellation> cancellation) {
  const std::string& name =
      request.router().empty() ? snapshot.graph().spec().entry() : request.router();
  const v1::Node* const node = snapshot.FindNode(name);
  if (node == nullptr || !node->has_router()) {
    return absl::NotFoundError(absl::StrCat("router: the graph has no router ", Quoted(name)));
  }
  router::RouteOptions options;
  options.context = {
      .deadline = deadline, .cancellation = std::move(cancellation), .tenant = kDefaultTenant};
  router::RouteOptions all_heads = options;
  all_heads.all_heads = true;

  Evaluation evaluation(node->router());
  for (const v1::LabelledQuery& labelled : request.queries()) {
    const absl::Time start = absl::Now();
    OCTOGATE_ASSIGN_OR_RETURN(const v1::Decision decision,
                              Route(snapshot, name, labelled.query(), options));
    evaluation.AddDuration(absl::Now() - start);
    v1::Decision all;
    if (request.all_heads() && decision.heads_size() < node->router().heads_size()) {
      OCTOGATE_ASSIGN_OR_RETURN(all, Route(snapshot, name, labelled.query(), all_heads));
    }
    evaluation.Add(labelled.node(), decision, all.heads().empty() ? decision.heads() : all.heads());
  }
  v1::EvaluateTokensResponse response;
  response.set_graph_version(snapshot.version());
  response.set_router(name);
  evaluation.Finish(&response);
  return response;
}

}  // namespace octogate::gateway
