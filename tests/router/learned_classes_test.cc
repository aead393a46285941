// Classes that a trained head learns afterwards: what stays as it was, and what is new.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "router/background_queries.h"
#include "router/encoder_head.h"
#include "router/lexical_head.h"
#include "router/lexical_learner.h"
#include "tests/router/bag_of_words_model.h"
#include "tests/router/routing_data.h"

namespace octogate::router {
namespace {

constexpr size_t kTrained = 6;
constexpr size_t kLearned = 3;

// Subjects whose texts share few words: those trained, then those to be learned.
std::vector<std::vector<std::string>> RandomSubjects(std::mt19937* random) {
  const auto word = [&](size_t subject) {
    constexpr const char* kCommon[] = {"please", "what", "is", "the", "show", "me", "of", "a"};
    if ((*random)() % 2 == 0) return std::string(kCommon[(*random)() % 8]);
    return absl::StrCat("w", std::string(1, static_cast<char>('a' + subject)), (*random)() % 12);
  };
  std::vector<std::vector<std::string>> subjects(kTrained + kLearned);
  for (size_t s = 0; s < subjects.size(); ++s) {
    for (int i = 0; i < 20; ++i) {
      std::string text = word(s);
      for (int w = 0; w < 8; ++w) absl::StrAppend(&text, " ", word(s));
      subjects[s].push_back(std::move(text));
    }
  }
  return subjects;
}

template <typename Head, typename Text>
void ExpectSameLogits(const Head& a, const Head& b, const std::vector<size_t>& of_a,
                      const std::vector<size_t>& of_b, const Text& text) {
  const std::vector<float> logits_a = a.Logits(text);
  const std::vector<float> logits_b = b.Logits(text);
  ASSERT_EQ(of_a.size(), of_b.size());
  for (size_t i = 0; i < of_a.size(); ++i) {
    ASSERT_EQ(std::memcmp(&logits_a.at(of_a[i]), &logits_b.at(of_b[i]), sizeof(float)), 0)
        << logits_a[of_a[i]] << " and " << logits_b[of_b[i]];
  }
}

class LearnedClassesTest : public testing::Test {
 protected:
  LearnedClassesTest() {
    std::vector<std::vector<std::string>> subjects = RandomSubjects(&random_);
    examples_.classes.assign(subjects.begin(), subjects.begin() + kTrained);
    // The learned ones are scattered among the members of the router.
    for (size_t c = 0; c < kTrained; ++c) learned_.trained.push_back(static_cast<int>(c));
    for (size_t r = 0; r < kLearned; ++r) {
      learned_.trained.insert(
          learned_.trained.begin() + static_cast<ptrdiff_t>(random_() % learned_.trained.size()),
          -1);
    }
    size_t next = kTrained;
    for (size_t place = 0; place < learned_.trained.size(); ++place) {
      if (learned_.trained[place] >= 0) continue;
      std::vector<std::string> texts = subjects[next++];
      for (int i = 0; i < 4; ++i) {
        tests_.emplace_back(texts.back(), place);
        texts.pop_back();
      }
      learned_.rows.push_back({.place = place, .texts = std::move(texts)});
    }
    for (const auto& texts : subjects) texts_.insert(texts_.end(), texts.begin(), texts.end());
    for (const std::string_view text : BackgroundQueries()) texts_.emplace_back(text);
    texts_.emplace_back("");
  }

  // The places of the trained classes and of "none" in the head that has learned.
  std::vector<size_t> TrainedPlaces() const {
    std::vector<size_t> places(kTrained + 1, learned_.trained.size());
    for (size_t place = 0; place < learned_.trained.size(); ++place) {
      if (learned_.trained[place] >= 0) places[learned_.trained[place]] = place;
    }
    return places;
  }
  static std::vector<size_t> FirstPlaces(size_t count) {
    std::vector<size_t> places;
    for (size_t i = 0; i < count; ++i) places.push_back(i);
    return places;
  }

  const unsigned seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::mt19937 random_{seed_};
  RoutingExamples examples_;
  LearnedClasses learned_;
  std::vector<std::pair<std::string, size_t>> tests_;  // not learned; and their places
  std::vector<std::string> texts_;
};

class LexicalLearnerTest : public LearnedClassesTest {
 protected:
  using Columns = std::vector<std::shared_ptr<const QuantizedColumn>>;

  LexicalLearnerTest() {
    settings_.set_hash_bits(12);
    settings_.set_epochs(20);
    settings_.set_seed(1);
    auto trained = LexicalHead::Train(settings_, examples_, absl::InfiniteFuture());
    EXPECT_TRUE(trained.ok()) << trained.status();
    trained_ = *trained;
  }
  // Fits the columns that are null.
  std::shared_ptr<const LexicalHead> Learn(const LearnedClasses& learned, Columns* columns) {
    columns->resize(learned.rows.size());
    LexicalLearner learner(trained_, settings_, examples_);
    for (size_t r = 0; r < learned.rows.size(); ++r) {
      auto column = learner.Add(learned, learned.rows[r], (*columns)[r], absl::InfiniteFuture());
      EXPECT_TRUE(column.ok()) << column.status();
      (*columns)[r] = *column;
    }
    return std::move(learner).Finish(learned);
  }
  std::shared_ptr<const LexicalHead> Learn(const LearnedClasses& learned) {
    Columns columns;
    return Learn(learned, &columns);
  }

  v1::LexicalHead settings_;
  std::shared_ptr<const LexicalHead> trained_;
};

TEST_F(LexicalLearnerTest, LeavesTheOthersAsTheyAre) {
  const auto head = Learn(learned_);
  EXPECT_EQ(head->temperature(), trained_->temperature());
  for (const std::string& text : texts_) {
    ASSERT_NO_FATAL_FAILURE(
        ExpectSameLogits(*trained_, *head, FirstPlaces(kTrained + 1), TrainedPlaces(), text));
  }
}

TEST_F(LexicalLearnerTest, KnowsWhatItHasLearned) {
  const auto head = Learn(learned_);
  LexicalHead::Scores scores;
  int right = 0;
  for (const auto& [text, place] : tests_) {
    head->Score(text, std::vector<bool>(learned_.trained.size(), true), &scores);
    const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
    right += static_cast<size_t>(best - scores.probabilities.begin()) == place ? 1 : 0;
  }
  EXPECT_GE(right, static_cast<int>(tests_.size()) * 3 / 4);
}

// One more class is learned from where the last version has left off, and from the beginning.
TEST_F(LexicalLearnerTest, ItMakesNoDifferenceWhatWasKept) {
  const auto whole = Learn(learned_);
  LearnedClasses fewer = learned_;
  fewer.rows.pop_back();
  Columns columns;
  Learn(fewer, &columns);
  columns.resize(learned_.rows.size());
  const auto continued = Learn(learned_, &columns);
  const auto kept = Learn(learned_, &columns);
  const std::vector<size_t> all = FirstPlaces(learned_.trained.size() + 1);
  for (const std::string& text : texts_) {
    ASSERT_NO_FATAL_FAILURE(ExpectSameLogits(*whole, *continued, all, all, text));
    ASSERT_NO_FATAL_FAILURE(ExpectSameLogits(*whole, *kept, all, all, text));
  }
}

TEST_F(LexicalLearnerTest, ATrainedClassAndNoneLearnMore) {
  LearnedClasses more = {.trained = {0, 1, 2, 3, 4, 5}, .rows = {}};
  const size_t none = more.trained.size();
  more.rows.push_back({.place = 2, .texts = {"zebras on stilts", "stilts for two zebras"}});
  more.rows.push_back({.place = none, .texts = {"wa0 wa1 wa2 wa3 lullaby", "lullaby wb0 wb1"}});
  const auto head = Learn(more);
  EXPECT_GT(head->Logits("a zebra's stilts")[2], trained_->Logits("a zebra's stilts")[2]);
  EXPECT_GT(head->Logits("wa0 lullaby")[none], trained_->Logits("wa0 lullaby")[none]);
  for (const std::string& text : texts_) {
    ASSERT_NO_FATAL_FAILURE(
        ExpectSameLogits(*trained_, *head, {0, 1, 3, 4, 5}, {0, 1, 3, 4, 5}, text));
  }
}

TEST_F(LexicalLearnerTest, OddTextsAreNoProblem) {
  learned_.rows.front().texts = {"", "\xff\xfe", std::string(100'000, 'a'), "", "wa0 wa1"};
  const auto head = Learn(learned_);
  for (const float logit : head->Logits("wa0")) EXPECT_TRUE(std::isfinite(logit));
  LexicalLearner late(trained_, settings_, examples_);
  EXPECT_EQ(late.Add(learned_, learned_.rows[0], nullptr, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

class EncoderLearningTest : public LearnedClassesTest {
 protected:
  using Rows = std::vector<EmbeddingClassifier::Row>;

  EncoderLearningTest() {
    settings_.set_model("m");
    settings_.set_epochs(20);
    settings_.set_seed(1);
    std::vector<std::string_view> all = EmbeddingClassifier::TextsOf(examples_);
    all.insert(all.end(), texts_.begin(), texts_.end());
    auto embeddings = ExampleEmbeddings::Make(all, model_, absl::InfiniteFuture(), {});
    EXPECT_TRUE(embeddings.ok()) << embeddings.status();
    embeddings_ = *embeddings;
    auto trained =
        EmbeddingClassifier::Train(settings_, examples_, *embeddings_, absl::InfiniteFuture());
    EXPECT_TRUE(trained.ok()) << trained.status();
    trained_ = *trained;
  }
  // Fits the rows that are null.
  std::shared_ptr<const EmbeddingClassifier> Learn(const LearnedClasses& learned, Rows* rows) {
    rows->resize(learned.rows.size());
    auto classifier = EmbeddingClassifier::Learn(*trained_, settings_, examples_, learned,
                                                 *embeddings_, absl::InfiniteFuture(), rows);
    EXPECT_TRUE(classifier.ok()) << classifier.status();
    return *classifier;
  }
  std::shared_ptr<const EmbeddingClassifier> Learn(const LearnedClasses& learned) {
    Rows rows;
    return Learn(learned, &rows);
  }
  std::span<const float> Embed(const std::string& text) const {
    return {embeddings_->Find(text), BagOfWordsModel::kDimension};
  }

  BagOfWordsModel model_;
  v1::EncoderHead settings_;
  std::shared_ptr<const ExampleEmbeddings> embeddings_;
  std::shared_ptr<const EmbeddingClassifier> trained_;
};

TEST_F(EncoderLearningTest, LeavesTheOthersAsTheyAre) {
  const auto classifier = Learn(learned_);
  EXPECT_EQ(classifier->temperature(), trained_->temperature());
  for (const std::string& text : texts_) {
    ASSERT_NO_FATAL_FAILURE(ExpectSameLogits(*trained_, *classifier, FirstPlaces(kTrained + 1),
                                             TrainedPlaces(), Embed(text)));
  }
}

TEST_F(EncoderLearningTest, KnowsWhatItHasLearned) {
  const auto classifier = Learn(learned_);
  int right = 0;
  for (const auto& [text, place] : tests_) {
    HeadScores scores;
    classifier->Score(Embed(text), std::vector<bool>(learned_.trained.size(), true), &scores);
    const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
    right += static_cast<size_t>(best - scores.probabilities.begin()) == place ? 1 : 0;
  }
  EXPECT_GE(right, static_cast<int>(tests_.size()) * 3 / 4);
}

TEST_F(EncoderLearningTest, ItMakesNoDifferenceWhatWasKept) {
  const auto whole = Learn(learned_);
  LearnedClasses fewer = learned_;
  fewer.rows.pop_back();
  Rows rows;
  Learn(fewer, &rows);
  rows.resize(learned_.rows.size());
  const auto continued = Learn(learned_, &rows);
  const std::vector<size_t> all = FirstPlaces(learned_.trained.size() + 1);
  for (const std::string& text : texts_) {
    ASSERT_NO_FATAL_FAILURE(ExpectSameLogits(*whole, *continued, all, all, Embed(text)));
  }
}

// A description alone is a text to learn from.
TEST_F(EncoderLearningTest, OneTextMakesAClass) {
  LearnedClasses one = {.trained = {0, 1, 2, 3, 4, 5, -1}, .rows = {}};
  const std::string& description = learned_.rows[0].texts[0];
  one.rows.push_back({.place = kTrained, .texts = {description}});
  HeadScores scores;
  Learn(one)->Score(Embed(description), std::vector<bool>(kTrained + 1, true), &scores);
  const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
  EXPECT_EQ(static_cast<size_t>(best - scores.probabilities.begin()), kTrained);
}

// A class of 50 of CLINC150 is held out of training and learned afterwards from 32 of its texts.
// The others' logits stay, so that all they can lose is what the new class takes from them.
TEST(LexicalLearningQualityTest, Clinc150) {
  const auto folder = TestDataFolder();
  if (!folder) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: CLINC150 is not measured";
  const RoutingData all = EveryNthClass(ReadClinc150(*folder), 3);
  v1::LexicalHead settings;
  settings.set_hash_bits(16);
  settings.set_epochs(8);
  settings.set_seed(1);
  for (const size_t held_out : {size_t{0}, size_t{25}, size_t{49}}) {
    RoutingExamples examples = all.train;
    LearnedClasses learned;
    for (size_t c = 0; c < examples.classes.size(); ++c) {
      const int place = static_cast<int>(c);
      learned.trained.push_back(c == held_out ? -1 : place - (c > held_out ? 1 : 0));
    }
    std::vector<std::string> texts = examples.classes[held_out];
    texts.resize(32);
    learned.rows.push_back({.place = held_out, .texts = std::move(texts)});
    examples.classes.erase(examples.classes.begin() + static_cast<ptrdiff_t>(held_out));
    const auto trained = LexicalHead::Train(settings, examples, absl::InfiniteFuture());
    ASSERT_TRUE(trained.ok()) << trained.status();
    const absl::Time start = absl::Now();
    LexicalLearner learner(*trained, settings, examples);
    ASSERT_TRUE(learner.Add(learned, learned.rows[0], nullptr, absl::InfiniteFuture()).ok());
    const auto head = std::move(learner).Finish(learned);
    const absl::Duration duration = absl::Now() - start;

    // Before, the place of the held-out class is empty.
    RoutingData others = all;
    RoutingData own = all;
    std::erase_if(others.test,
                  [&](const auto& t) { return t.second == static_cast<int>(held_out); });
    std::erase_if(own.test, [&](const auto& t) { return t.second != static_cast<int>(held_out); });
    RoutingData before = others;
    before.train = examples;
    for (auto& [text, label] : before.test) label = learned.trained[static_cast<size_t>(label)];
    const RoutingQuality of_before = Measure(**trained, before, 0.5);
    const RoutingQuality of_others = Measure(*head, others, 0.5);
    const RoutingQuality of_own = Measure(*head, own, 0.5);
    // Beside it, all classes trained together with the same 32 texts.
    RoutingExamples together = all.train;
    together.classes[held_out] = learned.rows[0].texts;
    const absl::Time start_together = absl::Now();
    const auto retrained = LexicalHead::Train(settings, together, absl::InfiniteFuture());
    const absl::Duration duration_together = absl::Now() - start_together;
    ASSERT_TRUE(retrained.ok()) << retrained.status();
    const RoutingQuality own_together = Measure(**retrained, own, 0.5);
    const RoutingQuality others_together = Measure(**retrained, others, 0.5);
    std::cout << "class " << held_out << ": the other 49, before " << of_before.accuracy
              << ", after " << of_others.accuracy << ", trained together "
              << others_together.accuracy << "; the new one " << of_own.accuracy
              << ", trained together " << own_together.accuracy << "; out of scope refused, before "
              << of_before.outside_refused << ", after " << of_others.outside_refused
              << "; learned in " << duration << ", trained together in " << duration_together
              << std::endl;
    EXPECT_GE(of_others.accuracy, of_before.accuracy - 0.005);
    EXPECT_GE(of_own.accuracy, own_together.accuracy - 0.15);
    EXPECT_GE(of_own.accuracy, 0.6);
    EXPECT_GE(of_others.outside_refused, of_before.outside_refused - 0.02);
  }
}

}  // namespace
}  // namespace octogate::router
