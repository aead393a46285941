#include "router/candidate_softmax.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "router/exponential.h"
#include "router/held_out.h"
#include "router/random_order.h"

namespace octogate::router {
namespace {

// Gradients below this change next to nothing.
constexpr float kSmallGradient = 1e-3F;
constexpr size_t kDeadlineInterval = 512;

bool HeavierFirst(const ClassLists::Item& a, const ClassLists::Item& b) {
  const float x = std::abs(a.weight);
  const float y = std::abs(b.weight);
  return x != y ? x > y : a.index < b.index;
}

}  // namespace

ClassRows MeanRows(const SparseRows& examples, const std::vector<int>& labels,
                   const std::vector<uint32_t>& selected, size_t classes, float length) {
  std::vector<std::vector<uint32_t>> own(classes);
  for (const uint32_t i : selected) own[static_cast<size_t>(labels[i])].push_back(i);
  ClassRows rows;
  rows.bias.assign(classes, 0);
  std::vector<SparseRows::Entry> entries;
  for (size_t c = 0; c < classes; ++c) {
    entries.clear();
    for (const uint32_t i : own[c]) {
      entries.insert(entries.end(), examples.entries.data() + examples.begin[i],
                     examples.entries.data() + examples.begin[i + 1]);
    }
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.feature < b.feature; });
    const size_t first = rows.entries.size();
    for (const SparseRows::Entry& entry : entries) {
      if (rows.entries.size() > first && rows.entries.back().feature == entry.feature) {
        rows.entries.back().value += entry.value;
      } else {
        rows.entries.push_back(entry);
      }
    }
    double squares = 0;
    for (size_t k = first; k < rows.entries.size(); ++k) {
      squares += double{rows.entries[k].value} * double{rows.entries[k].value};
    }
    const float scale = squares == 0 ? 0 : length / static_cast<float>(std::sqrt(squares));
    for (size_t k = first; k < rows.entries.size(); ++k) rows.entries[k].value *= scale;
    rows.begin.push_back(rows.entries.size());
  }
  return rows;
}

void ClassLists::Append(std::vector<Item>* list, size_t most) {
  if (list->size() > most) {
    std::nth_element(list->begin(), list->begin() + static_cast<ptrdiff_t>(most), list->end(),
                     HeavierFirst);
    list->resize(most);
  }
  std::sort(list->begin(), list->end(), HeavierFirst);
  items.insert(items.end(), list->begin(), list->end());
  begin.push_back(items.size());
}

ClassLists ListClasses(const ClassRows& rows, size_t classes, size_t features, size_t most) {
  // Sorted by feature by counting; within a feature classes rise.
  std::vector<size_t> places(features + 1, 0);
  for (size_t k = 0; k < rows.begin[classes]; ++k) ++places[rows.entries[k].feature + 1];
  for (size_t f = 0; f < features; ++f) places[f + 1] += places[f];
  std::vector<size_t> next(places.begin(), places.end() - 1);
  std::vector<ClassLists::Item> all(rows.begin[classes]);
  for (size_t c = 0; c < classes; ++c) {
    for (size_t k = rows.begin[c]; k < rows.begin[c + 1]; ++k) {
      all[next[rows.entries[k].feature]++] = {static_cast<uint32_t>(c), rows.entries[k].value};
    }
  }
  ClassLists lists;
  std::vector<ClassLists::Item> list;
  for (size_t f = 0; f < features; ++f) {
    list.assign(all.begin() + static_cast<ptrdiff_t>(places[f]),
                all.begin() + static_cast<ptrdiff_t>(places[f + 1]));
    lists.Append(&list, most);
  }
  return lists;
}

void CandidateFinder::Find(const SparseRows::Entry* begin, const SparseRows::Entry* end,
                           size_t count, std::vector<uint32_t>* found) {
  touched_.clear();
  for (const auto* entry = begin; entry != end; ++entry) {
    for (size_t k = lists_.begin[entry->feature]; k < lists_.begin[entry->feature + 1]; ++k) {
      const ClassLists::Item& item = lists_.items[k];
      // Means of vectors without negative values: a sum is 0 until something is added.
      if (sums_[item.index] == 0) touched_.push_back(item.index);
      sums_[item.index] += entry->value * item.weight;
    }
  }
  if (touched_.size() > count) {
    std::nth_element(touched_.begin(), touched_.begin() + static_cast<ptrdiff_t>(count),
                     touched_.end(), [this](uint32_t a, uint32_t b) {
                       return sums_[a] != sums_[b] ? sums_[a] > sums_[b] : a < b;
                     });
  }
  found->assign(touched_.begin(),
                touched_.begin() + static_cast<ptrdiff_t>(std::min(count, touched_.size())));
  std::sort(found->begin(), found->end());
  found->erase(std::unique(found->begin(), found->end()), found->end());
  for (const uint32_t c : touched_) sums_[c] = 0;
}

CandidateSplit HoldOutForCalibration(const std::vector<uint32_t>& selected) {
  constexpr size_t kInterval = 5;
  constexpr size_t kMost = 4000;
  const size_t step = std::max(kInterval, StepThrough(selected.size(), kMost));
  CandidateSplit split;
  for (size_t k = 0; k < selected.size(); ++k) {
    (k % step == 0 ? split.left_out : split.kept).push_back(selected[k]);
  }
  return split;
}

absl::Status TrainOnCandidates(const std::vector<int>& labels,
                               const std::vector<uint32_t>& selected,
                               const std::vector<std::vector<uint32_t>>& candidates,
                               const SoftmaxTraining& training, absl::Time deadline,
                               const CandidateRows& rows) {
  std::vector<float> shares;
  const auto smoothing = static_cast<float>(training.smoothing);
  std::vector<uint32_t> order = selected;
  Random random(training.seed);
  const int epochs = CandidateEpochs(training, selected.size());
  for (int epoch = 0; epoch < epochs; ++epoch) {
    Shuffle(&random, &order);
    for (size_t n = 0; n < order.size(); ++n) {
      if (n % kDeadlineInterval == 0 && absl::Now() >= deadline) {
        return absl::DeadlineExceededError(
            absl::StrCat("trained ", epoch, " of ", epochs, " epochs before the deadline"));
      }
      const uint32_t example = order[n];
      const std::vector<uint32_t>& weighed = candidates[example];
      shares.clear();
      rows.append_logits(example, weighed, &shares);
      const float max = *std::max_element(shares.begin(), shares.end());
      float sum = 0;
      for (float& share : shares) sum += share = Exponential(share - max);
      const float wrong =
          weighed.size() < 2 ? 0 : smoothing / static_cast<float>(weighed.size() - 1);
      for (size_t j = 0; j < weighed.size(); ++j) {
        const bool own = static_cast<int>(weighed[j]) == labels[example];
        const float error = shares[j] / sum - (own ? 1 - smoothing : wrong);
        if (std::abs(error) >= kSmallGradient) rows.step(j, weighed[j], error);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status TrainCandidates(const SparseRows& examples, const std::vector<int>& labels,
                             const std::vector<uint32_t>& selected,
                             const std::vector<std::vector<uint32_t>>& candidates, size_t features,
                             const SoftmaxTraining& training, absl::Time deadline,
                             ClassRows* rows) {
  // Rows are mostly read for features that an example lacks: these alone lie side by side, and most
  // are passed over by a table that stays in the nearest cache.
  constexpr size_t kFilter = size_t{1} << 14;
  std::vector<uint8_t> filter(kFilter, 0);
  std::vector<uint32_t> row_features;
  std::vector<float> weights;
  for (const SparseRows::Entry& entry : rows->entries) {
    row_features.push_back(entry.feature);
    weights.push_back(entry.value);
  }
  std::vector<float> vector(features, 0);
  std::vector<float> squares(weights.size(), 0);
  std::vector<float> bias_squares(rows->classes(), 0);
  // The weights that the example and a candidate share, candidate by candidate.
  struct Shared {
    size_t place;
    float value;
  };
  std::vector<Shared> shared;
  std::vector<size_t> shared_begin;
  const auto rate = static_cast<float>(training.learning_rate);
  const auto append_logits = [&](uint32_t example, const std::vector<uint32_t>& weighed,
                                 std::vector<float>* logits) {
    const auto* begin = examples.entries.data() + examples.begin[example];
    const auto* end = examples.entries.data() + examples.begin[example + 1];
    for (const auto* entry = begin; entry != end; ++entry) {
      vector[entry->feature] = entry->value;
      filter[entry->feature % kFilter] = 1;
    }
    shared.clear();
    shared_begin.assign(1, 0);
    for (const uint32_t c : weighed) {
      float logit = rows->bias[c];
      for (size_t k = rows->begin[c]; k < rows->begin[c + 1]; ++k) {
        const uint32_t feature = row_features[k];
        if (filter[feature % kFilter] == 0 || vector[feature] == 0) continue;
        logit += weights[k] * vector[feature];
        shared.push_back({k, vector[feature]});
      }
      shared_begin.push_back(shared.size());
      logits->push_back(logit);
    }
    for (const auto* entry = begin; entry != end; ++entry) {
      vector[entry->feature] = 0;
      filter[entry->feature % kFilter] = 0;
    }
  };
  const auto step = [&](size_t j, uint32_t c, float error) {
    for (size_t s = shared_begin[j]; s < shared_begin[j + 1]; ++s) {
      const auto [k, value] = shared[s];
      AdagradStep(value * error, rate, &weights[k], &squares[k]);
    }
    AdagradStep(error, rate, &rows->bias[c], &bias_squares[c]);
  };
  OCTOGATE_RETURN_IF_ERROR(
      TrainOnCandidates(labels, selected, candidates, training, deadline,
                        {.append_logits = std::cref(append_logits), .step = std::cref(step)}));
  for (size_t k = 0; k < weights.size(); ++k) rows->entries[k].value = weights[k];
  return absl::OkStatus();
}

}  // namespace octogate::router
