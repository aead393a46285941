#include "router/lexical_vocabulary.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "router/background_queries.h"

namespace octogate::router {
namespace {

std::vector<float> Logits(const LinearModel& model, const std::vector<SparseRows::Entry>& vector) {
  std::vector<float> logits(model.stride);
  FindAddRows()(vector.data(), vector.data() + vector.size(), model.weights.data(), model.stride,
                logits.data());
  return logits;
}

std::vector<SparseRows::Entry> Entries(const GroupedRows& rows) {
  std::vector<SparseRows::Entry> entries;
  for (const uint32_t row : rows.once) entries.push_back({row, rows.scale});
  for (const GroupedRows::Row& row : rows.other) {
    entries.push_back({row.row, rows.scale * LexicalVocabulary::Frequency(row.value)});
  }
  return entries;
}

// What was trained word by word and run by run says the same when runs are folded into words.
TEST(LexicalVocabularyTest, FoldingKeepsTheLogits) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<std::string_view>& texts = BackgroundQueries();
  LexicalVocabulary vocabulary(12);
  const SparseRows rows = vocabulary.Index(texts);
  ASSERT_EQ(rows.size(), texts.size());
  LinearModel model{.features = vocabulary.rows(), .classes = 8, .stride = 8};
  model.weights.resize(model.features * model.stride);
  for (float& weight : model.weights) weight = std::uniform_real_distribution<float>(-1, 1)(random);
  LinearModel folded = model;
  vocabulary.FoldRuns(texts, &folded);

  LexicalFeatureExtractor extractor;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<float> expected =
        Logits(model, {rows.entries.begin() + static_cast<ptrdiff_t>(rows.begin[i]),
                       rows.entries.begin() + static_cast<ptrdiff_t>(rows.begin[i + 1])});
    GroupedRows read;
    vocabulary.Read(texts[i], &extractor, &read);
    const std::vector<float> actual = Logits(folded, Entries(read));
    for (size_t c = 0; c < 8; ++c) ASSERT_NEAR(actual[c], expected[c], 1e-4) << texts[i];
  }
}

TEST(LexicalVocabularyTest, AnUnknownWordIsReadByItsRuns) {
  LexicalVocabulary vocabulary(16);
  vocabulary.Index({"restart the service"});
  LexicalFeatureExtractor extractor;
  GroupedRows rows;
  vocabulary.Read("restarting", &extractor, &rows);
  EXPECT_GT(rows.once.size(), 10) << "runs of \"restart\"";
  const size_t runs = rows.once.size();
  vocabulary.Read("restarting restarting", &extractor, &rows);
  EXPECT_TRUE(rows.once.empty());
  EXPECT_EQ(rows.other.size(), runs) << "each counts twice";
  vocabulary.Read("zxqv", &extractor, &rows);
  EXPECT_TRUE(rows.once.empty());
  EXPECT_TRUE(rows.other.empty());
}

TEST(LexicalFeaturesTest, PairsHaveAnOrder) {
  LexicalFeatureExtractor extractor;
  // x, start-x, y, x-y, y-x; the pair x-y twice.
  const auto terms = extractor.Extract("x y x y");
  ASSERT_EQ(terms.size(), 5);
  EXPECT_EQ(terms[3].count, 2);
  EXPECT_EQ(terms[4].count, 1);
  EXPECT_EQ(terms[4].length, 0);
}

// Words and pairs do not depend on the texts that were read before.
TEST(LexicalFeaturesTest, ScratchIsCleared) {
  LexicalFeatureExtractor used;
  used.Extract(std::string(1 << 20, '!'));
  used.Extract("a a a b");
  LexicalFeatureExtractor fresh;
  const auto a = used.Extract("b a");
  const auto b = fresh.Extract("b a");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].hash, b[i].hash);
    EXPECT_EQ(a[i].count, 1);
  }
}

}  // namespace
}  // namespace octogate::router
