// A tree of drafts that is verified in one step: each row's attention is, bit
// for bit, that of a plain decode of its path, and the path that is accepted is
// left in the cache as plain decoding would have left it.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::SameBits;

struct Subject {
  std::string name;
  Isa isa;
  int threads;  // 0: the reference
};

// Rows in which every parent comes before its children. Some rows have no
// parent: they follow the sequence itself.
struct Tree {
  std::vector<AncestorMask> masks;
  std::vector<std::vector<int32_t>> paths;  // of each row, itself last
};

Tree RandomTree(RandomData& random, int rows, int shape) {
  Tree tree;
  for (int r = 0; r < rows; ++r) {
    // 0: anything; 1: bushy; 2: almost a chain; 3: a chain.
    int parent = random.Int(-1, r - 1);
    if (shape == 1) parent = random.Int(-1, std::min(r - 1, 8));
    if (shape == 2) parent = random.Int(std::max(-1, r - 3), r - 1);
    if (shape == 3) parent = r - 1;
    AncestorMask mask;
    std::vector<int32_t> path;
    if (parent >= 0) {
      mask = tree.masks[static_cast<size_t>(parent)];
      path = tree.paths[static_cast<size_t>(parent)];
    }
    mask.words[r / 64] |= uint64_t{1} << (r % 64);
    path.push_back(r);
    tree.masks.push_back(mask);
    tree.paths.push_back(path);
  }
  return tree;
}

// One sequence: its past and a tree.
struct Sequence {
  int past = 0;
  Tree tree;
  std::vector<float> past_keys, past_values;
  std::vector<float> keys, values, q;  // of the tree's rows
  std::vector<int32_t> pages;
};

std::vector<float> Rows(const std::vector<float>& from, std::span<const int32_t> rows, int width) {
  std::vector<float> result;
  for (const int32_t row : rows) {
    const auto at = from.begin() + static_cast<std::ptrdiff_t>(row) * width;
    result.insert(result.end(), at, at + width);
  }
  return result;
}

class TreeAttentionTest : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    const Subject& subject = GetParam();
    if (!IsSupported(subject.isa)) GTEST_SKIP() << "this CPU has no " << Name(subject.isa);
    backend_ = subject.threads == 0
                   ? MakeReferenceBackend()
                   : MakeCpuBackend({.threads = subject.threads, .isa = subject.isa});
    ASSERT_NE(backend_, nullptr);
  }

  void RandomShape() {
    constexpr int kPageSizes[] = {1, 7, 16, 64};
    constexpr int kHeadDims[] = {8, 20, 64, 96};
    constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8};
    cache_shape_ = {.layers = 2,
                    .pages = 0,
                    .page_size = kPageSizes[random_.Int(0, 3)],
                    .kv_heads = random_.Int(1, 2),
                    .head_dim = kHeadDims[random_.Int(0, 3)],
                    .dtype = kTypes[random_.Int(0, 4)]};
    shape_ = {.heads = cache_shape_.kv_heads * random_.Int(1, 5),
              .kv_heads = cache_shape_.kv_heads,
              .head_dim = cache_shape_.head_dim,
              .scale = 0.2f,
              .sliding_window = random_.Int(0, 1) * random_.Int(1, 400)};
    kv_width_ = cache_shape_.kv_heads * cache_shape_.head_dim;
    q_width_ = shape_.heads * shape_.head_dim;
  }

  // Pages stay unassigned.
  Sequence RandomSequence(int rows, int tree_shape) {
    Sequence sequence;
    // Also right before and behind the borders of attention's blocks.
    constexpr int kPasts[] = {0, 1, 200, 255, 256, 257, 500, 512};
    sequence.past = random_.Int(0, 1) == 0 ? kPasts[random_.Int(0, 7)] : random_.Int(0, 600);
    sequence.tree = RandomTree(random_, rows, tree_shape);
    const auto floats = [&](int count, int width) {
      return random_.Floats(static_cast<size_t>(count) * static_cast<size_t>(width));
    };
    sequence.past_keys = floats(sequence.past, kv_width_);
    sequence.past_values = floats(sequence.past, kv_width_);
    sequence.keys = floats(rows, kv_width_);
    sequence.values = floats(rows, kv_width_);
    sequence.q = floats(rows, q_width_);
    return sequence;
  }

  // Deals out pages in random order and makes a cache that holds the past.
  std::unique_ptr<KvCache> CacheOf(std::vector<Sequence>& sequences) {
    const auto pages_of = [&](const Sequence& sequence) {
      return (sequence.past + static_cast<int>(sequence.tree.masks.size())) /
                 cache_shape_.page_size +
             1;
    };
    cache_shape_.pages = 0;
    for (const Sequence& sequence : sequences) cache_shape_.pages += pages_of(sequence);
    std::vector<int32_t> pages(static_cast<size_t>(cache_shape_.pages));
    std::iota(pages.begin(), pages.end(), 0);
    for (size_t i = pages.size(); i > 1; --i) {
      std::swap(pages[i - 1], pages[static_cast<size_t>(random_.Int(0, static_cast<int>(i) - 1))]);
    }
    auto cache = backend_->CreateKvCache(cache_shape_);
    for (Sequence& sequence : sequences) {
      sequence.pages.assign(pages.end() - pages_of(sequence), pages.end());
      pages.resize(pages.size() - sequence.pages.size());
      Write(*cache, sequence, 0, sequence.past_keys, sequence.past_values);
    }
    return cache;
  }

  void Write(KvCache& cache, const Sequence& sequence, int first_position,
             const std::vector<float>& keys, const std::vector<float>& values) {
    const int rows = static_cast<int>(keys.size()) / kv_width_;
    const SequenceRows step{0, rows, first_position, sequence.pages};
    for (int layer = 0; layer < cache_shape_.layers; ++layer) {
      backend_->WriteKv(cache, layer, {&step, 1}, keys.data(), values.data(), kv_width_);
    }
  }

  // Writes the rows of a path where plain decoding would, and attends with the
  // last.
  std::vector<float> DecodePath(KvCache& cache, const Sequence& sequence,
                                const std::vector<int32_t>& path) {
    Write(cache, sequence, sequence.past, Rows(sequence.keys, path, kv_width_),
          Rows(sequence.values, path, kv_width_));
    return AttendPlain(cache, sequence, sequence.past + static_cast<int>(path.size()) - 1,
                       Rows(sequence.q, {&path.back(), 1}, q_width_));
  }

  std::vector<float> AttendPlain(const KvCache& cache, const Sequence& sequence, int position,
                                 const std::vector<float>& q) {
    const SequenceRows step{0, 1, position, sequence.pages};
    std::vector<float> out(static_cast<size_t>(q_width_));
    backend_->Attention(shape_, cache, 1, {&step, 1}, q.data(), q_width_, out.data());
    return out;
  }

  std::unique_ptr<Backend> backend_;
  RandomData random_;
  KvCacheShape cache_shape_;
  AttentionShape shape_;
  int kv_width_ = 0;
  int q_width_ = 0;
};

INSTANTIATE_TEST_SUITE_P(
    Backends, TreeAttentionTest,
    ::testing::Values(Subject{"reference", Isa::kPlain, 0}, Subject{"plain1", Isa::kPlain, 1},
                      Subject{"avx2x1", Isa::kAvx2, 1}, Subject{"avx2x3", Isa::kAvx2, 3},
                      Subject{"avx512x1", Isa::kAvx512, 1}, Subject{"avx512x2", Isa::kAvx512, 2},
                      Subject{"amxx5", Isa::kAmx, 5}),
    [](const auto& info) { return info.param.name; });

TEST_P(TreeAttentionTest, EachRowIsAPlainDecodeOfItsPath) {
  for (int trial = 0; trial < 12; ++trial) {
    RandomShape();
    std::vector<Sequence> sequences;
    const int count = random_.Int(1, 3);
    for (int s = 0; s < count; ++s) {
      const int rows = trial == 0 ? kMaxTreeRows : random_.Int(1, random_.Int(1, kMaxTreeRows));
      sequences.push_back(RandomSequence(rows, random_.Int(0, 3)));
    }
    const auto cache = CacheOf(sequences);
    std::vector<SequenceRows> step;
    std::vector<float> q, keys, values;
    const auto append = [](std::vector<float>& to, const std::vector<float>& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    int rows = 0;
    for (const Sequence& sequence : sequences) {
      const int own = static_cast<int>(sequence.tree.masks.size());
      step.push_back({rows, own, sequence.past, sequence.pages, sequence.tree.masks});
      rows += own;
      append(q, sequence.q);
      append(keys, sequence.keys);
      append(values, sequence.values);
    }
    for (int layer = 0; layer < 2; ++layer) {
      backend_->WriteKv(*cache, layer, step, keys.data(), values.data(), kv_width_);
    }
    std::vector<float> out(q.size());
    backend_->Attention(shape_, *cache, 1, step, q.data(), q_width_, out.data());

    std::vector<Sequence> again = sequences;
    const auto plain_cache = CacheOf(again);
    int32_t row = 0;
    for (const Sequence& sequence : again) {
      for (const auto& path : sequence.tree.paths) {
        const int32_t at = row++;
        // All rows of some, a sample of most: decoding them is slow.
        if (trial > 2 && random_.Int(0, 3) != 0) continue;
        ASSERT_TRUE(
            SameBits(DecodePath(*plain_cache, sequence, path), Rows(out, {&at, 1}, q_width_)))
            << "row " << at << " at depth " << path.size() - 1 << ", past " << sequence.past
            << ", window " << shape_.sliding_window << ", page " << cache_shape_.page_size;
      }
    }
  }
}

TEST_P(TreeAttentionTest, AnAcceptedPathIsLeftAsPlainDecodingLeavesIt) {
  for (int trial = 0; trial < 20; ++trial) {
    RandomShape();
    std::vector<Sequence> sequences;
    sequences.push_back(RandomSequence(random_.Int(1, kMaxTreeRows), random_.Int(0, 3)));
    const auto cache = CacheOf(sequences);
    const Sequence& sequence = sequences[0];
    Write(*cache, sequence, sequence.past, sequence.keys, sequence.values);
    const auto& paths = sequence.tree.paths;
    const auto& path =
        paths[static_cast<size_t>(random_.Int(0, static_cast<int>(paths.size()) - 1))];
    backend_->MoveKv(*cache, sequence.pages, sequence.past, path);

    std::vector<Sequence> again = sequences;
    const auto plain_cache = CacheOf(again);
    const int last = sequence.past + static_cast<int>(path.size()) - 1;
    const std::vector<float> expected = DecodePath(*plain_cache, again[0], path);
    const auto q = Rows(sequence.q, {&path.back(), 1}, q_width_);
    ASSERT_TRUE(SameBits(expected, AttendPlain(*cache, sequence, last, q)));
  }
}

}  // namespace
}  // namespace octogate::kernels
