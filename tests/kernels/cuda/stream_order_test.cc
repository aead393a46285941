// What works ahead of the device keeps the order of its streams: tables that are
// staged, steps behind steps, pages beside kernels. The emulated streams do their
// work as late as they may, or at once (emulated_stream.h), so that a wait that is
// missing shows in the data. The streams themselves first.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/page_copies.h"
#include "kernels/cuda/weight_copies.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::cuda {
namespace {

using testing::RandomData;
using Ints = std::vector<int32_t>;

// Many, as a stream may do much of one at once.
constexpr int kTrials = 300;

OCTOGATE_KERNEL void CopyKernel(const int32_t* from, int count, int32_t* to) {
  for (int i = ThreadIndex(); i < count; i += BlockThreads()) to[i] = from[i];
}
OCTOGATE_KERNEL void FillKernel(int32_t value, int count, int32_t* to) {
  for (int i = ThreadIndex(); i < count; i += BlockThreads()) to[i] = value + i;
}

class StreamOrderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string problem;
    ASSERT_TRUE(OpenStream(0, &kernels_, &problem)) << problem;
    ASSERT_TRUE(OpenStream(0, &copies_, &problem)) << problem;
  }
  void TearDown() override {
    CloseStream(kernels_);
    CloseStream(copies_);
  }

  Ints Random(int count) {
    Ints values(static_cast<size_t>(count));
    for (int32_t& value : values) value = random_.Int(0, 1 << 20);
    return values;
  }
  void Copy(const int32_t* from, size_t count, int32_t* to) {
    Launch(kernels_, Grid{}, 32, 0, CopyKernel, from, static_cast<int>(count), to);
  }

  // Describes `count` tables, of which the one in the middle may have up to `most`
  // entries and others 100, to a kernel each. `stage` takes a table to the device;
  // the memory that it read is the caller's again at once.
  void CheckTables(int count, int most,
                   const std::function<const int32_t*(std::span<const int32_t>)>& stage) {
    std::vector<Ints> tables;
    std::vector<Ints> seen;
    for (int i = 0; i < count; ++i) {
      Ints table = Random(random_.Int(1, i == count / 2 ? most : 100));
      tables.push_back(table);
      seen.emplace_back(table.size(), -1);
      const int32_t* device = stage(table);
      ASSERT_NE(device, nullptr);
      std::fill(table.begin(), table.end(), -2);
      Copy(device, seen.back().size(), seen.back().data());
    }
    Synchronize(kernels_);
    ASSERT_EQ(seen, tables);
  }

  const ::testing::ScopedTrace trace_{__FILE__, __LINE__,
                                      "OCTOGATE_TEST_SEED=" + std::to_string(testing::Seed())};
  RandomData random_;
  Stream kernels_;
  Stream copies_;
};

TEST_F(StreamOrderTest, WorkIsDoneAtOnceOrWhenSomethingWaits) {
  int late = 0;
  int at_once = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    int32_t host = 1;
    int32_t device = 0;
    int32_t last = 0;
    CopyToDevice(kernels_, &host, sizeof(host), &device);
    Copy(&device, 1, &last);
    const bool is_late = last == 0;
    (is_late ? late : at_once) += 1;
    host = 2;
    Synchronize(kernels_);
    EXPECT_EQ(device, is_late ? 2 : 1);
    EXPECT_EQ(last, device);
  }
  EXPECT_GT(late, 0);
  EXPECT_GT(at_once, 0);
}

TEST_F(StreamOrderTest, EventsOrderStreamsAndTheHost) {
  int missed = 0;  // by kernels that did not wait for the copy
  int seen = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Event event = MakeEvent();
    WaitFor(*event);  // of nothing
    int32_t first = 0;
    int32_t second = 0;
    int32_t third = 0;
    const int32_t one = 1;
    CopyToDevice(kernels_, &one, sizeof(one), &first);
    Record(kernels_, *event);
    WaitInStream(copies_, *event);
    CopyOnDevice(copies_, &first, sizeof(first), &second);
    Record(copies_, *event);
    Copy(&second, 1, &third);
    WaitFor(*event);
    EXPECT_EQ(second, 1);
    Synchronize(kernels_);
    EXPECT_TRUE(third == 0 || third == 1);
    (third == 0 ? missed : seen) += 1;
  }
  EXPECT_GT(missed, 0);
  EXPECT_GT(seen, 0);
}

TEST_F(StreamOrderTest, MemoryIsFreedWhenNothingUsesItAnyMore) {
  for (int trial = 0; trial < kTrials; ++trial) {
    const Ints values = Random(100);
    Ints out(values.size());
    DeviceMemory memory = AllocateDevice(values.size() * sizeof(int32_t));
    CopyToDevice(kernels_, values.data(), values.size() * sizeof(int32_t), memory.get());
    Copy(static_cast<const int32_t*>(memory.get()), values.size(), out.data());
    memory = nullptr;
    EXPECT_EQ(out, values);
  }
}

// Kernels find the tables that were staged for them, whatever the caller's memory and
// the host's half of the staging hold by then.
TEST_F(StreamOrderTest, StagedTablesReachTheirKernels) {
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto staging = Staging::Make(kernels_, 1024);
    ASSERT_NE(staging, nullptr);
    ASSERT_NO_FATAL_FAILURE(CheckTables(40, 600, [&](std::span<const int32_t> table) {
      staging->Begin(1, table.size_bytes());
      return staging->Put(table);
    }));
  }
}

// The same for steps that are described while the ones before them run.
TEST_F(StreamOrderTest, TablesOfAStepStayUntilTheyAreSent) {
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto staging = StepStaging::Make(kernels_, 2048);
    ASSERT_NE(staging, nullptr);
    ASSERT_NO_FATAL_FAILURE(CheckTables(20, 100, [&](std::span<const int32_t> table) {
      staging->Begin();
      const int32_t* device = staging->Put(StepStaging::Kind::kIds, table);
      staging->Send();
      return device;
    }));
  }
}

// Weights of many pieces, one after another.
TEST_F(StreamOrderTest, WeightsArriveAsTheyWerePacked) {
  const auto copies = WeightCopies::Make(kernels_);
  ASSERT_NE(copies, nullptr);
  for (int trial = 0; trial < 20; ++trial) {
    const int rows = random_.Int(1, 700);
    const int cols = random_.Int(1, 80);
    const testing::StoredMatrix matrix(random_.Floats(static_cast<size_t>(rows * cols)),
                                       DType::kBF16, rows, cols);
    const RowMajorCodes codes = RowMajorCodes::Of(matrix.matrix());
    const size_t group_bytes = codes.shape.group_bytes();
    std::vector<uint8_t> expected(codes.shape.bytes());
    for (int group = 0; group < codes.shape.groups(); ++group) {
      PackGroup(codes, group, expected.data() + static_cast<size_t>(group) * group_bytes);
    }
    std::vector<uint8_t> device(expected.size(), 0xAB);
    ASSERT_TRUE(copies->Copy(codes, device.data()));
    ASSERT_EQ(device, expected);
  }
}

// Pages that come, go and are read and written by kernels in any order hold what they
// would if all were done at once.
TEST_F(StreamOrderTest, PagesAreCopiedInTheOrderOfTheKernels) {
  constexpr int kPageInts = 48;
  constexpr size_t kPageBytes = kPageInts * sizeof(int32_t);
  constexpr int kPages = 3;
  constexpr int kOperations = 60;
  for (int trial = 0; trial < kTrials; ++trial) {
    // Pages that do not fit into the ring take another way.
    const size_t ring = kPageBytes * static_cast<size_t>(random_.Int(0, 3));
    const auto copies = PageCopies::Make(kernels_, copies_, ring);
    ASSERT_NE(copies, nullptr);
    std::vector<Ints> pages;     // on the device
    std::vector<Ints> expected;  // what they will hold
    for (int page = 0; page < kPages; ++page) {
      pages.push_back(Random(kPageInts));
      expected.push_back(pages.back());
    }
    // What is downloaded to the host and what kernels see, each in a place of its own.
    std::vector<Ints> host(kOperations, Ints(kPageInts, -1));
    std::vector<Ints> expected_host = host;
    std::vector<Ints> seen = host;
    std::vector<Ints> expected_seen = host;
    for (size_t i = 0; i < kOperations; ++i) {
      const auto p = static_cast<size_t>(random_.Int(0, kPages - 1));
      switch (random_.Int(0, 3)) {
        case 0: {
          const int32_t value = random_.Int(0, 1 << 20);
          Launch(kernels_, Grid{}, 32, 0, FillKernel, value, kPageInts, pages[p].data());
          for (int32_t k = 0; k < kPageInts; ++k) expected[p][static_cast<size_t>(k)] = value + k;
          break;
        }
        case 1:
          Copy(pages[p].data(), kPageInts, seen[i].data());
          expected_seen[i] = expected[p];
          break;
        case 2:
          copies->Download(pages[p].data(), std::as_writable_bytes(std::span(host[i])));
          expected_host[i] = expected[p];
          break;
        default: {
          // Of what was downloaded before, perhaps just now.
          const auto from = static_cast<size_t>(random_.Int(0, static_cast<int>(i)));
          copies->Upload(std::as_bytes(std::span(host[from])), pages[p].data());
          expected[p] = expected_host[from];
        }
      }
    }
    copies->Finish();
    ASSERT_EQ(host, expected_host);
    Synchronize(kernels_);
    ASSERT_EQ(seen, expected_seen);
    ASSERT_EQ(pages, expected);
  }
}

}  // namespace
}  // namespace octogate::kernels::cuda
