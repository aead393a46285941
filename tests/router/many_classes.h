// Random texts of very many classes, and what tests of their heads have in common.
#ifndef OCTOGATE_TESTS_ROUTER_MANY_CLASSES_H_
#define OCTOGATE_TESTS_ROUTER_MANY_CLASSES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "router/calibration.h"
#include "router/candidate_softmax.h"
#include "router/embedding_model.h"
#include "router/random_order.h"
#include "router/routing_examples.h"

namespace octogate::router {

inline const SoftmaxTraining kTraining = {
    .epochs = 5, .seed = 1, .learning_rate = 0.15, .smoothing = 0.1};

class ManyClassesTest : public testing::Test {
 protected:
  ManyClassesTest() : seed_(std::random_device{}()), random_(seed_) {
    for (int i = 0; i < 1500; ++i) {
      std::string& word = words_.emplace_back();
      for (int n = 2 + static_cast<int>(Below(2)); n > 0; --n) {
        word += "bcdfghjklmnprstvwz"[Below(18)];
        word += "aeiou"[Below(5)];
      }
    }
  }

  size_t Below(size_t bound) { return random_() % bound; }

  // Of a class: words of its own, of which other classes have some, among words that all have.
  std::string Text(size_t c) {
    std::string text;
    for (int i = 0; i < 8; ++i) {
      const std::string& word = Below(2) == 0 ? words_[Below(300)] : words_[Own(c, Below(5))];
      absl::StrAppend(&text, text.empty() ? "" : " ", word);
    }
    return text;
  }
  size_t Own(size_t c, size_t n) const {
    Random random(c * 31 + n + 1);
    return 300 + random.Next() % 1200;
  }

  RoutingExamples Examples(size_t classes, size_t each) {
    RoutingExamples examples;
    for (size_t c = 0; c < classes; ++c) {
      auto& own = examples.classes.emplace_back();
      for (size_t i = 0; i < each; ++i) own.push_back(Text(c));
    }
    return examples;
  }

  static void ExpectDistribution(const HeadScores& scores, const std::vector<bool>& live) {
    ASSERT_EQ(scores.probabilities.size(), live.size());
    ASSERT_LE(scores.candidates.size(), kCandidates);
    ASSERT_TRUE(std::is_sorted(scores.candidates.begin(), scores.candidates.end()));
    double sum = 0;
    for (const float probability : scores.probabilities) sum += probability;
    ASSERT_NEAR(sum, scores.candidates.empty() ? 0 : 1, 1e-4);
    for (size_t c = 0; c < live.size(); ++c) {
      if (scores.probabilities[c] == 0) continue;
      ASSERT_TRUE(live[c]);
      ASSERT_TRUE(std::binary_search(scores.candidates.begin(), scores.candidates.end(), c));
    }
    ASSERT_GE(scores.live_probability, 0);
    ASSERT_LE(scores.live_probability, 1);
  }

  static size_t Best(const HeadScores& scores) {
    return static_cast<size_t>(
        std::max_element(scores.probabilities.begin(), scores.probabilities.end()) -
        scores.probabilities.begin());
  }

  const unsigned seed_;
  const testing::ScopedTrace trace_{__FILE__, __LINE__, testing::Message() << "seed " << seed_};
  std::mt19937 random_;
  std::vector<std::string> words_;
};

// A sum of random vectors of a text's words.
class WordVectors final : public EmbeddingModel {
 public:
  static constexpr size_t kDimension = 128;
  static std::vector<float> Of(const std::string& text) {
    std::vector<float> values(kDimension, 0);
    for (const absl::string_view word : absl::StrSplit(text, ' ')) {
      uint64_t seed = 0;
      for (const char c : word) seed = seed * 131 + static_cast<unsigned char>(c);
      Random random(seed);
      for (size_t i = 0; i < kDimension; i += 64) {
        const uint64_t bits = random.Next();
        for (size_t k = 0; k < 64; ++k) values[i + k] += (bits >> k & 1) != 0 ? 1.0F : -1.0F;
      }
    }
    double squares = 1e-6;
    for (const float value : values) squares += double{value} * double{value};
    for (float& value : values) value = static_cast<float>(value / std::sqrt(squares));
    return values;
  }
  void Embed(const v1::WorkerEmbedRequest& request, const CallContext&, EmbedDone done) override {
    v1::WorkerEmbedResponse response;
    embedded += static_cast<size_t>(request.inputs_size());
    for (const std::string& input : request.inputs()) {
      v1::Embedding& embedding = *response.add_embeddings();
      for (const float value : Of(input)) embedding.add_values(value);
    }
    done(std::move(response));
  }
  absl::StatusOr<std::string> Fingerprint(absl::Time) override { return "words"; }

  size_t embedded = 0;  // Texts, so far.
};

}  // namespace octogate::router

#endif  // OCTOGATE_TESTS_ROUTER_MANY_CLASSES_H_
