// Attention of the CUDA backend against the reference's: the same bits, hence also
// the same for a row alone and in any company, for a prompt in any chunks, and for
// a tree's row and the plain decode of its path.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/backend_fixture.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::CudaBackendTest;
using testing::DeviceFloats;
using testing::Floats;
using testing::kPoison;
using testing::RandomData;
using testing::SameBits;

// A random tree: parents come before children, and some rows have none.
std::vector<AncestorMask> RandomTree(RandomData& random, int rows) {
  std::vector<AncestorMask> masks(static_cast<size_t>(rows));
  for (int r = 0; r < rows; ++r) {
    const int parent = random.Int(std::max(-1, r - 6), r - 1);
    if (parent >= 0) masks[static_cast<size_t>(r)] = masks[static_cast<size_t>(parent)];
    masks[static_cast<size_t>(r)].words[r / 64] |= uint64_t{1} << (r % 64);
  }
  return masks;
}

// Chains and trees behind pasts of all lengths, their pages in random order;
// then an accepted path is compacted and decoding goes on behind it.
TEST_F(CudaBackendTest, Attention) {
  std::string problem;
  backend_ = cuda::MakeBackend({.exact_attention = true}, &problem);
  ASSERT_NE(backend_, nullptr) << problem;
  constexpr DType kKvTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8};
  for (int trial = 0; trial < 15; ++trial) {
    constexpr int kPageSizes[] = {1, 7, 16, 64};
    constexpr int kHeadDims[] = {8, 20, 64, 130};
    KvCacheShape cache_shape{.layers = 2,
                             .pages = 0,
                             .page_size = kPageSizes[random_.Int(0, 3)],
                             .kv_heads = random_.Int(1, 2),
                             .head_dim = kHeadDims[random_.Int(0, 3)],
                             .dtype = kKvTypes[trial % 5]};
    const AttentionShape shape{.heads = cache_shape.kv_heads * random_.Int(1, 6),
                               .kv_heads = cache_shape.kv_heads,
                               .head_dim = cache_shape.head_dim,
                               .scale = 0.2f,
                               .sliding_window = random_.Int(0, 1) * random_.Int(1, 400)};
    const int kv_width = cache_shape.kv_heads * cache_shape.head_dim;
    const int q_stride = shape.heads * shape.head_dim + random_.Int(0, 4);
    struct Sequence {
      int past;
      int rows;
      std::vector<AncestorMask> masks;
      bool bidirectional;
      std::vector<int32_t> pages;
      Floats past_keys, past_values;
    };
    std::vector<Sequence> sequences(static_cast<size_t>(random_.Int(1, 3)));
    int step_rows = 0;
    for (Sequence& s : sequences) {
      constexpr int kPasts[] = {0, 1, 255, 256, 257, 512};
      s.past = random_.Int(0, 1) == 0 ? kPasts[random_.Int(0, 5)] : random_.Int(0, 600);
      s.rows = random_.Int(0, 1) == 0 ? 1 : random_.Int(1, 12);
      if (random_.Int(0, 1) == 0) s.masks = RandomTree(random_, s.rows);
      s.bidirectional = s.masks.empty() && shape.sliding_window == 0 && random_.Int(0, 1) == 0;
      s.past_keys = Random(s.past * kv_width);
      s.past_values = Random(s.past * kv_width);
      const int pages = (s.past + s.rows) / cache_shape.page_size + 1;
      for (int p = 0; p < pages; ++p) s.pages.push_back(cache_shape.pages++);
      step_rows += s.rows;
    }
    std::vector<int32_t> order(static_cast<size_t>(cache_shape.pages));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[static_cast<size_t>(random_.Int(0, static_cast<int>(i) - 1))]);
    }
    for (Sequence& s : sequences) {
      for (int32_t& page : s.pages) page = order[static_cast<size_t>(page)];
    }
    Floats keys = Random(step_rows * kv_width);
    Floats values = Random(step_rows * kv_width);
    if (SizeOf(cache_shape.dtype) == 1) {  // what has no scale, or none that is a number
      constexpr float kSpecial[] = {NAN, INFINITY, -1e30f, 500.0f, 0x1p-120f};
      values[static_cast<size_t>(random_.Int(0, step_rows * kv_width - 1))] =
          kSpecial[random_.Int(0, 4)];
      std::fill_n(keys.begin(), cache_shape.head_dim, 0.0f);
    }
    const Floats q = Random(step_rows * q_stride, 2);
    // The path of the last row of the first sequence, if that is a tree.
    std::vector<int32_t> path;
    for (int r = 0; !sequences[0].masks.empty() && r < sequences[0].rows; ++r) {
      if ((sequences[0].masks.back().words[r / 64] >> (r % 64) & 1) != 0) path.push_back(r);
    }

    ASSERT_TRUE(Same([&](Backend& backend) {
      const auto cache = backend.CreateKvCache(cache_shape);
      std::vector<SequenceRows> step;
      int first_row = 0;
      for (const Sequence& s : sequences) {
        if (s.past > 0) {
          DeviceFloats past_keys(backend, s.past_keys);
          DeviceFloats past_values(backend, s.past_values);
          const SequenceRows past{0, s.past, 0, s.pages};
          backend.WriteKv(*cache, 0, {&past, 1}, past_values.data(), past_keys.data(), kv_width);
          backend.WriteKv(*cache, 1, {&past, 1}, past_keys.data(), past_values.data(), kv_width);
        }
        step.push_back({first_row, s.rows, s.past, s.pages, s.masks, s.bidirectional});
        first_row += s.rows;
      }
      DeviceFloats new_keys(backend, keys);
      DeviceFloats new_values(backend, values);
      DeviceFloats queries(backend, q);
      DeviceFloats out(
          backend, Floats(static_cast<size_t>(step_rows * shape.heads * shape.head_dim), kPoison));
      Floats result;
      for (int layer = 0; layer < 2; ++layer) {
        backend.WriteKv(*cache, layer, step, new_keys.data(), new_values.data(), kv_width);
        backend.Attention(shape, *cache, layer, step, queries.data(), q_stride, out.data());
        const Floats layer_out = out.Get();
        result.insert(result.end(), layer_out.begin(), layer_out.end());
      }
      if (!path.empty()) {
        const Sequence& s = sequences[0];
        backend.MoveKv(*cache, s.pages, s.past, path);
        const SequenceRows next{0, 1, s.past + static_cast<int>(path.size()) - 1, s.pages};
        for (int layer = 0; layer < 2; ++layer) {
          backend.Attention(shape, *cache, layer, {&next, 1}, queries.data(), q_stride, out.data());
          const Floats layer_out = out.Get();
          result.insert(result.end(), layer_out.begin(), layer_out.end());
        }
      }
      return result;
    })) << "trial "
        << trial << " head_dim " << shape.head_dim << " heads " << shape.heads << " window "
        << shape.sliding_window << " page " << cache_shape.page_size;
  }
}

// One row with a long context is split over thread blocks, many rows are not:
// the row's bits are the same.
TEST_F(CudaBackendTest, SplittingTheContextDoesNotShow) {
  constexpr int kLength = 1100;
  const KvCacheShape cache_shape{1, kLength / 16 + 1, 16, 1, 16, DType::kBF16};
  const AttentionShape shape{2, 1, 16, 0.3f, 0};
  std::vector<int32_t> pages(static_cast<size_t>(cache_shape.pages));
  std::iota(pages.rbegin(), pages.rend(), 0);
  const auto cache = backend_->CreateKvCache(cache_shape);
  DeviceFloats keys(*backend_, Random(kLength * 16));
  DeviceFloats values(*backend_, Random(kLength * 16));
  const SequenceRows all{0, kLength, 0, pages};
  backend_->WriteKv(*cache, 0, {&all, 1}, keys.data(), values.data(), 16);
  // More rows than the emulated GPU wants thread blocks, of 32; a real one is
  // shown enough of them to count.
  constexpr int kRows = 40;
  const SequenceRows many{0, kRows, kLength - kRows, pages};
  const Floats q = Random(kRows * 32);
  DeviceFloats queries(*backend_, q);
  DeviceFloats out(*backend_, Floats(q.size(), kPoison));
  backend_->Attention(shape, *cache, 0, {&many, 1}, queries.data(), 32, out.data());
  const Floats together = out.Get();
  for (int r = 0; r < kRows; r += 7) {
    const SequenceRows one{0, 1, kLength - kRows + r, pages};
    DeviceFloats alone(*backend_, Floats(32, kPoison));
    backend_->Attention(shape, *cache, 0, {&one, 1}, queries.data() + r * 32, 32, alone.data());
    ASSERT_TRUE(
        SameBits(Floats(together.begin() + r * 32, together.begin() + (r + 1) * 32), alone.Get()));
  }
}

}  // namespace
}  // namespace octogate::kernels
