// What heads of very many classes learn after they were trained, beside all that stays as it is.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/encoder_head.h"
#include "router/lexical_head.h"
#include "router/lexical_learner.h"
#include "router/nearest_examples.h"
#include "router/router.h"
#include "tests/router/many_classes.h"

namespace octogate::router {
namespace {

class ManyClassesLearningTest : public ManyClassesTest {
 protected:
  static constexpr size_t kTrained = kManyClasses + 100;
  static constexpr size_t kNew = 6;
  static constexpr size_t kOfTrained = 7001;  // As Text takes it: what a trained class learns,
  static constexpr size_t kOfNone = 7002;     // and what "none" does.

  ManyClassesLearningTest() : examples_(Examples(kTrained, 4)) {
    for (size_t c = 0; c < kTrained; ++c) learned_.trained.push_back(static_cast<int>(c));
    for (size_t i = 0; i < kNew; ++i) {
      const auto place = static_cast<ptrdiff_t>(Below(learned_.trained.size() + 1));
      learned_.trained.insert(learned_.trained.begin() + place, -1);
    }
    size_t next = kTrained;
    for (size_t place = 0; place < classes(); ++place) {
      const int from = learned_.trained[place];
      subject_of_.push_back(from >= 0 ? static_cast<size_t>(from) : next++);
      if (from < 0) Teach(place, subject_of_.back());
    }
    // One that was trained learns a subject that is nobody's; and "none" another.
    again_ = Below(classes());
    while (learned_.trained[again_] < 0) again_ = Below(classes());
    Teach(again_, kOfTrained);
    Teach(classes(), kOfNone);
  }

  size_t classes() const { return learned_.trained.size(); }
  void Teach(size_t place, size_t subject) {
    LearnedClasses::Row& row = learned_.rows.emplace_back();
    row.place = place;
    for (int i = 0; i < 16; ++i) row.texts.push_back(Text(subject));
  }

  // A head before and after, and once more with some rows kept and others fitted.
  struct Heads {
    std::function<std::vector<float>(const std::string&text)> logits_before, logits_after,
        logits_same;
    std::function<void(const std::string&text, const std::vector<bool>&live, HeadScores*scores)>
        score_before, score_after;
  };
  // What was trained stays bit by bit, wherever the new ones are among the members, and what was
  // learned is found: of the texts of the trained at most 6 % fewer are, and of those that were
  // learned `share`.
  void ExpectLearned(const Heads& heads, double share) {
    const std::vector<bool> trained_live(kTrained, true);
    const std::vector<bool> live(classes(), true);
    HeadScores scores;
    int right_before = 0;
    int right_after = 0;
    constexpr int kTexts = 300;
    for (int i = 0; i < kTexts; ++i) {
      const size_t c = Below(kTrained);
      const std::string text = Text(c);
      const std::vector<float> before = heads.logits_before(text);
      const std::vector<float> after = heads.logits_after(text);
      ASSERT_EQ(after, heads.logits_same(text));
      ASSERT_EQ(after.size(), classes() + 1);
      for (size_t place = 0; place < classes(); ++place) {
        if (learned_.trained[place] < 0 || place == again_) continue;
        const float was = before[static_cast<size_t>(learned_.trained[place])];
        ASSERT_EQ(std::memcmp(&after[place], &was, sizeof(float)), 0) << after[place] << " " << was;
      }
      heads.score_before(text, trained_live, &scores);
      right_before += Best(scores) == c ? 1 : 0;
      heads.score_after(text, live, &scores);
      ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
      right_after += subject_of_[Best(scores)] == c ? 1 : 0;
    }
    RecordProperty("right", absl::StrCat(right_after, " of ", right_before));
    EXPECT_GE(right_after, right_before - 0.06 * kTexts);

    int right = 0;
    int asked = 0;
    double none_before = 0;
    double none_after = 0;
    for (int i = 0; i < 40; ++i) {
      for (const LearnedClasses::Row& row : learned_.rows) {
        if (row.place == classes()) {
          const std::string text = Text(kOfNone);
          heads.score_before(text, trained_live, &scores);
          none_before += 1 - scores.live_probability;
          heads.score_after(text, live, &scores);
          none_after += 1 - scores.live_probability;
          continue;
        }
        heads.score_after(Text(row.place == again_ ? kOfTrained : subject_of_[row.place]), live,
                          &scores);
        right += Best(scores) == row.place ? 1 : 0;
        ++asked;
      }
    }
    RecordProperty("learned_right", absl::StrCat(right, " of ", asked));
    EXPECT_GE(right, share * asked);
    EXPECT_GT(none_after, none_before);
  }

  RoutingExamples examples_;
  LearnedClasses learned_;
  std::vector<size_t> subject_of_;  // Of each class.
  size_t again_ = 0;
};

TEST_F(ManyClassesLearningTest, AnEncoderHeadLearnsFurtherClasses) {
  std::vector<std::string_view> texts = EmbeddingClassifier::TextsOf(examples_);
  for (const LearnedClasses::Row& row : learned_.rows) {
    texts.insert(texts.end(), row.texts.begin(), row.texts.end());
  }
  WordVectors words;
  const auto embeddings = ExampleEmbeddings::Make(texts, words, absl::InfiniteFuture(), {});
  ASSERT_TRUE(embeddings.ok());
  v1::EncoderHead settings;
  settings.set_epochs(8);
  settings.set_seed(1);
  const auto before =
      EmbeddingClassifier::Train(settings, examples_, **embeddings, absl::InfiniteFuture());
  ASSERT_TRUE(before.ok()) << before.status();
  const auto learn = [&](absl::Time deadline, std::vector<EmbeddingClassifier::Row>* rows) {
    return EmbeddingClassifier::Learn(**before, settings, examples_, learned_, **embeddings,
                                      deadline, rows);
  };
  std::vector<EmbeddingClassifier::Row> rows(learned_.rows.size());
  const auto after = learn(absl::InfiniteFuture(), &rows);
  ASSERT_TRUE(after.ok()) << after.status();
  rows[Below(rows.size())] = nullptr;
  const auto same = learn(absl::InfiniteFuture(), &rows);
  ASSERT_TRUE(same.ok()) << same.status();
  const auto logits = [](const EmbeddingClassifier& head) {
    return [&head](const std::string& text) { return head.Logits(WordVectors::Of(text)); };
  };
  const auto score = [](const EmbeddingClassifier& head) {
    return [&head](const std::string& text, const std::vector<bool>& live, HeadScores* scores) {
      head.Score(WordVectors::Of(text), live, scores);
    };
  };
  ExpectLearned({.logits_before = logits(**before),
                 .logits_after = logits(**after),
                 .logits_same = logits(**same),
                 .score_before = score(**before),
                 .score_after = score(**after)},
                0.4);
  std::vector<EmbeddingClassifier::Row> none(learned_.rows.size());
  EXPECT_EQ(learn(absl::InfinitePast(), &none).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ManyClassesLearningTest, ALexicalHeadLearnsFurtherClasses) {
  // Words that nobody knew, and a text without any.
  learned_.rows.front().texts.push_back("qwolimber vextrabule");
  learned_.rows.front().texts.push_back("");
  v1::LexicalHead settings;
  settings.set_hash_bits(14);
  settings.set_epochs(5);
  settings.set_seed(1);
  const auto before = LexicalHead::Train(settings, examples_, absl::InfiniteFuture());
  ASSERT_TRUE(before.ok()) << before.status();
  const auto learn = [&](absl::Time deadline, std::vector<LexicalRow>* rows) {
    return LearnLexical(*before, settings, examples_, learned_, deadline, rows);
  };
  std::vector<LexicalRow> rows(learned_.rows.size());
  const auto after = learn(absl::InfiniteFuture(), &rows);
  ASSERT_TRUE(after.ok()) << after.status();
  rows[Below(rows.size())] = {};
  const auto same = learn(absl::InfiniteFuture(), &rows);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ((*after)->temperature(), (*before)->temperature());
  const auto logits = [](const LexicalHead& head) {
    return [&head](const std::string& text) { return head.Logits(text); };
  };
  const auto score = [](const LexicalHead& head) {
    return [&head](const std::string& text, const std::vector<bool>& live, HeadScores* scores) {
      head.Score(text, live, scores);
    };
  };
  ExpectLearned({.logits_before = logits(**before),
                 .logits_after = logits(**after),
                 .logits_same = logits(**same),
                 .score_before = score(**before),
                 .score_after = score(**after)},
                0.6);
  HeadScores scores;
  const std::vector<bool> live(classes(), true);
  (*after)->Score("vextrabule qwolimber", live, &scores);
  EXPECT_EQ(Best(scores), learned_.rows.front().place);
  // What it explains adds up, of classes that learned, too.
  for (const LearnedClasses::Row& row : learned_.rows) {
    for (const std::string& text : {row.texts[0], Text(Below(kTrained)), row.texts[1] + " qwo"}) {
      const std::vector<float> of_text = (*after)->Logits(text);
      const size_t other = Below(classes());
      for (const size_t against : {classes(), other}) {
        if (!std::isfinite(of_text[row.place]) || !std::isfinite(of_text[against])) continue;
        const LexicalHead::Explanation why = (*after)->Explain(text, row.place, against);
        double sum = why.prior;
        for (const LexicalHead::Feature& feature : why.features) sum += feature.contribution;
        EXPECT_NEAR(sum * (*after)->temperature(), double{of_text[row.place]} - of_text[against],
                    1e-2);
      }
    }
  }
  std::vector<LexicalRow> none(learned_.rows.size());
  EXPECT_EQ(learn(absl::InfinitePast(), &none).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

// Neighbours that are taken over count as if they had been added here, under their new labels.
TEST_F(ManyClassesLearningTest, NearestExamplesAreTakenOver) {
  for (int round = 0; round < 20; ++round) {
    auto known = std::make_shared<NearestExamples>(5, WordVectors::kDimension);
    const std::vector<int> label_of = {3, -1, 0, 4, 6};
    NearestExamples plain(7, WordVectors::kDimension);
    for (size_t i = Below(60); i > 0; --i) {
      const size_t label = Below(5);
      const std::vector<float> vector = WordVectors::Of(Text(label));
      known->Add(vector, static_cast<int>(label));
      if (label_of[label] >= 0) plain.Add(vector, label_of[label]);
    }
    NearestExamples further(7, known, label_of);
    for (size_t i = Below(20); i > 0; --i) {
      const size_t label = Below(7);
      const std::vector<float> vector = WordVectors::Of(Text(label));
      further.Add(vector, static_cast<int>(label));
      plain.Add(vector, static_cast<int>(label));
    }
    for (int i = 0; i < 20; ++i) {
      const std::vector<float> vector = WordVectors::Of(Text(Below(7)));
      ASSERT_EQ(further.Shares(vector), plain.Shares(vector));
    }
  }
}

// Through each kind of head what one member learns is fitted beside what was trained, which is
// kept; beyond what may be learned so, everything is trained together, and what was learned counts
// still.
enum class HeadKind { kLexical, kEncoder, kEnsemble };

class ManyMembersLearningTest : public ManyClassesTest,
                                public testing::WithParamInterface<HeadKind> {};

TEST_P(ManyMembersLearningTest, ARouterLearnsAsIfItHadBeenTold) {
  const bool embeds = GetParam() != HeadKind::kLexical;
  v1::Graph graph;
  graph.mutable_metadata()->set_name("many");
  if (embeds) {
    v1::Model& words = *graph.mutable_spec()->add_models();
    words.set_name("words");
    words.set_path("words");
  }
  v1::Node& main = *graph.mutable_spec()->add_nodes();
  main.set_name("main");
  main.mutable_router()->set_fallback("other");
  v1::Head& head = *main.mutable_router()->add_heads();
  head.set_threshold(0.05);
  if (embeds) {
    head.mutable_encoder()->set_model("words");
    head.mutable_encoder()->set_epochs(3);
    head.mutable_encoder()->set_seed(1);
    head.mutable_encoder()->set_ensemble(GetParam() == HeadKind::kEnsemble);
  } else {
    head.mutable_lexical()->set_hash_bits(14);
    head.mutable_lexical()->set_epochs(3);
    head.mutable_lexical()->set_seed(1);
  }
  constexpr size_t kMembers = kManyClasses + 50;
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
  EXPECT_EQ(model->embedded, embeds ? embedded + 1 : 0);
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

INSTANTIATE_TEST_SUITE_P(EachHead, ManyMembersLearningTest,
                         testing::Values(HeadKind::kLexical, HeadKind::kEncoder,
                                         HeadKind::kEnsemble));

}  // namespace
}  // namespace octogate::router
