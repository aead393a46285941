// Heads that decide by prediction sets: what is in a set, what a cascade does with it, and that the
// stated coverage is kept.
#include "router/prediction_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/cascade_rules.h"
#include "router/graph_manifest.h"
#include "router/router.h"
#include "router/routing_step.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::Head Lexical() {
  v1::Head head;
  head.mutable_lexical()->set_hash_bits(10);
  head.mutable_lexical()->set_epochs(5);
  return head;
}

v1::Head WithCoverage(v1::Head head, double coverage) {
  head.set_coverage(coverage);
  return head;
}

class PredictionSetTest : public testing::Test {
 protected:
  PredictionSetTest() { std::cout << "seed " << seed_ << "\n"; }

  double Uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  // Of one of kClasses subjects or, the last one, of none; one in six has no word of its own.
  static constexpr int kClasses = 3;
  std::string Text(int subject) {
    std::string text;
    for (int i = 0; i < 6; ++i) {
      const bool own = random_() % 4 == 0;
      absl::StrAppend(&text, own ? absl::StrCat("w", subject, "x") : "common", random_() % 12, " ");
    }
    return text;
  }

  // Routes between nodes "n0" to "n2"; texts of none are the fallback's.
  v1::Graph Graph(int examples, const std::vector<v1::Head>& heads) {
    v1::Graph graph;
    graph.mutable_metadata()->set_name("sets");
    v1::Node& root = *graph.mutable_spec()->add_nodes();
    root.set_name("main");
    root.mutable_router()->set_fallback("sorry");
    for (const v1::Head& head : heads) *root.mutable_router()->add_heads() = head;
    for (int c = 0; c < kClasses; ++c) root.mutable_router()->add_members(absl::StrCat("n", c));
    for (int c = 0; c <= kClasses; ++c) {
      v1::Node& node = *graph.mutable_spec()->add_nodes();
      node.set_name(c == kClasses ? "sorry" : absl::StrCat("n", c));
      node.mutable_tool()->set_tool("echo");
      for (int i = 0; i < examples; ++i) node.add_examples(Text(c));
    }
    ApplyDefaults(&graph);
    return graph;
  }

  std::shared_ptr<const RoutingSnapshot> Build(v1::Graph graph) {
    auto snapshot = RoutingSnapshot::Build(
        std::move(graph), 1,
        {.causal = nullptr,
         .embedding = [this](std::string_view) -> absl::StatusOr<std::shared_ptr<EmbeddingModel>> {
           return model_;
         }},
        absl::InfiniteFuture());
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    return *std::move(snapshot);
  }

  // Lexical heads and BagOfWordsModel answer before the call returns.
  static v1::Decision Route(const RoutingSnapshot& snapshot, const std::string& query) {
    absl::StatusOr<v1::Decision> result = absl::UnknownError("not called");
    snapshot.Route("main", query, {},
                   [&](absl::StatusOr<v1::Decision> decision) { result = std::move(decision); });
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  const unsigned seed_ = std::random_device()();
  std::mt19937 random_{seed_};
  const std::shared_ptr<BagOfWordsModel> model_ = std::make_shared<BagOfWordsModel>();
};

TEST_F(PredictionSetTest, HoldsEveryCandidateFromTheCutOn) {
  for (int round = 0; round < 500; ++round) {
    const size_t tokens = 1 + random_() % 20;
    std::vector<float> probabilities(tokens);
    std::vector<bool> live(tokens);
    for (size_t i = 0; i < tokens; ++i) {
      probabilities[i] = static_cast<float>(std::round(Uniform() * 8) / 8);  // Some are equal.
      live[i] = random_() % 4 != 0;
    }
    const double live_probability = Uniform();
    const double cut = random_() % 8 == 0 ? 0 : Uniform() / 2;
    const PredictionSet set = PredictionSetOf(probabilities, live_probability, live, cut);
    std::vector<size_t> expected;
    for (size_t i = 0; i < tokens; ++i) {
      if (live[i] && probabilities[i] * live_probability >= cut) expected.push_back(i);
    }
    EXPECT_THAT(set.tokens, testing::UnorderedElementsAreArray(expected)) << "seed " << seed_;
    for (size_t k = 1; k < set.tokens.size(); ++k) {
      const float before = probabilities[set.tokens[k - 1]], after = probabilities[set.tokens[k]];
      ASSERT_TRUE(before > after || (before == after && set.tokens[k - 1] < set.tokens[k]))
          << "seed " << seed_;
    }
    EXPECT_EQ(set.none, 1 - live_probability >= cut);
    EXPECT_EQ(OutcomeOf(set), expected.empty()                    ? SetOutcome::kFallback
                              : expected.size() == 1 && !set.none ? SetOutcome::kToken
                                                                  : SetOutcome::kOpen);
  }
}

// Cascades of two lexical heads whose cuts are put between the scores of the query.
class SetCascadeTest : public PredictionSetTest {
 protected:
  // A head that lets just the `size` most probable candidates in.
  RouterRouting::Head Letting(size_t size, const std::string& query) const {
    HeadScores scores;
    lexical_->Score(query, std::vector<bool>(kClasses, true), &scores);
    std::vector<double> all = {1 - scores.live_probability};
    for (const float p : scores.probabilities) all.push_back(p * scores.live_probability);
    std::sort(all.begin(), all.end(), std::greater<>());
    all.push_back(0);
    const double above = size == 0 ? 1 : all[size - 1];
    EXPECT_GT(above, all[size]) << "seed " << seed_;
    RouterRouting::Head head;
    head.coverage = 0.9;
    head.threshold = (above + all[size]) / 2;
    head.lexical = lexical_;
    return head;
  }

  v1::Decision Decide(std::vector<RouterRouting::Head> heads, const std::string& query,
                      RouteOptions options = {}) const {
    RouterRouting routing;
    routing.node = snapshot_->FindNode("main");
    for (int c = 0; c < kClasses; ++c) {
      const std::string name = absl::StrCat("n", c);
      routing.places.emplace(name, routing.members.size());
      routing.members.push_back(snapshot_->FindNode(name));
    }
    routing.fallback = snapshot_->FindNode("sorry");
    routing.heads = std::move(heads);
    routing.rewritten.assign(kClasses, false);
    absl::StatusOr<v1::Decision> result = absl::UnknownError("not called");
    RunRoutingStep(snapshot_, routing, query, std::move(options),
                   [&](absl::StatusOr<v1::Decision> decision) { result = std::move(decision); });
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  const std::string member_ = "w1x1 w1x2 w1x3 w1x4 common1";
  const std::string none_ = "w3x1 w3x2 w3x3 w3x4 common1";
  RoutingExamples examples_ = [this] {
    RoutingExamples examples;
    examples.classes.resize(kClasses);
    for (int i = 0; i < 60; ++i) {
      for (int c = 0; c < kClasses; ++c) examples.classes[c].push_back(Text(c));
      examples.none.push_back(Text(kClasses));
    }
    return examples;
  }();
  const std::shared_ptr<const LexicalHead> lexical_ = [this] {
    v1::LexicalHead settings;
    settings.set_hash_bits(12);
    settings.set_epochs(20);
    settings.set_seed(1);
    return *LexicalHead::Train(settings, examples_, absl::InfiniteFuture());
  }();
  const std::shared_ptr<const RoutingSnapshot> snapshot_ = Build(Graph(1, {Lexical()}));
};

TEST_F(SetCascadeTest, ASetOfOneTokenDecides) {
  for (const bool inner : {true, false}) {
    const v1::Decision decision = inner
                                      ? Decide({Letting(1, member_), Letting(2, member_)}, member_)
                                      : Decide({Letting(2, member_), Letting(1, member_)}, member_);
    EXPECT_EQ(decision.node(), "n1");
    EXPECT_FALSE(decision.fallback());
    ASSERT_THAT(decision.heads(), SizeIs(inner ? 1 : 2));
    const v1::HeadScore& last = *decision.heads().rbegin();
    EXPECT_TRUE(last.decided());
    EXPECT_THAT(last.set(), ElementsAre("n1"));
    EXPECT_DOUBLE_EQ(decision.probability(),
                     last.scores(0).probability() * last.live_probability());
    EXPECT_EQ(decision.reason(), "lexical's prediction set of coverage 0.9 holds 'n1' alone");
    if (!inner) {
      EXPECT_FALSE(decision.heads(0).decided());
      EXPECT_THAT(decision.heads(0).set(), SizeIs(2));
    }
  }
}

TEST_F(SetCascadeTest, ALargerSetIsForTheNextHeadAndBehindTheLastForTheFallback) {
  const v1::Decision decision = Decide({Letting(2, member_), Letting(3, member_)}, member_);
  EXPECT_TRUE(decision.fallback());
  EXPECT_EQ(decision.node(), "sorry");
  EXPECT_EQ(decision.head(), "");
  ASSERT_THAT(decision.heads(), SizeIs(2));
  EXPECT_FALSE(decision.heads(0).decided() || decision.heads(1).decided());
  EXPECT_EQ(decision.heads(0).set(0), "n1");
  EXPECT_THAT(decision.heads(1).set(), SizeIs(3));
  EXPECT_THAT(decision.reason(),
              HasSubstr("lexical's prediction set of coverage 0.9 holds 'n1', "));
  EXPECT_THAT(decision.reason(), HasSubstr(", so the fallback 'sorry' takes it"));
}

TEST_F(SetCascadeTest, AHeadOfThresholdZeroBehindItTakesTheBestOfAnUndecidedSet) {
  RouterRouting::Head best;
  best.lexical = lexical_;
  const v1::Decision decision = Decide({Letting(3, member_), best}, member_);
  EXPECT_EQ(decision.node(), "n1");
  EXPECT_THAT(decision.heads(1).set(), IsEmpty());
}

TEST_F(SetCascadeTest, WithNoTokenInTheSetTheFallbackTakesItAtOnce) {
  for (const bool empty : {true, false}) {
    for (const bool inner : {true, false}) {
      const std::string& query = empty ? member_ : none_;
      const RouterRouting::Head open = Letting(2, query);
      const RouterRouting::Head ends = Letting(empty ? 0 : 1, query);
      const v1::Decision decision =
          inner ? Decide({ends, open}, query) : Decide({open, ends}, query);
      EXPECT_TRUE(decision.fallback());
      EXPECT_EQ(decision.node(), "sorry");
      ASSERT_THAT(decision.heads(), SizeIs(inner ? 1 : 2));
      const v1::HeadScore& last = *decision.heads().rbegin();
      EXPECT_TRUE(last.decided()) << "for the fallback";
      EXPECT_EQ(last.set_size(), empty ? 0 : 1);
      if (!empty) {
        EXPECT_EQ(last.set(0), "<none>");
      }
      EXPECT_THAT(decision.reason(), HasSubstr(empty ? "is empty, so" : "none of these alone, so"));
    }
  }
}

TEST_F(SetCascadeTest, HeadsAskedForTheirScoresChangeNothing) {
  for (const size_t size : {0U, 1U}) {
    const std::vector<RouterRouting::Head> heads = {Letting(size, member_), Letting(2, member_)};
    RouteOptions options;
    options.all_heads = true;
    const v1::Decision all = Decide(heads, member_, options);
    const v1::Decision some = Decide(heads, member_);
    EXPECT_THAT(all.heads(), SizeIs(2));
    EXPECT_FALSE(all.heads(1).decided());
    EXPECT_EQ(all.node(), some.node());
    EXPECT_EQ(all.reason(), some.reason());
    EXPECT_EQ(all.probability(), some.probability());
  }
}

TEST_F(SetCascadeTest, DrainedMembersAreNoCandidates) {
  RouterRouting::Head all;
  all.coverage = 0.9;
  all.lexical = lexical_;
  RouteOptions options;
  options.excluded = {"n1"};
  const v1::Decision decision = Decide({all}, member_, options);
  EXPECT_THAT(decision.heads(0).set(), testing::UnorderedElementsAre("n0", "n2", "<none>"));
}

// The heads in use are trained on everything, those that were measured on less, which favours
// coverage; the right candidate of a fresh query is in the set at least as often as stated. The
// margin is five standard deviations of the share that held-out and fresh texts together have.
TEST_F(PredictionSetTest, TheStatedCoverageIsKept) {
  constexpr int kRounds = 4;
  constexpr int kExamples = 100;
  constexpr int kFresh = 800;
  constexpr double kCoverage = 0.9;
  int covered = 0, candidates = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto snapshot = Build(Graph(kExamples, {WithCoverage(Lexical(), kCoverage)}));
    for (int i = 0; i < kFresh; ++i) {
      const int subject = i % (kClasses + 1);
      const std::string name = subject == kClasses ? "<none>" : absl::StrCat("n", subject);
      const v1::Decision decision = Route(*snapshot, Text(subject));
      const auto& set = decision.heads(0).set();
      covered += std::count(set.begin(), set.end(), name) > 0 ? 1 : 0;
      candidates += set.size();
      if (set.size() != 1) {
        ASSERT_TRUE(decision.fallback());
      }
    }
  }
  const double held_out = kRounds * kExamples * (kClasses + 1);
  const double deviation =
      std::sqrt(kCoverage * (1 - kCoverage) * (1 / held_out + 1.0 / (kRounds * kFresh)));
  EXPECT_GE(covered / double{kRounds * kFresh}, kCoverage - 5 * deviation) << "seed " << seed_;
  EXPECT_LT(candidates / double{kRounds * kFresh}, 3) << "or it would be easy; seed " << seed_;
}

// The coverage of a later head is that of the queries that reach it.
TEST_F(PredictionSetTest, EachHeadOfACascadeKeepsItsOwnCoverage) {
  constexpr int kRounds = 2;
  constexpr int kExamples = 60;
  constexpr int kFresh = 600;
  v1::Head encoder;
  encoder.mutable_encoder()->set_model("m");
  encoder.mutable_encoder()->set_epochs(5);
  double asked = 0, covered = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto snapshot =
        Build(Graph(kExamples, {WithCoverage(Lexical(), 0.95), WithCoverage(encoder, 0.8)}));
    for (int i = 0; i < kFresh; ++i) {
      const int subject = i % (kClasses + 1);
      const std::string name = subject == kClasses ? "<none>" : absl::StrCat("n", subject);
      const v1::Decision decision = Route(*snapshot, Text(subject));
      if (decision.heads_size() < 2) continue;
      const auto& set = decision.heads(1).set();
      ++asked;
      covered += std::count(set.begin(), set.end(), name) > 0 ? 1 : 0;
    }
  }
  ASSERT_GT(asked, 100) << "seed " << seed_;
  // As many held-out texts reach the head in proportion.
  const double held_out = asked * kExamples * (kClasses + 1) / kFresh;
  const double deviation = std::sqrt(0.8 * 0.2 * (1 / held_out + 1 / asked));
  EXPECT_GE(covered / asked, 0.8 - 5 * deviation) << "seed " << seed_;
}

TEST_F(PredictionSetTest, TooFewExamplesAreNamed) {
  const auto snapshot = Build(Graph(3, {WithCoverage(Lexical(), 0.95)}));
  const v1::Decision decision = Route(*snapshot, Text(0));
  EXPECT_TRUE(decision.fallback());
  EXPECT_THAT(decision.heads(0).set(), SizeIs(kClasses + 1));
  EXPECT_THAT(decision.reason(), HasSubstr("so high a coverage needs 19 held-out examples"));
}

TEST_F(PredictionSetTest, CausalHeadsHaveNoCoverage) {
  v1::Head head;
  head.mutable_causal();
  head.set_coverage(0.9);
  const auto thresholds = ChooseThresholds({{.settings = &head}}, {.classes = {{"a"}}, .none = {}},
                                           absl::InfiniteFuture());
  EXPECT_EQ(thresholds.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(thresholds.status().message(), HasSubstr("give it a 'threshold' instead"));
}

}  // namespace
}  // namespace octogate::router
