// Heads of very many classes: that they find the right ones, and the same ones as when nothing is
// left out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "router/candidate_softmax.h"
#include "router/encoder_head.h"
#include "router/lexical_head.h"
#include "router/many_embedding_model.h"
#include "router/many_lexical_model.h"
#include "router/random_order.h"
#include "router/router.h"
#include "tests/router/routing_data.h"

namespace octogate::router {
namespace {

const SoftmaxTraining kTraining = {.epochs = 5, .seed = 1, .learning_rate = 0.15, .smoothing = 0.1};

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

// Against maps and whole sorting.
TEST_F(ManyClassesTest, MeansListsAndCandidatesAreThoseOfPlainLoops) {
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
TEST_F(ManyClassesTest, HeldOutExamplesAreSpreadOverAll) {
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
TEST_F(ManyClassesTest, TrainingMakesLabelsMoreProbableAmongTheirCandidates) {
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

TEST_F(ManyClassesTest, ALexicalHeadDecidesAsOneThatLeavesNothingOut) {
  const size_t classes = kManyClasses + 100;
  const RoutingExamples examples = Examples(classes, 5);
  const auto model = ManyLexicalModel::Train(14, kTraining, examples, absl::InfiniteFuture());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto whole =
      ManyLexicalModel::Train(14, kTraining, examples, absl::InfiniteFuture(), classes);
  ASSERT_TRUE(whole.ok()) << whole.status();
  std::vector<bool> live(classes, true);
  int same = 0;
  int right = 0;
  HeadScores scores;
  HeadScores all;
  constexpr int kTexts = 400;
  for (int i = 0; i < kTexts; ++i) {
    const size_t c = Below(classes);
    const std::string text = Text(c);
    (*model)->Score(text, live, &scores);
    ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
    (*whole)->Score(text, live, &all);
    same += Best(scores) == Best(all) ? 1 : 0;
    right += Best(scores) == c ? 1 : 0;
  }
  RecordProperty("same", same);
  RecordProperty("right", right);
  EXPECT_GE(same, 0.9 * kTexts);
  EXPECT_GE(right, 0.8 * kTexts);
  // A class that is drained is passed over, whatever it was for.
  const std::string text = examples.classes[7][0];
  (*model)->Score(text, live, &scores);
  const size_t best = Best(scores);
  live[best] = false;
  (*model)->Score(text, live, &scores);
  ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
  EXPECT_NE(Best(scores), best);
  EXPECT_EQ(scores.probabilities[best], 0);
}

TEST_F(ManyClassesTest, ALexicalHeadOfManyClassesIsDeterministicAndTakesAnyText) {
  RoutingExamples examples = Examples(kManyClasses, 3);
  examples.classes[3].clear();
  examples.none = {Text(5000), ""};
  v1::LexicalHead settings;
  settings.set_hash_bits(14);
  settings.set_epochs(3);
  settings.set_seed(1);
  const auto a = LexicalHead::Train(settings, examples, absl::InfiniteFuture());
  const auto b = LexicalHead::Train(settings, examples, absl::InfiniteFuture());
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ((*a)->temperature(), (*b)->temperature());
  const std::vector<bool> live(kManyClasses, true);
  std::vector<std::string> texts = {
      "", "!!!", "\xff\xfe", std::string(1 << 16, 'a'), "zxqv wkjh pfft", "明日の天気は"};
  for (int i = 0; i < 100; ++i) texts.push_back(Text(Below(kManyClasses)));
  for (const std::string& text : texts) {
    HeadScores x;
    HeadScores y;
    (*a)->Score(text, live, &x);
    (*b)->Score(text, live, &y);
    ASSERT_NO_FATAL_FAILURE(ExpectDistribution(x, live));
    ASSERT_EQ(x.probabilities, y.probabilities);
    ASSERT_EQ(x.live_probability, y.live_probability);
    const std::vector<float> logits = (*a)->Logits(text);
    ASSERT_EQ(logits, (*b)->Logits(text));
    if (x.candidates.empty()) continue;
    const size_t best = Best(x);
    const LexicalHead::Explanation why = (*a)->Explain(text, best, kManyClasses);
    double sum = why.prior;
    for (const LexicalHead::Feature& feature : why.features) sum += feature.contribution;
    ASSERT_NEAR(sum, (double{logits[best]} - logits[kManyClasses]) / (*a)->temperature(), 1e-2);
  }
  EXPECT_EQ(LexicalHead::Train(settings, examples, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ManyClassesTest, AnEncoderHeadFindsTheRightClassAmongMany) {
  const size_t classes = kManyClasses + 300;
  const RoutingExamples examples = Examples(classes, 3);
  WordVectors words;
  const auto embeddings = ExampleEmbeddings::Make(EmbeddingClassifier::TextsOf(examples), words,
                                                  absl::InfiniteFuture(), {});
  ASSERT_TRUE(embeddings.ok());
  const auto model =
      ManyEmbeddingModel::Train(kTraining, examples, **embeddings, absl::InfiniteFuture());
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<bool> live(classes, true);
  int right = 0;
  HeadScores scores;
  constexpr int kTexts = 400;
  for (int i = 0; i < kTexts; ++i) {
    const size_t c = Below(classes);
    const std::vector<float> vector = WordVectors::Of(Text(c));
    (*model)->Score(vector, live, &scores);
    ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
    right += Best(scores) == c ? 1 : 0;
  }
  RecordProperty("right", right);
  EXPECT_GE(right, 0.3 * kTexts);
  const std::vector<float> vector = WordVectors::Of(examples.classes[7][0]);
  (*model)->Score(vector, live, &scores);
  const size_t best = Best(scores);
  live[best] = false;
  (*model)->Score(vector, live, &scores);
  ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
  EXPECT_NE(Best(scores), best);
  // No text, no direction.
  (*model)->Score(std::vector<float>(WordVectors::kDimension, 0), live, &scores);
  ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
  EXPECT_EQ(ManyEmbeddingModel::Train(kTraining, examples, **embeddings, absl::InfinitePast())
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

// Classes that are learned afterwards: what was trained stays bit by bit, wherever the new ones are
// among the members, and the new ones are found.
TEST_F(ManyClassesTest, AnEncoderHeadOfManyClassesLearnsFurtherOnes) {
  const size_t trained = kManyClasses + 100;
  constexpr size_t kNew = 6;
  const RoutingExamples examples = Examples(trained, 4);
  LearnedClasses learned;
  for (size_t c = 0; c < trained; ++c) learned.trained.push_back(static_cast<int>(c));
  for (size_t i = 0; i < kNew; ++i) {
    learned.trained.insert(
        learned.trained.begin() + static_cast<ptrdiff_t>(Below(learned.trained.size() + 1)), -1);
  }
  const size_t classes = learned.trained.size();
  std::vector<size_t> subject_of(classes);  // As Text takes it.
  size_t next = trained;
  for (size_t place = 0; place < classes; ++place) {
    const int from = learned.trained[place];
    subject_of[place] = from >= 0 ? static_cast<size_t>(from) : next++;
    if (from >= 0) continue;
    LearnedClasses::Row& row = learned.rows.emplace_back();
    row.place = place;
    for (int i = 0; i < 16; ++i) row.texts.push_back(Text(subject_of[place]));
  }
  // One that was trained learns a subject that is nobody's; and "none" another.
  size_t again = Below(classes);
  while (learned.trained[again] < 0) again = Below(classes);
  for (const auto& [place, subject] :
       {std::pair(again, size_t{7001}), std::pair(classes, size_t{7002})}) {
    LearnedClasses::Row& row = learned.rows.emplace_back();
    row.place = place;
    for (int i = 0; i < 16; ++i) row.texts.push_back(Text(subject));
  }
  std::vector<std::string_view> texts = EmbeddingClassifier::TextsOf(examples);
  for (const LearnedClasses::Row& row : learned.rows) {
    texts.insert(texts.end(), row.texts.begin(), row.texts.end());
  }
  WordVectors words;
  const auto embeddings = ExampleEmbeddings::Make(texts, words, absl::InfiniteFuture(), {});
  ASSERT_TRUE(embeddings.ok());
  v1::EncoderHead settings;
  settings.set_epochs(8);
  settings.set_seed(1);
  const auto before =
      EmbeddingClassifier::Train(settings, examples, **embeddings, absl::InfiniteFuture());
  ASSERT_TRUE(before.ok()) << before.status();
  std::vector<EmbeddingClassifier::Row> rows(learned.rows.size());
  const auto after = EmbeddingClassifier::Learn(**before, settings, examples, learned, **embeddings,
                                                absl::InfiniteFuture(), &rows);
  ASSERT_TRUE(after.ok()) << after.status();
  // Rows that were kept make the same head as rows that are fitted.
  std::vector<EmbeddingClassifier::Row> some = rows;
  some[Below(some.size())] = nullptr;
  const auto same = EmbeddingClassifier::Learn(**before, settings, examples, learned, **embeddings,
                                               absl::InfiniteFuture(), &some);
  ASSERT_TRUE(same.ok()) << same.status();

  const std::vector<bool> live(classes, true);
  HeadScores scores;
  int right_before = 0;
  int right_after = 0;
  constexpr int kTexts = 300;
  for (int i = 0; i < kTexts; ++i) {
    const size_t c = Below(trained);
    const std::vector<float> vector = WordVectors::Of(Text(c));
    const std::vector<float> logits_before = (*before)->Logits(vector);
    const std::vector<float> logits_after = (*after)->Logits(vector);
    ASSERT_EQ(logits_after, (*same)->Logits(vector));
    ASSERT_EQ(logits_after.size(), classes + 1);
    for (size_t place = 0; place < classes; ++place) {
      if (learned.trained[place] < 0 || place == again) continue;
      ASSERT_EQ(logits_after[place], logits_before[static_cast<size_t>(learned.trained[place])]);
    }
    (*before)->Score(vector, std::vector<bool>(trained, true), &scores);
    right_before += Best(scores) == c ? 1 : 0;
    (*after)->Score(vector, live, &scores);
    ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
    right_after += subject_of[Best(scores)] == c ? 1 : 0;
  }
  RecordProperty("right", absl::StrCat(right_after, " of ", right_before));
  EXPECT_GE(right_after, right_before - 0.06 * kTexts);

  int right = 0;
  int asked = 0;
  double none_before = 0;
  double none_after = 0;
  for (int i = 0; i < 40; ++i) {
    for (const LearnedClasses::Row& row : learned.rows) {
      if (row.place == classes) {
        const std::vector<float> vector = WordVectors::Of(Text(7002));
        (*before)->Score(vector, std::vector<bool>(trained, true), &scores);
        none_before += 1 - scores.live_probability;
        (*after)->Score(vector, live, &scores);
        none_after += 1 - scores.live_probability;
        continue;
      }
      const size_t subject = row.place == again ? 7001 : subject_of[row.place];
      (*after)->Score(WordVectors::Of(Text(subject)), live, &scores);
      right += Best(scores) == row.place ? 1 : 0;
      ++asked;
    }
  }
  RecordProperty("learned_right", absl::StrCat(right, " of ", asked));
  EXPECT_GE(right, 0.4 * asked);
  EXPECT_GT(none_after, none_before);

  std::vector<EmbeddingClassifier::Row> none(learned.rows.size());
  EXPECT_EQ(EmbeddingClassifier::Learn(**before, settings, examples, learned, **embeddings,
                                       absl::InfinitePast(), &none)
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

// On few classes, where the head that weighs all can be asked too.
TEST_F(ManyClassesTest, OnRealTextsItIsAboutAsGoodAsAHeadThatWeighsAll) {
  const auto folder = TestDataFolder();
  if (!folder) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: CLINC150 is not measured";
  const RoutingData data = ReadClinc150(*folder);
  v1::LexicalHead settings;
  settings.set_hash_bits(16);
  settings.set_epochs(8);
  settings.set_seed(1);
  const auto all = LexicalHead::Train(settings, data.train, absl::InfiniteFuture());
  ASSERT_TRUE(all.ok()) << all.status();
  const auto few = ManyLexicalModel::Train(
      16, {.epochs = 8, .seed = 1, .learning_rate = 0.15, .smoothing = 0.15}, data.train,
      absl::InfiniteFuture());
  ASSERT_TRUE(few.ok()) << few.status();
  const RoutingQuality expected = Measure(**all, data, 0.5);
  const RoutingQuality actual =
      Measure([&](const std::string& text, const std::vector<bool>& live,
                  HeadScores* scores) { (*few)->Score(text, live, scores); },
              data, 0.5);
  RecordProperty("accuracy", absl::StrCat(actual.accuracy, " of ", expected.accuracy));
  RecordProperty("outside_refused",
                 absl::StrCat(actual.outside_refused, " of ", expected.outside_refused));
  RecordProperty("accepted_right",
                 absl::StrCat(actual.accepted_right, " of ", expected.accepted_right));
  RecordProperty("calibration_error",
                 absl::StrCat(actual.calibration_error, " of ", expected.calibration_error));
  EXPECT_GT(actual.accuracy, expected.accuracy - 0.05);
  EXPECT_GT(actual.outside_refused, 0.7);
  EXPECT_LT(actual.calibration_error, 0.15);
}

// What a node has learned counts at once; members with a description alone and a drained member are
// no exception.
TEST_F(ManyClassesTest, ARouterOfManyMembersRoutesLearnsAndDrains) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("many");
  v1::Node& main = *graph.mutable_spec()->add_nodes();
  main.set_name("main");
  main.mutable_router()->set_fallback("other");
  v1::Head& head = *main.mutable_router()->add_heads();
  head.set_threshold(0.05);
  head.mutable_lexical()->set_hash_bits(14);
  head.mutable_lexical()->set_epochs(4);
  head.mutable_lexical()->set_seed(1);
  for (size_t c = 0; c < kManyClasses + 10; ++c) {
    v1::Node& node = *graph.mutable_spec()->add_nodes();
    node.set_name(absl::StrCat("n", c));
    node.set_token(absl::StrCat("<fn:n", c, ">"));
    node.mutable_tool()->set_tool("reply");
    graph.mutable_spec()->mutable_nodes(0)->mutable_router()->add_members(node.name());
    if (c == 4) {
      node.set_description("zumbaquit frolandis");
      continue;
    }
    for (int i = 0; i < 3; ++i) node.add_examples(Text(c));
  }
  graph.mutable_spec()->mutable_nodes(3)->add_learned_examples("qwolimber vextrabule");
  v1::Node& other = *graph.mutable_spec()->add_nodes();
  other.set_name("other");
  other.mutable_tool()->set_tool("reply");
  const auto snapshot = RoutingSnapshot::Build(graph, 1, {}, absl::InfiniteFuture());
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const auto route = [&](const std::string& query, std::vector<std::string> excluded = {}) {
    absl::StatusOr<v1::Decision> result = absl::UnknownError("not called");
    (*snapshot)->Route("main", query, {.excluded = std::move(excluded)},
                       [&](absl::StatusOr<v1::Decision> decision) { result = decision; });
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  };
  EXPECT_EQ(route("qwolimber vextrabule").node(), "n2");
  EXPECT_EQ(route("zumbaquit frolandis").node(), "n4");
  const std::string known = graph.spec().nodes(10).examples(0);
  const v1::Decision decision = route(known);
  EXPECT_EQ(decision.node(), "n9");
  EXPECT_EQ(decision.heads(0).scores(0).node(), "n9");
  EXPECT_GT(decision.heads(0).scores_size(), 1);
  const v1::Decision drained = route(known, {"n9"});
  for (const v1::TokenScore& score : drained.heads(0).scores()) EXPECT_NE(score.node(), "n9");
  EXPECT_TRUE(route("明日の天気は").fallback());

  // Even where any confidence will do, nothing known of a query is no reason to take the first.
  graph.mutable_spec()->mutable_nodes(0)->mutable_router()->mutable_heads(0)->set_threshold(0);
  const auto eager = RoutingSnapshot::Build(graph, 2, {}, absl::InfiniteFuture(), snapshot->get());
  ASSERT_TRUE(eager.ok()) << eager.status();
  const auto route_eagerly = [&](const std::string& query) {
    v1::Decision result;
    (*eager)->Route("main", query, {},
                    [&](absl::StatusOr<v1::Decision> decision) { result = *decision; });
    return result;
  };
  EXPECT_EQ(route_eagerly(known).node(), "n9");
  const v1::Decision nothing = route_eagerly("明日の天気は");
  EXPECT_TRUE(nothing.fallback());
  EXPECT_EQ(nothing.reason(),
            "lexical knew nothing of the query, so the fallback 'other' takes it");
}

// Through an encoder head what one member learns is fitted beside what was trained, which is kept;
// beyond what may be learned so, everything is trained together, and what was learned counts still.
TEST_F(ManyClassesTest, ARouterOfManyMembersLearnsThroughAnEncoder) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("many");
  v1::Model& words = *graph.mutable_spec()->add_models();
  words.set_name("words");
  words.set_path("words");
  v1::Node& main = *graph.mutable_spec()->add_nodes();
  main.set_name("main");
  main.mutable_router()->set_fallback("other");
  v1::Head& head = *main.mutable_router()->add_heads();
  head.set_threshold(0.05);
  head.mutable_encoder()->set_model("words");
  head.mutable_encoder()->set_epochs(3);
  head.mutable_encoder()->set_seed(1);
  constexpr size_t kMembers = kManyClasses + 300;
  for (size_t c = 0; c < kMembers; ++c) {
    v1::Node& node = *graph.mutable_spec()->add_nodes();
    node.set_name(absl::StrCat("n", c));
    node.mutable_tool()->set_tool("reply");
    graph.mutable_spec()->mutable_nodes(0)->mutable_router()->add_members(node.name());
    for (int i = 0; i < 2; ++i) node.add_examples(Text(c));
  }
  v1::Node& other = *graph.mutable_spec()->add_nodes();
  other.set_name("other");
  other.mutable_tool()->set_tool("reply");
  const auto model = std::make_shared<WordVectors>();
  const ModelFinder find = {
      .causal = nullptr,
      .embedding = [&](std::string_view) -> absl::StatusOr<std::shared_ptr<EmbeddingModel>> {
        return std::shared_ptr<EmbeddingModel>(model);
      }};
  const auto build = [&](int64_t version, const RoutingSnapshot* previous) {
    auto snapshot = RoutingSnapshot::Build(graph, version, find, absl::InfiniteFuture(), previous);
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    return *std::move(snapshot);
  };
  const auto route = [](const RoutingSnapshot& snapshot, const std::string& query) {
    v1::Decision result;
    snapshot.Route("main", query, {}, [&](absl::StatusOr<v1::Decision> decision) {
      ASSERT_TRUE(decision.ok()) << decision.status();
      result = *std::move(decision);
    });
    return result;
  };
  const auto first = build(1, nullptr);
  const std::string known = graph.spec().nodes(101).examples(0);
  const std::string news = "qwolimber vextrabule zumbaquit frolandis";
  ASSERT_EQ(route(*first, known).node(), "n100");
  const size_t embedded = model->embedded;

  graph.mutable_spec()->mutable_nodes(8)->add_learned_examples(news);
  const auto second = build(2, first.get());
  EXPECT_EQ(model->embedded, embedded + 1);
  EXPECT_EQ(route(*second, news).node(), "n7");
  EXPECT_EQ(route(*second, known).node(), "n100");
  // A gateway that starts with this version decides alike.
  const auto afresh = build(2, nullptr);
  for (const std::string& query : {news, known, Text(3), Text(55)}) {
    const v1::Decision a = route(*afresh, query);
    const v1::Decision b = route(*second, query);
    ASSERT_EQ(a.heads(0).scores_size(), b.heads(0).scores_size());
    for (int i = 0; i < a.heads(0).scores_size(); ++i) {
      EXPECT_EQ(a.heads(0).scores(i).SerializeAsString(), b.heads(0).scores(i).SerializeAsString());
    }
  }

  // Of more than 32, all are trained together again: as if the texts had been examples.
  for (int c = 20; c < 20 + 33; ++c) {
    graph.mutable_spec()->mutable_nodes(c)->add_learned_examples(Text(static_cast<size_t>(c) - 1));
  }
  const auto third = build(3, second.get());
  for (v1::Node& node : *graph.mutable_spec()->mutable_nodes()) {
    node.mutable_examples()->MergeFrom(node.learned_examples());
    node.clear_learned_examples();
  }
  const auto together = build(4, nullptr);
  for (const std::string& query : {news, known, Text(3), Text(55)}) {
    const v1::Decision a = route(*third, query);
    const v1::Decision b = route(*together, query);
    ASSERT_EQ(a.heads(0).scores_size(), b.heads(0).scores_size());
    for (int i = 0; i < a.heads(0).scores_size(); ++i) {
      EXPECT_EQ(a.heads(0).scores(i).SerializeAsString(), b.heads(0).scores(i).SerializeAsString());
    }
  }
}

// A coverage that cannot be had says why that is, which is not the same as with few members.
TEST_F(ManyClassesTest, ACoverageBeyondWhatIsWeighedIsNamed) {
  v1::Graph graph;
  graph.mutable_metadata()->set_name("many");
  v1::Node& main = *graph.mutable_spec()->add_nodes();
  main.set_name("main");
  main.mutable_router()->set_fallback("other");
  v1::Head& head = *main.mutable_router()->add_heads();
  head.set_coverage(0.999);
  head.mutable_lexical()->set_hash_bits(12);
  head.mutable_lexical()->set_epochs(2);
  head.mutable_lexical()->set_seed(1);
  for (size_t c = 0; c < kManyClasses; ++c) {
    v1::Node& node = *graph.mutable_spec()->add_nodes();
    node.set_name(absl::StrCat("n", c));
    node.mutable_tool()->set_tool("reply");
    graph.mutable_spec()->mutable_nodes(0)->mutable_router()->add_members(node.name());
    node.add_examples(Text(c));
  }
  v1::Node& other = *graph.mutable_spec()->add_nodes();
  other.set_name("other");
  other.mutable_tool()->set_tool("reply");
  const auto snapshot = RoutingSnapshot::Build(graph, 1, {}, absl::InfiniteFuture());
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  v1::Decision result;
  (*snapshot)->Route("main", graph.spec().nodes(7).examples(0), {},
                     [&](absl::StatusOr<v1::Decision> decision) { result = *decision; });
  EXPECT_TRUE(result.fallback());
  EXPECT_THAT(result.reason(),
              testing::HasSubstr("of 512 members this head weighs 32 for each query, and the right "
                                 "one has to be among them that often, on 999 held-out examples"));
}

}  // namespace
}  // namespace octogate::router
