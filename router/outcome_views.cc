#include "router/outcome_views.h"

#include <algorithm>
#include <cmath>

#include "common/status.h"
#include "router/exponential.h"
#include "router/logistic_fit.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

// Words of more than one query in so many find no neighbours: they are in too many of them.
constexpr size_t kCommonShare = 8;
// Queries that a member's share is worth beside those that are near, or of a domain.
constexpr float kNearPrior = 4;
constexpr float kDomainPrior = 20;
// A neighbour weighs e^((its cosine - 1) / this).
constexpr float kNearTemperature = 0.25F;
constexpr int kDomainEpochs = 12;

float SigmoidOf(float logit) { return 1 / (1 + Exponential(-logit)); }

}  // namespace

absl::StatusOr<OutcomeViews> OutcomeViews::Learn(const OutcomeTable& table,
                                                 const std::vector<uint32_t>& selected,
                                                 const OutcomeViewSettings& settings,
                                                 absl::Time deadline) {
  OutcomeViews views;
  views.members_ = table.members;
  views.priors_ = table.priors;
  OCTOGATE_RETURN_IF_ERROR(views.LearnWords(table, selected, settings, deadline));
  views.LearnNeighbours(table, selected, settings);
  OCTOGATE_RETURN_IF_ERROR(views.LearnDomains(table, selected, settings, deadline));
  return views;
}

// Logistic regressions of all members at once, by Adagrad with one accumulator for each feature.
absl::Status OutcomeViews::LearnWords(const OutcomeTable& table,
                                      const std::vector<uint32_t>& selected,
                                      const OutcomeViewSettings& settings, absl::Time deadline) {
  const size_t members = members_;
  stride_ = members + 1;
  weights_.assign(settings.features * stride_, 0);
  std::vector<float> squares(settings.features, 0);
  std::vector<uint32_t> order = selected;
  Random random(settings.seed);
  std::vector<float> logits(stride_);
  std::vector<float> steps(stride_);
  const auto shared_rate = static_cast<float>(settings.shared_rate);
  const auto own_rate = static_cast<float>(settings.own_rate);
  for (int epoch = 0; epoch < settings.epochs; ++epoch) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("the time is over while outcomes are learned");
    }
    Shuffle(&random, &order);
    for (const uint32_t q : order) {
      const auto* const begin = table.rows.entries.data() + table.rows.begin[q];
      const auto* const end = table.rows.entries.data() + table.rows.begin[q + 1];
      std::fill(logits.begin(), logits.end(), 0);
      for (const auto* entry = begin; entry != end; ++entry) {
        const float* const weights = weights_.data() + entry->feature * stride_;
        for (size_t c = 0; c < stride_; ++c) logits[c] += entry->value * weights[c];
      }
      float shared = 0;
      float known = 0;
      float square = 0;
      for (size_t m = 0; m < members; ++m) {
        const int right = table.right[q * members + m];
        steps[m + 1] = 0;
        if (right < 0) continue;
        const float p = SigmoidOf(static_cast<float>(priors_[m]) + logits[0] + logits[m + 1]);
        const float residual = static_cast<float>(right) - p;
        steps[m + 1] = residual * own_rate;
        shared += residual;
        square += residual * residual;
        known += 1;
      }
      if (known == 0) continue;
      steps[0] = shared / known * shared_rate;
      square /= known;
      for (const auto* entry = begin; entry != end; ++entry) {
        float& sum = squares[entry->feature];
        sum += square * entry->value * entry->value;
        const float scale = entry->value / std::sqrt(sum + 1e-6F);
        float* const weights = weights_.data() + entry->feature * stride_;
        for (size_t c = 0; c < stride_; ++c) weights[c] += scale * steps[c];
      }
    }
  }
  return absl::OkStatus();
}

void OutcomeViews::LearnNeighbours(const OutcomeTable& table, const std::vector<uint32_t>& selected,
                                   const OutcomeViewSettings& settings) {
  words_ = settings.words;
  neighbours_ = settings.neighbours;
  queries_ = selected.size();
  right_.reserve(queries_ * members_);
  posting_begin_.assign(words_ + 1, 0);
  const auto each_word = [&](auto visit) {
    for (size_t i = 0; i < selected.size(); ++i) {
      const size_t q = selected[i];
      for (size_t e = table.rows.begin[q]; e < table.rows.begin[q + 1]; ++e) {
        const SparseRows::Entry& entry = table.rows.entries[e];
        if (entry.feature < words_) visit(i, entry);
      }
    }
  };
  std::vector<uint32_t> counts(words_, 0);
  each_word([&](size_t, const SparseRows::Entry& entry) { ++counts[entry.feature]; });
  const size_t most = std::max<size_t>(16, queries_ / kCommonShare);
  for (size_t w = 0; w < words_; ++w) {
    posting_begin_[w + 1] = posting_begin_[w] + (counts[w] > most ? 0 : counts[w]);
  }
  postings_.resize(posting_begin_[words_]);
  std::vector<uint32_t> next(posting_begin_.begin(), posting_begin_.end() - 1);
  each_word([&](size_t i, const SparseRows::Entry& entry) {
    if (counts[entry.feature] > most) return;
    postings_[next[entry.feature]++] = {static_cast<uint32_t>(i), entry.value};
  });
  for (const uint32_t q : selected) {
    right_.insert(right_.end(), table.right.begin() + static_cast<std::ptrdiff_t>(q * members_),
                  table.right.begin() + static_cast<std::ptrdiff_t>((q + 1) * members_));
  }
}

absl::Status OutcomeViews::LearnDomains(const OutcomeTable& table,
                                        const std::vector<uint32_t>& selected,
                                        const OutcomeViewSettings& settings, absl::Time deadline) {
  if (table.domain_count < 2) return absl::OkStatus();
  std::vector<uint32_t> labelled;
  std::vector<float> right(table.domain_count * members_, 0);
  std::vector<float> all(table.domain_count * members_, 0);
  for (const uint32_t q : selected) {
    if (table.domains[q] < 0) continue;
    labelled.push_back(q);
    for (size_t m = 0; m < members_; ++m) {
      const int outcome = table.right[q * members_ + m];
      if (outcome < 0) continue;
      const size_t cell = static_cast<size_t>(table.domains[q]) * members_ + m;
      right[cell] += static_cast<float>(outcome);
      all[cell] += 1;
    }
  }
  if (labelled.empty()) return absl::OkStatus();
  SoftmaxTraining training;
  training.epochs = kDomainEpochs;
  training.seed = settings.seed;
  OCTOGATE_ASSIGN_OR_RETURN(domains_,
                            TrainSoftmax(table.rows, table.domains, labelled, settings.features,
                                         table.domain_count, training, deadline));
  domain_rates_.resize(right.size());
  for (size_t cell = 0; cell < right.size(); ++cell) {
    const auto prior = static_cast<float>(Sigmoid(priors_[cell % members_]));
    domain_rates_[cell] = (right[cell] + kDomainPrior * prior) / (all[cell] + kDomainPrior);
  }
  return absl::OkStatus();
}

void OutcomeViews::Look(std::span<const SparseRows::Entry> row, Scratch* scratch,
                        std::span<float> views) const {
  std::fill(views.begin(), views.end(), 0);
  LookAtWords(row, scratch, views.subspan(0, members_));
  LookAtNeighbours(row, scratch, views.subspan(members_, members_));
  LookAtDomains(row, scratch, views.subspan(2 * members_, members_));
}

void OutcomeViews::LookAtWords(std::span<const SparseRows::Entry> row, Scratch* scratch,
                               std::span<float> view) const {
  std::vector<float>& logits = scratch->logits;
  logits.assign(stride_, 0);
  for (const SparseRows::Entry& entry : row) {
    const float* const weights = weights_.data() + entry.feature * stride_;
    for (size_t c = 0; c < stride_; ++c) logits[c] += entry.value * weights[c];
  }
  for (size_t m = 0; m < members_; ++m) view[m] = logits[0] + logits[m + 1];
}

void OutcomeViews::LookAtNeighbours(std::span<const SparseRows::Entry> row, Scratch* scratch,
                                    std::span<float> view) const {
  std::vector<float>& similarity = scratch->similarity;
  similarity.assign(queries_, 0);
  for (const SparseRows::Entry& entry : row) {
    if (entry.feature >= words_) continue;
    for (uint32_t i = posting_begin_[entry.feature]; i < posting_begin_[entry.feature + 1]; ++i) {
      similarity[postings_[i].query] += postings_[i].value * entry.value;
    }
  }
  // The nearest ones; of equally near queries the earlier counts.
  std::vector<uint32_t>& near = scratch->near;
  near.clear();
  const auto nearer = [&](uint32_t a, uint32_t b) {
    return similarity[a] != similarity[b] ? similarity[a] > similarity[b] : a < b;
  };
  float floor = 0;
  for (uint32_t i = 0; i < queries_; ++i) {
    if (similarity[i] <= floor) continue;
    near.push_back(i);
    if (near.size() < 4 * neighbours_) continue;
    std::nth_element(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(neighbours_ - 1),
                     near.end(), nearer);
    near.resize(neighbours_);
    floor = similarity[near.back()];
  }
  std::sort(near.begin(), near.end(), nearer);
  if (near.size() > neighbours_) near.resize(neighbours_);
  for (size_t m = 0; m < members_; ++m) {
    const auto prior = static_cast<float>(Sigmoid(priors_[m]));
    float all = kNearPrior;
    float right = kNearPrior * prior;
    for (const uint32_t i : near) {
      const int outcome = right_[i * members_ + m];
      if (outcome < 0) continue;
      const float weight = Exponential((similarity[i] - 1) / kNearTemperature) * 8;
      all += weight;
      right += weight * static_cast<float>(outcome);
    }
    view[m] = static_cast<float>(Logit(right / all) - priors_[m]);
  }
}

void OutcomeViews::LookAtDomains(std::span<const SparseRows::Entry> row, Scratch* scratch,
                                 std::span<float> view) const {
  if (domain_rates_.empty()) return;
  std::vector<float>& logits = scratch->logits;
  logits.assign(domains_.bias.begin(), domains_.bias.end());
  for (const SparseRows::Entry& entry : row) {
    const float* const weights = domains_.weights.data() + entry.feature * domains_.stride;
    for (size_t c = 0; c < domains_.classes; ++c) logits[c] += entry.value * weights[c];
  }
  const float most = *std::max_element(
      logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(domains_.classes));
  float sum = 0;
  for (size_t c = 0; c < domains_.classes; ++c) {
    logits[c] = Exponential(logits[c] - most);
    sum += logits[c];
  }
  for (size_t m = 0; m < members_; ++m) {
    float rate = 0;
    for (size_t c = 0; c < domains_.classes; ++c) {
      rate += logits[c] / sum * domain_rates_[c * members_ + m];
    }
    view[m] = static_cast<float>(Logit(rate) - priors_[m]);
  }
}

}  // namespace octogate::router
