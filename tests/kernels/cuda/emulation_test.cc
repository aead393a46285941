// The emulation itself: what it computes, and that it finds the mistakes it is
// there for.

#include "tests/kernels/cuda/emulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::cuda {
namespace {

using testing::RandomData;

OCTOGATE_KERNEL void WriteIndices(int* out) {
  const int block = (BlockZ() * GridY() + BlockY()) * GridX() + BlockX();
  out[block * BlockThreads() + ThreadIndex()] = block * 1000 + ThreadIndex();
}

TEST(EmulationTest, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> out(3 * 2 * 4 * 64, -1);
  Launch(Stream{}, {3, 2, 4}, 64, 0, WriteIndices, out.data());
  for (size_t i = 0; i < out.size(); ++i) {
    ASSERT_EQ(out[i], static_cast<int>(i / 64 * 1000 + i % 64));
  }
}

// Each thread passes its value on through shared memory, kTurns times.
OCTOGATE_KERNEL void RotateThroughSharedMemory(int turns, bool barriers, int* out) {
  int* shared = SharedMemory<int>();
  int value = ThreadIndex();
  for (int turn = 0; turn < turns; ++turn) {
    shared[ThreadIndex()] = value;
    if (barriers) Barrier();
    value = shared[(ThreadIndex() + 1) % BlockThreads()];
    if (barriers) Barrier();
  }
  out[ThreadIndex()] = value;
}

TEST(EmulationTest, BarriersOrderSharedMemory) {
  constexpr int kThreads = 128;
  constexpr int kTurns = 5;
  std::vector<int> out(kThreads);
  Launch(Stream{}, {}, kThreads, kThreads * sizeof(int), RotateThroughSharedMemory, kTurns, true,
         out.data());
  for (int i = 0; i < kThreads; ++i) {
    ASSERT_EQ(out[static_cast<size_t>(i)], (i + kTurns) % kThreads);
  }
  // Without them some thread reads what is not there yet: the order of 128
  // threads is never the one that would hide it.
  Launch(Stream{}, {}, kThreads, kThreads * sizeof(int), RotateThroughSharedMemory, 1, false,
         out.data());
  bool wrong = false;
  for (int i = 0; i < kThreads; ++i) {
    wrong |= out[static_cast<size_t>(i)] != (i + 1) % kThreads;
  }
  EXPECT_TRUE(wrong);
}

OCTOGATE_KERNEL void ShuffleAll(const float* in, float* out) {
  const float value = in[ThreadIndex()];
  float* to = out + ThreadIndex() * 3;
  to[0] = ShuffleXor(value, 5);
  to[1] = WarpSum(value);
  to[2] = WarpAny(value > 1000) ? 1.0f : 0.0f;
}

TEST(EmulationTest, ShufflesStayInTheirWarp) {
  std::vector<float> in(64);
  for (int i = 0; i < 64; ++i) in[static_cast<size_t>(i)] = static_cast<float>(i);
  in[40] = 1001;
  std::vector<float> out(64 * 3);
  Launch(Stream{}, {}, 64, 0, ShuffleAll, in.data(), out.data());
  for (int i = 0; i < 64; ++i) {
    const float* got = out.data() + i * 3;
    const int first = i / 32 * 32;
    const int lane = i % 32;
    EXPECT_EQ(got[0], in[static_cast<size_t>(first + (lane ^ 5))]);
    EXPECT_EQ(got[1], i < 32 ? 496.0f : 1520.0f - 40 + 1001);
    EXPECT_EQ(got[2], i < 32 ? 0.0f : 1.0f);
  }
}

// d = a * b of one warp, a [16, 16] and b [16, 8] brought in by ldmatrix from
// shared memory, b both as it stands and through its transpose.
template <typename T>
OCTOGATE_KERNEL void MultiplyTile(const T* a, const T* b, const T* b_transposed, float* d,
                                  float* d_transposed) {
  T* shared = SharedMemory<T>();
  T* shared_b = shared + 256;
  T* shared_bt = shared_b + 128;
  CopyAsync(shared + ThreadIndex() * 8, a + ThreadIndex() * 8);
  if (ThreadIndex() < 16) {
    CopyAsync(shared_b + ThreadIndex() * 8, b + ThreadIndex() * 8);
    CopyAsync(shared_bt + ThreadIndex() * 8, b_transposed + ThreadIndex() * 8);
  }
  CopyAsyncCommit();
  CopyAsyncWait<0>();
  Barrier();
  uint32_t a_registers[4];
  LoadMatrix4(shared + (Lane() % 16) * 16 + Lane() / 16 * 8, a_registers);
  uint32_t b_registers[4];  // b twice
  float sum[4] = {};
  LoadMatrix4Transposed(shared_b + Lane() % 16 * 8, b_registers);
  Mma<T>(sum, a_registers, {b_registers[0], b_registers[1]});
  float sum_transposed[4] = {};
  LoadMatrix4(shared_bt + (Lane() % 8) * 16 + Lane() / 8 % 2 * 8, b_registers);
  Mma<T>(sum_transposed, a_registers, {b_registers[2], b_registers[3]});
  for (int i = 0; i < 4; ++i) {
    const int at = (Lane() / 4 + i / 2 * 8) * 8 + Lane() % 4 * 2 + i % 2;
    d[at] = sum[i];
    d_transposed[at] = sum_transposed[i];
  }
}

template <typename T>
void CheckTile(RandomData& random) {
  alignas(16) T a[256];
  alignas(16) T b[128];
  alignas(16) T bt[128];
  for (T& x : a) x = FromFloat<T>(random.Float());
  for (int k = 0; k < 16; ++k) {
    for (int n = 0; n < 8; ++n) bt[n * 16 + k] = b[k * 8 + n] = FromFloat<T>(random.Float());
  }
  float d[128];
  float dt[128];
  Launch(Stream{}, {}, 32, 512 * sizeof(T), MultiplyTile<T>, a, b, bt, d, dt);
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      double expected = 0;
      for (int k = 0; k < 16; ++k) {
        expected += static_cast<double>(ToFloat(a[m * 16 + k])) * ToFloat(b[k * 8 + n]);
      }
      ASSERT_EQ(d[m * 8 + n], static_cast<float>(expected));
      ASSERT_EQ(dt[m * 8 + n], d[m * 8 + n]);
    }
  }
}

TEST(EmulationTest, MatrixInstructionsMultiply) {
  RandomData random;
  CheckTile<Bf16>(random);
  CheckTile<F16>(random);
}

OCTOGATE_KERNEL void ForgetToWait(const float* in, float* out) {
  float* shared = SharedMemory<float>();
  const int first = 4 * ThreadIndex();
  CopyAsync(shared + first, in + first, ThreadIndex() % 2 == 0);
  CopyAsyncCommit();
  out[ThreadIndex()] = shared[first + 3];
  CopyAsyncWait<0>();
  out[BlockThreads() + ThreadIndex()] = shared[first + 3];
}

TEST(EmulationTest, AnAsynchronousCopyIsThereAfterTheWait) {
  alignas(16) float in[4 * 256];
  std::fill(std::begin(in), std::end(in), 3.0f);
  std::vector<float> out(512);
  Launch(Stream{}, {}, 256, sizeof(in), ForgetToWait, in, out.data());
  int missing = 0;
  for (size_t i = 0; i < 256; ++i) {
    missing += std::isnan(out[i]) ? 1 : 0;
    ASSERT_EQ(out[256 + i], i % 2 == 0 ? 3.0f : 0.0f);
  }
  EXPECT_GT(missing, 0) << "all of 256 copies happened before they were waited for";
}

OCTOGATE_KERNEL void DivergeAtBarrier() {
  if (ThreadIndex() != 5) Barrier();
}
OCTOGATE_KERNEL void MeetAtDifferentBarriers() {
  if (ThreadIndex() < 32) {
    Barrier();
  } else {
    Barrier();
  }
}
OCTOGATE_KERNEL void LeaveWarp() {
  if (ThreadIndex() != 5) WarpBarrier();
}
OCTOGATE_KERNEL void WriteBehindSharedMemory(int at) { SharedMemory<char>()[at] = 1; }
OCTOGATE_KERNEL void CopyToNowhere(const float* in) { CopyAsync(SharedMemory<float>() + 6, in); }
OCTOGATE_KERNEL void LoadMisaligned(const float* in) { LoadVector(in + 1); }

using EmulationDeathTest = ::testing::Test;

TEST(EmulationDeathTest, MistakesEndTheProcess) {
  alignas(16) const float in[8] = {};
  EXPECT_DEATH(Launch(Stream{}, {}, 64, 0, DivergeAtBarrier), "not all threads of the block reach");
  EXPECT_DEATH(Launch(Stream{}, {}, 64, 0, MeetAtDifferentBarriers), "meet at different barriers");
  EXPECT_DEATH(Launch(Stream{}, {}, 64, 0, LeaveWarp), "not all lanes reach");
  EXPECT_DEATH(Launch(Stream{}, {}, 32, 20, WriteBehindSharedMemory, 20), "write behind");
  EXPECT_DEATH(Launch(Stream{}, {}, 32, 20, WriteBehindSharedMemory, 32), "");
  EXPECT_DEATH(Launch(Stream{}, {}, 32, 20, WriteBehindSharedMemory, -1), "write before");
  EXPECT_DEATH(Launch(Stream{}, {}, 32, 32, CopyToNowhere, in), "not in the block's shared memory");
  EXPECT_DEATH(Launch(Stream{}, {}, 32, 0, LoadMisaligned, in), "misaligned");
  EXPECT_DEATH(Launch(Stream{}, {}, 33, 0, DivergeAtBarrier), "whole warps");
}

}  // namespace
}  // namespace octogate::kernels::cuda
