// Lexical heads of very many classes: that they find the right ones, and the same ones as when
// nothing is left out.
#include "router/many_lexical_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/lexical_head.h"
#include "router/router.h"
#include "tests/router/many_classes.h"
#include "tests/router/routing_data.h"

namespace octogate::router {
namespace {

using ManyLexicalModelTest = ManyClassesTest;

TEST_F(ManyLexicalModelTest, ALexicalHeadDecidesAsOneThatLeavesNothingOut) {
  const size_t classes = 300;
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

TEST_F(ManyLexicalModelTest, ALexicalHeadOfManyClassesIsDeterministicAndTakesAnyText) {
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

// On few classes, where the head that weighs all can be asked too.
TEST_F(ManyLexicalModelTest, OnRealTextsItIsAboutAsGoodAsAHeadThatWeighsAll) {
  const auto folder = TestDataFolder();
  if (!folder) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: CLINC150 is not measured";
  const RoutingData data = EveryNthClass(ReadClinc150(*folder), 3);
  v1::LexicalHead settings;
  settings.set_hash_bits(16);
  settings.set_epochs(8);
  settings.set_seed(1);
  const auto all = LexicalHead::Train(settings, data.train, absl::InfiniteFuture());
  ASSERT_TRUE(all.ok()) << all.status();
  const auto few = ManyLexicalModel::Train(
      16, {.epochs = 8, .seed = 1, .learning_rate = 0.15, .smoothing = 0.05}, data.train,
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
TEST_F(ManyLexicalModelTest, ARouterOfManyMembersRoutesLearnsAndDrains) {
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

// A coverage that cannot be had says why that is, which is not the same as with few members.
TEST_F(ManyLexicalModelTest, ACoverageBeyondWhatIsWeighedIsNamed) {
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
