#include "router/graph_store.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/memory_store.h"
#include "router/graph_diff.h"
#include "tests/router/random_graph.h"

namespace octogate::router {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string Manifest(const std::string& text) {
  return absl::StrCat(
      "# kept as it is\napiVersion: octogate/v1\nkind: Graph\nmetadata: {name: g}\nspec:\n"
      "  entry: a\n  nodes:\n    - {name: a, tool: {tool: reply, parameters: {text: ",
      text, "}}}\n");
}

const absl::Time kNever = absl::InfiniteFuture();

class GraphStoreTest : public testing::Test {
 protected:
  GraphStore Open(int max_versions = 1000) {
    return GraphStore(store_.get(), {.max_versions = max_versions,
                                     .clock = [] { return absl::FromUnixMillis(1234); }});
  }
  void Damage(int version) {
    const std::string key = store_->List("", "", 1000, kNever).value()[version - 1];
    std::string value = store_->Get(key, kNever).value();
    value.back() ^= 1;
    ASSERT_TRUE(store_->Put(key, value, kNever, kNever).ok());
  }

  std::unique_ptr<Store> store_ = MakeMemoryStore();
};

TEST_F(GraphStoreTest, KeepsVersionsAsTheyWereApplied) {
  GraphStore graphs = Open();
  std::vector<std::string> warnings;
  EXPECT_EQ(graphs.Load(kNever, &warnings).status().code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(graphs.Apply(Manifest("one"), "one.yaml", 0, kNever)->info.version(), 1);
  ASSERT_EQ(graphs.Apply(Manifest("two"), "two.yaml", 1, kNever)->info.version(), 2);

  GraphStore later = Open();
  const StoredGraph loaded = later.Load(kNever, &warnings).value();
  EXPECT_EQ(loaded.info.version(), 2);
  EXPECT_EQ(loaded.info.source(), "two.yaml");
  EXPECT_EQ(loaded.info.applied_at_ms(), 1234);
  EXPECT_EQ(loaded.info.nodes(), 1);
  EXPECT_TRUE(loaded.info.active());
  EXPECT_EQ(loaded.manifest, Manifest("two"));
  EXPECT_FALSE(later.Get(1, kNever)->info.active());
  EXPECT_THAT(later.List(10, kNever).value(), SizeIs(2));
  EXPECT_EQ(later.List(1, kNever).value()[0].version(), 2);
  EXPECT_TRUE(warnings.empty());
}

TEST_F(GraphStoreTest, RefusesAnotherVersionThanExpected) {
  GraphStore graphs = Open();
  EXPECT_EQ(graphs.Apply(Manifest("x"), "x", 3, kNever).status().code(),
            absl::StatusCode::kAborted);
  ASSERT_TRUE(graphs.Apply(Manifest("one"), "x", 0, kNever).ok());
  ASSERT_TRUE(graphs.Apply(Manifest("two"), "x", 0, kNever).ok());
  EXPECT_EQ(graphs.Apply(Manifest("x"), "x", 1, kNever).status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(graphs.Rollback(1, 1, kNever).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(graphs.Apply("kind: no", "x", 0, kNever).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(graphs.List(10, kNever).value(), SizeIs(2)) << "nothing was written";
}

// A store that was set back can come to another graph under a number that a writer has seen.
TEST_F(GraphStoreTest, RefusesAnotherGraphUnderTheExpectedNumber) {
  GraphStore graphs = Open();
  const v1::GraphVersion seen = graphs.Apply(Manifest("seen"), "x", 0, kNever)->info;
  store_ = MakeMemoryStore();
  GraphStore later = Open();
  const v1::GraphVersion present = later.Apply(Manifest("other"), "x", 0, kNever)->info;
  ASSERT_EQ(present.version(), seen.version());
  for (const int64_t version : {seen.version(), int64_t{0}}) {
    const ExpectedGraph wrong{.version = version, .digest = seen.digest()};
    EXPECT_TRUE(absl::IsAborted(later.Apply(Manifest("new"), "x", wrong, kNever).status()));
    EXPECT_TRUE(absl::IsAborted(later.Rollback(1, wrong, kNever).status()));
  }
  EXPECT_THAT(later.List(10, kNever).value(), SizeIs(1)) << "nothing was written";
  const ExpectedGraph right{.version = present.version(), .digest = present.digest()};
  EXPECT_EQ(later.Apply(Manifest("new"), "x", right, kNever)->info.version(), 2);
}

TEST_F(GraphStoreTest, RollsBackAsANewVersion) {
  GraphStore graphs = Open();
  ASSERT_TRUE(graphs.Apply(Manifest("one"), "x", 0, kNever).ok());
  EXPECT_EQ(graphs.Rollback(0, 0, kNever).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(graphs.Apply(Manifest("two"), "x", 0, kNever).ok());
  const StoredGraph back = graphs.Rollback(0, 2, kNever).value();
  EXPECT_EQ(back.info.version(), 3);
  EXPECT_EQ(back.info.source(), "rollback to 1");
  EXPECT_EQ(back.manifest, Manifest("one"));
  EXPECT_EQ(graphs.Rollback(77, 0, kNever).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GraphStoreTest, DropsTheOldestBeyondTheLimit) {
  GraphStore graphs = Open(3);
  for (int i = 1; i <= 6; ++i) ASSERT_TRUE(graphs.Apply(Manifest("t"), "x", 0, kNever).ok());
  std::vector<int64_t> versions;
  const auto infos = graphs.List(10, kNever).value();
  for (const auto& info : infos) versions.push_back(info.version());
  EXPECT_THAT(versions, ElementsAre(6, 5, 4));
}

TEST_F(GraphStoreTest, ADamagedVersionGivesWayToTheOneBefore) {
  GraphStore graphs = Open();
  for (const char* text : {"one", "two", "three"}) {
    ASSERT_TRUE(graphs.Apply(Manifest(text), "x", 0, kNever).ok());
  }
  Damage(3);
  std::vector<std::string> warnings;
  EXPECT_EQ(graphs.Load(kNever, &warnings)->info.version(), 2);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("WARNING: version 3")));
  EXPECT_EQ(graphs.Get(3, kNever).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(graphs.List(10, kNever).value()[1].active());
  EXPECT_EQ(graphs.Apply(Manifest("four"), "x", 2, kNever)->info.version(), 4)
      << "numbers are not used twice";
  for (const int version : {1, 2, 4}) Damage(version);
  EXPECT_EQ(graphs.Load(kNever, &warnings).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(GraphStoreTest, ConcurrentWritersNeverShareAVersion) {
  std::atomic<int> applied = 0;
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&] {
      GraphStore graphs = Open();
      for (int i = 0; i < 25; ++i) {
        const auto stored = graphs.Apply(Manifest("t"), "x", 0, kNever);
        if (stored.ok()) ++applied;
        ASSERT_TRUE(stored.ok() || absl::IsAborted(stored.status())) << stored.status();
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_THAT(Open().List(1000, kNever).value(), SizeIs(applied.load()));
}

TEST_F(GraphStoreTest, NumbersAtTheEndOfTheirRangeOverflowNothing) {
  GraphStore graphs = Open();
  ASSERT_TRUE(store_->Put("graph/version/9223372036854775807", "lie", kNever, kNever).ok());
  EXPECT_EQ(graphs.Apply(Manifest("one"), "x", 0, kNever)->info.version(), 1);
  ASSERT_TRUE(store_->Put("graph/version/9223372036854775806", "lie", kNever, kNever).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(graphs.Apply(Manifest("x"), "x", 0, kNever).status()));
  EXPECT_EQ(graphs.Get(0, kNever)->info.version(), 1);
}

TEST_F(GraphStoreTest, KnowsTheNewestByItsName) {
  GraphStore graphs = Open();
  EXPECT_FALSE(graphs.IsNewest(1, kNever).value());
  ASSERT_TRUE(graphs.Apply(Manifest("one"), "x", 0, kNever).ok());
  EXPECT_TRUE(graphs.IsNewest(1, kNever).value());
  ASSERT_TRUE(graphs.Apply(Manifest("two"), "x", 0, kNever).ok());
  EXPECT_FALSE(graphs.IsNewest(1, kNever).value());
  EXPECT_TRUE(graphs.IsNewest(2, kNever).value());
  EXPECT_FALSE(graphs.IsNewest(3, kNever).value());
}

TEST_F(GraphStoreTest, WhatIsPutBackIsNotified) {
  GraphStore graphs = Open();
  const StoredGraph lost = graphs.Apply(Manifest("one"), "x", 0, kNever).value();
  store_ = MakeMemoryStore();
  GraphStore later = Open();
  std::atomic<int> changes = 0;
  const auto watch = later.WatchChanges([&] { ++changes; });
  const int before = changes;
  ASSERT_TRUE(later.PutBack(lost, kNever).ok());
  EXPECT_GT(changes, before);
  EXPECT_TRUE(absl::IsAborted(later.PutBack(lost, kNever)));
}

// Lists what a test says, and has nothing else.
class LyingStore final : public Store {
 public:
  using Names = std::function<std::vector<std::string>(std::string_view after, size_t limit)>;
  explicit LyingStore(Names names) : names_(std::move(names)) {}
  absl::StatusOr<std::string> Get(std::string_view, absl::Time) override { return Nothing(); }
  absl::Status Put(std::string_view, std::string_view, absl::Time, absl::Time) override {
    return Nothing();
  }
  absl::Status CompareAndSet(std::string_view, std::optional<std::string_view>, std::string_view,
                             absl::Time, absl::Time) override {
    return Nothing();
  }
  absl::StatusOr<std::vector<std::string>> List(std::string_view, std::string_view after,
                                                size_t limit, absl::Time) override {
    return names_(after, limit);
  }
  absl::Status Delete(std::string_view, absl::Time) override { return Nothing(); }

 private:
  static absl::Status Nothing() { return absl::NotFoundError("it has nothing"); }
  const Names names_;
};

TEST(GraphStoreLiesTest, ListsWithoutEndEnd) {
  const std::string prefix = "graph/version/";
  int64_t next = 1'000'000;
  const LyingStore::Names lies[] = {
      [&](std::string_view, size_t limit) {  // the same name for ever
        return std::vector<std::string>(limit, prefix + "n");
      },
      [&](std::string_view, size_t limit) {  // another one for ever
        std::vector<std::string> names;
        while (names.size() < limit) names.push_back(absl::StrCat(prefix, next++));
        return names;
      },
      [&](std::string_view, size_t) { return std::vector<std::string>{"g"}; },
  };
  for (const LyingStore::Names& lie : lies) {
    LyingStore store(lie);
    EXPECT_TRUE(absl::IsDataLoss(GraphStore(&store, {}).Newest(kNever).status()));
  }
}

std::string Show(const v1::GraphChange& change) {
  const char* kind = change.kind() == v1::CHANGE_KIND_ADDED     ? "+"
                     : change.kind() == v1::CHANGE_KIND_REMOVED ? "-"
                                                                : "~";
  return absl::StrCat(kind, change.path(), ": ", change.before(), " => ", change.after());
}

std::vector<std::string> Diff(const v1::Graph& before, const v1::Graph& after) {
  std::vector<std::string> lines;
  for (const v1::GraphChange& change : DiffGraphs(before, after)) lines.push_back(Show(change));
  return lines;
}

TEST(GraphDiffTest, NamesWhatChanged) {
  v1::Graph before;
  before.mutable_metadata()->set_name("g");
  for (const char* name : {"a", "b", "c"}) before.mutable_spec()->add_nodes()->set_name(name);
  v1::Node& a = *before.mutable_spec()->mutable_nodes(0);
  a.mutable_model()->set_max_tokens(10);
  a.add_examples("one");
  a.add_examples("two");
  v1::Edge& edge = *before.mutable_spec()->add_edges();
  edge.set_from("a");
  edge.set_to("b");
  edge.set_on(v1::EDGE_CONDITION_LOW_CONFIDENCE);
  edge.set_below(0.5);
  EXPECT_TRUE(Diff(before, before).empty());

  v1::Graph after = before;
  after.mutable_metadata()->set_description("new");
  v1::GraphSpec& spec = *after.mutable_spec();
  spec.mutable_nodes(0)->mutable_model()->set_max_tokens(20);
  spec.mutable_nodes(0)->set_examples(0, "three");
  (*spec.mutable_nodes(1)->mutable_tool()->mutable_parameters())["k"] = "v";
  spec.mutable_edges(0)->set_below(0.25);
  spec.mutable_nodes()->SwapElements(1, 2);
  EXPECT_THAT(
      Diff(before, after),
      ElementsAre("+metadata.description:  => new", "-nodes[a].examples[0]: one => ",
                  "+nodes[a].examples[0]:  => three", "~nodes[a].model.maxTokens: 10 => 20",
                  "+nodes[b].tool:  => parameters:\n  k: v\n", "~nodes order: a, b, c => a, c, b",
                  "~edges[a->b on lowConfidence].below: 0.5 => 0.25"));
}

TEST(GraphDiffPropertyTest, OnlyEqualGraphsHaveNoDifferenceAndDirectionsMirror) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const v1::Graph a = RandomGraph(&random);
    const v1::Graph b = RandomGraph(&random);
    const auto there = DiffGraphs(a, b);
    const auto back = DiffGraphs(b, a);
    ASSERT_EQ(there.empty(), MessageDifferencer::Equals(a, b));
    ASSERT_EQ(there.size(), back.size());
    ASSERT_TRUE(DiffGraphs(a, a).empty());
  }
}

TEST_F(GraphStoreTest, DrainedNodesAreKeptApartFromVersions) {
  GraphStore graphs = Open();
  const DrainedNodes none = graphs.Drained(kNever).value();
  EXPECT_EQ(none.revision, 0);
  EXPECT_THAT(none.names, SizeIs(0));
  const DrainedNodes two{.revision = 1, .names = {"math", "shell"}};
  ASSERT_TRUE(graphs.SetDrained(none, two, kNever).ok());
  EXPECT_EQ(Open().Drained(kNever)->revision, 1);
  EXPECT_THAT(Open().Drained(kNever)->names, ElementsAre("math", "shell"));
  EXPECT_TRUE(absl::IsNotFound(graphs.Get(0, kNever).status()));  // they are no versions
  // Who has seen another list changes nothing.
  EXPECT_TRUE(absl::IsAborted(graphs.SetDrained(none, {.revision = 1, .names = {}}, kNever)));
  const DrainedNodes back{.revision = 2, .names = {}};
  ASSERT_TRUE(graphs.SetDrained(two, back, kNever).ok());
  EXPECT_EQ(graphs.Drained(kNever)->revision, 2);
  EXPECT_THAT(graphs.Drained(kNever)->names, SizeIs(0));
}

TEST_F(GraphStoreTest, FlushesNameTheOneBefore) {
  GraphStore graphs = Open();
  EXPECT_EQ(graphs.LastFlush(kNever)->id, "");
  const CacheFlush first = graphs.Flush("a\nb", kNever).value();
  EXPECT_EQ(first.before, "");
  const CacheFlush second = Open().Flush("", kNever).value();
  EXPECT_NE(second.id, first.id);
  EXPECT_EQ(second.before, first.id);
  EXPECT_EQ(second.tenant, "");
  const CacheFlush third = graphs.Flush("a\nb", kNever).value();
  EXPECT_EQ(graphs.LastFlush(kNever)->id, third.id);
  EXPECT_EQ(graphs.LastFlush(kNever)->before, second.id);
  EXPECT_EQ(graphs.LastFlush(kNever)->tenant, "a\nb");
  for (const char* damaged : {"", "x", "x\n", "\n\n"}) {
    ASSERT_TRUE(store_->Put("graph/flush", damaged, kNever, kNever).ok());
    EXPECT_TRUE(absl::IsDataLoss(graphs.LastFlush(kNever).status())) << damaged;
  }
  EXPECT_EQ(graphs.Flush("a", kNever)->before, "");
}

TEST_F(GraphStoreTest, NoticesADamagedListOfDrainedNodes) {
  GraphStore graphs = Open();
  for (const char* text :
       {"", "1", "x\na\n", "0\na\n", "1\nb\na\n", "1\na", "01\na\n", "9223372036854775807\na\n"}) {
    ASSERT_TRUE(store_->Put("graph/drained", text, kNever, kNever).ok());
    EXPECT_TRUE(absl::IsDataLoss(graphs.Drained(kNever).status())) << text;
  }
  ASSERT_TRUE(graphs.ForgetDrained(kNever).ok());
  EXPECT_EQ(graphs.Drained(kNever)->revision, 0);
}

}  // namespace
}  // namespace octogate::router
