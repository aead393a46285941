// A softmax over few candidates of each example.
#include "router/candidate_softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include "tests/router/many_classes.h"

namespace octogate::router {
namespace {

using CandidateSoftmaxTest = ManyClassesTest;

// Against maps and whole sorting.
TEST_F(CandidateSoftmaxTest, MeansListsAndCandidatesAreThoseOfPlainLoops) {
  for (int round = 0; round < 20; ++round) {
    const size_t classes = 1 + Below(30);
    const size_t features = 1 + Below(60);
    SparseRows rows;
    std::vector<int> labels;
    std::vector<uint32_t> selected;
    std::vector<std::map<uint32_t, double>> means(classes);
    for (uint32_t i = 0; i < 80; ++i) {
      labels.push_back(static_cast<int>(Below(classes)));
      const bool counts = Below(4) != 0;
      if (counts) selected.push_back(i);
      std::set<uint32_t> own;
      for (size_t n = Below(8); n > 0; --n) own.insert(static_cast<uint32_t>(Below(features)));
      for (const uint32_t feature : own) {
        const float value = 0.1F + static_cast<float>(Below(100));
        rows.entries.push_back({feature, value});
        if (counts) means[static_cast<size_t>(labels.back())][feature] += value;
      }
      rows.begin.push_back(rows.entries.size());
    }
    const ClassRows built = MeanRows(rows, labels, selected, classes, 8);
    ASSERT_EQ(built.classes(), classes);
    for (size_t c = 0; c < classes; ++c) {
      double squares = 0;
      for (const auto& [feature, value] : means[c]) squares += value * value;
      ASSERT_EQ(built.begin[c + 1] - built.begin[c], means[c].size());
      size_t k = built.begin[c];
      for (auto& [feature, value] : means[c]) {
        value *= 8 / std::sqrt(squares);
        ASSERT_EQ(built.entries[k].feature, feature);
        ASSERT_NEAR(built.entries[k++].value, value, 1e-3);
      }
    }

    const size_t most = 1 + Below(12);
    const ClassLists lists = ListClasses(built, classes, features, most);
    ASSERT_EQ(lists.begin.size(), features + 1);
    std::vector<std::map<uint32_t, float>> expected(features);
    for (uint32_t f = 0; f < features; ++f) {
      std::vector<std::pair<float, uint32_t>> all;
      for (uint32_t c = 0; c < classes; ++c) {
        for (size_t k = built.begin[c]; k < built.begin[c + 1]; ++k) {
          if (built.entries[k].feature == f) all.emplace_back(-built.entries[k].value, c);
        }
      }
      std::sort(all.begin(), all.end());
      all.resize(std::min(all.size(), most));
      for (const auto& [weight, c] : all) expected[f][c] = -weight;
      ASSERT_EQ(lists.begin[f + 1] - lists.begin[f], all.size());
      for (size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(lists.items[lists.begin[f] + i].index, all[i].second);
        ASSERT_EQ(lists.items[lists.begin[f] + i].weight, -all[i].first);
      }
    }

    CandidateFinder finder(lists, classes);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::map<uint32_t, float> sums;
      for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
        for (const auto& [c, weight] : expected[rows.entries[k].feature]) {
          sums[c] += rows.entries[k].value * weight;
        }
      }
      std::vector<std::pair<float, uint32_t>> order;
      for (const auto& [c, sum] : sums) order.emplace_back(-sum, c);
      std::sort(order.begin(), order.end());
      const size_t count = 1 + Below(6);
      order.resize(std::min(order.size(), count));
      std::vector<uint32_t> wanted;
      for (const auto& [sum, c] : order) wanted.push_back(c);
      std::sort(wanted.begin(), wanted.end());
      std::vector<uint32_t> found;
      finder.Find(rows.entries.data() + rows.begin[i], rows.entries.data() + rows.begin[i + 1],
                  count, &found);
      ASSERT_EQ(found, wanted);
    }
  }
}

// Every class is held out of, however many there are.
TEST_F(CandidateSoftmaxTest, HeldOutExamplesAreSpreadOverAll) {
  for (int round = 0; round < 50; ++round) {
    std::vector<uint32_t> selected;
    const size_t count = 1 + Below(round < 25 ? 500 : 60'000);
    for (uint32_t i = 0; selected.size() < count; ++i) {
      if (Below(10) != 0) selected.push_back(i);
    }
    const CandidateSplit split = HoldOutForCalibration(selected);
    std::vector<uint32_t> all;
    std::merge(split.kept.begin(), split.kept.end(), split.left_out.begin(), split.left_out.end(),
               std::back_inserter(all));
    ASSERT_EQ(all, selected);
    ASSERT_GE(split.left_out.size(), 1);
    ASSERT_LE(split.left_out.size(), std::min<size_t>(4000, selected.size() / 5 + 1));
    // The most that may be between two of them, and behind the last.
    const size_t gap = std::max<size_t>(5, selected.size() / 2000 + 1);
    size_t since = 0;
    for (const uint32_t i : selected) {
      since = std::binary_search(split.left_out.begin(), split.left_out.end(), i) ? 0 : since + 1;
      ASSERT_LT(since, gap);
    }
  }
}

// The gradient is what it is for: the loss over each example's candidates falls.
TEST_F(CandidateSoftmaxTest, TrainingMakesLabelsMoreProbableAmongTheirCandidates) {
  const size_t classes = 40;
  const size_t features = 100;
  SparseRows rows;
  std::vector<int> labels;
  std::vector<uint32_t> selected;
  std::vector<std::vector<uint32_t>> candidates;
  for (uint32_t i = 0; i < 300; ++i) {
    selected.push_back(i);
    labels.push_back(static_cast<int>(Below(classes)));
    std::set<uint32_t> own = {static_cast<uint32_t>(labels.back())};
    while (own.size() < 6) own.insert(static_cast<uint32_t>(Below(features)));
    for (const uint32_t feature : own) rows.entries.push_back({feature, 0.4F});
    rows.begin.push_back(rows.entries.size());
    std::set<uint32_t> weighed = {static_cast<uint32_t>(labels.back())};
    while (weighed.size() < 8) weighed.insert(static_cast<uint32_t>(Below(classes)));
    candidates.emplace_back(weighed.begin(), weighed.end());
  }
  ClassRows trained = MeanRows(rows, labels, selected, classes, 1);
  const auto loss = [&](const ClassRows& of) {
    double sum = 0;
    for (const uint32_t i : selected) {
      std::map<uint32_t, double> logits;
      for (const uint32_t c : candidates[i]) {
        logits[c] = of.bias[c];
        for (size_t k = of.begin[c]; k < of.begin[c + 1]; ++k) {
          for (size_t n = rows.begin[i]; n < rows.begin[i + 1]; ++n) {
            if (rows.entries[n].feature == of.entries[k].feature) {
              logits[c] += rows.entries[n].value * of.entries[k].value;
            }
          }
        }
      }
      double total = 0;
      for (const auto& [c, logit] : logits) total += std::exp(logit);
      sum += std::log(total) - logits[static_cast<uint32_t>(labels[i])];
    }
    return sum / static_cast<double>(selected.size());
  };
  const double before = loss(trained);
  ClassRows again = trained;
  SoftmaxTraining training = kTraining;
  training.smoothing = 0;
  training.learning_rate = 0.5;
  ASSERT_TRUE(TrainCandidates(rows, labels, selected, candidates, features, training,
                              absl::InfiniteFuture(), &trained)
                  .ok());
  EXPECT_LT(loss(trained), 0.7 * before);
  ASSERT_TRUE(TrainCandidates(rows, labels, selected, candidates, features, training,
                              absl::InfiniteFuture(), &again)
                  .ok());
  for (size_t k = 0; k < again.entries.size(); ++k) {
    ASSERT_EQ(again.entries[k].value, trained.entries[k].value);
  }
  EXPECT_EQ(TrainCandidates(rows, labels, selected, candidates, features, training,
                            absl::InfinitePast(), &again)
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace octogate::router
