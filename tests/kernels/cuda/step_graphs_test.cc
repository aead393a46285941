// Steps as graphs: a graph is run only for a step that tells the device the very
// same, and what it does is what the step's launches do. In the emulation a graph
// keeps the launches it was made of, so that one run for another step shows in the
// results.

#include "kernels/cuda/step_graphs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/memory.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::cuda {
namespace {

using testing::RandomData;

struct Scale {
  float factor = 1;
  int offset = 0;
  bool operator==(const Scale&) const = default;
};

// to = from * factor + offset, and twice that.
OCTOGATE_KERNEL void ScaleKernel(const float* from, Scale scale, int count, float* to) {
  const int i = BlockX() * BlockThreads() + ThreadIndex();
  if (i < count) to[i] = from[i] * scale.factor + static_cast<float>(scale.offset);
}
OCTOGATE_KERNEL void DoubleScaleKernel(const float* from, Scale scale, int count, float* to) {
  const int i = BlockX() * BlockThreads() + ThreadIndex();
  if (i < count) to[i] = 2 * (from[i] * scale.factor + static_cast<float>(scale.offset));
}

constexpr int kFloats = 70;

struct Operation {
  int from, to, count;
  bool twice;
  Scale scale;

  void Do(Stream stream, std::vector<std::vector<float>>& memory) const {
    Launch(stream, Grid{BlocksFor(count, 32)}, 32, 0, twice ? DoubleScaleKernel : ScaleKernel,
           memory[static_cast<size_t>(from)].data(), scale, count,
           memory[static_cast<size_t>(to)].data());
  }
};

std::vector<std::vector<float>> RandomMemory(RandomData& random) {
  std::vector<std::vector<float>> memory(4);
  for (auto& floats : memory) floats = random.Floats(kFloats);
  return memory;
}

// Steps that differ in one argument, one address, one kernel or their number of
// launches, in random order.
TEST(StepGraphsTest, AnyStepDoesWhatItsLaunchesDo) {
  RandomData random;
  std::vector<std::vector<Operation>> steps;
  std::vector<Operation> step;
  for (int i = 0; i < 5; ++i) {
    step.push_back({random.Int(0, 3),
                    random.Int(0, 3),
                    random.Int(1, kFloats),
                    random.Int(0, 1) == 1,
                    {0.5f, random.Int(-3, 3)}});
  }
  steps.push_back(step);
  for (int i = 0; i < 12; ++i) {
    std::vector<Operation> other = step;
    Operation& changed = other[static_cast<size_t>(random.Int(0, 4))];
    switch (i % 6) {
      case 0:
        changed.from = (changed.from + 1) % 4;
        break;
      case 1:
        changed.to = (changed.to + 1) % 4;
        break;
      case 2:
        changed.count = changed.count % kFloats + 1;
        break;
      case 3:
        changed.twice = !changed.twice;
        break;
      case 4:
        changed.scale.offset += random.Int(1, 3);
        break;
      default:
        other.pop_back();
    }
    steps.push_back(other);
  }
  auto memory = RandomMemory(random);
  auto expected = memory;
  StepGraphs graphs(static_cast<size_t>(random.Int(1, 16)));
  LaunchLog log;
  constexpr uint64_t kSteps = 200;
  for (uint64_t i = 0; i < kSteps; ++i) {
    const auto& chosen = steps[static_cast<size_t>(random.Int(0, 12))];
    log.Clear();
    Stream put_off;
    put_off.log = &log;
    const auto before = memory;
    for (const Operation& operation : chosen) operation.Do(put_off, memory);
    ASSERT_EQ(memory, before) << "a launch was not put off";
    graphs.Run(log, StreamHandle{});
    for (const Operation& operation : chosen) operation.Do(Stream{}, expected);
    ASSERT_EQ(memory, expected) << "step " << i << " (seed " << testing::Seed() << ")";
  }
  const StepCounters& counters = graphs.counters();
  EXPECT_EQ(counters.launched + counters.captured + counters.replayed, kSteps);
  EXPECT_GE(counters.captured, 1u);
}

TEST(StepGraphsTest, AGraphIsMadeTheSecondTimeAndRunFromThenOn) {
  RandomData random;
  auto memory = RandomMemory(random);
  StepGraphs graphs(4);
  const auto run = [&](const Operation& operation) {
    LaunchLog log;
    Stream put_off;
    put_off.log = &log;
    operation.Do(put_off, memory);
    graphs.Run(log, StreamHandle{});
  };
  const Operation operation{0, 1, kFloats, false, {0.25f, 1}};
  for (int i = 0; i < 5; ++i) run(operation);
  EXPECT_EQ(graphs.counters().launched, 1u);
  EXPECT_EQ(graphs.counters().captured, 1u);
  EXPECT_EQ(graphs.counters().replayed, 3u);
  // Data in the same place may change.
  const std::vector<float> other = random.Floats(kFloats);
  std::copy(other.begin(), other.end(), memory[0].begin());
  run(operation);
  EXPECT_EQ(graphs.counters().replayed, 4u);
  for (size_t i = 0; i < kFloats; ++i) EXPECT_EQ(memory[1][i], memory[0][i] * 0.25f + 1);
  // Another address is another step.
  memory.push_back(memory[0]);
  run({0, 4, kFloats, false, {0.25f, 1}});
  EXPECT_EQ(graphs.counters().replayed, 4u);
  EXPECT_EQ(memory[4], memory[1]);
}

// Steps with a different number of blocks each, through one memory.
class Shapes {
 public:
  explicit Shapes(StepGraphs& graphs) : graphs_(graphs), memory_(RandomMemory(random_)) {}
  void Run(int shape) {
    LaunchLog log;
    Stream put_off;
    put_off.log = &log;
    Launch(put_off, Grid{BlocksFor(kFloats, 32) + static_cast<unsigned>(shape)}, 32, 0, ScaleKernel,
           memory_[0].data(), Scale{0.5f, 1}, kFloats, memory_[1].data());
    graphs_.Run(log, StreamHandle{});
  }

 private:
  RandomData random_;
  StepGraphs& graphs_;
  std::vector<std::vector<float>> memory_;
};

// One shape more than there is room for: the others keep their graphs, and no step
// of any pays for a graph again.
TEST(StepGraphsTest, ShapesInTurnDoNotThrowEachOtherOut) {
  constexpr int kGraphs = 8;
  constexpr int kRounds = 400;
  StepGraphs graphs(kGraphs);
  Shapes shapes(graphs);
  for (int round = 0; round < kRounds; ++round) {
    for (int shape = 0; shape <= kGraphs; ++shape) shapes.Run(shape);
  }
  EXPECT_EQ(graphs.counters().captured, static_cast<uint64_t>(kGraphs));
  EXPECT_EQ(graphs.counters().replayed, static_cast<uint64_t>(kGraphs) * (kRounds - 2));
}

TEST(StepGraphsTest, AStepThatComesMoreOftenTakesTheGraphThatWasRunLeast) {
  StepGraphs graphs(2);
  Shapes shapes(graphs);
  for (int i = 0; i < 20; ++i) shapes.Run(0);
  for (int i = 0; i < 10; ++i) shapes.Run(1);
  for (uint32_t i = 0; i + 1 < 10 * StepGraphs::kTimesMore; ++i) shapes.Run(2);
  EXPECT_EQ(graphs.counters().captured, 2u);
  shapes.Run(2);
  EXPECT_EQ(graphs.counters().captured, 3u);
  const uint64_t replayed = graphs.counters().replayed;
  shapes.Run(0);
  shapes.Run(2);
  EXPECT_EQ(graphs.counters().replayed, replayed + 2);
  shapes.Run(1);
  EXPECT_EQ(graphs.counters().replayed, replayed + 2);
}

// However often it was run once.
TEST(StepGraphsTest, AGraphThatIsRunNoMoreMakesRoom) {
  StepGraphs graphs(1);
  Shapes shapes(graphs);
  constexpr int kRuns = 5000;
  for (int i = 0; i < kRuns; ++i) shapes.Run(0);
  for (int i = 0; i < kRuns; ++i) shapes.Run(1);
  EXPECT_EQ(graphs.counters().captured, 2u);
  const uint64_t replayed = graphs.counters().replayed;
  shapes.Run(1);
  EXPECT_EQ(graphs.counters().replayed, replayed + 1);
}

TEST(StepGraphsTest, NoneAreMadeWhereNoneAreKept) {
  RandomData random;
  auto memory = RandomMemory(random);
  StepGraphs none(0);
  LaunchLog log;
  Stream put_off;
  put_off.log = &log;
  Operation{0, 1, kFloats, false, {1, 0}}.Do(put_off, memory);
  for (int i = 0; i < 3; ++i) none.Run(log, StreamHandle{});
  EXPECT_EQ(none.counters().launched, 3u);
}

using Kind = StepStaging::Kind;

// Tables of equal kinds and size classes lie in the same places in every step, and
// hold what was put there once they are sent.
TEST(StepStagingTest, PlacesDoNotDependOnContents) {
  RandomData random;
  const auto staging = StepStaging::Make(Stream{}, size_t{1} << 16);
  std::vector<const int32_t*> places;
  for (int step = 0; step < 20; ++step) {
    staging->Begin();
    std::vector<std::vector<int32_t>> tables;
    std::vector<const int32_t*> step_places;
    for (const Kind kind : {Kind::kIds, Kind::kPositions, Kind::kPages, Kind::kRows}) {
      // 65 to 128 values are one class of sizes.
      tables.emplace_back(static_cast<size_t>(random.Int(65, 128)));
      for (int32_t& value : tables.back()) value = step % 2 == 0 ? 7 : random.Int(0, 1000);
      step_places.push_back(staging->Put(kind, std::span<const int32_t>(tables.back())));
      ASSERT_EQ(staging->Put(kind, std::span<const int32_t>(tables.back())), step_places.back());
    }
    staging->Send();
    for (size_t i = 0; i < tables.size(); ++i) {
      EXPECT_EQ(std::memcmp(step_places[i], tables[i].data(), tables[i].size() * sizeof(int32_t)),
                0);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(step_places[i]) % 16, 0u);
    }
    EXPECT_EQ(std::set<const int32_t*>(step_places.begin(), step_places.end()).size(), 4u);
    if (step == 0) places = step_places;
    EXPECT_EQ(step_places, places);
  }
}

TEST(StepStagingTest, SaysWhereThereIsNoRoomLeft) {
  const auto staging = StepStaging::Make(Stream{}, 1024);
  const std::vector<int32_t> half(128, 1);
  const std::vector<int32_t> other(128, 2);
  const std::vector<int32_t> third(1, 3);
  staging->Begin();
  EXPECT_NE(staging->Put(Kind::kIds, std::span<const int32_t>(half)), nullptr);
  EXPECT_NE(staging->Put(Kind::kIds, std::span<const int32_t>(other)), nullptr);
  EXPECT_EQ(staging->Put(Kind::kIds, std::span<const int32_t>(third)), nullptr);
  EXPECT_NE(staging->Put(Kind::kIds, std::span<const int32_t>(other)), nullptr);
  staging->Begin();
  EXPECT_NE(staging->Put(Kind::kIds, std::span<const int32_t>(third)), nullptr);
}

}  // namespace
}  // namespace octogate::kernels::cuda
