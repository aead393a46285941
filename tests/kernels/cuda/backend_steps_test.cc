// Steps of the CUDA backend, in which operations are put off and repeated, against
// the reference: the same bits. And what it says of what it cannot have.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#ifdef OCTOGATE_CUDA_EMULATED
#include "kernels/cuda/memory.h"
#endif
#include "tests/kernels/cuda/backend_fixture.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::CudaBackendTest;
using testing::DeviceFloats;
using testing::Floats;
using testing::kPoison;
using testing::StoredMatrix;

// Steps of a growing sequence and its neighbours, put off and run as graphs: what
// the reference gives, which does everything at once.
TEST_F(CudaBackendTest, StepsAreTheirOperations) {
  constexpr int kHeadDim = 16;
  constexpr int kHeads = 2;
  constexpr int kWidth = kHeads * kHeadDim;
  constexpr int kPages = 64;
  constexpr int kSteps = 24;
  const KvCacheShape cache_shape{1, kPages, 8, 1, kHeadDim, DType::kF32};
  const AttentionShape shape{kHeads, 1, kHeadDim, 0.3f, 0};
  const StoredMatrix table(Random(50 * kWidth), DType::kF32, 50, kWidth);
  const StoredMatrix projection(Random(kWidth * kWidth, 0.2f), DType::kF32, kWidth, kWidth);
  const Floats frequencies = {1.0f, 0.1f, 0.01f};
  // Pages of sequence s are 16 s, 16 s + 1, ...; ids of every row of every step.
  const int sequences = random_.Int(1, 3);
  std::vector<std::vector<int32_t>> pages(static_cast<size_t>(sequences));
  std::vector<int32_t> firsts(static_cast<size_t>(sequences));
  for (int s = 0; s < sequences; ++s) {
    pages[static_cast<size_t>(s)].resize(16);
    std::iota(pages[static_cast<size_t>(s)].begin(), pages[static_cast<size_t>(s)].end(), 16 * s);
    firsts[static_cast<size_t>(s)] = random_.Int(0, 60);
  }
  std::vector<int32_t> all_ids(static_cast<size_t>(kSteps * 3));
  for (int32_t& id : all_ids) id = random_.Int(0, 49);
  // Results are asked for within these steps.
  const int read_inside = random_.Int(0, kSteps - 1);
  const int ranked_inside = random_.Int(0, kSteps - 1);
  ASSERT_TRUE(Same([&](Backend& backend) {
    const auto embedding = backend.LoadWeight(table.matrix(), WeightFormat::kStored);
    const auto weight = backend.LoadWeight(projection.matrix(), WeightFormat::kStored);
    const auto cache = backend.CreateKvCache(cache_shape);
    DeviceFloats zeros(backend, Floats(128 * kHeadDim, 0.5f));
    for (const auto& own : pages) {  // the past
      const SequenceRows past{0, 100, 0, own};
      backend.WriteKv(*cache, 0, {&past, 1}, zeros.data(), zeros.data(), kHeadDim);
    }
    DeviceFloats x(backend, Floats(3 * kWidth, kPoison));
    DeviceFloats attended(backend, Floats(3 * kWidth, kPoison));
    DeviceFloats out(backend, Floats(3 * kWidth, kPoison));
    Floats result;
    for (int step = 0; step < kSteps; ++step) {
      // What the backend may keep nothing of goes when the step has been described.
      std::vector<int32_t> ids(all_ids.begin() + step * 3, all_ids.begin() + step * 3 + sequences);
      std::vector<int32_t> positions;
      std::vector<SequenceRows> rows;
      for (int s = 0; s < sequences; ++s) {
        positions.push_back(firsts[static_cast<size_t>(s)] + step);
        rows.push_back({s, 1, positions.back(), pages[static_cast<size_t>(s)]});
      }
      backend.BeginStep();
      backend.Embed(*embedding, ids, x.data());
      backend.Rope({kHeads, kHeadDim, frequencies, 1}, positions, kWidth, x.data());
      backend.WriteKv(*cache, 0, rows, x.data(), x.data() + kHeadDim, kWidth);
      if (step == read_inside) {
        const Floats early = x.Get();
        result.insert(result.end(), early.begin(), early.begin() + sequences * kWidth);
      }
      backend.Attention(shape, *cache, 0, rows, x.data(), kWidth, attended.data());
      backend.MatMul(*weight, nullptr, attended.data(), sequences, false, out.data(), kWidth);
      if (step == ranked_inside) {
        constexpr int kRanked = 3;
        std::vector<int32_t> ranked_ids(static_cast<size_t>(sequences * kRanked), -7);
        Floats ranked(ranked_ids.size(), kPoison);
        Floats log_sum_exp(static_cast<size_t>(sequences), kPoison);
        backend.TopK(out.data(), sequences, kWidth, kRanked, ranked_ids, ranked, log_sum_exp);
        result.insert(result.end(), ranked_ids.begin(), ranked_ids.end());
        result.insert(result.end(), ranked.begin(), ranked.end());
        result.insert(result.end(), log_sum_exp.begin(), log_sum_exp.end());
      }
      std::fill(ids.begin(), ids.end(), -1);
      std::fill(positions.begin(), positions.end(), -1);
      backend.EndStep();
      const Floats step_out = out.Get();
      result.insert(result.end(), step_out.begin(), step_out.begin() + sequences * kWidth);
    }
    return result;
  })) << "sequences "
      << sequences << " (seed " << testing::Seed() << ")";
  const cuda::StepCounters& counters = cuda::StepCountersOf(*backend_);
  EXPECT_GE(counters.replayed, static_cast<uint64_t>(kSteps / 2));
  EXPECT_GE(counters.captured, 1u);
}

#ifdef OCTOGATE_CUDA_EMULATED
TEST_F(CudaBackendTest, LeavesMemoryForKernelsAndGraphs) {
  EXPECT_EQ(backend_->FreeBytes(), cuda::FreeDeviceBytes() - (size_t{256} << 20));
}
#endif

TEST_F(CudaBackendTest, WhatCannotBeHadIsSaid) {
  std::string problem;
  EXPECT_EQ(cuda::MakeBackend({.device = 1000}, &problem), nullptr);
  EXPECT_NE(problem.find("there is no device 1000"), std::string::npos) << problem;
  const HostMatrix wide{nullptr, DType::kBF16, 1, kMaxQuantizedColumns + 1};
  EXPECT_EQ(backend_->LoadWeight(wide, WeightFormat::kInt8), nullptr);
  EXPECT_EQ(backend_->Allocate(std::numeric_limits<size_t>::max()), nullptr);
  constexpr int kMany = std::numeric_limits<int>::max();
  EXPECT_EQ(backend_->CreateKvCache({kMany, kMany, kMany, kMany, kMany, DType::kF32}), nullptr);
  EXPECT_EQ(backend_->CreateKvCache({kMany, kMany, kMany, kMany, kMaxHeadDim, DType::kI8}),
            nullptr);
}

}  // namespace
}  // namespace octogate::kernels
