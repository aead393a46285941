#include "router/outcome_predictor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "router/logistic_fit.h"
#include "router/outcome_views.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

constexpr size_t kViewWeights = 2 * OutcomeViews::kViews;
// Outcomes that the share of all members is worth beside a member's own.
constexpr double kMemberPrior = 10;
// Below so many queries nothing can be held out, and shares alone count.
constexpr size_t kFewQueries = 20;

// What the views say, taken apart: of each view the mean of the members that are known, and how far
// a member is from it.
void TakeApart(const float* views, const std::vector<size_t>& counts, std::vector<float>* parts) {
  const size_t members = counts.size();
  parts->resize(kViewWeights * members);
  for (size_t v = 0; v < OutcomeViews::kViews; ++v) {
    float mean = 0;
    float known = 0;
    for (size_t m = 0; m < members; ++m) {
      if (counts[m] == 0) continue;
      mean += views[v * members + m];
      known += 1;
    }
    mean /= std::max(1.0F, known);
    for (size_t m = 0; m < members; ++m) {
      (*parts)[m * kViewWeights + 2 * v] = mean;
      (*parts)[m * kViewWeights + 2 * v + 1] = views[v * members + m] - mean;
    }
  }
}

double Combine(double prior, const float* parts, const std::vector<double>& weights) {
  double logit = prior;
  for (size_t w = 0; w < kViewWeights; ++w) logit += weights[w] * parts[w];
  return logit;
}

}  // namespace

class OutcomePredictor::Views {
 public:
  OutcomeViews views;
};

struct OutcomePredictor::Scratch {
  LexicalFeatureExtractor extractor;
  std::vector<SparseRows::Entry> row;
  OutcomeViews::Scratch views;
  std::vector<float> seen;
  std::vector<float> parts;
};

class OutcomePredictor::Trainer {
 public:
  Trainer(const OutcomeSet& outcomes, const OutcomeTraining& training, absl::Time deadline,
          OutcomePredictor* predictor)
      : outcomes_(outcomes),
        training_(training),
        deadline_(deadline),
        members_(outcomes.members.size()),
        predictor_(*predictor) {}

  absl::Status Run() {
    OCTOGATE_RETURN_IF_ERROR(MakeTable());
    const size_t queries = outcomes_.queries.size();
    settings_ = {.seed = training_.seed,
                 .epochs = training_.epochs,
                 .shared_rate = training_.shared_rate,
                 .own_rate = training_.own_rate,
                 .neighbours = training_.neighbours,
                 .features = predictor_.features_.size(),
                 .words = predictor_.features_.words()};
    std::vector<uint32_t> all(queries);
    for (size_t q = 0; q < queries; ++q) all[q] = static_cast<uint32_t>(q);
    OCTOGATE_RETURN_IF_ERROR(FitWeights(all));
    auto views = std::make_unique<Views>();
    OCTOGATE_ASSIGN_OR_RETURN(views->views, OutcomeViews::Learn(table_, all, settings_, deadline_));
    predictor_.views_ = std::move(views);
    return absl::OkStatus();
  }

 private:
  absl::Status MakeTable() {
    const size_t queries = outcomes_.queries.size();
    std::vector<std::string_view> texts;
    texts.reserve(queries);
    for (const QueryOutcomes& query : outcomes_.queries) texts.push_back(query.query);
    predictor_.features_.Fit(texts);
    LexicalFeatureExtractor extractor;
    std::map<std::string_view, int> domains;
    table_.members = members_;
    table_.right.assign(queries * members_, -1);
    std::vector<double> right(members_, 0);
    double total_right = 0;
    double total = 0;
    predictor_.counts_.assign(members_, 0);
    for (size_t q = 0; q < queries; ++q) {
      const QueryOutcomes& query = outcomes_.queries[q];
      predictor_.features_.Read(query.query, &extractor, &table_.rows.entries);
      table_.rows.begin.push_back(table_.rows.entries.size());
      if (!query.domain.empty()) {
        domains.emplace(query.domain, static_cast<int>(domains.size()));
      }
      for (size_t m = 0; m < members_; ++m) {
        if (!query.members[m].known) continue;
        const bool correct = query.members[m].correct;
        table_.right[q * members_ + m] = correct ? 1 : 0;
        right[m] += correct ? 1 : 0;
        total_right += correct ? 1 : 0;
        total += 1;
        ++predictor_.counts_[m];
      }
    }
    if (total == 0) return absl::InvalidArgumentError("there is no outcome of any member");
    if (domains.size() > kMaxDomains) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the outcomes name ", domains.size(), " domains; at most ", kMaxDomains, " are allowed"));
    }
    for (const QueryOutcomes& query : outcomes_.queries) {
      table_.domains.push_back(query.domain.empty() ? -1 : domains.at(query.domain));
    }
    table_.domain_count = domains.size();
    const double overall = (total_right + 1) / (total + 2);
    for (size_t m = 0; m < members_; ++m) {
      table_.priors.push_back(Logit((right[m] + kMemberPrior * overall) /
                                    (static_cast<double>(predictor_.counts_[m]) + kMemberPrior)));
    }
    predictor_.priors_ = table_.priors;
    return absl::OkStatus();
  }

  // Learns views without a part of the queries, and from what they then say of that part how far
  // each is to be followed.
  absl::Status FitWeights(const std::vector<uint32_t>& all) {
    predictor_.view_weights_.assign(kViewWeights, 0);
    predictor_.held_out_.resize(all.size() * members_);
    for (size_t i = 0; i < predictor_.held_out_.size(); ++i) {
      predictor_.held_out_[i] = static_cast<float>(table_.priors[i % members_]);
    }
    if (all.size() < kFewQueries) return absl::OkStatus();
    std::vector<uint32_t> order = all;
    Random random(training_.seed + 1);
    Shuffle(&random, &order);
    std::vector<float> parts(all.size() * members_ * kViewWeights);
    OutcomeViews::Scratch scratch;
    std::vector<float> seen(OutcomeViews::kViews * members_);
    std::vector<float> apart;
    for (size_t fold = 0; fold < training_.folds; ++fold) {
      std::vector<uint32_t> others;
      std::vector<uint32_t> held;
      for (size_t i = 0; i < order.size(); ++i) {
        (i % training_.folds == fold ? held : others).push_back(order[i]);
      }
      OCTOGATE_ASSIGN_OR_RETURN(const OutcomeViews views,
                                OutcomeViews::Learn(table_, others, settings_, deadline_));
      for (const uint32_t q : held) {
        if (absl::Now() >= deadline_) {
          return absl::DeadlineExceededError("the time is over while outcomes are learned");
        }
        views.Look(Row(q), &scratch, seen);
        TakeApart(seen.data(), predictor_.counts_, &apart);
        std::copy(apart.begin(), apart.end(),
                  parts.begin() + static_cast<std::ptrdiff_t>(q * members_ * kViewWeights));
      }
    }
    LogisticRows rows(kViewWeights);
    for (size_t cell = 0; cell < table_.right.size(); ++cell) {
      if (table_.right[cell] < 0) continue;
      rows.Add(parts.data() + cell * kViewWeights,
               static_cast<float>(table_.priors[cell % members_]), table_.right[cell] > 0);
    }
    predictor_.view_weights_ = FitLogistic(
        rows, {.strength = 5, .towards = {}, .signed_weights = std::vector<bool>(kViewWeights)});
    for (size_t cell = 0; cell < table_.right.size(); ++cell) {
      predictor_.held_out_[cell] =
          static_cast<float>(Combine(table_.priors[cell % members_],
                                     parts.data() + cell * kViewWeights, predictor_.view_weights_));
    }
    return absl::OkStatus();
  }

  std::span<const SparseRows::Entry> Row(size_t q) const {
    return {table_.rows.entries.data() + table_.rows.begin[q],
            table_.rows.begin[q + 1] - table_.rows.begin[q]};
  }

  const OutcomeSet& outcomes_;
  const OutcomeTraining& training_;
  const absl::Time deadline_;
  const size_t members_;
  OutcomePredictor& predictor_;
  OutcomeTable table_;
  OutcomeViewSettings settings_{};
};

OutcomePredictor::OutcomePredictor() = default;
OutcomePredictor::~OutcomePredictor() = default;

absl::StatusOr<std::shared_ptr<const OutcomePredictor>> OutcomePredictor::Train(
    const OutcomeSet& outcomes, absl::Time deadline, const OutcomeTraining& training) {
  if (outcomes.members.size() > kMaxMembers || outcomes.queries.size() > kMaxQueries) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "outcomes of ", outcomes.members.size(), " members on ", outcomes.queries.size(),
        " queries; at most ", kMaxMembers, " on ", kMaxQueries, " are allowed"));
  }
  const std::shared_ptr<OutcomePredictor> predictor(new OutcomePredictor());
  OCTOGATE_RETURN_IF_ERROR(Trainer(outcomes, training, deadline, predictor.get()).Run());
  return predictor;
}

std::vector<double> OutcomePredictor::Logits(std::string_view query) const {
  std::unique_ptr<Scratch> scratch;
  {
    absl::MutexLock lock(&mutex_);
    if (!scratch_.empty()) {
      scratch = std::move(scratch_.back());
      scratch_.pop_back();
    }
  }
  if (scratch == nullptr) scratch = std::make_unique<Scratch>();
  scratch->row.clear();
  features_.Read(query, &scratch->extractor, &scratch->row);
  scratch->seen.resize(OutcomeViews::kViews * members());
  views_->views.Look(scratch->row, &scratch->views, scratch->seen);
  TakeApart(scratch->seen.data(), counts_, &scratch->parts);
  std::vector<double> logits(members());
  for (size_t m = 0; m < members(); ++m) {
    logits[m] = knows(m)
                    ? Combine(priors_[m], scratch->parts.data() + m * kViewWeights, view_weights_)
                    : std::numeric_limits<double>::quiet_NaN();
  }
  absl::MutexLock lock(&mutex_);
  scratch_.push_back(std::move(scratch));
  return logits;
}

}  // namespace octogate::router
